"""Voxels on a device: those of ``VoxelGrid.voxelize``, bit by bit."""

import numpy as np
import pytest

pytest.importorskip("torch", reason="provider triton needs torch")

import torch
from device_scan import scan_on_device
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from benchmarks.maps_clouds import CARTESIAN, CYLINDRICAL, VAST, hard_clouds, large_cloud
from ov_seg_ros.core.errors import ConfigError, InputError
from ov_seg_ros.core.voxels import VoxelGrid
from ov_seg_ros.gpu.device_voxels import DeviceGrid, KeyLayout, KeySegments, key_type

GRID = VoxelGrid("cartesian", (0.5, 0.5, 1.0), (-10.0, -10.0, -2.0), (10.0, 10.0, 4.0))
CLOUDS = {cloud.name: cloud for cloud in hard_clouds()}
COORDINATES = st.floats(-15, 15, width=32) | st.sampled_from([np.nan, np.inf, -np.inf, 3e38, 10.0, -10.0, -0.0])


def check(grid, points, padding=3, voxel_capacity=None):
    scan = scan_on_device(points, padding=padding)
    found = DeviceGrid(grid, scan.capacity, "cpu", voxel_capacity).voxelize(scan.points, scan.num_points)
    axes = found_axes(grid, scan.points)[: len(points)]
    expected = VoxelGrid("cartesian", grid.voxel_size, grid.range_min, grid.range_max).voxelize(axes)
    count = int(found.count)
    assert count == len(expected)
    assert len(found.coords) == (voxel_capacity or scan.capacity)
    np.testing.assert_array_equal(found.coords[:count], expected.coords)
    np.testing.assert_array_equal(found.point_to_voxel[: len(points)], expected.point_to_voxel)
    assert (found.point_to_voxel[len(points) :] == -1).all()
    assert (found.coords[count:] >= torch.tensor(grid.shape)).any(dim=1).all(), "rows behind lie outside the grid"
    assert [t.dtype for t in (found.coords, found.count, found.point_to_voxel)] == [torch.int32] * 3
    inside = found.point_to_voxel >= 0
    np.testing.assert_array_equal(found.cells[inside].floor(), found.coords[found.point_to_voxel[inside]])
    return expected


def found_axes(grid, points):
    """Angles by torch: NumPy may round some of them differently, which is what a device may do too."""
    if grid.kind == "cartesian":
        return points.numpy()
    x, y, z = points.unbind(1)
    axes = torch.stack((torch.hypot(x, y), torch.atan2(y, x), z), dim=1).numpy()
    np.testing.assert_allclose(axes, grid.axes(points.numpy()), rtol=3e-7, atol=3e-7)
    return axes


@given(
    points=hnp.arrays(np.float32, st.tuples(st.integers(0, 40), st.just(3)), elements=COORDINATES),
    padding=st.integers(0, 5),
)
def test_equals_the_cpu(points, padding):
    expected = GRID.voxelize(points)
    found = check(GRID, points, padding)
    np.testing.assert_array_equal(found.coords, expected.coords)
    np.testing.assert_array_equal(found.point_to_voxel, expected.point_to_voxel)


@pytest.mark.parametrize("padding", [0, 77])
@pytest.mark.parametrize("name", CLOUDS)
def test_hard_clouds(name, padding):
    check(CLOUDS[name].grid, CLOUDS[name].points, padding)


@pytest.mark.parametrize("capacity", [2**10, 2**12, 2**13])
def test_powers_of_two(capacity):
    points = CLOUDS["street"].points[:1000]
    check(CARTESIAN, points, capacity - len(points))
    check(CYLINDRICAL, np.resize(points, (capacity, 3)), 0)


def test_cells_by_hand():
    points = np.array([[-10, -10, -2], [-9.6, -10, -2], [-9.4, -10, -2], [9.99, 9.99, 3.99], [10, 0, 0]], np.float32)
    scan = scan_on_device(points, padding=0)
    found = DeviceGrid(GRID, 5, "cpu").voxelize(scan.points, scan.num_points)
    assert found.count.tolist() == [3]
    assert found.coords[:3].tolist() == [[0, 0, 0], [1, 0, 0], [39, 39, 5]]
    assert found.point_to_voxel.tolist() == [0, 0, 1, 2, -1]


