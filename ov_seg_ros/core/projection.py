"""Which points of a scan a camera sees, and at which pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.camera import CameraModel
from ov_seg_ros.core.data_types import Projection
from ov_seg_ros.core.errors import InputError
from ov_seg_ros.core.occlusion import OcclusionTest

MIN_DEPTH = 1.0
"""Nearer points are the vehicle's own body more often than not, metres."""

DEFAULT_OCCLUSION = OcclusionTest()


def project_cloud(
    points: NDArray[np.floating],
    camera_from_lidar: NDArray[np.floating],
    camera: CameraModel,
    occlusion: OcclusionTest | None = DEFAULT_OCCLUSION,
    min_depth: float = MIN_DEPTH,
) -> Projection:
    """Projects a scan into one camera and keeps what that camera can see.

    Args:
        points: (N, 3) metres, LiDAR frame (origin where the beams start); NaN and infinite points are left out.
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
    finite = np.isfinite(points).all(axis=1)
    index = np.flatnonzero(finite)
    in_camera = points[index] @ camera_from_lidar[:3, :3].T + camera_from_lidar[:3, 3]  # (F, 3) float64
    ahead = in_camera[:, 2] >= min_depth
    index, in_camera = index[ahead], in_camera[ahead]
    pixels, inside = camera.project(in_camera)
    index, pixels, depth = index[inside], pixels[inside], in_camera[inside, 2]
    if occlusion is not None:
        visible = occlusion.visible(points[index], camera_from_lidar)
        index, pixels, depth = index[visible], pixels[visible], depth[visible]
    return Projection(index.astype(np.int64), pixels.astype(np.float32), depth.astype(np.float32))


def _check_inputs(points: NDArray[np.floating], camera_from_lidar: NDArray[np.floating]) -> None:
    if points.ndim != 2 or points.shape[1] != 3:
        raise InputError(f"points must have shape (N, 3), got {points.shape}")
    if camera_from_lidar.shape != (4, 4):
        raise InputError(f"camera_from_lidar must be (4, 4), got {camera_from_lidar.shape}")
    if not np.isfinite(camera_from_lidar).all():
        raise InputError("camera_from_lidar holds NaN or infinity; check the calibration or the transform it came from")
