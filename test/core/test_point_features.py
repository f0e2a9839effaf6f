import numpy as np
import pytest

from ov_seg_ros.core.data_types import PointCloud
from ov_seg_ros.core.errors import ConfigError
from ov_seg_ros.core.point_features import COLOR, GEOMETRY, normalized_intensity, voxel_features
from ov_seg_ros.core.voxels import VoxelGrid, Voxels

GRID = VoxelGrid("cartesian", (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (10.0, 10.0, 10.0))
POINTS = np.array([[3.25, 4.5, 2.0], [3.75, 4.5, 2.5], [6.5, 0.5, 1.5], [np.nan, 0, 0]], np.float32)


def features(names, intensity=(1, 3, 4, 9), color=None, points=POINTS):
    cloud = PointCloud(points, np.array(intensity, np.float32))
    return voxel_features(cloud, GRID.voxelize(points), GRID, names, color)


def test_geometry_by_hand():
    first, second = features(GEOMETRY)
    radius = (np.hypot(3.25, 4.5) + np.hypot(3.75, 4.5)) / 2
    scale = 4.0  # 95th percentile of the four intensities by rank: the third
    expected = [0.0, 0.0, -0.25, 2.25 / 4, radius / 50, 0.5, np.log(3) / 4, (1 / scale + 3 / scale) / 2]
    np.testing.assert_allclose(first, expected, atol=1e-6)
    np.testing.assert_allclose(second, [0, 0, 0, 1.5 / 4, np.hypot(6.5, 0.5) / 50, 0, np.log(2) / 4, 1], atol=1e-6)


def test_names_choose_and_order_the_columns():
    both = features(("intensity", "height"))
    np.testing.assert_array_equal(both, features(GEOMETRY)[:, [7, 3]])


def test_color_is_the_mean_of_the_colored_points():
    color = np.array([[0.2, 0.4, 0.6, 1], [0.9, 0.9, 0.9, 0], [0.5, 0.5, 0.5, 0], [1, 1, 1, 1]], np.float32)
    first, second = features(COLOR, color=color)
    np.testing.assert_allclose(first, [0.2, 0.4, 0.6, 0.5], atol=1e-6)
    np.testing.assert_array_equal(second, 0)
    np.testing.assert_array_equal(features(COLOR), 0)


@pytest.mark.parametrize("scale", [1 / 255, 1, 4000])
def test_intensity_does_not_depend_on_the_sensors_scale(scale):
    intensity = np.random.default_rng(0).gamma(2, 10, 1000).astype(np.float32)
    np.testing.assert_allclose(
        normalized_intensity(intensity * np.float32(scale)), normalized_intensity(intensity), rtol=1e-4
    )


def test_intensity_corner_cases():
    assert normalized_intensity(np.zeros(0, np.float32)).shape == (0,)
    np.testing.assert_array_equal(normalized_intensity(np.zeros(3, np.float32)), 0)
    np.testing.assert_array_equal(normalized_intensity(np.array([np.nan, -1, 2], np.float32)), [0, 0, 1])


@pytest.mark.parametrize("names", [(), ("height", "height"), ("hight",)])
def test_unknown_or_double_names_are_refused(names):
    with pytest.raises(ConfigError, match="point_features"):
        features(names)


def one_point_after_the_other(cloud, voxels, grid):
    """GEOMETRY with every sum in float32, in the order of the points."""
    out, z_range = np.zeros((len(voxels), 8), np.float32), [[] for _ in range(len(voxels))]
    cells = (grid.axes(cloud.points) - np.float32(grid.range_min)) / np.float32(grid.voxel_size)
    scaled = normalized_intensity(cloud.intensity)
    for i, v in enumerate(voxels.point_to_voxel):
        if v >= 0:
            x, y, z = cloud.points[i]
            out[v, :3] = out[v, :3] + (cells[i].astype(np.float64) - voxels.coords[v] - 0.5)
            out[v, 3:5] += np.array([z, np.sqrt(x * x + y * y)], np.float32)
            out[v, 6:] += np.array([1, scaled[i]], np.float32)
            z_range[v].append(z)
    count = out[:, 6].copy()
    out[:, [0, 1, 2, 7]] /= count[:, None]
    out[:, 3] /= count * np.float32(4)
    out[:, 4] /= count * np.float32(50)
    out[:, 5] = [max(z) - min(z) for z in z_range]
    out[:, 6] = np.log(np.float32(1) + count) / np.float32(4)
    return out


@pytest.mark.parametrize("kind", ["cartesian", "cylindrical"])
def test_sums_are_those_of_one_point_after_the_other(kind):
    rng = np.random.default_rng(0)
    points = np.abs(rng.normal(0, 4, (3000, 3))).astype(np.float32)
    points[:500] *= np.float32(1e-5)  # the cell at the origin, where float32 would round the offsets
    points[rng.random(3000) < 0.1, 1] = np.nan
    cloud = PointCloud(points, rng.gamma(2, 10, 3000).astype(np.float32))
    grid = VoxelGrid(kind, (1.0, 0.7, 1.0), (0.0, 0.0, 0.0), (10.0, 10.0, 10.0))
    voxels = grid.voxelize(points)
    found, expected = voxel_features(cloud, voxels, grid, GEOMETRY), one_point_after_the_other(cloud, voxels, grid)
    np.testing.assert_array_equal(found[:, [0, 1, 2, 3, 4, 5, 7]], expected[:, [0, 1, 2, 3, 4, 5, 7]])
    np.testing.assert_allclose(found[:, 6], expected[:, 6], rtol=3e-7)
    assert found[:, 6].max() > np.log(64) / 4
    without_axes = Voxels(voxels.coords, voxels.point_to_voxel)
    np.testing.assert_array_equal(voxel_features(cloud, without_axes, grid, GEOMETRY), found)


def test_colors_are_summed_in_double_precision():
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 10, (5000, 3)).astype(np.float32)
    color = rng.random((5000, 4)).astype(np.float32)
    color[:, 3] = color[:, 3] > 0.4
    voxels = GRID.voxelize(points)
    row = voxels.point_to_voxel
    colored = np.bincount(row, weights=color[:, 3])
    expected = [np.bincount(row, weights=color[:, c] * color[:, 3]) / np.maximum(colored, 1) for c in range(3)]
    expected.append(colored / np.bincount(row))
    found = voxel_features(PointCloud(points, points[:, 0]), voxels, GRID, COLOR, color)
    np.testing.assert_array_equal(found, np.stack(expected, axis=1).astype(np.float32))
