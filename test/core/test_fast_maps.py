"""Voxels, maps, features and classes against plain constructions, on every kind of cloud."""

import os
from pathlib import Path

import numpy as np
import pytest

from benchmarks import maps_references as plain
from benchmarks.maps_clouds import CARTESIAN, CYLINDRICAL, Cloud, hard_clouds, large_cloud
from ov_seg_ros.core.class_distribution import classify_logits, spread_to_points
from ov_seg_ros.core.data_types import PointCloud
from ov_seg_ros.core.point_features import GEOMETRY, voxel_features
from ov_seg_ros.core.pyramid import build_pyramid
from ov_seg_ros.core.voxels import VoxelGrid

DATA = Path(os.environ.get("OV_SEG_SHARED", Path(__file__).resolve().parents[3] / "shared")) / "data"
REAL = ("kitti_object", "semantickitti", "kitti_pointpainting", "kitti_raw", "nuscenes")
CLOUDS = {cloud.name: cloud for cloud in hard_clouds()}


def check(cloud: Cloud, num_levels: int = 5) -> None:
    expected = plain.voxelize(cloud.grid, cloud.points)
    voxels = cloud.grid.voxelize(cloud.points)
    assert plain.same(voxels.coords, expected.coords)
    assert plain.same(voxels.point_to_voxel, expected.point_to_voxel)
    pyramid = build_pyramid(voxels.coords, num_levels)
    assert plain.differences(pyramid, plain.build_pyramid(expected.coords, num_levels)) == []
    assert all(array.flags.c_contiguous for array in pyramid.graph_inputs().values())
    if len(voxels):
        intensity = np.random.default_rng(0).gamma(2, 10, len(cloud.points)).astype(np.float32)
        scan = PointCloud(cloud.points, intensity)
        found = voxel_features(scan, voxels, cloud.grid, GEOMETRY)
        assert found.dtype == np.float32
        error = np.abs(found - plain.geometry(scan, expected, cloud.grid))
        assert (error <= rounding(found, np.bincount(voxels.point_to_voxel[voxels.point_to_voxel >= 0]))).all()


def rounding(found, count):
    """A sum of n float32 rounds n times, each time by half a unit in the last place of a number up to the sum."""
    scale = np.maximum(np.abs(found), [1, 1, 1, 1, 1, 100, 1, 2])
    return scale * (3 + count[:, None]) * np.float32(2**-24)


@pytest.mark.parametrize("name", CLOUDS)
def test_hard_clouds(name):
    check(CLOUDS[name])


def test_two_million_points():
    check(large_cloud())


@pytest.mark.parametrize("folder", REAL)
def test_real_scans(folder):
    files = sorted((DATA / folder).rglob("*.bin"))
    if not files:
        pytest.skip(f"needs shared/data/{folder}")
    columns = 5 if folder == "nuscenes" else 4
    points = np.fromfile(files[0], "<f4").reshape(-1, columns)[:, :3].copy()
    fine = VoxelGrid("cartesian", (0.05, 0.05, 0.05), CARTESIAN.range_min, CARTESIAN.range_max)
    for grid in (CARTESIAN, CYLINDRICAL, fine):
        check(Cloud(folder, grid, points))


@pytest.mark.parametrize("low", [-300, -(2**20)])
def test_negative_cells(low):
    cells = np.random.default_rng(0).integers(low, low + 40, (3000, 3)).astype(np.int32)
    coords = np.unique(cells, axis=0)
    assert plain.differences(build_pyramid(coords, 5), plain.build_pyramid(coords, 5)) == []


def test_many_levels_end_in_one_voxel_per_sign():
    coords = np.unique(np.random.default_rng(0).integers(-900, 900, (500, 3)), axis=0).astype(np.int32)
    pyramid = build_pyramid(coords, 12)
    assert plain.differences(pyramid, plain.build_pyramid(coords, 12)) == []
    assert len(pyramid.levels[-1]) == 8


@pytest.mark.parametrize("step", [15, 16, 31, 32, 63, 64, 65])
def test_neighbours_across_the_words_of_a_column(step):
    """Cells above each other are kept 64 to a word; every residue of z is a border of some word on some level."""
    z = np.concatenate([np.arange(0, 400, step), np.arange(1, 400, step), np.arange(60, 70), np.arange(124, 130)])
    cells = [(x, y, h) for x, y in ((0, 0), (0, 1), (1, 0), (1, 1), (5, 0), (5, 2)) for h in z + x]
    coords = np.unique(np.array(cells, np.int32), axis=0)
    assert plain.differences(build_pyramid(coords, 6), plain.build_pyramid(coords, 6)) == []


@pytest.mark.parametrize("num_classes", [1, 2, 16, 17, 200])
@pytest.mark.parametrize("num_voxels", [0, 1, 31, 32, 33, 1000])
def test_classes_and_their_spreading(num_voxels, num_classes):
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 4, (num_voxels, num_classes)).astype(np.float32)
    found, expected = classify_logits(logits), plain.classify(logits.astype(np.float64))
    assert plain.same(found[0], expected[0])
    np.testing.assert_allclose(found[1], expected[1], rtol=4e-7 + num_classes * 2**-24)
    np.testing.assert_allclose(found[2], expected[2], rtol=0, atol=2e-6 + num_classes * 2**-21)
    point_to_voxel = rng.integers(-1, max(num_voxels, 1) if num_voxels else 0, 3000).astype(np.int32)
    for ours, theirs in zip(spread_to_points(found, point_to_voxel), plain.spread(found, point_to_voxel), strict=True):
        assert plain.same(ours, theirs)
