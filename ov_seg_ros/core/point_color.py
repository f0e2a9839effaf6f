"""Camera colours for the points of a scan, an optional input of a student."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.data_types import CameraImage
from ov_seg_ros.core.projection import DEFAULT_OCCLUSION, VisibilityTest, project_cloud


def sample_colors(
    points: NDArray[np.float32],
    images: Sequence[CameraImage],
    occlusion: VisibilityTest | None = DEFAULT_OCCLUSION,
) -> NDArray[np.float32]:
    """Looks up every point's colour in the camera that sees it best.

    A point gets the pixel it falls on (no interpolation: a mean across an object's edge belongs to
    neither side). Where several cameras see it, the one with the smallest angle between the ray and its
    optical axis gives the colour, whatever the order of ``images``; of equals, the first.

    Args:
        points: (N, 3) float32, metres, LiDAR frame; NaN and infinite points have no colour.
        images: cameras with their images, any number, none included.
        occlusion: points behind a nearer surface have no colour; None = sample them all the same.

    Returns:
        (N, 4) float32: red, green, blue in 0..1, and 1 where a camera sees the point, else 0 (colour 0 too).
    """
    color = np.zeros((len(points), 4), np.float32)
    best_cosine = np.zeros(len(points), np.float32)
    for image in images:
        seen = project_cloud(points, image.camera_from_lidar, image.camera, occlusion)
        distance = np.linalg.norm(points[seen.point_index] - _camera_position(image), axis=1)
        cosine = (seen.depth / distance).astype(np.float32)
        better = cosine > best_cosine[seen.point_index]
        index, (u, v) = seen.point_index[better], _nearest_pixels(seen.pixels[better]).T
        best_cosine[index] = cosine[better]
        color[index, :3] = image.image[v, u] * np.float32(1 / 255)
        color[index, 3] = 1
    return color


def _camera_position(image: CameraImage) -> NDArray[np.float64]:
    """Optical centre in the LiDAR frame: 0 = R p + t, so p = -R^T t."""
    rotation, translation = image.camera_from_lidar[:3, :3], image.camera_from_lidar[:3, 3]
    return -rotation.T @ translation


def _nearest_pixels(pixels: NDArray[np.float32]) -> NDArray[np.int64]:
    """(M, 2) integer (u, v); pixel (0, 0) reaches from -0.5 to 0.5, exclusive, which takes float64 to keep apart."""
    return np.floor(pixels.astype(np.float64) + 0.5).astype(np.int64)
