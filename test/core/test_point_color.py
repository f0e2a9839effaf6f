"""Colours by hand: a camera in the LiDAR's place, 1 pixel per 0.1 of x / z, looking forward."""

from __future__ import annotations

import numpy as np
import pytest

from ov_seg_ros.core.camera import CameraModel
from ov_seg_ros.core.data_types import CameraImage
from ov_seg_ros.core.occlusion import OcclusionTest
from ov_seg_ros.core.point_color import sample_colors

CAMERA = CameraModel(width=5, height=3, fx=10.0, fy=10.0, cx=2.0, cy=1.0)
FORWARD = np.array([[0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]], np.float64)
NO_COLOR = [0.0, 0.0, 0.0, 0.0]


def painted(name: str = "front", camera_from_lidar: np.ndarray = FORWARD, blue: int = 0) -> CameraImage:
    """Red tells the column and green the row: pixel (u, v) is (51 u, 51 v, blue)."""
    image = np.zeros((3, 5, 3), np.uint8)
    image[..., 0] = 51 * np.arange(5)
    image[..., 1] = 51 * np.arange(3)[:, None]
    image[..., 2] = blue
    return CameraImage(name, image, CAMERA, camera_from_lidar)


def yawed(angle: float) -> np.ndarray:
    """camera_from_lidar of a camera that looks ``angle`` radians to the left."""
    cos, sin = np.cos(angle), np.sin(angle)
    return FORWARD @ np.array([[cos, sin, 0, 0], [-sin, cos, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])


def points(*rows: tuple[float, float, float]) -> np.ndarray:
    return np.array(rows, np.float32)


def test_nearest_pixel_by_hand() -> None:
    # u = 2 - 10 y / x, v = 1 - 10 z / x
    cloud = points((10, 0, 0), (10, 2, 0), (10, -1.4, -0.6), (10, 0.51, 0.49))
    color = sample_colors(cloud, [painted()], occlusion=None)
    assert color.dtype == np.float32
    expected = [[0.4, 0.2, 0, 1], [0, 0.2, 0, 1], [0.6, 0.4, 0, 1], [0.2, 0.2, 0, 1]]
    assert color == pytest.approx(np.array(expected), abs=1e-6)


def test_corner_pixels_reach_half_a_pixel_outwards() -> None:
    # u = -0.49 and 4.49, v = -0.49 and 2.49: the edge of the image, still inside
    cloud = points((10, 2.49, 1.49), (10, -2.49, -1.49), (10, 2.51, 0), (10, 0, -1.51))
    color = sample_colors(cloud, [painted()], occlusion=None)
    assert color == pytest.approx(np.array([[0, 0, 0, 1], [0.8, 0.4, 0, 1], NO_COLOR, NO_COLOR]), abs=1e-6)


def test_the_last_float_before_the_edge_is_still_inside() -> None:
    edge = np.nextafter(np.float32(0.5), np.float32(0))  # plus 0.5 this is 1 in float32: a column too far
    camera = CameraModel(width=1, height=1, fx=1.0, fy=1.0, cx=float(edge), cy=float(edge))
    image = CameraImage("dot", np.full((1, 1, 3), 255, np.uint8), camera, FORWARD)
    assert sample_colors(points((10, 0, 0)), [image], occlusion=None).tolist() == [[1.0, 1.0, 1.0, 1.0]]


def test_unseen_and_invalid_points_have_no_color() -> None:
    cloud = points((-10, 0, 0), (10, 9, 0), (np.nan, 0, 0), (np.inf, 0, 0), (10, 0, 0))
    color = sample_colors(cloud, [painted()], occlusion=None)
    assert color[:, 3].tolist() == [0, 0, 0, 0, 1]
    assert not color[:4].any()


def test_no_camera_no_color() -> None:
    assert sample_colors(points((10, 0, 0)), []).tolist() == [NO_COLOR]


def test_no_points() -> None:
    assert sample_colors(np.zeros((0, 3), np.float32), [painted()]).shape == (0, 4)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_camera_that_looks_straightest_at_a_point_wins(order: tuple[int, int]) -> None:
    forward, left = painted("front", blue=51), painted("left", yawed(0.2), blue=102)
    images = [(forward, left)[i] for i in order]
    bearing = np.array([0.0, 0.09, 0.11, 0.2])
    cloud = np.stack([10 * np.cos(bearing), 10 * np.sin(bearing), 0 * bearing], axis=1).astype(np.float32)
    color = sample_colors(cloud, images, occlusion=None)
    assert color[:, 2] == pytest.approx([0.2, 0.2, 0.4, 0.4])


def test_of_equal_cameras_the_first_wins() -> None:
    color = sample_colors(points((10, 0, 0)), [painted(blue=51), painted("again", blue=102)], occlusion=None)
    assert color[0, 2] == pytest.approx(0.2)


def test_the_angle_is_taken_at_the_camera_not_at_the_lidar() -> None:
    aside = FORWARD.copy()
    aside[0, 3] = 1.0  # x_camera = x + 1: the camera sits 1 m to the left, so that y = 1 m is straight ahead of it
    cloud = points((10, 1, 0), (10, 0, 0))
    color = sample_colors(cloud, [painted(blue=51), painted("left", aside, blue=102)], occlusion=None)
    assert color == pytest.approx(np.array([[0.4, 0.2, 0.4, 1], [0.4, 0.2, 0.2, 1]]), abs=1e-6)


class HidesFarPoints(OcclusionTest):
    def visible(self, points: np.ndarray, camera_from_lidar: np.ndarray) -> np.ndarray:
        return np.linalg.norm(points, axis=1) < 15


def test_a_hidden_point_has_no_color() -> None:
    color = sample_colors(points((10, 0, 0), (20, 0, 0)), [painted()], occlusion=HidesFarPoints())
    assert color[:, 3].tolist() == [1, 0]
    assert color[1].tolist() == NO_COLOR
