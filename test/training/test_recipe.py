"""Recipes of the whole chain: what is shipped loads and holds AFOV's constants, mistakes are named."""

from __future__ import annotations

import math
from dataclasses import asdict
from functools import reduce
from pathlib import Path
from typing import Any

import pytest
import yaml

from ov_seg_ros.core.errors import ConfigError
from ov_seg_ros.refinement.afi_config import AfiConfig
from training.config import RECIPES
from training.recipe import Recipe
from training.student.minkunet import NETWORKS

AFOV = Recipe.load(RECIPES / "afov.yaml")
MINIMAL = {"name": "tiny", "label_space": "nuscenes16", "teacher": "san", "point_features": ["height", "intensity"]}

RELEASED = [
    # Lifting (released superpixel2superpoint.py): depth > 1 m
    ("lift.min_depth", 1.0),
    # Backbone (released model/__init__.py builds Res16UNet34C); one input feature, the intensity
    ("network", "minkunet34c"),
    ("point_features", ("intensity",)),
    # Voxels (released config/*.yaml): cylindrical, 0.1 m, 1 degree, 0.1 m
    ("grid.kind", "cylindrical"),
    ("grid.voxel_size", (0.1, math.radians(1), 0.1)),
    ("grid.range_min.1", -math.pi),
    ("grid.range_max.1", math.pi),
    # TMP (released criterion.py, lightning_trainer_ov.py, paper Sec. 4.1): temperature and weights of Eq. 1 to 4
    ("pretrain.contrast.temperature", 0.07),
    ("pretrain.contrast.image_weight", 0.5),
    ("pretrain.contrast.text_weight", 0.5),
    # soft text labels, 0.2 on the own text; the superpoint is the anchor, its mean is not normalised
    ("pretrain.contrast.text_loss", "released"),
    ("pretrain.contrast.own_text", 0.2),
    ("pretrain.contrast.anchor", "point"),
    ("pretrain.contrast.normalize_superpoints", False),
    # one scan per GPU, nothing gathered from the others
    ("pretrain.negatives", "scan"),
    # DropCuboids: one of up to 20 % of the extent, put back where a camera keeps fewer than 1024 pairs
    ("pretrain.pairs.drop_cuboid", 0.2),
    ("pretrain.pairs.min_pairs", 1024),
    # ResizedCrop: area 0.3 to 1, aspect 14/9 to 17/9, until more than 1024 or 75 % of the pairs are left
    ("pretrain.pairs.crop_images", True),
    ("pretrain.pairs.crop_area", (0.3, 1.0)),
    ("pretrain.pairs.crop_aspect", (14 / 9, 17 / 9)),
    ("pretrain.pairs.min_share", 0.75),
    # 40 epochs, 4 scans on 4 GPUs with synchronised batch norm, fp32
    ("pretrain.trainer.steps", 0),
    ("pretrain.trainer.epochs", 40),
    ("pretrain.trainer.batch_size", 4),
    ("pretrain.trainer.pass_size", 4),
    ("pretrain.trainer.precision", "fp32"),
    # SGD 0.5, momentum 0.9, dampening 0.1, weight decay 1e-4 on everything, half a cosine by epoch
    ("pretrain.trainer.optimizer.learning_rate", 0.5),
    ("pretrain.trainer.optimizer.head_learning_rate", 0.0),
    # Annotation-free training (released config/annotation_free_san.yaml): from TMP, with a fresh head
    ("train.start", "pretrain"),
    ("train.head", "fresh"),
    # 5 epochs after TMP, batch 16 on one GPU, trunk 0.02, last layer 2.0
    ("train.trainer.steps", 0),
    ("train.trainer.epochs", 5),
    ("train.trainer.batch_size", 16),
    ("train.trainer.pass_size", 16),
    ("train.trainer.only_head", False),
    ("train.trainer.optimizer.learning_rate", 0.02),
    ("train.trainer.optimizer.head_learning_rate", 2.0),
    # Linear probing: frozen trunk, 0.05, no rate of its own for the head
    ("probe.start", "pretrain"),
    ("probe.trainer.only_head", True),
    ("probe.trainer.optimizer.learning_rate", 0.05),
    ("probe.trainer.optimizer.head_learning_rate", 0.0),
    # Fine-tuning on nuScenes: 0.02 and 2.0, batch 16, 30 epochs
    ("finetune.start", "pretrain"),
    ("finetune.trainer.epochs", 30),
    ("finetune.trainer.batch_size", 16),
    ("finetune.trainer.optimizer.learning_rate", 0.02),
    ("finetune.trainer.optimizer.head_learning_rate", 2.0),
    # AFI after the student, labels stay as lifted
    ("refine.labels", False),
    ("refine.predictions", True),
    ("refine.constants", "released"),
]
OF_ALL_TRAININGS = [
    ("trainer.average", 0.0),  # no moving average of weights
    ("trainer.optimizer.kind", "sgd"),
    ("trainer.optimizer.momentum", 0.9),
    ("trainer.optimizer.dampening", 0.1),
    ("trainer.optimizer.weight_decay", 1e-4),
    ("trainer.optimizer.decay_all", True),
    ("trainer.optimizer.schedule", "cosine_per_epoch"),  # CosineAnnealingLR, stepped once per epoch
    ("trainer.optimizer.gradient_clip", 0.0),
    # random yaw and flips, nothing else
    ("augmentation.flip", True),
    ("augmentation.rotate", True),
    *((f"augmentation.{name}", 0.0) for name in ("tilt", "scale", "height", "thin_rings", "drop_points")),
    *((f"augmentation.{name}", 0.0) for name in ("intensity_gamma", "drop_intensity", "drop_color")),
]
OF_LABEL_TRAININGS = [
    # cross-entropy and Lovász-softmax with equal weights over all labelled voxels, classes and voxels alike
    ("loss.lovasz", 1.0),
    ("loss.lovasz_voxels", 0),
    ("loss.rare_class_power", 0.0),
    ("loss.trust", False),
]


