"""Occlusion test for sparse LiDAR: which points does a nearer surface hide from a camera?

A camera stands some decimetres beside the LiDAR, so the LiDAR looks past a near object at points that the
camera cannot see; their pixels lie on the near object and its label bleeds onto them. A nearest-depth test on
image cells cannot be tuned out of this: small cells miss the gaps between beams, large ones span so much depth on
a grazing road that the road hides itself.

Here every return becomes a small plane (surfel): as large as the gap to the neighbouring beams, with the slope of
the surface in the LiDAR's own view. The slope is that of the inverse range, which is linear over a plane, limited
between the two sides of the point (minmod, as in slope-limited reconstruction): a road keeps its slope exactly and
an edge takes the slope of its smooth side. The surfels are drawn as seen from the camera centre, in angles parallel
to the LiDAR axes, so intrinsics and distortion play no part. A point is hidden where the nearest surfel lies in front
of it by more than a margin.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.errors import ConfigError
from ov_seg_ros.core.surfels import cast_surfels, fit_surfels, sort_into_columns, spherical


@dataclass(frozen=True)
class OcclusionTest:
    """Finds the points that a nearer surface hides from a camera.

    Attributes:
        margin: a surface hides a point only when it lies this far in front of it, metres.
        relative_margin: the same as a share of the point's range; the larger of the two counts.
        silhouette: a surface also hides what lies this far beside its outline, radians. Outlines of 2D masks
            and calibrations are off by some pixels (0.005 rad is 4 px at a focal length of 720 px).
    """

    margin: float = 0.5
    relative_margin: float = 0.05
    silhouette: float = 0.003

    def __post_init__(self) -> None:
        for name in ("margin", "relative_margin", "silhouette"):
            value = getattr(self, name)
            if not 0.0 <= value < float("inf"):
                raise ConfigError(f"occlusion {name} must be a number >= 0, got {value}")

    def visible(self, points: NDArray[np.floating], camera_from_lidar: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Tests the points of one scan that lie in the field of view of one camera.

        Args:
            points: (M, 3) metres, LiDAR frame, all finite; the order plays no part.
            camera_from_lidar: (4, 4), p_camera = camera_from_lidar @ p_lidar.

        Returns:
            (M,) bool, True where no surface hides the point.
        """
        if len(points) < 2:
            return np.ones(len(points), np.bool_)
        from_lidar = np.asarray(camera_from_lidar, np.float64)
        to_facing = _facing_rotation(from_lidar)
        xyz = points.astype(np.float64) @ to_facing.T
        center = to_facing @ (-from_lidar[:3, :3].T @ from_lidar[:3, 3])
        order, columns, spacing = sort_into_columns(*spherical(xyz))
        xyz = np.ascontiguousarray(xyz[order])
        surfels = fit_surfels(xyz, columns, spacing, center)
        visible = np.empty(len(points), np.bool_)
        visible[order] = cast_surfels(surfels, spacing, self.silhouette, self.margin, self.relative_margin)
        return visible


def _facing_rotation(camera_from_lidar: NDArray[np.float64]) -> NDArray[np.float64]:
    """(3, 3) turn about the LiDAR's z axis that puts the optical axis over +x, away from the seam of the azimuth."""
    x, y = camera_from_lidar[2, :2]  # optical axis in the LiDAR frame
    norm = np.hypot(x, y)
    cos, sin = (x / norm, y / norm) if norm > 1e-6 else (1.0, 0.0)
    return np.array([[cos, sin, 0.0], [-sin, cos, 0.0], [0.0, 0.0, 1.0]])
