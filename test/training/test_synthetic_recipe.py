from pathlib import Path

import pytest
import yaml

from ov_seg_ros.core.errors import ConfigError
from training.config import RECIPES
from training.synthetic_recipe import SyntheticRecipe

MINIMAL = {
    "name": "tiny",
    "label_space": "nuscenes16",
    "point_features": ["height", "intensity"],
    "train_drives": [{"lidar": "spinning32", "seeds": [1, 2]}],
    "held_out_drives": [{"lidar": "spinning64", "seeds": [3]}],
}


def load(tmp_path: Path, **changes) -> SyntheticRecipe:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump({**MINIMAL, **changes}))
    return SyntheticRecipe.load(path)


STUDENTS = ("synthetic_small", "synthetic_ceiling", "synthetic_color")


@pytest.mark.parametrize("path", [RECIPES / f"{name}.yaml" for name in STUDENTS], ids=lambda p: p.stem)
def test_shipped_recipes_load_and_are_label_free_unless_named_ceiling(path):
    recipe = SyntheticRecipe.load(path)
    recipe.voxel_grid()
    recipe.load_label_space()
    assert (recipe.labels == "truth") == ("ceiling" in recipe.name)


def test_nested_keys_and_defaults(tmp_path):
    recipe = load(tmp_path, trainer={"steps": 7, "optimizer": {"learning_rate": 1}}, grid={"voxel_size": [1, 1, 2]})
    assert recipe.trainer.steps == 7
    assert recipe.trainer.optimizer.learning_rate == 1.0
    assert recipe.trainer.batch_size == 2
    assert recipe.grid.voxel_size == (1.0, 1.0, 2.0)
    assert recipe.train_drives[0].seeds == (1, 2)
    assert not recipe.uses_color


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trainer": {"stepz": 3}}, r"trainer: unknown key 'stepz'; did you mean steps\?"),
        ({"trainer": {"steps": "many"}}, "trainer: steps: expected int, got 'many'"),
        ({"trainer": 3}, "trainer: expected keys of TrainerConfig"),
        ({"grid": {"voxel_size": [0.1, 0.1]}}, "voxel_size: expected 3 values"),
        ({"train_drives": {"lidar": "x"}}, "train_drives: expected a list"),
        ({"train_drives": [{"lidar": "spinning32"}]}, "train_drives: missing key seeds"),
        ({"held_out_drives": [{"lidar": "spinning32", "seeds": [2]}]}, r"drives \[2\] are both trained on and held"),
        ({"labels": "human"}, "labels must be teacher or truth"),
        ({"point_features": ["hight"]}, "point_features must be"),
        ({"label_space": "nowhere"}, None),
    ],
)
def test_mistakes_are_named(tmp_path, changes, message):
    if message is None:
        with pytest.raises(ConfigError, match="nowhere"):
            load(tmp_path, **changes).load_label_space()
        return
    with pytest.raises(ConfigError, match=message):
        load(tmp_path, **changes)


def test_a_missing_recipe_lists_those_that_exist(tmp_path):
    with pytest.raises(ConfigError, match="synthetic_small"):
        SyntheticRecipe.load(tmp_path / "none.yaml")


def test_a_recipe_may_extend_another(tmp_path):
    (tmp_path / "base.yaml").write_text(yaml.safe_dump({**MINIMAL, "trainer": {"steps": 7}}))
    (tmp_path / "ceiling.yaml").write_text("{extends: base.yaml, name: ceiling, labels: truth}")
    recipe = SyntheticRecipe.load(tmp_path / "ceiling.yaml")
    assert (recipe.name, recipe.labels, recipe.trainer.steps) == ("ceiling", "truth", 7)
