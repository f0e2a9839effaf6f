from pathlib import Path

import numpy as np
import pytest
import yaml

from ov_seg_ros.core.errors import ConfigError
from ov_seg_ros.core.label_space import LabelSpace

FOLDER = Path(__file__).resolve().parents[2] / "config" / "label_spaces"
ROAD = {"name": "road", "color": [1, 2, 3]}


def test_nuscenes_classes_stand_in_the_order_of_the_benchmark():
    space = LabelSpace.load(FOLDER / "nuscenes16.yaml")
    assert len(space) == 16
    assert space.class_names[3] == "car"
    assert space.class_names[10:] == (
        "driveable_surface", "other_flat", "sidewalk", "terrain", "manmade", "vegetation"
    )  # fmt: skip
    assert all(space.texts)
    np.testing.assert_array_equal(space.colors[3], space.palette[3])
    np.testing.assert_array_equal(space.colors[255], [128, 128, 128])


def test_dict_round_trip():
    space = LabelSpace.load(FOLDER / "nuscenes16.yaml")
    assert LabelSpace.from_dict(space.to_dict()) == space


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ([ROAD, ROAD], "stand twice: road"),
        ([], "1 to 255 classes"),
        ([{"name": "road", "color": [1, 2, 300]}], "every colour"),
        ([{"name": "road", "colour": [1, 2, 3]}], "unknown keys colour"),
        ([{"name": "road"}], "expected"),
    ],
)
def test_contradictions_are_refused(tmp_path, classes, message):
    path = tmp_path / "space.yaml"
    path.write_text(yaml.safe_dump({"name": "x", "classes": classes}))
    with pytest.raises(ConfigError, match=message):
        LabelSpace.load(path)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.yaml"):
        LabelSpace.load(tmp_path / "none.yaml")


@pytest.mark.parametrize("content", [b"name: [", b"\xff\xfe", b"", b"- a\n"])
def test_a_file_that_is_no_label_space_is_named(tmp_path, content):
    (tmp_path / "space.yaml").write_bytes(content)
    with pytest.raises(ConfigError, match=r"space\.yaml"):
        LabelSpace.load(tmp_path / "space.yaml")
