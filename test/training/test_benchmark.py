"""The benchmark on synthetic drives: fair arms, drives nobody else learns from, and what is written about it."""

from __future__ import annotations

import json
import statistics
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from ov_seg_ros.core.errors import ConfigError
from training.benchmark_page import TITLES, write_benchmark
from training.benchmark_synthetic import ARMS, HELD_OUT, VALIDATION, SyntheticBenchmark, train_drives
from training.config import RECIPES
from training.drive_sets import drive_configs, drive_folder
from training.recipe import Recipe
from training.sources.synthetic import HELD_OUT_SEEDS

RECIPE = Recipe.load(RECIPES / "synthetic_afov.yaml")
EQUAL = [name for name, arm in ARMS.items() if not arm.short]
COMMAND = "python -m training benchmark synthetic --json result.json"


def steps(recipe: Recipe) -> int:
    return recipe.train.trainer.steps + (recipe.pretrain.trainer.steps if recipe.train.start == "pretrain" else 0)


def seeds_of(drives) -> set[int]:
    return {config.seed for config in drive_configs(drives)}


def test_the_rows_asked_for_are_made():
    made = {"lifted", *ARMS, *(f"{name}_afi" for name in ARMS)}
    assert {"lifted", "baseline", "tmp", "tmp_afi", "tmp_no_text", "tmp_no_image", "ceiling"} <= set(TITLES) <= made


@pytest.mark.parametrize("seed", [0, 2])
@pytest.mark.parametrize("change", [{}, {"steps": 7}])
def test_arms_take_equal_numbers_of_steps(seed, change):
    pretrain = replace(RECIPE.pretrain, trainer=replace(RECIPE.pretrain.trainer, **change))
    recipe = replace(RECIPE, pretrain=pretrain)
    total = recipe.pretrain.trainer.steps + recipe.train.trainer.steps
    changed = {name: ARMS[name].change(recipe, seed) for name in ARMS}
    assert {name: steps(changed[name]) for name in EQUAL} == dict.fromkeys(EQUAL, total)
    for name, arm in changed.items():
        assert arm.train.trainer.epochs == 0
        assert arm.train.trainer.seed == arm.pretrain.trainer.seed == seed
        assert arm.train.trainer.batch_size == recipe.train.trainer.batch_size
        assert (arm.network, arm.grid, arm.point_features) == (recipe.network, recipe.grid, recipe.point_features), name
        assert (arm.lift, arm.train.loss, arm.train.augmentation) == (
            recipe.lift,
            recipe.train.loss,
            recipe.train.augmentation,
        )
    assert steps(changed["baseline_short"]) == recipe.train.trainer.steps


@pytest.mark.parametrize(
    ("name", "pretrained", "text", "image", "truth"),
    [
        ("baseline", False, None, None, False),
        ("baseline_short", False, None, None, False),
        ("tmp", True, 0.5, 0.5, False),
        ("tmp_no_text", True, 0.0, 0.5, False),
        ("tmp_no_image", True, 0.5, 0.0, False),
        ("ceiling", False, None, None, True),
    ],
)
def test_each_arm_has_its_terms(name, pretrained, text, image, truth):
    recipe = ARMS[name].change(RECIPE, 1)
    assert (recipe.train.start == "pretrain", ARMS[name].truth) == (pretrained, truth)
    if pretrained:
        contrast = recipe.pretrain.contrast
        assert (contrast.text_weight, contrast.image_weight) == (text, image)
        assert replace(contrast, text_weight=0.5, image_weight=0.5) == RECIPE.pretrain.contrast
        assert recipe.train.trainer == replace(RECIPE.train.trainer, seed=1)
    assert set(ARMS) == {"baseline", "baseline_short", "tmp", "tmp_no_text", "tmp_no_image", "ceiling"}


@pytest.mark.parametrize("change", [{"steps": 0, "epochs": 2}, {"batch_size": 64}])
def test_recipes_whose_times_cannot_be_compared_are_refused(change):
    other = replace(RECIPE, train=replace(RECIPE.train, trainer=replace(RECIPE.train.trainer, **change)))
    for arm in ARMS.values():
        with pytest.raises(ConfigError, match="pretrain and train must both give steps, and the same batch_size"):
            arm.change(other, 0)


def test_a_head_of_texts_is_for_pretrained_arms_alone():
    recipe = replace(RECIPE, train=replace(RECIPE.train, head="texts"))
    assert {name: arm.change(recipe, 0).train.head for name, arm in ARMS.items()} == {
        name: "texts" if arm.text or arm.image else "fresh" for name, arm in ARMS.items()
    }


def test_no_drive_serves_two_ends():
    """Drives of each training seed, those that judge, and those that settings are chosen by have nothing in common."""
    sets = {f"train {seed}": seeds_of(train_drives(seed)) for seed in range(3)}
    sets |= {"held out": seeds_of(HELD_OUT), "validation": seeds_of(VALIDATION)}
    sets["held out of everything"] = {seed for seeds in HELD_OUT_SEEDS.values() for seed in seeds}
    for path in RECIPES.glob("*.yaml"):
        held = yaml.safe_load(path.read_text()).get("held_out_drives", ())
        sets.setdefault("judges of recipes", set()).update(seed for drives in held for seed in drives["seeds"])
    assert [len(sets[f"train {seed}"]) for seed in range(3)] == [39] * 3
    for (first, a), (second, b) in combinations(sets.items(), 2):
        assert not a & b, f"{first} and {second} share drives {a & b}"


