"""Tables made on a device: those of ``core.pyramid``, bit by bit."""

import os
import re
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="provider triton needs torch")

import torch
from device_scan import scan_on_device
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from benchmarks.maps_clouds import CARTESIAN, hard_clouds, large_cloud
from ov_seg_ros.core.errors import ConfigError, InputError
from ov_seg_ros.core.pyramid import build_pyramid, kernel_offset
from ov_seg_ros.gpu.device_maps import PyramidBuilder, neighbor_bits
from ov_seg_ros.gpu.device_voxels import DeviceGrid

DATA = Path(os.environ.get("OV_SEG_SHARED", Path(__file__).resolve().parents[3] / "shared")) / "data"
REAL = ("semantickitti", "nuscenes")
CLOUDS = {cloud.name: cloud for cloud in hard_clouds()}


def cells_on_device(coords, padding):
    """Cells with room for more, where cells of an earlier scan are left."""
    capacity = max(len(coords) + padding, 1)
    buffer = np.full((capacity, 3), 2, np.int32)
    buffer[::3] = -7
    buffer[: len(coords)] = coords
    return torch.from_numpy(buffer), torch.tensor([len(coords)], dtype=torch.int32)


def check(coords, shape, num_levels=5, padding=3, capacities=None):
    """Tables of as many levels, each with room for all voxels and ``padding`` more, or as ``capacities`` says."""
    capacities = capacities or [max(len(coords) + padding, 1)] * num_levels
    check_scan(PyramidBuilder(shape, capacities, "cpu"), coords, capacities)


def check_scan(builder, coords, capacities):
    """Where levels do not fit, tables have to be those of core without the rows there is no room for."""
    cells, count = cells_on_device(coords, max(capacities[0] - len(coords), 0))
    found = builder.build(cells[: capacities[0]], count)
    expected = build_pyramid(coords[: capacities[0]], len(capacities))
    sizes = [len(coords), *(len(level) for level in expected.levels[1:])]
    assert [count.tolist() for count in found.counts] == [[size] for size in sizes]
    assert found.overflowed.tolist() == [any(size > room for size, room in zip(sizes, capacities, strict=True))]
    assert found.overflowed.dtype == torch.bool
    for i, level in enumerate(expected.levels):
        neighbors = level.neighbor_table()
        check_table(found.neighbors[i], np.where(neighbors < len(level), neighbors, -1), i, i, sizes, capacities)
    corner = [
        level.coords[:, 0] % 2 * 4 + level.coords[:, 1] % 2 * 2 + level.coords[:, 2] % 2 for level in expected.levels
    ]
    for i, stride in enumerate(expected.strides):
        parent = np.empty(len(stride.child), np.int64)
        parent[stride.child] = stride.parent
        fine = np.arange(len(parent))
        down, up = np.full((sizes[i + 1], 8), -1), np.full((len(parent), 8), -1)
        down[parent, corner[i]], up[fine, corner[i]] = fine, parent
        check_table(found.down[i], down, i + 1, i, sizes, capacities)
        check_table(found.up[i], up, i, i + 1, sizes, capacities)
    assert len(found.down) == len(found.up) == len(capacities) - 1


def check_table(table, expected, level, source_level, sizes, capacities):
    """Of rows of ``level``, made of rows of ``source_level``; ``expected`` is without any limit."""
    rows, room = table.rows.numpy(), capacities[level]
    kept = np.where(expected < capacities[source_level], expected, -1)[:room]
    assert len(rows) == len(table.order) == room
    np.testing.assert_array_equal(rows[: len(kept)], kept)
    assert (rows[len(kept) :] == -1).all()
    assert table.count.tolist() == [sizes[level]]
    bits = np.array(neighbor_bits()) if rows.shape[1] == 27 else 1 << np.arange(8)
    mask = (rows >= 0) @ bits
    np.testing.assert_array_equal(table.order, np.argsort(-mask, kind="stable"))
    assert table.rows.is_contiguous()
    assert table.order.is_contiguous()
    assert table.rows.dtype == table.order.dtype == table.count.dtype == torch.int32


def sizes_of(coords, num_levels=5):
    return [len(level) for level in build_pyramid(coords, num_levels).levels]


