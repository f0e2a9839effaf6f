"""An image of four colours, so that masks and maps of a random network have something to tell apart."""

from __future__ import annotations

import numpy as np

from ov_seg_ros.core.camera import CameraModel
from ov_seg_ros.core.data_types import CameraImage


def camera_image(height: int, width: int) -> CameraImage:
    """A quarter of the image per colour, from a camera that looks where the LiDAR does."""
    pixels = np.empty((height, width, 3), np.uint8)
    pixels[:], pixels[height // 2 :] = (255, 40, 0), (20, 200, 40)
    pixels[: height // 2, width // 2 :], pixels[height // 2 :, width // 2 :] = (0, 30, 220), (250, 250, 250)
    camera = CameraModel(width, height, fx=50.0, fy=50.0, cx=width / 2, cy=height / 2)
    return CameraImage("front", pixels, camera, np.eye(4))
