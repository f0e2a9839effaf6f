import json

import pytest

from ov_seg_ros.core.errors import ModelError
from ov_seg_ros.core.label_space import LabelSpace
from ov_seg_ros.core.student_description import StudentDescription
from ov_seg_ros.core.voxels import VoxelGrid

SPACE = LabelSpace("two", ("road", "car"), ((1, 2, 3), (4, 5, 6)), (("road",), ("car", "van")))
GRID = VoxelGrid("cartesian", (0.2, 0.2, 0.2), (-50.0, -50.0, -5.0), (50.0, 50.0, 10.0))
DESCRIPTION = StudentDescription("demo", SPACE, GRID, ("height", "intensity"), 5, {"steps": 3}, {"miou": 0.5})


def test_json_round_trip():
    assert StudentDescription.from_json(DESCRIPTION.to_json()) == DESCRIPTION


def test_recipe_hash_ignores_key_order():
    a = StudentDescription("a", SPACE, GRID, ("height",), 1, {"x": 1, "y": 2})
    b = StudentDescription("b", SPACE, GRID, ("height",), 1, {"y": 2, "x": 1})
    assert a.recipe_sha256 == b.recipe_sha256 != DESCRIPTION.recipe_sha256


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("format", 2, "update ov_seg_ros"),
        ("format", 0, "export the student again"),
        ("recipe", {"steps": 4}, "recipe was changed"),
        ("grid", {"kind": "cartesian"}, "malformed"),
        ("point_features", ["hight"], "malformed"),
        ("num_levels", None, "malformed"),
    ],
)
def test_unfit_descriptions_are_refused(key, value, message):
    content = json.loads(DESCRIPTION.to_json())
    content[key] = value
    with pytest.raises(ModelError, match=message):
        StudentDescription.from_json(json.dumps(content), "m.onnx")


def test_text_that_is_no_json_is_refused():
    with pytest.raises(ModelError, match=r"m\.onnx"):
        StudentDescription.from_json("{", "m.onnx")
