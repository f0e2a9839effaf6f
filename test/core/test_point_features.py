import numpy as np
import pytest

from ov_seg_ros.core.data_types import PointCloud
from ov_seg_ros.core.errors import ConfigError
from ov_seg_ros.core.point_features import COLOR, GEOMETRY, normalized_intensity, voxel_features
from ov_seg_ros.core.voxels import VoxelGrid

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
