from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ov_seg_ros.core.class_map import ClassMap
from ov_seg_ros.core.errors import ConfigError
from ov_seg_ros.core.label_space import LabelSpace

CONFIG = Path(__file__).resolve().parents[2] / "config"
STUDENT = LabelSpace("three", ("road", "car", "tree"), ((0, 0, 0),) * 3)
MAP = """\
name: mine
classes:
  - {name: GREEN, color: [0, 255, 0], from: [tree, hedge]}
  - {name: NOTHING, color: [9, 9, 9], from: []}
  - {name: GROUND, color: [1, 2, 3], from: [road, grass]}
unknown: [car]
"""


def load(tmp_path: Path, text: str) -> ClassMap:
    path = tmp_path / "map.yaml"
    path.write_text(text)
    return ClassMap.load(path)


def test_every_class_goes_where_the_file_says(tmp_path: Path) -> None:
    class_map = load(tmp_path, MAP)
    assert class_map.label_space == LabelSpace(
        "mine", ("GREEN", "NOTHING", "GROUND"), ((0, 255, 0), (9, 9, 9), (1, 2, 3))
    )
    table = class_map.table(STUDENT)
    assert table[:3].tolist() == [2, 255, 0]
    assert (table.dtype, table.shape) == (np.uint8, (256,))
    assert (table[3:] == 255).all()


def test_a_class_of_the_student_that_is_left_out_is_named(tmp_path: Path) -> None:
    class_map = load(tmp_path, MAP.replace("hedge", "bush").replace("unknown: [car]", ""))
    with pytest.raises(ConfigError, match=r"class map .*map.yaml does not say what becomes of car .*under 'unknown'"):
        class_map.table(STUDENT)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("unknown: [car]", "unknown: [car, tree]", "can go to one place only, two have 'tree'"),
        ("hedge", "tree", "can go to one place only, two have 'tree'"),
        (", from: []", "", r"expected \{name, classes: .* KeyError\('from'\)"),
        ("from: [tree, hedge]", "from: tree", "a list of names was expected, got 'tree'"),
        ("unknown: [car]", "unknown: [1]", "a list of names was expected"),
        ("unknown:", "unkown:", "unknown keys unkown"),
        ("color: [9, 9, 9]", "colour: [9, 9, 9]", "unknown keys colour"),
        ("NOTHING", "GROUND", "these stand twice: GROUND"),
        ("[0, 255, 0]", "[0, 256, 0]", "every colour"),
        ("name: mine", "- mine", "is no YAML"),
    ],
)
def test_bad_files_are_refused(tmp_path: Path, old: str, new: str, words: str) -> None:
    assert old in MAP
    with pytest.raises(ConfigError, match=words):
        load(tmp_path, MAP.replace(old, new, 1))


@pytest.mark.parametrize("text", ["", "3", "[1, 2]", "{name: x}", "{name: x, classes: 3}", "{name: x, classes: [3]}"])
def test_other_yaml_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"expected \{name, classes"):
        load(tmp_path, text)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"class map .*no.yaml does not exist"):
        ClassMap.load(tmp_path / "no.yaml")


def test_sources_fit_the_classes() -> None:
    with pytest.raises(ConfigError, match="3 classes, but sources for 1 of them"):
        ClassMap(STUDENT, (("a",),))


AUTOWARE = [
    "CAR",
    "TRUCK",
    "BUS",
    "MOTORCYCLE",
    "BICYCLE",
    "PEDESTRIAN",
    "ANIMAL",
    "HAZARD",
    "FLAT_SURFACE",
    "STRUCTURE",
    "VEGETATION",
    "NOISE",
]
"""autoware::point_types::PointCloudClassification, 0 to 11 in autoware_core."""


@pytest.mark.parametrize("name", ["nuscenes16", "semantickitti19"])
def test_autoware_knows_the_classes_of_street_scenes(name: str) -> None:
    class_map = ClassMap.load(CONFIG / "class_maps" / "autoware.yaml")
    assert list(class_map.label_space.class_names) == AUTOWARE  # in the order of PointCloudClassification
    space = LabelSpace.load(CONFIG / "label_spaces" / f"{name}.yaml")
    table = class_map.table(space)[: len(space)]
    named = {space.class_names[i]: AUTOWARE[target] for i, target in enumerate(table)}
    assert named["car"] == "CAR"
    assert named["vegetation"] == "VEGETATION"
    assert {named[each] for each in ("sidewalk", "terrain")} == {"FLAT_SURFACE"}
