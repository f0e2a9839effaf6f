from __future__ import annotations

import numpy as np
import pytest

from ov_seg_ros.core.camera import CameraModel
from ov_seg_ros.core.errors import InputError
from ov_seg_ros.core.projection import project_cloud

CAMERA = CameraModel(width=640, height=480, fx=500.0, fy=500.0, cx=320.0, cy=240.0)
# camera at the LiDAR's origin, looking along +x: right = -y, down = -z, forward = x
FORWARD = np.array([[0.0, -1.0, 0.0, 0.0], [0.0, 0.0, -1.0, 0.0], [1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]])


def test_points_land_on_the_pixels_worked_out_by_hand() -> None:
    points = np.array([[10.0, 0.0, 0.0], [10.0, 2.0, 1.0], [20.0, -4.0, -2.0]], np.float32)
    projection = project_cloud(points, FORWARD, CAMERA, occlusion=None)
    assert projection.point_index.tolist() == [0, 1, 2]
    # u = 320 - 500 y / x, v = 240 - 500 z / x
    np.testing.assert_allclose(projection.pixels, [[320, 240], [220, 190], [420, 290]], atol=1e-4)
    np.testing.assert_allclose(projection.depth, [10, 10, 20])
    assert (projection.point_index.dtype, projection.pixels.dtype, projection.depth.dtype) == (
        np.int64,
        np.float32,
        np.float32,
    )


def test_translation_is_applied_in_camera_axes() -> None:
    shifted = FORWARD.copy()
    shifted[:3, 3] = [0.5, 0.2, -1.0]
    projection = project_cloud(np.array([[11.0, 0.0, 0.0]]), shifted, CAMERA, occlusion=None)
    np.testing.assert_allclose(projection.pixels, [[320 + 500 * 0.05, 240 + 500 * 0.02]], atol=1e-4)
    np.testing.assert_allclose(projection.depth, [10.0])


def test_points_behind_beside_and_too_near_are_left_out() -> None:
    points = np.array([[-10, 0, 0], [10, 50, 0], [10, 0, 50], [0.9, 0, 0], [1.1, 0, 0], [0, 0, 0]], np.float32)
    assert project_cloud(points, FORWARD, CAMERA, None).point_index.tolist() == [4]
    assert project_cloud(points, FORWARD, CAMERA, None, min_depth=0.5).point_index.tolist() == [3, 4]


def test_invalid_points_are_left_out_and_the_index_still_fits() -> None:
    good = [10.0, 0.0, 0.0]
    points = np.array([[np.nan] * 3, good, [np.inf, 0, 0], [10, -np.inf, 0], [10, 0, np.nan], good], np.float32)
    with np.errstate(all="raise"):
        projection = project_cloud(points, FORWARD, CAMERA)
    assert projection.point_index.tolist() == [1, 5]


def test_beams_that_did_not_come_back_are_left_out_and_hide_nothing() -> None:
    """A camera behind the LiDAR sees its origin, where drivers put them."""
    behind = FORWARD.copy()
    behind[2, 3] = 2.0  # two metres
    points = np.random.default_rng(0).uniform([3, -2, -1], [20, 2, 1], (500, 3)).astype(np.float32)
    lost = np.array([[0, 0, 0], [0, -0.0, 0]] * 100, np.float32)
    alone = project_cloud(points, behind, CAMERA)
    assert 0 < len(alone) < 500
    both = project_cloud(np.concatenate([points, lost]), behind, CAMERA)
    for name in ("point_index", "pixels", "depth"):
        np.testing.assert_array_equal(getattr(both, name), getattr(alone, name))


@pytest.mark.parametrize("count", [0, 1])
def test_empty_and_single_point_clouds(count: int) -> None:
    projection = project_cloud(np.full((count, 3), 5.0, np.float32) * [1, 0, 0], FORWARD, CAMERA)
    assert len(projection) == count
    assert projection.pixels.shape == (count, 2)
    assert projection.depth.shape == (count,)


def test_agrees_with_a_homogeneous_matrix_product() -> None:
    rng = np.random.default_rng(7)
    points = rng.uniform(-40, 40, (5000, 3)).astype(np.float32)
    angle = 0.3
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    transform = FORWARD @ turn
    transform[:3, 3] = [0.1, -0.3, 0.2]
    k = np.array([[500.0, 0, 320, 0], [0, 500, 240, 0], [0, 0, 1, 0]])
    homogeneous = (k @ transform @ np.c_[points, np.ones(len(points))].astype(np.float64).T).T
    u, v = homogeneous[:, 0] / homogeneous[:, 2], homogeneous[:, 1] / homogeneous[:, 2]
    inside = (homogeneous[:, 2] >= 1.0) & (u >= -0.5) & (u < 639.5) & (v >= -0.5) & (v < 479.5)
    projection = project_cloud(points, transform, CAMERA, occlusion=None)
    np.testing.assert_array_equal(projection.point_index, np.flatnonzero(inside))
    np.testing.assert_allclose(projection.pixels, np.c_[u, v][inside], atol=1e-3)
    assert len(projection) > 100


def test_wrong_shapes_and_broken_transforms_are_refused() -> None:
    with pytest.raises(InputError, match=r"points must have shape \(N, 3\), got \(4, 2\)"):
        project_cloud(np.zeros((4, 2)), FORWARD, CAMERA)
    with pytest.raises(InputError, match=r"camera_from_lidar must be \(4, 4\)"):
        project_cloud(np.zeros((4, 3)), FORWARD[:3], CAMERA)
    with pytest.raises(InputError, match="NaN or infinity"):
        project_cloud(np.zeros((4, 3)), FORWARD * np.nan, CAMERA)