@given(
    coords=hnp.arrays(np.int32, st.tuples(st.integers(0, 60), st.just(3)), elements=st.integers(0, 9)),
    num_levels=st.integers(1, 6),
    padding=st.integers(0, 4),
)
def test_equals_the_cpu(coords, num_levels, padding):
    check(np.unique(coords, axis=0).reshape(-1, 3), (10, 10, 10), num_levels, padding)


@pytest.mark.parametrize("padding", [0, 77])
@pytest.mark.parametrize("name", CLOUDS)
def test_hard_clouds(name, padding):
    cloud = CLOUDS[name]
    check(cloud.grid.voxelize(cloud.points).coords, cloud.grid.shape, padding=padding)


@pytest.mark.parametrize("shape", [(1, 1, 1), (7, 5, 3), (1, 9, 2), (16, 1, 1), (6, 8, 8)])
def test_full_grids_have_no_neighbours_around_their_borders(shape):
    check(np.array(list(np.ndindex(*shape)), np.int32), shape, padding=0)


@pytest.mark.parametrize("num_levels", [1, 2, 16])
def test_numbers_of_levels(num_levels):
    coords = np.unique(np.random.default_rng(0).integers(0, 900, (300, 3)), axis=0).astype(np.int32)
    check(coords, (900, 900, 900), num_levels)


def test_a_grid_whose_coarse_levels_alone_need_wide_keys():
    shape = (1280, 1280, 1280)  # keys of the finest level fit an int32, those of all levels do not
    coords = np.array(
        [[0, 0, 0], [0, 0, 1], [0, 1279, 1279], [1, 0, 0], [1279, 1279, 1278], [1279, 1279, 1279]], np.int32
    )
    check(coords, shape)


def test_tables_by_hand():
    coords = np.array([[0, 0, 0], [0, 0, 1], [2, 0, 1]], np.int32)
    found = PyramidBuilder((4, 4, 4), [4, 4], "cpu").build(*cells_on_device(coords, 1))
    assert [count.item() for count in found.counts] == [3, 2]
    first, second, third, free = found.neighbors[0].rows.tolist()
    assert (first[13], first[14], second[12], second[13], third[13]) == (0, 1, 0, 1, 2)
    assert (sum(r >= 0 for r in first), sum(r >= 0 for r in second), sum(r >= 0 for r in third)) == (2, 2, 1)
    assert free == [-1] * 27
    assert found.neighbors[1].rows[0, 22] == 1
    assert found.down[0].rows[:2].tolist() == [[0, 1] + [-1] * 6, [-1, 2] + [-1] * 6]
    assert found.up[0].rows[:3, :2].tolist() == [[0, -1], [-1, 0], [-1, 1]]
    assert found.neighbors[0].order.tolist() == [0, 1, 2, 3]  # centre and above, centre and below, centre alone, free
    assert found.up[0].order.tolist() == [1, 2, 0, 3]


def test_rare_positions_have_the_highest_bits():
    bits = neighbor_bits()
    assert sorted(bits) == [1 << k for k in range(27)]
    by_rank = [kernel_offset(bits.index(1 << rank)) for rank in range(27)]
    assert by_rank[0] == (0, 0, 0)
    assert {z for _, _, z in by_rank[:9]} == {0}
    assert {(abs(x), abs(y)) for x, y, _ in by_rank[-8:]} == {(1, 1)}


def test_two_million_points():
    cloud = large_cloud()
    coords = cloud.grid.voxelize(cloud.points).coords
    sizes = sizes_of(coords, 2)
    check(coords, cloud.grid.shape, capacities=[sizes[0] + 1000, sizes[1]])


@given(
    coords=hnp.arrays(np.int32, st.tuples(st.integers(0, 60), st.just(3)), elements=st.integers(0, 9)),
    spare=st.lists(st.integers(-5, 5), min_size=1, max_size=6),
)
def test_every_level_has_a_capacity_of_its_own(coords, spare):
    coords = np.unique(coords, axis=0).reshape(-1, 3)
    sizes = sizes_of(coords, len(spare))
    check(coords, (10, 10, 10), capacities=[max(size + more, 1) for size, more in zip(sizes, spare, strict=True)])


@pytest.mark.parametrize("name", CLOUDS)
def test_hard_clouds_fill_their_tables_exactly(name):
    cloud = CLOUDS[name]
    coords = cloud.grid.voxelize(cloud.points).coords
    check(coords, cloud.grid.shape, capacities=[max(size, 1) for size in sizes_of(coords)])