def test_every_point_in_a_cell_of_its_own():
    x, y, z = np.meshgrid(np.arange(7), np.arange(5), np.arange(3), indexing="ij")
    points = np.stack((x, y, z), axis=-1).reshape(-1, 3).astype(np.float32) + np.float32(0.5)
    grid = VoxelGrid("cartesian", (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (7.0, 5.0, 3.0))
    assert len(check(grid, points[np.random.default_rng(0).permutation(105)], padding=0)) == 105


def test_nothing_of_the_scan_before_is_left():
    grid = DeviceGrid(CARTESIAN, 5000, "cpu")
    for name in ("street", "one point", "no point", "some invalid"):
        points = CLOUDS[name].points
        scan = scan_on_device(points, padding=5000 - len(points))
        found, expected = grid.voxelize(scan.points, scan.num_points), CARTESIAN.voxelize(points)
        np.testing.assert_array_equal(found.coords[: int(found.count)], expected.coords)


def test_two_million_points():
    cloud = large_cloud()
    check(cloud.grid, cloud.points, padding=2**21 - len(cloud.points))


def test_keys_are_as_narrow_as_they_can_be():
    assert key_type(KeyLayout.of((2048, 2048, 160)).none) == torch.int32
    assert key_type(KeyLayout.of(VAST.shape).none) == torch.int64
    assert [key_type(2**31 - 1), key_type(2**31)] == [torch.int32, torch.int64]


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 4, 5), (2, 1, 7)])
def test_no_step_leads_from_cell_to_cell_around_a_border(shape):
    layout = KeyLayout.of(shape, first=1000)
    key = {cell: 1000 + int(np.dot(cell, layout.strides)) for cell in np.ndindex(*shape)}
    assert sorted(key, key=key.__getitem__) == sorted(key)
    cell_of = {number: cell for cell, number in key.items()}
    for cell, step in ((cell, np.subtract(step, 1)) for cell in key for step in np.ndindex(3, 3, 3)):
        neighbor = tuple((np.array(cell) + step).tolist())
        number = key[cell] + int(np.dot(step, layout.strides))
        assert cell_of.get(number) == (neighbor if neighbor in key else None)
        assert abs(number - key[cell]) <= layout.reach
        assert number < layout.none


@pytest.mark.parametrize(
    "capacities",
    [(4, 4, 4), (2, 1, 4), (9, 8, 7), (1, 1, 4), (2, 1, 1), (1, 4, 3)],
    ids="{0[0]}, {0[1]}, {0[2]}".format,
)
def test_sets_of_keys_stay_apart(capacities):
    keys = torch.tensor([[3, 1, 3, 1], [10, 9, 10, 9], [14, 13, 12, 11]], dtype=torch.int32)
    sets, none = [[1, 3], [9], [11, 12, 13, 14]], [8, 10, 20]
    found, count = KeySegments(capacities, none, torch.int32, "cpu").fill(keys)
    expected = [[*keys, *[none] * 9][:room] for keys, none, room in zip(sets, none, capacities, strict=True)]
    assert found.tolist() == [*expected[0], *expected[1], *expected[2], 20]
    assert count.tolist() == [2, 1, 4]
    assert count.dtype == torch.int32


@given(
    points=hnp.arrays(np.float32, st.tuples(st.integers(0, 40), st.just(3)), elements=COORDINATES),
    spare=st.integers(0, 50),
    padding=st.integers(0, 5),
)
def test_voxels_have_a_capacity_of_their_own(points, spare, padding):
    num_voxels = len(GRID.voxelize(points))
    check(GRID, points, padding, max(num_voxels + spare, 1))


@given(
    points=hnp.arrays(np.float32, st.tuples(st.integers(2, 40), st.just(3)), elements=st.floats(-12, 9, width=32)),
    room=st.integers(1, 39),
    padding=st.integers(0, 5),
)
def test_of_too_many_voxels_the_first_are_kept(points, room, padding):
    expected = GRID.voxelize(points)
    scan = scan_on_device(points, padding=padding)
    found = DeviceGrid(GRID, scan.capacity, "cpu", room).voxelize(scan.points, scan.num_points)
    assert found.count.tolist() == [len(expected)]
    kept = min(room, len(expected))
    np.testing.assert_array_equal(found.coords[:kept], expected.coords[:kept])
    rows = expected.point_to_voxel
    np.testing.assert_array_equal(found.point_to_voxel[: len(points)], np.where(rows < room, rows, -1))
    assert (found.point_to_voxel[len(points) :] == -1).all()


def test_impossible_arguments_are_refused():
    with pytest.raises(ConfigError, match="capacity of 0 points and 0 voxels"):
        DeviceGrid(GRID, 0, "cpu")
    with pytest.raises(ConfigError, match="capacity of 4 points and 0 voxels"):
        DeviceGrid(GRID, 4, "cpu", 0)
    grid, scan = DeviceGrid(GRID, 4, "cpu"), scan_on_device(np.zeros((1, 3), np.float32))
    with pytest.raises(InputError, match=r"points must be \(4, 3\) torch.float32, got \(3, 3\)"):
        grid.voxelize(scan.points[:3], scan.num_points)
    with pytest.raises(InputError, match=r"num_points must be \(1,\) torch.int32, got \(1,\) torch.int64"):
        grid.voxelize(scan.points, scan.num_points.long())
