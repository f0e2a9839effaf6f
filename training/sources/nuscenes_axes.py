"""The axes of the nuScenes LiDAR and ours.

The sensor's own axes are x right, y forward, z up; ours are x forward, y left, z up. Points, boxes and transforms are
turned by a quarter of a circle when they are read, so the rest of the project never meets the other convention.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SENSOR_FROM_LIDAR: NDArray[np.float64] = np.array([[0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], np.float64)
"""(4, 4): points with our axes to points with the sensor's axes; right = -left, forward = forward."""


def turn_points(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, 3) points from the sensor's axes to ours, exactly (no arithmetic but a change of sign)."""
    return np.stack([points[:, 1], -points[:, 0], points[:, 2]], axis=1)


@dataclass(frozen=True)
class Box3d:
    """An annotated object in our LiDAR axes.

    Attributes:
        name: its class, in the words of the data set.
        center: (3,) metres, middle of the box.
        size: (length, width, height), metres; the length lies along the heading.
        yaw: heading about +z, radians, 0 = forward.
        point_count: LiDAR points inside as declared by the data set.
    """

    name: str
    center: tuple[float, float, float]
    size: tuple[float, float, float]
    yaw: float
    point_count: int

    def contains(self, points: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Which of the (N, 3) points lie inside or on the faces, (N,) bool."""
        offset = np.asarray(points, np.float64) - self.center
        cos, sin = np.cos(self.yaw), np.sin(self.yaw)
        along = cos * offset[:, 0] + sin * offset[:, 1]
        across = -sin * offset[:, 0] + cos * offset[:, 1]
        length, width, height = self.size
        inside = (np.abs(along) <= length / 2) & (np.abs(across) <= width / 2)
        return np.asarray(inside & (np.abs(offset[:, 2]) <= height / 2))

    @classmethod
    def from_sensor_axes(cls, name: str, values: tuple[float, ...], point_count: int) -> Box3d:
        """A box given as x, y, z, length, width, height, yaw in the sensor's axes."""
        x, y, z, length, width, height, yaw = values
        return cls(name, (y, -x, z), (length, width, height), yaw - np.pi / 2, point_count)