@pytest.mark.parametrize("name", ["street", "million cells per axis"])
@pytest.mark.parametrize("level", range(5))
def test_one_voxel_too_many_is_noticed_on_every_level(level, name):
    cloud = CLOUDS[name]
    coords = cloud.grid.voxelize(cloud.points).coords
    capacities = sizes_of(coords)
    capacities[level] -= 1
    check(coords, cloud.grid.shape, capacities=capacities)


@pytest.mark.parametrize("capacities", [(1, 1, 1, 1, 1), (4000, 1, 1, 1, 1), (1, 9999, 1, 9999, 1), (7, 6, 5, 4, 3)])
def test_far_too_many_voxels_stay_in_bounds(capacities):
    coords = CLOUDS["street"].grid.voxelize(CLOUDS["street"].points).coords
    check(coords, CLOUDS["street"].grid.shape, capacities=list(capacities))


def test_a_scan_that_did_not_fit_leaves_nothing_behind():
    grid, capacities = CLOUDS["street"].grid, [2000, 1900, 1800, 500, 100]
    builder = PyramidBuilder(grid.shape, capacities, "cpu")
    for name in ("street", "one point", "dense block", "no point", "street", "two points"):
        check_scan(builder, grid.voxelize(CLOUDS[name].points).coords, capacities)


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 1, 1), (1, 1, 5), (7, 5, 3), (6, 8, 8)])
def test_no_step_leads_to_another_level(shape):
    coords = np.array(list(np.ndindex(*shape)), np.int32)
    for spare in ([0, 0, 0, 0], [1, 0, 2, 0], [0, 3, 0, 1]):
        sizes = sizes_of(coords, 4)
        check(coords, shape, capacities=[size + more for size, more in zip(sizes, spare, strict=True)])


def test_too_many_voxels_by_hand():
    coords = np.array([[0, 0, 0], [0, 0, 1], [2, 0, 1]], np.int32)
    found = PyramidBuilder((4, 4, 4), [3, 1], "cpu").build(*cells_on_device(coords, 0))
    assert [count.item() for count in found.counts] == [3, 2]
    assert found.overflowed.tolist() == [True]
    assert found.neighbors[1].rows.tolist() == [[-1] * 13 + [0] + [-1] * 13]
    assert found.down[0].rows.tolist() == [[0, 1] + [-1] * 6]
    assert found.up[0].rows[:, :2].tolist() == [[0, -1], [-1, 0], [-1, -1]]


@pytest.mark.parametrize("folder", REAL)
def test_real_scans(folder):
    files = sorted((DATA / folder).rglob("*.bin"))
    if not files:
        pytest.skip(f"needs shared/data/{folder}")
    points = np.fromfile(files[0], "<f4").reshape(-1, 5 if folder == "nuscenes" else 4)[:, :3].copy()
    coords = CARTESIAN.voxelize(points).coords
    sizes = sizes_of(coords)
    room = [-(-size // 1024) * 1024 for size in sizes]
    check(coords, CARTESIAN.shape, capacities=room)
    scan = scan_on_device(points)
    voxels = DeviceGrid(CARTESIAN, scan.capacity, "cpu", room[0]).voxelize(scan.points, scan.num_points)
    np.testing.assert_array_equal(voxels.coords[: sizes[0]], coords)
    found = PyramidBuilder(CARTESIAN.shape, room, "cpu").build(voxels.coords, voxels.count)
    assert [count.item() for count in found.counts] == sizes
    assert not found.overflowed


def test_impossible_arguments_are_refused():
    for capacities in ([], [4] * 17, [4, 0], [-1, 4]):
        with pytest.raises(ConfigError, match="got capacities of " + re.escape(str(capacities))):
            PyramidBuilder((4, 4, 4), capacities, "cpu")
    builder, (cells, count) = PyramidBuilder((4, 4, 4), [4, 4], "cpu"), cells_on_device(np.zeros((1, 3), np.int32), 3)
    with pytest.raises(InputError, match=r"coords must be \(4, 3\)"):
        builder.build(cells[:3], count)
    with pytest.raises(InputError, match="count must be"):
        builder.build(cells, count[0])
