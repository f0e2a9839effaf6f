"""A made-up street with the shape of a real scan, to do everything once before the first real one."""

from __future__ import annotations

import numpy as np

from ov_seg_ros.core.camera import CameraModel
from ov_seg_ros.core.data_types import CameraImage, PointCloud, SegmentedCloud
from ov_seg_ros.core.overlay import overlay_labels

NUM_BEAMS, NUM_COLUMNS = 64, 1024
_SENSOR_HEIGHT, _WALL_DISTANCE = 1.7, 25.0  # metres
_FORWARD_CAMERA = np.array([[0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]], np.float64)


def street_cloud() -> PointCloud:
    """One revolution of 64 beams over flat ground within wavy walls, 65 536 points."""
    elevation = np.radians(np.linspace(-24.0, 3.0, NUM_BEAMS))[:, None]
    azimuth = np.linspace(-np.pi, np.pi, NUM_COLUMNS, endpoint=False)[None, :]
    wall = _WALL_DISTANCE * (1 + 0.3 * np.sin(9 * azimuth)) + 0 * elevation
    ground = np.where(elevation < 0, -_SENSOR_HEIGHT / np.tan(np.minimum(elevation, -1e-6)), np.inf)
    distance = np.minimum(wall, ground)  # horizontal
    points = [distance * np.cos(azimuth), distance * np.sin(azimuth), distance * np.tan(elevation)]
    stacked = np.stack(points, axis=-1).reshape(-1, 3).astype(np.float32)
    return PointCloud(stacked, np.ones(len(stacked), np.float32))


def street_image() -> CameraImage:
    """A grey image of a forward camera in the LiDAR's place."""
    camera = CameraModel(width=640, height=480, fx=500.0, fy=500.0, cx=319.5, cy=239.5)
    return CameraImage("warm_up", np.full((480, 640, 3), 128, np.uint8), camera, _FORWARD_CAMERA)


def draw_street() -> None:
    """Draws labels on the image, which compiles what overlays need."""
    cloud = street_cloud()
    zeros, ones = np.zeros(len(cloud), np.float32), np.ones(len(cloud), np.float32)
    segmented = SegmentedCloud(zeros.astype(np.uint8), ones, zeros, {})
    overlay_labels(street_image(), cloud, segmented, np.zeros((256, 3), np.uint8))
