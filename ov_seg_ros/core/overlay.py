"""Draws points and their labels on images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.data_types import IGNORE_ID, CameraImage, PointCloud, SegmentedCloud
from ov_seg_ros.core.errors import InputError
from ov_seg_ros.core.projection import project_cloud


def overlay_labels(
    image: CameraImage, cloud: PointCloud, segmented: SegmentedCloud, colors: NDArray[np.uint8], radius: int = 2
) -> NDArray[np.uint8]:
    """Draws every labelled point that the camera sees in the colour of its class, near points over far ones.

    Args:
        image: the image and where its camera is.
        cloud: the scan.
        segmented: its labels; unknown points are not drawn.
        colors: (256, 3) uint8 by class_id, see ``LabelSpace.colors``.
        radius: of the points, pixels.

    Returns:
        (H, W, 3) uint8, a copy of the image with the points on it.
    """
    projection = project_cloud(cloud.points, image.camera_from_lidar, image.camera)
    class_id = segmented.class_id[projection.point_index]
    far_to_near = np.argsort(-projection.depth, kind="stable")
    drawn = far_to_near[class_id[far_to_near] != IGNORE_ID]
    return draw_points(image.image, projection.pixels[drawn], colors[class_id[drawn]], radius)


def draw_points(
    image: NDArray[np.uint8], pixels: NDArray[np.floating], colors: NDArray[np.uint8], radius: int = 2
) -> NDArray[np.uint8]:
    """Draws a disc per pixel on a copy of the image.

    A later disc covers an earlier one; order the points from far to near to let near ones win.

    Args:
        image: (H, W, 3) uint8; not changed.
        pixels: (M, 2) (u, v); discs are cut at the border, centres may lie outside. NaN is refused.
        colors: (M, 3) uint8, in the channel order of the image.
        radius: of the discs, pixels; 0 draws single pixels.

    Returns:
        (H, W, 3) uint8.

    Raises:
        InputError: shapes do not fit, a pixel is not finite, or the radius is negative.
    """
    _check(image, pixels, colors, radius)
    drawn = image.copy()
    height, width = image.shape[:2]
    du, dv = _disc(radius)
    centers = np.rint(pixels).astype(np.int64)
    u = (centers[:, 0, None] + du).ravel()  # (M * K,), the K pixels of a disc side by side
    v = (centers[:, 1, None] + dv).ravel()
    inside = (u >= 0) & (u < width) & (v >= 0) & (v < height)
    # Of repeated indices NumPy keeps the last value, which is the later disc.
    drawn[v[inside], u[inside]] = np.repeat(colors, len(du), axis=0)[inside]
    return drawn


def _disc(radius: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    steps = np.arange(-radius, radius + 1)
    du, dv = np.meshgrid(steps, steps)
    inside = du**2 + dv**2 <= (radius + 0.5) ** 2
    return du[inside], dv[inside]


def _check(image: NDArray, pixels: NDArray, colors: NDArray, radius: int) -> None:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise InputError(f"image must be (H, W, 3) uint8, got {image.shape} {image.dtype}")
    if pixels.ndim != 2 or pixels.shape[1] != 2 or colors.shape != (len(pixels), 3):
        raise InputError(f"pixels must be (M, 2) and colors (M, 3), got {pixels.shape} and {colors.shape}")
    if not np.isfinite(pixels).all():
        raise InputError("pixels must be finite; leave out points without a projection")
    if radius < 0:
        raise InputError(f"radius must be >= 0 pixels, got {radius}")
