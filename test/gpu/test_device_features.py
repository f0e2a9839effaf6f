"""Features made on a device: those of ``core.point_features``, within rounding."""

import numpy as np
import pytest

pytest.importorskip("torch", reason="provider triton needs torch")

import torch
from device_scan import scan_on_device
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.maps_clouds import CARTESIAN, CYLINDRICAL, hard_clouds
from ov_seg_ros.core.data_types import PointCloud
from ov_seg_ros.core.errors import ConfigError, InputError
from ov_seg_ros.core.point_features import COLOR, GEOMETRY, normalized_intensity, voxel_features
from ov_seg_ros.core.voxels import VoxelGrid
from ov_seg_ros.gpu.device_features import FeatureBuilder
from ov_seg_ros.gpu.device_voxels import DeviceGrid

GRID = VoxelGrid("cartesian", (1.0, 0.7, 1.0), (-10.0, -10.0, -10.0), (10.0, 10.0, 10.0))
BY_HAND = VoxelGrid("cartesian", (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (10.0, 10.0, 10.0))
CLOUDS = {cloud.name: cloud for cloud in hard_clouds()}


def built(grid, names, scan, color=None, room=None):
    voxels = DeviceGrid(grid, scan.capacity, "cpu", room).voxelize(scan.points, scan.num_points)
    builder = FeatureBuilder(grid, names, scan.capacity, "cpu", room)
    found = builder.build(scan.points, scan.intensity, scan.num_points, voxels, color)
    assert found.dtype == torch.float32
    assert found.shape == (room or scan.capacity, len(names))
    assert (found[int(voxels.count) :] == 0).all()
    return found[: int(voxels.count)].numpy(), voxels


def check(grid, points, intensity, names=GEOMETRY, color=None, padding=3):
    scan = scan_on_device(points, intensity, color, padding)
    found, voxels = built(grid, names, scan, None if color is None else scan.color)
    on_cpu = grid.voxelize(points)
    if not np.array_equal(on_cpu.point_to_voxel, voxels.point_to_voxel[: len(points)]):
        pytest.skip("this processor's NumPy and torch see a point on different sides of a border")
    expected = voxel_features(PointCloud(points, intensity), on_cpu, grid, names, color)
    error = np.abs(found - expected) / np.maximum(np.abs(expected), 1)
    assert (error <= tolerance(grid, names)).all(), dict(zip(names, error.max(axis=0), strict=True))


def tolerance(grid, names):
    """Of an angle over the size of a cell more digits are lost than of a length."""
    return [1e-4 if grid.kind == "cylindrical" and name == "offset_y" else 1e-5 for name in names]


def scan_of(seed, num_points):
    random = np.random.default_rng(seed)
    points = random.normal(0, 5, (num_points, 3)).astype(np.float32)
    points[random.random(num_points) < 0.1, random.integers(3)] = np.nan
    intensity = random.gamma(2, 10, num_points).astype(np.float32)
    intensity[random.random(num_points) < 0.1] = random.choice([np.nan, np.inf, -np.inf, -3, 0])
    color = random.random((num_points, 4)).astype(np.float32)
    color[:, 3] = color[:, 3] > 0.4
    return points, intensity, color


@given(
    seed=st.integers(0, 2**32 - 1),
    num_points=st.integers(0, 60),
    padding=st.integers(0, 4),
    names=st.lists(st.sampled_from(GEOMETRY + COLOR), min_size=1, unique=True),
    has_color=st.booleans(),
)
def test_equals_the_cpu(seed, num_points, padding, names, has_color):
    points, intensity, color = scan_of(seed, num_points)
    check(GRID, points, intensity, tuple(names), color if has_color else None, padding)


@pytest.mark.parametrize("padding", [0, 1000])
@pytest.mark.parametrize("name", [name for name in CLOUDS if "vast" not in name and "million" not in name])
def test_hard_clouds(name, padding):
    cloud = CLOUDS[name]
    _, intensity, color = scan_of(0, len(cloud.points))
    check(cloud.grid, cloud.points, intensity, GEOMETRY + COLOR, color, padding)


def test_geometry_by_hand():
    points = np.array([[3.25, 4.5, 2.0], [3.75, 4.5, 2.5], [6.5, 0.5, 1.5], [np.nan, 0, 0]], np.float32)
    (first, second), _ = built(BY_HAND, GEOMETRY, scan_on_device(points, np.array([1, 3, 4, 9], np.float32)))
    radius = (np.hypot(3.25, 4.5) + np.hypot(3.75, 4.5)) / 2
    scale = 4.0  # 95th percentile of the four intensities by rank: the third
    expected = [0.0, 0.0, -0.25, 2.25 / 4, radius / 50, 0.5, np.log(3) / 4, (1 / scale + 3 / scale) / 2]
    np.testing.assert_allclose(first, expected, atol=1e-6)
    np.testing.assert_allclose(second, [0, 0, 0, 1.5 / 4, np.hypot(6.5, 0.5) / 50, 0, np.log(2) / 4, 1], atol=1e-6)


@pytest.mark.parametrize(
    "intensity",
    [[0, 0, 0], [-3, -2, -1], [np.nan] * 3, [0, 0, 0, 0, 5], [-1] * 30 + [7], [np.inf, 1, 2], [5], [1e-30] * 4],
)
def test_intensity_corner_cases(intensity):
    intensity = np.array(intensity, np.float32)
    points = np.arange(len(intensity))[:, None] % 10 * np.ones(3, np.float32)
    check(BY_HAND, points.astype(np.float32), intensity, ("intensity",))


def test_the_percentile_is_that_of_python():
    for num_points in (*range(2, 130), 1021, 20001, 2_210_002):  # of the last, float32 would round the rank up
        intensity = np.random.default_rng(0).permutation(num_points).astype(np.float32) + 1
        points = np.zeros((num_points, 3), np.float32)
        points[intensity == num_points // 2] = 5  # alone in its voxel
        (_, found), _ = built(BY_HAND, ("intensity",), scan_on_device(points, intensity))
        expected = num_points // 2 / (1 + int(0.95 * (num_points - 1)))  # the intensity of rank r is r + 1
        np.testing.assert_allclose(found, expected, rtol=2e-7)


def test_the_order_of_points_does_not_matter():
    points, intensity, color = scan_of(0, 4000)
    order = np.random.default_rng(1).permutation(4000)
    names = GEOMETRY + COLOR
    one = scan_on_device(points, intensity, color)
    other = scan_on_device(points[order], intensity[order], color[order])
    np.testing.assert_array_equal(built(GRID, names, one, one.color)[0], built(GRID, names, other, other.color)[0])


def test_a_quarter_million_points_in_one_voxel_neither_overflow_nor_drift():
    random = np.random.default_rng(0)
    points = random.uniform(9.0, 9.99, (2**18, 3)).astype(np.float32)
    intensity = random.gamma(2, 10, 2**18).astype(np.float32)
    (found,), _ = built(BY_HAND, GEOMETRY, scan_on_device(points, intensity, padding=0))
    exact = points.astype(np.float64)
    mean = [*(exact.mean(axis=0) - 9.5), exact[:, 2].mean() / 4, np.hypot(exact[:, 0], exact[:, 1]).mean() / 50]
    mean += [np.ptp(exact[:, 2]), np.log(2**18 + 1) / 4, normalized_intensity(intensity).astype(np.float64).mean()]
    np.testing.assert_allclose(found, mean, rtol=3e-7, atol=1e-7)


@pytest.mark.parametrize("reach", [1.0, 1e3, 1e5])
def test_sums_at_the_rim_of_any_grid_do_not_overflow(reach):
    grid = VoxelGrid("cartesian", (reach, reach, reach), (-reach, -reach, -reach), (reach, reach, reach))
    points = np.full((2**16, 3), -reach, np.float32)
    (found,), _ = built(grid, GEOMETRY, scan_on_device(points, np.ones(2**16, np.float32), padding=0))
    expected = [-0.5, -0.5, -0.5, -reach / 4, np.sqrt(2) * reach / 50, 0, np.log(2**16 + 1) / 4, 1]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("grid", [CARTESIAN, CYLINDRICAL], ids=["cartesian", "cylindrical"])
def test_two_hundred_thousand_points(grid):
    random = np.random.default_rng(0)
    points = (random.standard_normal((200_000, 3), np.float32) * np.float32((9, 9, 0.5))).astype(np.float32)
    check(grid, points, random.gamma(2, 10, len(points)).astype(np.float32), padding=2**18 - len(points))


@given(seed=st.integers(0, 2**32 - 1), num_points=st.integers(0, 300), room=st.integers(1, 310))
def test_of_too_many_voxels_the_first_keep_their_features(seed, num_points, room):
    points, intensity, color = scan_of(seed, num_points)
    scan = scan_on_device(points, intensity, color)
    names = GEOMETRY + COLOR
    expected, _ = built(GRID, names, scan, scan.color)
    found, voxels = built(GRID, names, scan, scan.color, room)
    np.testing.assert_array_equal(found, expected[:room])
    assert voxels.count.tolist() == [len(expected)]


def test_impossible_arguments_are_refused():
    with pytest.raises(ConfigError, match="point_features must be distinct names"):
        FeatureBuilder(GRID, ("hight",), 4, "cpu")
    with pytest.raises(ConfigError, match="capacity of 0 points"):
        FeatureBuilder(GRID, GEOMETRY, 0, "cpu")
    with pytest.raises(ConfigError, match="capacity of 4 points and 0 voxels"):
        FeatureBuilder(GRID, GEOMETRY, 4, "cpu", 0)
    scan = scan_on_device(np.zeros((1, 3), np.float32))
    with pytest.raises(InputError, match=r"color must be \(4, 4\) torch.float32, got \(3, 4\)"):
        built(GRID, COLOR, scan, scan.color[:3])
    short = scan_on_device(np.zeros((1, 3), np.float32), padding=2)
    voxels = DeviceGrid(GRID, 4, "cpu").voxelize(scan.points, scan.num_points)
    with pytest.raises(InputError, match=r"intensity must be \(4,\)"):
        FeatureBuilder(GRID, GEOMETRY, 4, "cpu").build(scan.points, short.intensity, scan.num_points, voxels)
    with pytest.raises(InputError, match=r"voxels.coords must be \(5, 3\) torch.int32, got \(4, 3\)"):
        FeatureBuilder(GRID, GEOMETRY, 4, "cpu", 5).build(scan.points, scan.intensity, scan.num_points, voxels)
