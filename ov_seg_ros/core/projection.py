"""Which points of a scan a camera sees, and at which pixels."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ov_seg_ros.core.camera import CameraModel
from ov_seg_ros.core.data_types import Projection
from ov_seg_ros.core.errors import InputError
from ov_seg_ros.core.occlusion import OcclusionTest

MIN_DEPTH = 1.0
"""Nearer points are the vehicle's own body more often than not, metres."""

DEFAULT_OCCLUSION = OcclusionTest()


class VisibilityTest(Protocol):
    """Whatever tells which points a camera really sees: ``OcclusionTest`` from the scan itself, or a depth image."""

    def visible(self, points: NDArray[np.floating], camera_from_lidar: NDArray[np.floating]) -> NDArray[np.bool_]:
        """(M,) bool for (M, 3) finite points in the field of view of the camera at ``camera_from_lidar``."""
        ...


def project_cloud(
    points: NDArray[np.floating],
    camera_from_lidar: NDArray[np.floating],
    camera: CameraModel,
    occlusion: VisibilityTest | None = DEFAULT_OCCLUSION,
    min_depth: float = MIN_DEPTH,
) -> Projection:
    """Projects a scan into one camera and keeps what that camera can see.

    Args:
        points: (N, 3) metres, LiDAR frame (origin where the beams start). Those that are not finite are left out,
            and so are those at (0, 0, 0), where drivers put beams that did not come back.
        camera_from_lidar: (4, 4), p_camera = camera_from_lidar @ p_lidar.
        camera: intrinsics and distortion.
        occlusion: takes out points behind a nearer surface; None keeps them.
        min_depth: points with a smaller depth along the optical axis are left out, metres.

    Returns:
        The points inside the image, in the order of the scan.

    Raises:
        InputError: an array has another shape than documented, or the transform holds NaN or infinity.
    """
    _check_inputs(points, camera_from_lidar)
    index, in_camera = _points_ahead(points, np.asarray(camera_from_lidar, np.float64), min_depth)
    pixels, inside = camera.project(in_camera)
    index, pixels, depth = index[inside], pixels[inside], in_camera[inside, 2]
    if occlusion is not None:
        visible = occlusion.visible(points[index], camera_from_lidar)
        index, pixels, depth = index[visible], pixels[visible], depth[visible]
    return Projection(index, pixels.astype(np.float32), depth.astype(np.float32))


@njit(cache=True)
def _points_ahead(
    points: NDArray[np.floating], camera_from_lidar: NDArray[np.float64], min_depth: float
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Index (F,) of the valid points at least ``min_depth`` ahead, and where they are in the camera frame (F, 3)."""
    index, in_camera = np.empty(len(points), np.int64), np.empty((len(points), 3))
    count = 0
    for i in range(len(points)):
        x, y, z = float(points[i, 0]), float(points[i, 1]), float(points[i, 2])
        if not np.isfinite(x + y + z) or x == y == z == 0:
            continue
        for row in range(3):
            m = camera_from_lidar[row]
            in_camera[count, row] = m[0] * x + m[1] * y + m[2] * z + m[3]
        if in_camera[count, 2] >= min_depth:
            index[count] = i
            count += 1
    return index[:count].copy(), in_camera[:count].copy()


def _check_inputs(points: NDArray[np.floating], camera_from_lidar: NDArray[np.floating]) -> None:
    if points.ndim != 2 or points.shape[1] != 3:
        raise InputError(f"points must have shape (N, 3), got {points.shape}")
    if camera_from_lidar.shape != (4, 4):
        raise InputError(f"camera_from_lidar must be (4, 4), got {camera_from_lidar.shape}")
    if not np.isfinite(camera_from_lidar).all():
        raise InputError("camera_from_lidar holds NaN or infinity; check the calibration or the transform it came from")
