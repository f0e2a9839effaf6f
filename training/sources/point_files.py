"""Scans and images as data sets store them: raw float32 columns, PNG or JPEG."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from ov_seg_ros.core.errors import InputError


def load_point_file(path: Path, columns: int) -> NDArray[np.float32]:
    """Reads a file of little-endian float32 rows.

    Args:
        path: ``.bin`` file.
        columns: values per point: 4 (x, y, z, intensity) or 5 (and ring).

    Returns:
        (N, columns) float32.

    Raises:
        InputError: the file is missing, or its size is no whole number of points.
    """
    if not path.is_file():
        raise InputError(f"scan {path} does not exist")
    size, row = path.stat().st_size, 4 * columns
    if size % row:
        raise InputError(
            f"scan {path} holds {size} bytes, which is no multiple of {row} ({columns} float32 per point); "
            "it was cut off, copy it again"
        )
    return np.fromfile(path, "<f4").reshape(-1, columns)


def load_image_file(path: Path) -> NDArray[np.uint8]:
    """Reads a PNG or JPEG as (H, W, 3) uint8 RGB.

    Raises:
        InputError: the file is missing, cut off or no image.
    """
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except FileNotFoundError as error:
        raise InputError(f"image {path} does not exist") from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise InputError(f"image {path} cannot be read ({error}); copy it again") from error


def check_index(index: int, count: int, name: str) -> None:
    """Refuses an index outside [0, count).

    Raises:
        InputError: it is outside.
    """
    if not 0 <= index < count:
        raise InputError(f"source {name} has samples 0 to {count - 1}, got index {index}")