def test_no_recipe_learns_from_drives_that_judge():
    for path in RECIPES.glob("*.yaml"):
        learned = {s for drives in yaml.safe_load(path.read_text()).get("train_drives", ()) for s in drives["seeds"]}
        assert not learned & (seeds_of(HELD_OUT) | seeds_of(VALIDATION)), path.stem


def test_a_share_of_the_drives_is_a_part_of_them():
    for seed in range(3):
        few = seeds_of(train_drives(seed, 0.5))
        assert few < seeds_of(train_drives(seed))
        assert len(few) == 13 + 6
    configs = list(drive_configs(HELD_OUT + VALIDATION))
    assert len({drive_folder(Path("drives"), config) for config in configs}) == len(configs) == 6


def entry(whole: float, seen: float, unseen: float, seconds: float) -> dict[str, Any]:
    iou = {"car": whole, "tree": None}
    scores = {part: {"miou": value, "iou": iou} for part, value in (("whole", whole), ("seen", seen))}
    return {"scores": {**scores, "unseen": {"miou": unseen, "iou": iou}}, "train_seconds": seconds}


@pytest.fixture
def written(tmp_path: Path) -> tuple[Path, dict[str, Any], list[dict[str, Any]]]:
    rows = {
        "ceiling": [entry(0.8, 0.9, 0.7, 120.0), entry(0.8, 0.8, 0.8, 120.0), entry(0.8, 0.8, 0.8, 120.0)],
        "tmp": [entry(0.5, 0.6, 0.4, 90.0), entry(0.6, 0.7, 0.5, 100.0), entry(0.7, 0.8, 0.6, 110.0)],
        "lifted": [entry(0.2, 0.4, 0.0, 0.0)] * 3,
        "ceiling_afi": [entry(0.9, 0.9, 0.9, 1.0)] * 3,
    }
    benchmark = SyntheticBenchmark(RECIPE, tmp_path, tmp_path)
    table = write_benchmark(tmp_path / "new" / "result.json", benchmark, rows, COMMAND)
    return tmp_path / "new" / "result.json", json.loads((tmp_path / "new" / "result.json").read_text()), table


def test_the_result_has_the_agreed_form(written):
    _, content, table = written
    assert set(content) >= {"seeds", "commit", "command", "rows", "ceiling"}
    assert (content["seeds"], content["command"]) == ([0, 1, 2], COMMAND)
    assert isinstance(content["commit"], str)
    assert content["rows"] == table
    assert [row["name"] for row in table] == ["lifted", "tmp", "ceiling"]
    for row in table:
        assert set(row) >= {"name", "miou_mean", "miou_std", "miou_unseen_mean", "train_seconds"}
    assert content["recipe"] == RECIPE.to_dict()
    assert [drives["seeds"] for drives in content["held_out"]] == [[311, 313], [312, 314]]


def test_means_spreads_and_shares(written):
    lifted, tmp, ceiling = written[1]["rows"]
    assert tmp["miou_mean"] == pytest.approx(0.6)
    assert tmp["miou_std"] == pytest.approx(statistics.stdev([0.5, 0.6, 0.7])) == pytest.approx(0.1)
    assert (tmp["miou_seen_mean"], tmp["miou_unseen_mean"]) == (pytest.approx(0.7), pytest.approx(0.5))
    assert tmp["train_seconds"] == pytest.approx(100)
    assert tmp["miou_by_seed"] == [0.5, 0.6, 0.7]
    assert tmp["iou_mean"] == {"car": pytest.approx(0.6), "tree": 0.0}
    assert (ceiling["miou_mean"], ceiling["miou_std"]) == (pytest.approx(0.8), pytest.approx(0))
    assert lifted["miou_unseen_mean"] == 0.0
    found = written[1]["ceiling"]
    assert found["miou_mean"] == pytest.approx(0.8)
    assert found["share_of_ceiling"] == {
        "lifted": pytest.approx(0.25),
        "tmp": pytest.approx(0.75),
        "ceiling": pytest.approx(1),
    }


def test_the_page_says_the_same(written):
    path, _, _ = written
    page = path.with_suffix(".md").read_text()
    assert f"`{COMMAND}`, 3 seeds" in page
    (row,) = [line for line in page.splitlines() if line.startswith(f"| {TITLES['tmp']} |")]
    cells = [cell.strip() for cell in row.split("|")[2:-1]]
    assert cells == ["60.0 ± 10.0", "70.0 ± 10.0", "50.0 ± 10.0", "75 %", "1.7 min"]
    assert "(result.png)" in page
    assert path.with_suffix(".png").stat().st_size > 1000


def test_one_seed_has_no_spread_and_no_ceiling_no_share(tmp_path):
    benchmark = SyntheticBenchmark(RECIPE, tmp_path, tmp_path, seeds=(0,))
    (row,) = write_benchmark(tmp_path / "one.json", benchmark, {"tmp": [entry(0.5, 0.6, 0.4, 9.0)]}, COMMAND)
    assert row["miou_std"] == 0.0
    content = json.loads((tmp_path / "one.json").read_text())
    assert content["ceiling"]["share_of_ceiling"] == {}