def find(settings: Any, dotted: str) -> Any:
    """``a.b.1`` of nested settings."""
    return reduce(
        lambda value, key: value[int(key)] if key.isdigit() else getattr(value, key), dotted.split("."), settings
    )


def load(tmp_path: Path, **changes: Any) -> Recipe:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump({**MINIMAL, **changes}))
    return Recipe.load(path)


@pytest.mark.parametrize("name", ["afov", "afov_multi_gpu", "kitti_masks", "synthetic_afov"])
def test_shipped_recipes_load(name):
    recipe = Recipe.load(RECIPES / f"{name}.yaml")
    recipe.grid.build()
    recipe.refine.afi()
    assert len(recipe.load_label_space()) == 16
    assert recipe.probe.trainer.only_head
    assert not recipe.finetune.trainer.only_head


@pytest.mark.parametrize(("key", "value"), RELEASED)
def test_constants_of_afov(key, value):
    assert find(AFOV, key) == (pytest.approx(value) if "grid" in key and "kind" not in key else value)


@pytest.mark.parametrize("stage", ["pretrain", "train", "probe", "finetune"])
def test_what_all_trainings_of_afov_share(stage):
    wanted = OF_ALL_TRAININGS + (OF_LABEL_TRAININGS if stage != "pretrain" else [])
    settings = find(AFOV, stage)
    assert {key: find(settings, key) for key, _ in wanted} == dict(wanted)


def test_the_backbone_of_afov():
    """Res16UNet34C: first convolution to 32, four strides and back, blocks 2, 3, 4, 6 and 2, 2, 2, 2."""
    assert asdict(NETWORKS[AFOV.network]) == {
        "stem": 32,
        "encoder": (32, 64, 128, 256),
        "decoder": (256, 128, 96, 96),
        "encoder_blocks": (2, 3, 4, 6),
        "decoder_blocks": (2, 2, 2, 2),
    }


def test_the_lengths_of_afov_on_nuscenes():
    """28,130 keyframes of 700 scenes, 600 of them for TMP in the paper."""
    assert AFOV.pretrain.trainer.num_steps(28_130) == 281_300
    assert AFOV.train.trainer.num_steps(28_130) == math.ceil(5 * 28_130 / 16)
    factor = AFOV.train.trainer.optimizer.factor
    steps = AFOV.train.trainer.num_steps(28_130)
    rates = [factor(round(epoch * 28_130 / 16) + 2, steps, 28_130 / 16) for epoch in range(5)]
    assert rates == pytest.approx([(1 + math.cos(math.pi * epoch / 5)) / 2 for epoch in range(5)], rel=1e-3)


def test_the_synthetic_recipe_changes_only_size_and_optimiser():
    """The methods and their weights are AFOV's, but for the normalised superpoints, which the paper prints."""
    synthetic = Recipe.load(RECIPES / "synthetic_afov.yaml")
    for key in ("temperature", "image_weight", "text_weight", "anchor", "text_loss", "own_text"):
        assert find(synthetic.pretrain.contrast, key) == find(AFOV.pretrain.contrast, key)
    assert synthetic.pretrain.pairs.crop_area == AFOV.pretrain.pairs.crop_area
    assert synthetic.pretrain.negatives == AFOV.pretrain.negatives


