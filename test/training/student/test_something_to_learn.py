"""Scans that teach nothing: all points outside the grid, or nothing said about those inside it."""

import numpy as np
import pytest

from ov_seg_ros.core.data_types import IGNORE_ID
from ov_seg_ros.core.errors import InputError
from ov_seg_ros.core.voxels import VoxelGrid
from training.student.augmentation import AugmentationConfig
from training.student.examples import LabelledScan
from training.student.label_objective import LabelledScans
from training.student.something_to_learn import Lesson, require_something_to_learn

GRID = VoxelGrid("cartesian", (1.0, 1.0, 1.0), (0.0, -8.0, -8.0), (16.0, 8.0, 8.0))
ROUND = VoxelGrid("cylindrical", (1.0, 0.1, 1.0), (0.0, -3.2, -8.0), (16.0, 3.2, 8.0))


def lesson(points, *teaches):
    return Lesson(np.array(points, np.float32), np.array(teaches, np.bool_))


def check(*lessons, grid=GRID):
    require_something_to_learn(iter(lessons), grid, "labelled", "label again")


NOTHING = lesson([[1, 1, 1], [2, 2, 2]], False, False)
OUTSIDE = lesson([[-5, 30, 1], [np.nan, 0, 0], [-9, 40, 2]], True, True, True)
OUT_OF_REACH = lesson([[1, 1, 1], [20, 2, 2]], False, True)
GOOD = lesson([[1, 1, 1], [2, 2, 2]], False, True)


def test_one_good_scan_is_enough_and_the_rest_is_not_read():
    def lessons():
        yield NOTHING
        yield OUTSIDE
        yield GOOD
        raise AssertionError("read on")

    check(*())  # the training itself says that there are none
    require_something_to_learn(lessons(), GRID, "labelled", "label again")


@pytest.mark.parametrize(
    ("lessons", "grid", "message"),
    [
        (
            [OUTSIDE, OUTSIDE],
            GRID,
            "none of the points of 2 scans lies in the grid: they have x -9 to -5, y 30 to 40, z 1 to 2, the grid "
            "holds x 0 to 16, y -8 to 8, z -8 to 8; change grid: range_min and range_max of the recipe",
        ),
        (
            [OUTSIDE],
            ROUND,
            "none of the points of 1 scans lies in the grid: they have rho 30.41 to 41, phi 1.736 to 1.792, z 1 to 2, "
            "the grid holds rho 0 to 16, phi -3.2 to 3.2, z -8 to 8; change grid: range_min and range_max of the "
            "recipe",
        ),
        ([NOTHING, NOTHING], GRID, "none of the 4 points of 2 scans is labelled: label again"),
        (
            [NOTHING, OUT_OF_REACH],
            GRID,
            "none of the 1 labelled points of 2 scans lies in the grid: they have x 20 to 20, y 2 to 2, z 2 to 2, the "
            "grid holds x 0 to 16, y -8 to 8, z -8 to 8; change grid: range_min and range_max of the recipe",
        ),
        ([lesson(np.zeros((0, 3)))], GRID, "none of the 0 points of 1 scans is labelled: label again"),
    ],
)
def test_the_cause_and_the_remedy_are_named(lessons, grid, message):
    with pytest.raises(InputError) as caught:
        check(*lessons, grid=grid)
    assert str(caught.value) == message


def one_scan(tmp_path, class_id, confidence):
    points = np.random.default_rng(0).uniform((0, -8, -8), (16, 8, 8), (9, 3)).astype(np.float32)
    ones, zeros = np.ones(9, np.float32), np.zeros(9)
    labels, trust = np.full(9, class_id, np.uint8), np.full(9, confidence, np.float32)
    LabelledScan(points, ones, zeros.astype(np.uint16), labels, trust, None, zeros.astype(np.int8)).save(tmp_path / "0")
    return LabelledScans([tmp_path / "0"], GRID, ("height",), 2, with_color=False, augmentation=AugmentationConfig())


@pytest.mark.parametrize(("class_id", "confidence", "trust"), [(IGNORE_ID, 1.0, False), (0, 0.0, True)])
def test_labels_that_are_void_or_not_trusted_teach_nothing(tmp_path, class_id, confidence, trust):
    with pytest.raises(InputError, match=r"none of the 9 points of 1 scans is labelled: look at what the teacher said"):
        one_scan(tmp_path, class_id, confidence).require_something_to_learn(trust)


def test_labels_of_confidence_0_teach_where_all_count_the_same(tmp_path):
    one_scan(tmp_path, 0, 0.0).require_something_to_learn(trust=False)
