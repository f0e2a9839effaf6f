"""The camera rig of the drives: six cameras around, placed and pointed like those of nuScenes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.camera import CameraModel


@dataclass(frozen=True)
class CameraMount:
    """Where a camera sits and what it sees.

    Attributes:
        name: unique in the rig.
        position: (x, y, z) in the base frame, metres.
        yaw: viewing direction about the vertical, radians, 0 = ahead, positive = left.
        view_angle: horizontal field of view, radians.
    """

    name: str
    position: tuple[float, float, float]
    yaw: float
    view_angle: float

    def model(self, width: int, height: int) -> CameraModel:
        """An ideal pinhole of the given image size."""
        focal = width / (2 * np.tan(self.view_angle / 2))
        return CameraModel(width, height, focal, focal, (width - 1) / 2, (height - 1) / 2)

    @property
    def base_from_camera(self) -> NDArray[np.float64]:
        """(4, 4): p_base = base_from_camera @ p_camera, camera axes x right, y down, z forward."""
        c, s = np.cos(self.yaw), np.sin(self.yaw)
        matrix = np.eye(4)
        matrix[:3, :3] = np.array([[s, 0, c], [-c, 0, s], [0, -1, 0]])
        matrix[:3, 3] = self.position
        return matrix

    def trigger_delay(self, scan_rate_hz: float) -> float:
        """Seconds from the scan's stamp to the exposure.

        The LiDAR turns clockwise from rear to rear around its stamp; each camera fires when the beam passes its axis,
        so the delay is at most half a revolution either way.
        """
        return -self.yaw / (2 * np.pi) / scan_rate_hz

    def may_see(self, world_from_base: NDArray[np.float64], place: NDArray[np.float64]) -> bool:
        """Whether something of up to 18 m at ``place`` (3,), or its shadow, can lie in the image."""
        x, y = ((place - world_from_base[:3, 3]) @ world_from_base[:3, :3])[:2]
        aside = abs((np.arctan2(y, x) - self.yaw + np.pi) % (2 * np.pi) - np.pi)
        distance = np.hypot(x, y)
        return bool(distance < 20 or aside < self.view_angle / 2 + np.arcsin(12 / max(distance, 12)))


_WIDE, _NORMAL = float(np.radians(110)), float(np.radians(70))

MOUNTS = {
    mount.name: mount
    for mount in (
        CameraMount("front", (1.72, 0.0, 1.50), 0.0, _NORMAL),
        CameraMount("front_right", (1.55, -0.50, 1.52), float(np.radians(-55)), _NORMAL),
        CameraMount("back_right", (1.05, -0.48, 1.57), float(np.radians(-110)), _NORMAL),
        CameraMount("back", (0.10, 0.0, 1.57), float(np.pi), _WIDE),
        CameraMount("back_left", (1.05, 0.48, 1.57), float(np.radians(110)), _NORMAL),
        CameraMount("front_left", (1.55, 0.50, 1.52), float(np.radians(55)), _NORMAL),
    )
}
"""By name, clockwise from the front."""
