"""Frames of indoor scans: from camera axes to those of a LiDAR, upright, with the origin on the floor."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.errors import InputError

SENSOR_FROM_CAMERA: NDArray[np.float64] = np.array(
    [[0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]], np.float64
)
"""(4, 4), camera axes (x right, y down, z forward) to scan axes (x forward, y left, z up)."""


def move_points(target_from_source: NDArray[np.float64], points: NDArray[np.floating]) -> NDArray[np.float64]:
    """Applies a (4, 4) transform to (N, 3) points."""
    return points.astype(np.float64) @ target_from_source[:3, :3].T + target_from_source[:3, 3]


def place_on_floor(points: NDArray[np.floating]) -> NDArray[np.float64]:
    """Where the scan frame of a whole scene lies: axes of the scene, origin on the floor under the middle of it.

    Scenes come with origins many metres away (S3DIS) or in a corner; with this one, ranges and grids mean the same in
    all of them.

    Args:
        points: (N, 3) metres, z up.

    Returns:
        (4, 4) float64 scene_from_scan, a translation.

    Raises:
        InputError: no points, or points that are not finite.
    """
    if not len(points) or not np.isfinite(points).all():
        raise InputError(f"a scene needs finite points, got {len(points)} of which some may be NaN or infinite")
    low, high = points.min(axis=0).astype(np.float64), points.max(axis=0).astype(np.float64)
    scene_from_scan = np.eye(4)
    scene_from_scan[:3, 3] = [(low[0] + high[0]) / 2, (low[1] + high[1]) / 2, low[2]]
    return scene_from_scan


def stand_upright(up: NDArray[np.floating], forward: NDArray[np.floating]) -> NDArray[np.float64]:
    """(4, 4) rotation level_from_world whose z is ``up`` and whose x is ``forward`` made horizontal.

    Args:
        up: (3,) against gravity, world axes.
        forward: (3,) not parallel to ``up``.

    Raises:
        InputError: the directions are parallel, zero or not finite.
    """
    z = np.asarray(up, np.float64)
    x = np.asarray(forward, np.float64) - z * (np.dot(up, forward) / max(float(np.dot(z, z)), 1e-12))
    if not (np.linalg.norm(x) > 1e-6 and np.linalg.norm(z) > 1e-6):
        raise InputError(f"up {np.asarray(up).tolist()} and forward {np.asarray(forward).tolist()} span no plane")
    z, x = z / np.linalg.norm(z), x / np.linalg.norm(x)
    level_from_world = np.eye(4)
    level_from_world[:3, :3] = np.stack([x, np.cross(z, x), z])
    return level_from_world
