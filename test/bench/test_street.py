"""Made-up scans: the sizes that goals speak of, and voxels like those of real scans."""

from __future__ import annotations

import numpy as np
import pytest

from ov_seg_ros.bench.scans import synthetic_scan
from ov_seg_ros.bench.street import MAX_RANGE, SpinningLidar, scan_of_size, scan_street
from ov_seg_ros.core.pyramid import build_pyramid
from ov_seg_ros.core.voxels import VoxelGrid

GRID = VoxelGrid("cartesian", (0.1, 0.1, 0.1), (-100.0, -100.0, -6.0), (100.0, 100.0, 18.0))

# Voxels of 0.1 m, and occupied cells of the 27 around each: nuScenes 17,700 to 22,000 and 2.8 to 3.6;
# KITTI 39,000 to 60,000 and 6.0 to 6.3.
REAL = {32: ((30_000, 38_000), (15_000, 27_000), (2.5, 5.5)), 64: ((115_000, 135_000), (38_000, 65_000), (5.0, 8.0))}


@pytest.mark.parametrize("beams", [32, 64])
def test_a_made_up_scan_costs_about_what_a_real_one_costs(beams):
    scan = synthetic_scan(beams)
    (fewest, most), (few_voxels, many_voxels), (sparse, dense) = REAL[beams]
    assert scan.beams == beams
    assert fewest < len(scan) < most
    level = build_pyramid(GRID.voxelize(scan.cloud.points).coords, 1).levels[0]
    assert few_voxels < len(level) < many_voxels
    assert sparse < 1 + 2 * len(level.pair_centre) / len(level) < dense


def test_points_lie_on_and_above_the_ground_within_range():
    points = scan_street(SpinningLidar(32, 400, height=1.8)).points
    assert points.dtype == np.float32
    assert np.isfinite(points).all()
    assert points[:, 2].min() > -1.8 - 0.2
    assert np.linalg.norm(points, axis=1).max() <= MAX_RANGE + 0.01
    ground = np.abs(points[:, 2] + 1.8) < 0.1
    assert 0.2 < ground.mean() < 0.8


def test_rays_come_column_by_column_from_the_rear_clockwise_lowest_beam_first():
    directions = SpinningLidar(3, 4, elevation=(-30.0, 30.0)).directions().reshape(4, 3, 3)
    forward = [[-1, 0], [0, 1], [1, 0], [0, -1]]  # rear, left, front, right
    assert np.allclose(directions[:, 1, :2], forward)
    assert np.allclose(directions[0, :, 2], [-0.5, 0, 0.5])


def test_the_same_seed_draws_the_same_scan():
    lidar = SpinningLidar(8, 100)
    assert (scan_street(lidar, 3).points == scan_street(lidar, 3).points).all()
    assert len(scan_street(lidar, 3)) != len(scan_street(lidar, 4))


@pytest.mark.parametrize("size", [1, 10, 1_000, 12_345, 300_000])
def test_a_scan_of_a_size_has_it(size):
    cloud = scan_of_size(size)
    assert len(cloud) == size == len(np.unique(cloud.points, axis=0))
