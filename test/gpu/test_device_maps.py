"""Tables made on a device: those of ``core.pyramid``, bit by bit."""

import numpy as np
import pytest

pytest.importorskip("torch", reason="provider triton needs torch")

import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from benchmarks.maps_clouds import hard_clouds, large_cloud
from ov_seg_ros.core.errors import ConfigError, InputError
from ov_seg_ros.core.pyramid import build_pyramid
from ov_seg_ros.gpu.device_maps import PyramidBuilder

CLOUDS = {cloud.name: cloud for cloud in hard_clouds()}


def cells_on_device(coords, padding):
    """Cells with room for more, where cells of an earlier scan are left."""
    capacity = max(len(coords) + padding, 1)
    buffer = np.full((capacity, 3), 2, np.int32)
    buffer[::3] = -7
    buffer[: len(coords)] = coords
    return torch.from_numpy(buffer), torch.tensor([len(coords)], dtype=torch.int32)


def check(coords, shape, num_levels=5, padding=3):
    cells, count = cells_on_device(coords, padding)
    builder = PyramidBuilder(shape, num_levels, len(cells), "cpu")
    found, expected = builder.build(cells, count), build_pyramid(coords, num_levels)
    sizes = [len(level) for level in expected.levels]
    assert [count.tolist() for count in found.counts] == [[size] for size in sizes]
    for table, level in zip(found.neighbors, expected.levels, strict=True):
        neighbors = level.neighbor_table()
        check_table(table, np.where(neighbors < len(level), neighbors, -1), len(level), len(cells))
    corner = [
        level.coords[:, 0] % 2 * 4 + level.coords[:, 1] % 2 * 2 + level.coords[:, 2] % 2 for level in expected.levels
    ]
    for i, stride in enumerate(expected.strides):
        parent = np.empty(sizes[i], np.int64)
        parent[stride.child] = stride.parent
        fine = np.arange(sizes[i])
        down, up = np.full((sizes[i + 1], 8), -1), np.full((sizes[i], 8), -1)
        down[parent, corner[i]], up[fine, corner[i]] = fine, parent
        check_table(found.down[i], down, sizes[i + 1], sizes[i])
        check_table(found.up[i], up, sizes[i], sizes[i + 1])
    assert len(found.down) == len(found.up) == num_levels - 1


def check_table(table, expected, count, num_sources):
    rows = table.rows.numpy()
    np.testing.assert_array_equal(rows[:count], expected)
    assert (rows[count:] == -1).all()
    assert rows.max(initial=-1) < num_sources
    assert table.count.tolist() == [count]
    mask = ((rows >= 0) << np.arange(rows.shape[1])).sum(axis=1)
    np.testing.assert_array_equal(table.order, np.argsort(-mask, kind="stable"))
    assert table.rows.is_contiguous()
    assert table.order.is_contiguous()
    assert table.rows.dtype == table.order.dtype == table.count.dtype == torch.int32


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
    found = PyramidBuilder((4, 4, 4), 2, 4, "cpu").build(*cells_on_device(coords, 1))
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


def test_two_million_points():
    cloud = large_cloud()
    coords = cloud.grid.voxelize(cloud.points).coords
    check(coords, cloud.grid.shape, num_levels=2, padding=1000)


def test_impossible_arguments_are_refused():
    for num_levels, capacity in ((0, 4), (17, 4), (5, 0)):
        with pytest.raises(ConfigError, match=f"got num_levels {num_levels} and a capacity of {capacity}"):
            PyramidBuilder((4, 4, 4), num_levels, capacity, "cpu")
    builder, (cells, count) = PyramidBuilder((4, 4, 4), 2, 4, "cpu"), cells_on_device(np.zeros((1, 3), np.int32), 3)
    with pytest.raises(InputError, match=r"coords must be \(4, 3\)"):
        builder.build(cells[:3], count)
    with pytest.raises(InputError, match="count must be"):
        builder.build(cells, count[0])
