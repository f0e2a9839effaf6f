"""What lies around the scans of a KITTI odometry sequence: calibration, poses, times and the left colour images.

Geiger et al., "Are we ready for autonomous driving? The KITTI vision benchmark suite", CVPR 2012. ``calib.txt`` holds
the rectified projections P0..P3 and Tr (camera 0 from Velodyne); ``poses.txt`` holds a (3, 4) world_from_camera_0 per
scan, where the world is camera 0 of the first scan.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.data_types import CameraImage
from ov_seg_ros.core.errors import InputError
from training.fingerprint import fingerprint_contents, fingerprint_files
from training.sources.kitti_calibration import Calibration, homogeneous, read_calibration
from training.sources.point_files import load_image_file

CAMERA = "image_2"
SCAN_PERIOD_NS = 100_000_000
FIRST_STAMP_NS = 1_000_000_000
"""Stamps of a sequence begin here: 0 means "no stamp" in ROS."""

_GET_CALIBRATION = "unpack data_odometry_calib.zip of the KITTI odometry benchmark over it"


class OdometrySequence:
    """One sequence folder, ``sequences/00``; every file but the scans may be missing.

    Poses are those of ``poses.txt`` in the sequence (SemanticKITTI, estimated from the scans), else those of
    ``poses/00.txt`` beside ``sequences`` (the benchmark's own, for 00 to 10).
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def stamp_ns(self, number: int) -> int:
        """Stamp of scan ``number``: from ``times.txt``, else 0.1 s apart.

        Raises:
            InputError: ``times.txt`` is too short or holds no numbers.
        """
        if self._times is None:
            return FIRST_STAMP_NS + number * SCAN_PERIOD_NS
        if number >= len(self._times):
            raise InputError(f"{self.folder / 'times.txt'} has {len(self._times)} lines, none for scan {number}")
        return FIRST_STAMP_NS + round(float(self._times[number]) * 1e9)

    def load_images(self, stem: str, stamp_ns: int) -> tuple[CameraImage, ...]:
        """The image of one scan; none where there is no image file.

        Raises:
            InputError: the image cannot be read, or there is no calibration for it.
        """
        path = self._image_path(stem)
        if not path.is_file():
            return ()
        image = load_image_file(path)
        height, width = image.shape[:2]
        camera, shift = self._calibration.pinhole("P2", width, height)
        return (CameraImage(CAMERA, image, camera, shift @ self.camera_0_from_lidar, stamp_ns),)

    def world_from_lidar(self, number: int) -> NDArray[np.float64] | None:
        """(4, 4) pose of scan ``number`` in the LiDAR frame of the first scan, None where there are no poses.

        Raises:
            InputError: the poses are damaged, too few, or without calibration.
        """
        if self._poses is None:
            return None
        if number >= len(self._poses):
            raise InputError(f"{self._pose_file} has {len(self._poses)} lines, none for scan {number}")
        world_from_camera_0 = homogeneous(self._poses[number][:, :3], self._poses[number][:, 3])
        return np.linalg.inv(self.camera_0_from_lidar) @ world_from_camera_0 @ self.camera_0_from_lidar

    def describe(self, stems: Iterable[str]) -> dict[str, Any]:
        """What belongs to the scans of these names; see ``Source.describe``."""
        images = (self._image_path(stem) for stem in stems)
        return {
            "images": fingerprint_files(path for path in images if path.is_file()),
            "calibration": fingerprint_contents(self.folder / "calib.txt"),
            "stamps": fingerprint_contents(self.folder / "times.txt"),
        }

    def _image_path(self, stem: str) -> Path:
        return self.folder / CAMERA / f"{stem}.png"

    @cached_property
    def camera_0_from_lidar(self) -> NDArray[np.float64]:
        """(4, 4), Tr of the calibration."""
        if "Tr" not in self._calibration.values:
            raise InputError(
                f"calibration {self._calibration.path} has no entry Tr: it is the one that comes with the images; "
                f"{_GET_CALIBRATION}"
            )
        tr = self._calibration.matrix("Tr", (3, 4))
        return homogeneous(tr[:, :3], tr[:, 3])

    @cached_property
    def _calibration(self) -> Calibration:
        path = self.folder / "calib.txt"
        if not path.is_file():
            what = CAMERA if self._pose_file is None else self._pose_file.name
            raise InputError(f"{self.folder} has {what} but no calib.txt; {_GET_CALIBRATION}")
        return read_calibration(path)

    @cached_property
    def _times(self) -> NDArray[np.float64] | None:
        path = self.folder / "times.txt"
        return _numbers(path, 1)[:, 0] if path.is_file() else None

    @cached_property
    def _pose_file(self) -> Path | None:
        sequence = self.folder.absolute()
        candidates = (self.folder / "poses.txt", sequence.parent.parent / "poses" / f"{sequence.name}.txt")
        return next((path for path in candidates if path.is_file()), None)

    @cached_property
    def _poses(self) -> NDArray[np.float64] | None:
        return None if self._pose_file is None else _numbers(self._pose_file, 12).reshape(-1, 3, 4)


def _numbers(path: Path, columns: int) -> NDArray[np.float64]:
    """A text file with ``columns`` numbers per line."""
    rows = []
    for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
        try:
            values = [float(word) for word in line.split()]
        except ValueError as error:
            raise InputError(f"{path}, line {number}: expected numbers ({error}); copy it again") from error
        if values and len(values) != columns:
            raise InputError(f"{path}, line {number}: expected {columns} numbers, got {len(values)}; copy it again")
        rows += [values] if values else []
    return np.array(rows, np.float64).reshape(-1, columns)