def test_a_recipe_of_four_keys_is_whole(tmp_path):
    recipe = load(tmp_path)
    assert not recipe.uses_color
    assert recipe.probe.trainer.only_head
    assert recipe.lift.visibility is not None
    assert load(tmp_path, lift={"occlusion": False}).lift.visibility is None
    assert recipe.refine.afi() == AfiConfig.default()
    assert load(tmp_path, refine={"constants": "released"}).refine.afi() == AfiConfig.released()


def test_what_the_model_file_stores_is_json(tmp_path):
    stored = AFOV.to_dict()
    assert stored["grid"]["voxel_size"] == list(AFOV.grid.voxel_size)
    path = tmp_path / "again.yaml"
    path.write_text(yaml.safe_dump(stored))
    assert Recipe.load(path) == AFOV


def test_a_recipe_may_extend_another(tmp_path):
    (tmp_path / "base.yaml").write_text(yaml.safe_dump({**MINIMAL, "network": "minkunet18"}))
    assert load(tmp_path, extends="base.yaml", name="mine").network == "minkunet18"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pretrain": {"contrast": {"temprature": 1}}}, r"contrast: unknown key 'temprature'; did you mean temperatur"),
        ({"pretrain": {"negatives": "all"}}, "negatives must be one of scan, pass, got 'all'"),
        ({"train": {"head": "text"}}, "head must be one of fresh, texts, got 'text'"),
        ({"train": {"head": "texts", "start": "random"}}, "head: texts needs start: pretrain"),
        (
            {"probe": {"start": "zero"}},
            r"start must be one of random, pretrain, train, or the path of a student \(.*, got 'zero'",
        ),
        ({"train": {"start": "train"}}, "recipe tiny: train cannot start from itself"),
        ({"train": {"trainer": {"epochs": 3}}}, "give either steps or epochs, got steps 3000 and epochs 3"),
        ({"refine": {"constants": "mine"}}, "constants must be one of default, released, got 'mine'"),
        ({"network": "resnet"}, r"network must be one of small, .*got 'resnet' \(recipe tiny\)"),
        ({"point_features": ["hight"]}, "point_features must be"),
        ({"point_features": ["red"]}, "point_features hold colours, so lift needs colors: true"),
        ({"probe": {"trainer": {"steps": 5}}}, "recipe tiny: probe learns the last layer alone.*only_head: true"),
        ({"lift": {"occlusion": "yes"}}, "lift: occlusion: expected bool, got 'yes'"),
        ({"lift": [1]}, "lift: expected keys of LiftSettings"),
        ({"teachers": "san"}, r"unknown key 'teachers'; did you mean teacher\?"),
        ({"grid": {"voxel_size": [0.1, 0.1]}}, "voxel_size: expected 3 values"),
        ({"label_space": "nowhere"}, "nowhere"),
    ],
)
def test_mistakes_are_named(tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        load(tmp_path, **changes).load_label_space()


NAN, INFINITE = math.nan, math.inf
OUT_OF_RANGE = [
    ("train.trainer.scans_per_pass", -1, "scans_per_pass must be >= 0 and finite, got -1"),
    ("train.trainer.steps", -3, "steps must be >= 0 and finite, got -3"),
    ("train.trainer.epochs", -3, "epochs must be"),
    ("train.trainer.batch_size", 0, "batch_size must be >= 1 and finite, got 0"),
    ("train.trainer.checkpoint_every", 0, "checkpoint_every must be >= 1 and finite, got 0"),
    ("train.trainer.average", 2, r"average must be in \[0, 1\], got 2"),
    ("train.trainer.average", -0.5, r"average must be in \[0, 1\], got -0.5"),
    ("train.trainer.seed", -1, r"seed must be in \[0, 4.*\], got -1"),
    ("train.trainer.seed", 2**40, "seed must be"),
    ("train.trainer.optimizer.learning_rate", -0.1, "learning_rate must be > 0 and finite, got -0.1"),
    ("train.trainer.optimizer.learning_rate", NAN, "learning_rate must be > 0 and finite, got nan"),
    ("train.trainer.optimizer.learning_rate", 0, "learning_rate must be"),
    ("train.trainer.optimizer.head_learning_rate", -1, "head_learning_rate must be"),
    ("train.trainer.optimizer.gradient_clip", -1, "gradient_clip must be >= 0 and finite, got -1"),
    ("train.trainer.optimizer.weight_decay", -1, "weight_decay must be"),
    ("train.trainer.optimizer.momentum", 1, r"momentum must be in \[0, 1\), got 1"),
    ("train.trainer.optimizer.dampening", 2, "dampening must be"),
    ("train.trainer.optimizer.warm_up", 1.5, "warm_up must be"),
    ("train.loss.lovasz", NAN, "lovasz must be >= 0 and finite, got nan"),
    ("train.loss.lovasz_voxels", -5, "lovasz_voxels must be >= 0 and finite, got -5"),
    ("train.loss.rare_class_power", NAN, r"rare_class_power must be in \[0, 1\], got nan"),
    ("train.augmentation.drop_points", 1.5, r"drop_points must be in \[0, 1\], got 1.5"),
    ("train.augmentation.thin_rings", -1, "thin_rings must be"),
    ("train.augmentation.drop_intensity", NAN, "drop_intensity must be"),
    ("train.augmentation.drop_color", 7, "drop_color must be"),
    ("train.augmentation.tilt", -1, r"tilt must be in \[0, 3.14\], got -1"),
    ("train.augmentation.scale", 1, r"scale must be in \[0, 1\), got 1"),
    ("train.augmentation.height", NAN, r"height must be in \[0, 100\], got nan"),
    ("train.augmentation.intensity_gamma", 2000, r"intensity_gamma must be in \[0, 10\], got 2000"),
    ("pretrain.contrast.temperature", NAN, "temperature must be > 0 and finite, got nan"),
    ("pretrain.contrast.text_weight", INFINITE, "text_weight must be >= 0 and finite, got inf"),
    ("pretrain.contrast.own_text", NAN, r"own_text must be in \[0, 1\], got nan"),
    ("pretrain.contrast.own_text", 2.0, r"own_text must be in \[0, 1\], got 2"),
    ("pretrain.pairs.min_share", 7, r"min_share must be in \[0, 1\], got 7"),
    ("pretrain.pairs.min_pairs", -1, "min_pairs must be"),
    ("pretrain.pairs.crop_aspect", [1, INFINITE], "crop_aspect must be > 0 and finite, got"),
    ("grid.kind", "sphere", "voxel grid kind must be one of cartesian, cylindrical, got 'sphere'"),
    ("grid.voxel_size", [0.4, 0.4, -1], "voxel_size must be > 0 per axis, got"),
    ("grid.voxel_size", [0.4, NAN, 0.4], "voxel_size must be finite, got"),
    ("grid.range_max", [INFINITE, 1, 1], r"range_max must be in \[-1e\+06, 1e\+06\], got \(inf"),
    ("grid.range_max", [1, NAN, 1], "range_max must be"),
    ("lift.min_depth", NAN, "min_depth must be > 0 and finite, got nan"),
    ("lift.min_depth", -5, "min_depth must be > 0 and finite, got -5"),
]


@pytest.mark.parametrize(("key", "value", "message"), OUT_OF_RANGE)
def test_values_out_of_their_range_are_refused_where_they_are_read(tmp_path, key, value, message):
    *above, _ = key.split(".")
    changes = reduce(lambda inner, name: {name: inner}, reversed(key.split(".")), value)
    with pytest.raises(ConfigError, match=rf"recipe\.yaml: {': '.join(above)}: {message}"):
        load(tmp_path, **changes)


@pytest.mark.parametrize("name", ["../../x", "a/b", "a\\b", "..", "", " ", "a\nb"])
def test_a_name_that_is_no_folder_is_refused(tmp_path, name):
    with pytest.raises(ConfigError, match=r"name must be that of one folder, without / and \\, got "):
        load(tmp_path, name=name)


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("1e-3", r", which is text in YAML: write 0\.001$"),
        ("1e-9", r", which is text in YAML: write 1\.0e-09$"),
        ("1.5e20", r", which is text in YAML: write 1\.5e\+20$"),
        ("fast", "$"),
        ("nan", "$"),
    ],
)
def test_numbers_that_yaml_takes_for_text_come_with_a_remedy(tmp_path, text, remedy):
    path = tmp_path / "recipe.yaml"
    path.write_text(f"{yaml.safe_dump(MINIMAL)}train: {{trainer: {{optimizer: {{learning_rate: {text}}}}}}}")
    with pytest.raises(ConfigError, match=f"optimizer: learning_rate: expected float, got '{text}'{remedy}") as refusal:
        Recipe.load(path)
    if ": write " in str(refusal.value):
        path.write_text(path.read_text().replace(text, str(refusal.value).partition(": write ")[2]))
        assert Recipe.load(path).train.trainer.optimizer.learning_rate == float(text)


def test_missing_keys_and_recipes_are_named(tmp_path):
    (tmp_path / "recipe.yaml").write_text("name: tiny")
    with pytest.raises(ConfigError, match="missing key label_space, point_features, teacher"):
        Recipe.load(tmp_path / "recipe.yaml")
    with pytest.raises(ConfigError, match=r"none.yaml does not exist; recipes that come along: afov"):
        Recipe.load(tmp_path / "none.yaml")
