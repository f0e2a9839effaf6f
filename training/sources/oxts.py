"""Ego poses of KITTI raw from its GPS/IMU files.

The mapping is that of the data set's development kit: Mercator projection scaled by the latitude of the first frame,
rotation Rz(yaw) @ Ry(pitch) @ Rx(roll), x forward, y left, z up at the IMU; the first frame is the origin.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.errors import InputError

EARTH_RADIUS = 6378137.0
"""Metres, of the sphere the development kit uses."""


def world_from_imu_poses(folder: Path) -> dict[int, NDArray[np.float64]]:
    """Reads ``oxts/data/*.txt``.

    Args:
        folder: with one file per frame: latitude and longitude in degrees, altitude in metres, roll, pitch and yaw in
            radians, and more that is not read.

    Returns:
        (4, 4) float64 world_from_imu per frame number; empty if the folder does not exist.

    Raises:
        InputError: a file does not begin with six numbers, or is not named by its frame.
    """
    paths = sorted(folder.glob("*.txt"))
    if not paths:
        return {}
    scale = float(np.cos(np.radians(_six_numbers(paths[0])[0])))
    poses = [_mercator_pose(_six_numbers(path), scale) for path in paths]
    origin = np.linalg.inv(poses[0])
    return {_frame(path): origin @ pose for path, pose in zip(paths, poses, strict=True)}


def _mercator_pose(numbers: tuple[float, ...], scale: float) -> NDArray[np.float64]:
    latitude, longitude, altitude, roll, pitch, yaw = numbers
    pose = np.eye(4)
    pose[:3, :3] = _rotation(roll, pitch, yaw)
    pose[0, 3] = scale * EARTH_RADIUS * np.radians(longitude)
    pose[1, 3] = scale * EARTH_RADIUS * np.log(np.tan(np.pi / 4 + np.radians(latitude) / 2))
    pose[2, 3] = altitude
    return pose


def _frame(path: Path) -> int:
    if not (path.stem.isascii() and path.stem.isdigit()):
        raise InputError(f"{path}: files of oxts are named by their frame, 0000000012.txt; take this one out")
    return int(path.stem)


def _rotation(roll: float, pitch: float, yaw: float) -> NDArray[np.float64]:
    (cr, cp, cy), (sr, sp, sy) = np.cos([roll, pitch, yaw]), np.sin([roll, pitch, yaw])
    rx = np.array([[1, 0, 0], [0, cr, -sr], [0, sr, cr]])
    ry = np.array([[cp, 0, sp], [0, 1, 0], [-sp, 0, cp]])
    rz = np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]])
    return np.asarray(rz @ ry @ rx)


def _six_numbers(path: Path) -> tuple[float, ...]:
    try:
        numbers = tuple(float(n) for n in path.read_text(errors="replace").split()[:6])
    except ValueError as error:
        raise InputError(f"{path}: expected numbers, {error}") from error
    if len(numbers) < 6:
        raise InputError(f"{path}: expected at least 6 numbers (lat lon alt roll pitch yaw), got {len(numbers)}")
    return numbers
