"""The calibration files of KITTI: lines of ``name: numbers``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.camera import CameraModel
from ov_seg_ros.core.errors import InputError

VELODYNE_HEIGHT = 1.73
"""Height of the Velodyne above the ground, metres (sensor setup drawing of the data set)."""


@dataclass(frozen=True)
class Calibration:
    """The numbers of one calibration file by their names."""

    path: Path
    values: Mapping[str, NDArray[np.float64]]

    def matrix(self, name: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
        """The entry ``name`` in the given shape.

        Raises:
            InputError: it is missing or holds another number of values.
        """
        values = self.values.get(name)
        if values is None:
            raise InputError(f"calibration {self.path} has no entry {name}; it has {', '.join(self.values) or 'none'}")
        if values.size != int(np.prod(shape)):
            raise InputError(f"calibration {self.path}: {name} must have {np.prod(shape)} numbers, got {values.size}")
        return values.reshape(shape)

    def pinhole(self, name: str, width: int, height: int) -> tuple[CameraModel, NDArray[np.float64]]:
        """The rectified camera of entry ``name``, see ``pinhole_of``.

        Raises:
            InputError: the entry is missing or the projection of no camera.
        """
        projection = self.matrix(name, (3, 4))
        k = projection[:, :3]
        if not (np.isfinite(projection).all() and k[0, 0] > 0 and k[1, 1] > 0 and np.linalg.det(k) > 0):
            raise InputError(
                f"calibration {self.path}: {name} begins with {k.tolist()}, expected K with focal lengths > 0 and a 1 "
                "at the end; copy the file of the data set again"
            )
        return pinhole_of(projection, width, height)

    def size(self, name: str) -> tuple[int, int]:
        """An image size entry as (width, height) in pixels."""
        width, height = self.matrix(name, (2,))
        return int(width), int(height)


def read_calibration(path: Path) -> Calibration:
    """Reads a calibration file; lines that hold no numbers (a date) are passed over.

    Raises:
        InputError: the file does not exist.
    """
    if not path.is_file():
        raise InputError(f"calibration {path} does not exist; unpack the calibration files of the data set again")
    values = {}
    for line in path.read_text(errors="replace").splitlines():
        name, _, numbers = line.partition(":")
        try:
            values[name.strip()] = np.array([float(n) for n in numbers.split()])
        except ValueError:
            continue
    return Calibration(path, values)


def homogeneous(rotation: NDArray[np.float64], translation: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
    """(3, 3) rotation and (3,) translation as (4, 4)."""
    matrix = np.eye(4)
    matrix[:3, :3] = rotation
    if translation is not None:
        matrix[:3, 3] = translation
    return matrix


def pinhole_of(projection: NDArray[np.float64], width: int, height: int) -> tuple[CameraModel, NDArray[np.float64]]:
    """Splits a rectified projection matrix P = K [I | t].

    Args:
        projection: (3, 4) P.
        width: image columns.
        height: image rows.

    Returns:
        The camera with matrix K, and [I | t] as (4, 4): it shifts points of the reference camera into this one.
    """
    intrinsics = projection[:, :3]
    camera = CameraModel(
        width, height, intrinsics[0, 0], intrinsics[1, 1], intrinsics[0, 2], intrinsics[1, 2], "plumb_bob", ()
    )
    shift = np.eye(4)
    shift[:3, 3] = np.linalg.solve(intrinsics, projection[:, 3])
    return camera, shift
