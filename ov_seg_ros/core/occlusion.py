"""Occlusion test for sparse LiDAR: which points does a nearer surface hide from a camera?

A camera stands some decimetres beside the LiDAR, so the LiDAR looks past a near object at points that the
camera cannot see; their pixels lie on the near object and its label bleeds onto them. A nearest-depth test on
image cells cannot be tuned out of this: small cells miss the gaps between beams, large ones span so much depth on
a grazing road that the road hides itself.

Here every return becomes a small plane (surfel): as large as the gap to the neighbouring beams, with the slope of
the surface in the LiDAR's own view. The slope is that of the inverse range, which is linear over a plane, taken over
the smoothest side of the point and limited (ENO and minmod, as in shock-capturing schemes): a road keeps its slope and
an edge does not spoil it. The surfels are drawn as seen from the camera centre, in angles parallel to the LiDAR axes,
so intrinsics and distortion play no part. A point is hidden where the nearest surfel lies in front of it by more than
a margin. ``benchmarks/occlusion.py`` measures what that gains.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ov_seg_ros.core.beam_columns import BeamSpacing, sort_into_columns
from ov_seg_ros.core.errors import ConfigError
from ov_seg_ros.core.surfels import Surfels, fit_surfels

_MAX_CELLS = 2_000_000
_FARTHEST = 1e4  # m, where a plane meets no ray


@dataclass(frozen=True)
class OcclusionTest:
    """Finds the points that a nearer surface hides from a camera.

    Attributes:
        margin: a surface hides a point only when it lies this far in front of it, metres.
        relative_margin: the same as a share of the point's distance; the larger of the two counts.
        silhouette: a surface also hides what lies this far beside its outline, radians, because outlines of 2D
            masks and calibrations are off by some pixels (0.003 rad is 2 px at a focal length of 720 px).
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
            points: (M, 3) metres, frame of the LiDAR that measured them (beams start at its origin), all finite.
            camera_from_lidar: (4, 4), p_camera = camera_from_lidar @ p_lidar.

        Returns:
            (M,) bool, True where no surface hides the point.
        """
        if len(points) < 2:
            return np.ones(len(points), np.bool_)
        from_lidar = np.asarray(camera_from_lidar, np.float64)
        turn = _turn_to_camera(from_lidar)
        xyz, azimuth, elevation = _turn_points(points, turn)
        order, columns, spacing = sort_into_columns(azimuth, elevation)
        center = turn @ (-from_lidar[:3, :3].T @ from_lidar[:3, 3])
        surfels = fit_surfels(xyz[order], columns, spacing, center)
        visible = np.empty(len(points), np.bool_)
        visible[order] = self._cast(surfels, spacing)
        return visible

    def _cast(self, surfels: Surfels, spacing: BeamSpacing) -> NDArray[np.bool_]:
        """(M,) False where a surfel lies in front of another one's centre by more than the margin."""
        low = np.array([surfels.azimuth.min(), surfels.elevation.min()])
        size = np.array([np.ptp(surfels.azimuth), np.ptp(surfels.elevation)])
        cell = np.array([spacing.azimuth, spacing.elevation / 3.0])
        cell *= max(1.0, float(np.sqrt(np.prod(size / cell) / _MAX_CELLS)))
        columns, rows = (size / cell).astype(np.int64) + 1
        nearest = _draw(*surfels, low, cell, (rows, columns), self.silhouette)
        return _stands_clear(*surfels[:4], nearest, low, cell, (self.margin, self.relative_margin))


def _turn_to_camera(camera_from_lidar: NDArray[np.float64]) -> NDArray[np.float64]:
    """(3, 3) turn about the LiDAR's z axis that puts the optical axis over +x, away from the seam of the azimuth."""
    x, y = camera_from_lidar[2, :2]  # optical axis in the LiDAR frame
    norm = np.hypot(x, y)
    cos, sin = (x / norm, y / norm) if norm > 1e-6 else (1.0, 0.0)
    return np.array([[cos, sin, 0.0], [-sin, cos, 0.0], [0.0, 0.0, 1.0]])


