import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ov_seg_ros.core.errors import ConfigError
from ov_seg_ros.core.voxels import VoxelGrid, pack_coords, unpack_keys

GRID = VoxelGrid("cartesian", (0.5, 0.5, 1.0), (-10.0, -10.0, -2.0), (10.0, 10.0, 4.0))


def test_cells_by_hand():
    points = np.array([[-10, -10, -2], [-9.6, -10, -2], [-9.4, -10, -2], [9.99, 9.99, 3.99], [10, 0, 0]], np.float32)
    voxels = GRID.voxelize(points)
    np.testing.assert_array_equal(voxels.coords, [[0, 0, 0], [1, 0, 0], [39, 39, 5]])
    np.testing.assert_array_equal(voxels.point_to_voxel, [0, 0, 1, 2, -1])


def test_invalid_points_have_no_cell():
    points = np.array([[np.nan, 0, 0], [np.inf, 0, 0], [0, -np.inf, 0], [0, 0, 0]], np.float32)
    np.testing.assert_array_equal(GRID.voxelize(points).point_to_voxel, [-1, -1, -1, 0])


def test_straight_behind_is_in_a_cylinder_whatever_the_sign_of_zero():
    grid = VoxelGrid("cylindrical", (0.1, np.pi / 180, 0.1), (0.0, -np.pi, -4.0), (80.0, np.pi, 4.0))
    behind = np.array([[-10, 0.0, 0], [-10, -0.0, 0], [-10, 1e-9, 0], [-10, -1e-9, 0], [-10, 0.1, 0]], np.float32)
    voxels = grid.voxelize(behind)
    assert voxels.coords[voxels.point_to_voxel].tolist() == [[100, 0, 40]] * 4 + [[100, 359, 40]]


def test_no_points_no_voxels():
    voxels = GRID.voxelize(np.zeros((0, 3), np.float32))
    assert voxels.coords.shape == (0, 3)
    assert voxels.point_to_voxel.shape == (0,)


def test_cylinder_axes():
    degree = np.pi / 180
    grid = VoxelGrid("cylindrical", (0.1, degree, 0.1), (0.0, -np.pi, -4.0), (80.0, np.pi + 1e-6, 4.0))
    voxels = grid.voxelize(np.array([[3.04, 0.001, 0.05], [0, -2.04, 0.05]], np.float32))
    np.testing.assert_array_equal(voxels.coords[voxels.point_to_voxel], [[30, 180, 40], [20, 90, 40]])


@given(hnp.arrays(np.float32, st.tuples(st.integers(0, 40), st.just(3)), elements=st.floats(-15, 15, width=32)))
def test_equals_the_definition(points):
    voxels = GRID.voxelize(points)
    cells = np.floor((points - np.float32([-10, -10, -2])) / np.float32([0.5, 0.5, 1]))
    inside = ((cells >= 0) & (cells < [40, 40, 6])).all(axis=1)
    np.testing.assert_array_equal(voxels.point_to_voxel >= 0, inside)
    np.testing.assert_array_equal(voxels.coords[voxels.point_to_voxel[inside]], cells[inside])
    np.testing.assert_array_equal(voxels.coords, np.unique(cells[inside], axis=0).reshape(-1, 3))


@given(hnp.arrays(np.int32, st.tuples(st.integers(0, 20), st.just(3)), elements=st.integers(0, 2**20 - 3)))
def test_keys_keep_cells_and_their_order(coords):
    keys = pack_coords(coords)
    np.testing.assert_array_equal(unpack_keys(keys), coords)
    np.testing.assert_array_equal(coords[np.argsort(keys, kind="stable")], coords[np.lexsort(coords.T[::-1])])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "polar"}, "kind must be one of"),
        ({"voxel_size": (0.1, 0.0, 0.1)}, "voxel_size must be > 0"),
        ({"voxel_size": (0.1, float("nan"), 0.1)}, "must be finite"),
        ({"range_max": (10.0, float("inf"), 4.0)}, "must be finite"),
        ({"range_max": (10.0, -10.0, 4.0)}, "must lie below"),
        ({"voxel_size": (1e-5, 1.0, 1.0)}, "too fine"),
    ],
)
def test_impossible_grids_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        VoxelGrid(**{**GRID.to_dict(), **changes})


def test_dict_round_trip():
    assert VoxelGrid.from_dict(GRID.to_dict()) == GRID
    with pytest.raises(ConfigError, match="expected kind"):
        VoxelGrid.from_dict({"kind": "cartesian"})
