"""The small files of RGB-D data sets: poses, intrinsics, depth images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from ov_seg_ros.core.camera import CameraModel
from ov_seg_ros.core.errors import InputError
from ov_seg_ros.core.transforms import check_transform

SEVEN_SCENES_INTRINSICS = np.array([[585, 0, 320], [0, 585, 240], [0, 0, 1]], np.float64)
"""Of the 7-Scenes Kinect at 640 x 480 (Shotton et al., CVPR 2013); its archives hold no intrinsics file."""

MILLIMETRES = 0.001
_NO_DEPTH = 65535


def read_pose(path: Path) -> NDArray[np.float64] | None:
    """(4, 4) world_from_camera; None if the file says that the tracking was lost (infinite or NaN entries).

    Raises:
        InputError: the file is no 4 x 4 matrix, or no rigid transform.
    """
    matrix = _read_matrix(path, (4, 4))
    return check_transform(matrix, str(path)) if np.isfinite(matrix).all() else None


def read_pinhole(path: Path | None, size: tuple[int, int]) -> CameraModel:
    """A camera without distortion from a 3 x 3 or 4 x 4 text file; None stands for 7-Scenes.

    Args:
        path: of the matrix K.
        size: (width, height) of the images.

    Raises:
        InputError: the file is damaged, or its principal point is far from the middle of the image.
    """
    matrix = SEVEN_SCENES_INTRINSICS if path is None else _read_matrix(path, (3, 3), (4, 4))
    return make_pinhole(matrix, size, "the intrinsics of 7-Scenes" if path is None else str(path))


def make_pinhole(matrix: NDArray[np.floating], size: tuple[int, int], where: str) -> CameraModel:
    """A camera from its matrix K, (3, 3) or larger.

    Raises:
        InputError: the principal point is far from the middle of the image, so they belong to other image sizes.
    """
    (width, height), (cx, cy) = size, (float(matrix[0, 2]), float(matrix[1, 2]))
    if not (0.25 * width < cx < 0.75 * width and 0.25 * height < cy < 0.75 * height):
        raise InputError(
            f"{where}: principal point ({cx:g}, {cy:g}) px is not near the middle of images of {width} x {height} px; "
            "they are of another image size, scale them along with the images"
        )
    return CameraModel(width, height, float(matrix[0, 0]), float(matrix[1, 1]), cx, cy, "", ())


def load_depth_file(path: Path, depth_unit: float = MILLIMETRES) -> NDArray[np.float32]:
    """Reads a 16 bit depth PNG: (h, w) float32 metres, 0 where 0 or 65535 stood (not measured).

    Raises:
        InputError: the file is missing, damaged, or no single-channel 16 bit image.
    """
    try:
        with Image.open(path) as image:
            mode, raw = image.mode, np.asarray(image)
    except FileNotFoundError as error:
        raise InputError(f"depth image {path} does not exist") from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise InputError(f"depth image {path} cannot be read ({error}); copy it again") from error
    if raw.ndim != 2 or not mode.startswith("I"):
        raise InputError(f"depth image {path} must be single-channel with 16 bits, got mode {mode}")
    return decode_depth(raw, depth_unit)


def decode_depth(raw: NDArray[np.integer], depth_unit: float) -> NDArray[np.float32]:
    """Metres from the integers of a depth image, 0 where nothing was measured."""
    return np.where(raw == _NO_DEPTH, 0, raw).astype(np.float32) * np.float32(depth_unit)


def image_size(path: Path) -> tuple[int, int]:
    """(width, height) of an image file.

    Raises:
        InputError: the file is missing or damaged.
    """
    try:
        with Image.open(path) as image:
            return image.size
    except (UnidentifiedImageError, OSError) as error:
        raise InputError(f"image {path} cannot be read ({error}); copy it again") from error


def _read_matrix(path: Path, *shapes: tuple[int, int]) -> NDArray[np.float64]:
    try:
        rows = [[float(value) for value in line.split()] for line in path.read_text().splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as a matrix: {error}") from error
    expected = " or ".join(f"{rows_} x {columns}" for rows_, columns in shapes)
    if (len(rows), len(rows[0]) if rows else 0) not in shapes or len({len(row) for row in rows}) != 1:
        raise InputError(f"{path} must hold a matrix of {expected} numbers, got rows of {[len(r) for r in rows]}")
    return np.array(rows)
