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
        InputError: the file is missing or empty, or its size is no whole number of points.
    """
    if not path.is_file():
        raise InputError(f"scan {path} does not exist")
    size, row = path.stat().st_size, 4 * columns
    if not size:
        raise InputError(f"scan {path} is empty; copy it again")
    if size % row:
        raise InputError(
            f"scan {path} holds {size} bytes, which is no multiple of {row} ({columns} float32 per point); "
            "it was cut off, copy it again"
        )
    return np.fromfile(path, "<f4").reshape(-1, columns)


def load_image_file(path: Path, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """Reads a PNG or JPEG as (H, W, 3) uint8 RGB.

    Args:
        path: of the image.
        size: (width, height) its calibration is for, pixels; None = any.

    Raises:
        InputError: the file is missing, cut off, no image or of another size.
    """
    try:
        with Image.open(path) as image:
            found, pixels = image.size, np.asarray(image.convert("RGB"))
    except FileNotFoundError as error:
        raise InputError(f"image {path} does not exist") from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise InputError(f"image {path} cannot be read ({error}); copy it again") from error
    if size is not None and found != size:
        raise InputError(
            f"image {path} has {found[0]} x {found[1]} pixels, its calibration is for {size[0]} x {size[1]}; "
            "put back the original size, or the calibration that belongs to it"
        )
    return pixels


def find_scans(folder: Path, below: str, kind: str) -> list[Path]:
    """The scans of a folder in the order of their numbers.

    Args:
        folder: of the data set or a part of it.
        below: where in it ``000012.bin`` and the others lie ("velodyne").
        kind: what the folder is, for the message ("SemanticKITTI sequence").

    Raises:
        InputError: there are none, or a name is no number.
    """
    scans = sorted((folder / below).glob("*.bin"))
    if not scans:
        raise InputError(f"{kind} {folder} holds no {below}/*.bin")
    if wrong := [path for path in scans if not (path.stem.isascii() and path.stem.isdigit())]:
        raise InputError(f"{wrong[0]}: scans are named by their number, 000012.bin; rename it or take it out")
    return scans


def check_index(index: int, count: int, name: str) -> None:
    """Refuses an index outside [0, count).

    Raises:
        InputError: it is outside.
    """
    if not 0 <= index < count:
        raise InputError(f"source {name} has samples 0 to {count - 1}, got index {index}")
