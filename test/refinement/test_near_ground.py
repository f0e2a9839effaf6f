"""The plane around the vehicle."""

import numpy as np
import pytest

from ov_seg_ros.refinement.afi_config import AfiConfig
from ov_seg_ros.refinement.near_ground import find_near_ground

CONFIG = AfiConfig.released()


def slope(x, y, sensor_height=1.84):
    return 0.02 * x - 0.01 * y - sensor_height


def scene(sensor_height=1.84):
    """300 points on a slope, then 60 on a kerb 0.25 m above it, then 5 far away, then 5 below the sensor."""
    rng = np.random.default_rng(0)
    angle, radius = rng.uniform(-np.pi, np.pi, 370), np.concatenate([rng.uniform(2.2, 4.9, 360), [9] * 5, [1] * 5])
    x, y = radius * np.cos(angle), radius * np.sin(angle)
    z = slope(x, y, sensor_height) + np.repeat([0, 0.25, 0], [300, 60, 10])
    return np.column_stack([x, y, z + rng.normal(0, 0.01, 370)])


@pytest.mark.parametrize("seed", range(5))
def test_finds_the_slope_and_leaves_the_kerb(seed):
    found = find_near_ground(scene(), CONFIG, seed)
    assert found[:300].all()
    assert not found[300:].any()


def test_depends_on_the_height_of_the_sensor():
    low = scene(sensor_height=0.6)
    assert not find_near_ground(low, CONFIG).any()
    assert find_near_ground(low, AfiConfig(sensor_height=0.6))[:300].all()


def test_needs_ten_points():
    assert not find_near_ground(scene()[:9], CONFIG).any()
    assert find_near_ground(scene()[:10], CONFIG).all()
    assert not find_near_ground(np.zeros((0, 3)), CONFIG).any()