@njit(cache=True)
def _turn_points(
    points: NDArray[np.floating], turn: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """(M, 3) turned points, (M,) azimuth and (M,) elevation, radians."""
    xyz, azimuth, elevation = np.empty((len(points), 3)), np.empty(len(points)), np.empty(len(points))
    for i in range(len(points)):
        x, y, z = points[i, 0], points[i, 1], points[i, 2]
        xyz[i, 0], xyz[i, 1], xyz[i, 2] = turn[0, 0] * x + turn[0, 1] * y, turn[1, 0] * x + turn[1, 1] * y, z
        azimuth[i] = np.arctan2(xyz[i, 1], xyz[i, 0])
        elevation[i] = np.arctan2(xyz[i, 2], np.sqrt(xyz[i, 0] ** 2 + xyz[i, 1] ** 2))
    return xyz, azimuth, elevation


@njit(cache=True)
def _distance_beside(distance: float, change: float) -> float:
    """Distance to a surfel's plane where the inverse has changed by ``change`` since its centre.

    Never nearer than the centre: nothing was measured there.
    """
    inverse = 1.0 / distance + change
    return max(1.0 / inverse, distance) if inverse > 1.0 / _FARTHEST else _FARTHEST


@njit(cache=True)
def _draw(
    azimuth: NDArray[np.float64],
    elevation: NDArray[np.float64],
    distance: NDArray[np.float64],
    inverse_slope: NDArray[np.float64],
    extent: NDArray[np.float64],
    low: NDArray[np.float64],
    cell: NDArray[np.float64],
    shape: tuple[int, int],
    silhouette: float,
) -> NDArray[np.int32]:
    """(rows, columns) index of the nearest surfel at each cell centre, -1 = none."""
    nearest = np.full(shape, -1, np.int32)
    buffer = np.full(shape, np.inf)
    for i in range(len(azimuth)):
        side, down, up = extent[i, 0] + silhouette, extent[i, 1] + silhouette, extent[i, 2] + silhouette
        u_first = max(int(np.ceil((azimuth[i] - side - low[0]) / cell[0] - 0.5)), 0)
        u_last = min(int(np.floor((azimuth[i] + side - low[0]) / cell[0] - 0.5)), shape[1] - 1)
        v_first = max(int(np.ceil((elevation[i] - down - low[1]) / cell[1] - 0.5)), 0)
        v_last = min(int(np.floor((elevation[i] + up - low[1]) / cell[1] - 0.5)), shape[0] - 1)
        slope_across, slope_along = inverse_slope[i, 0], inverse_slope[i, 1]
        for v in range(v_first, v_last + 1):
            along = low[1] + (v + 0.5) * cell[1] - elevation[i]
            for u in range(u_first, u_last + 1):
                across = low[0] + (u + 0.5) * cell[0] - azimuth[i]
                d = _distance_beside(distance[i], slope_across * across + slope_along * along)
                if d < buffer[v, u]:
                    buffer[v, u] = d
                    nearest[v, u] = i
    return nearest


@njit(cache=True)
def _stands_clear(
    azimuth: NDArray[np.float64],
    elevation: NDArray[np.float64],
    distance: NDArray[np.float64],
    inverse_slope: NDArray[np.float64],
    nearest: NDArray[np.int32],
    low: NDArray[np.float64],
    cell: NDArray[np.float64],
    margins: tuple[float, float],
) -> NDArray[np.bool_]:
    """(M,) False where the surfel drawn at a centre's cell lies in front of it by more than the margins."""
    clear = np.ones(len(azimuth), np.bool_)
    for i in range(len(azimuth)):
        j = nearest[int((elevation[i] - low[1]) / cell[1]), int((azimuth[i] - low[0]) / cell[0])]
        if j >= 0 and j != i:
            across, along = azimuth[i] - azimuth[j], elevation[i] - elevation[j]
            front = _distance_beside(distance[j], inverse_slope[j, 0] * across + inverse_slope[j, 1] * along)
            clear[i] = distance[i] - front <= max(margins[0], margins[1] * distance[i])
    return clear
