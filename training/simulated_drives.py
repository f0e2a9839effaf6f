"""Rendered drives as a user would have them, their truth kept apart, and the simulated teacher that looks at them.

``RenderedDrives`` opens the folders; three views of it, all picklable:

* ``CalibratedDrives`` - scans and images with the calibration and stamp errors of a user, and no ground truth;
* ``TrueDrives`` - true calibration and ground truth, for supervised ceilings and for evaluation only;
* ``SimulatedDriveTeacher`` - a ``Teacher`` that finds the truth of an image by its key and gets it wrong.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.data_types import CameraImage, Sample, TeacherSegments
from ov_seg_ros.core.errors import InputError
from ov_seg_ros.core.label_space import LabelSpace
from training.dictionary import ClassDictionary
from training.sources.synthetic_folder import SyntheticFolder
from training.teachers.simulated import SimulatedTeacher, TeacherErrorConfig, perturb_extrinsics
from training.teachers.simulated_features import SimulatedFeatures

TEACHER_REVISION = 1
"""Of the classes, outlines and confidences of the simulated teacher: goes up when the same settings give others."""


class RenderedDrives:
    """Rendered drives one after another: which scan of which drive a number or a key means.

    Attributes:
        name: first part of all keys, which are ``<name>/<drive>/<scan>``.
        drives: in order.
    """

    def __init__(self, folders: Sequence[Path], name: str = "drives") -> None:
        """Opens the folders.

        Args:
            folders: that ``write_drive`` has made, at least one, of the same label space.
            name: of the whole.

        Raises:
            InputError: a folder is no drive, two drives have the same name, or their label spaces differ.
        """
        if not folders:
            raise InputError(f"source {name!r} needs at least one rendered drive, got none")
        self.name = name
        self.drives = tuple(SyntheticFolder(folder) for folder in folders)
        self._number: dict[str, int] = {}
        for number, drive in enumerate(self.drives):
            first = self.drives[self._number.setdefault(drive.name, number)]
            if first is not drive:
                raise InputError(f"{first.folder} and {drive.folder} are both called {drive.name}; leave one out")
            if drive.label_space.class_names != self.drives[0].label_space.class_names:
                raise InputError(f"{drive.folder} has other classes than {self.drives[0].folder}; use one label space")
        self._ends = list(accumulate(len(drive) for drive in self.drives))

    def __len__(self) -> int:
        return self._ends[-1]

    @property
    def label_space(self) -> LabelSpace:
        """The classes of the ground truth that the drives hold."""
        return self.drives[0].label_space

    def locate(self, index: int) -> tuple[SyntheticFolder, int]:
        """Drive and scan of sample ``index``.

        Raises:
            InputError: the index is out of range.
        """
        if not 0 <= index < len(self):
            raise InputError(f"source {self.name} has samples 0 to {len(self) - 1}, got index {index}")
        number = bisect_right(self._ends, index)
        return self.drives[number], index - (self._ends[number - 1] if number else 0)

    def find(self, key: str) -> tuple[SyntheticFolder, int]:
        """Drive and scan of a key.

        Raises:
            InputError: no such drive or scan, or the key of another source.
        """
        parts = key.split("/")
        number = self._number.get(parts[1]) if len(parts) == 3 and parts[0] == self.name else None
        if number is None or not (parts[2].isascii() and parts[2].isdigit()):
            raise InputError(f"sample {key} is none of source {self.name}: keys are {self.name}/<drive>/<scan>")
        drive, scan = self.drives[number], int(parts[2])
        if scan >= len(drive):
            raise InputError(f"sample {key}: drive {drive.name} has scans 0 to {len(drive) - 1}")
        return drive, scan

    def load_ring(self, index: int) -> NDArray[np.uint16]:
        """(N,) uint16 beam of each point."""
        drive, scan = self.locate(index)
        return drive.load_scan_fields(scan)["ring"]

    def fingerprint(self) -> dict[str, Any]:
        """What the drives are, JSON types: their number, scans, and a hash of their descriptions in order.

        The names of the folders count, too: those that recipes make carry a hash of the renderer's revision.
        """
        digest = hashlib.sha256()
        for drive in self.drives:
            digest.update(drive.folder.name.encode() + b"\0")
            digest.update(hashlib.sha256((drive.folder / "drive.json").read_bytes()).digest())
        return {"count": len(self.drives), "samples": len(self), "sha256": digest.hexdigest()}

    def key(self, drive: SyntheticFolder, scan: int) -> str:
        """Of a scan, the inverse of ``find``."""
        return f"{self.name}/{drive.name}/{scan:06d}"


class CalibratedDrives:
    """Rendered drives as a recording of a user: extrinsics that are a little off, and no ground truth.

    Attributes:
        errors: whose calibration and stamp errors the extrinsics have; each drive's follow from its own seed.
        label_space: None, there is no ground truth.
    """

    label_space: LabelSpace | None = None

    def __init__(self, drives: RenderedDrives, errors: TeacherErrorConfig | None = None) -> None:
        self._drives, self.errors = drives, errors or TeacherErrorConfig()

    @property
    def name(self) -> str:
        """First part of the keys."""
        return self._drives.name

    def __len__(self) -> int:
        return len(self._drives)

    def load_sample(self, index: int) -> Sample:
        """Loads sample ``index`` in [0, len).

        Raises:
            InputError: the index is out of range, or the sample cannot be read.
        """
        drive, scan = self._drives.locate(index)
        return replace(load_as_calibrated(drive, scan, self.errors), key=self._drives.key(drive, scan))

    def load_ring(self, index: int) -> NDArray[np.uint16]:
        """(N,) uint16 beam of each point."""
        return self._drives.load_ring(index)

    def describe(self) -> dict[str, Any]:
        """What decides the samples, JSON types."""
        return {"drives": self._drives.fingerprint(), "errors": asdict(self.errors)}


class TrueDrives:
    """Rendered drives with true calibration and ground truth, for supervised ceilings and evaluation only."""

    def __init__(self, drives: RenderedDrives) -> None:
        self._drives = drives

    @property
    def name(self) -> str:
        """First part of the keys."""
        return self._drives.name

    @property
    def label_space(self) -> LabelSpace:
        """Of the ground truth."""
        return self._drives.label_space

    def __len__(self) -> int:
        return len(self._drives)

    def load_sample(self, index: int) -> Sample:
        """Loads sample ``index`` in [0, len).

        Raises:
            InputError: the index is out of range, or the sample cannot be read.
        """
        drive, scan = self._drives.locate(index)
        return replace(drive.load_sample(scan), key=self._drives.key(drive, scan))

    def load_ring(self, index: int) -> NDArray[np.uint16]:
        """(N,) uint16 beam of each point."""
        return self._drives.load_ring(index)

    def describe(self) -> dict[str, Any]:
        """What decides the samples, JSON types."""
        return {"drives": self._drives.fingerprint()}


class SimulatedDriveTeacher:
    """The simulated teacher as a ``Teacher``: knows which drive and scan an image is of by the key of its sample."""

    def __init__(self, drives: RenderedDrives, errors: TeacherErrorConfig, features: SimulatedFeatures) -> None:
        """Prepares the teacher; nothing is read before an image is segmented.

        Args:
            drives: where the truth lies; with the name that the keys of the samples begin with.
            errors: that it makes; those of a drive follow from the drive's own seed.
            features: gives its segments texts and features.

        Raises:
            ConfigError: the dictionary is for another label space than the drives.
        """
        self._drives, self._features = drives, features
        self._teacher = SimulatedTeacher(errors, drives.label_space, features)

    @property
    def label_space(self) -> LabelSpace:
        """The classes its segments speak of."""
        return self.dictionary.label_space

    @property
    def dictionary(self) -> ClassDictionary:
        """The texts it was asked for."""
        return self._features.space.dictionary

    @property
    def text_features(self) -> NDArray[np.float32] | None:
        """(T, D) float32 unit vectors of the texts."""
        return self._features.space.text_features

    def segment(self, image: CameraImage, key: str) -> TeacherSegments:
        """Segments one image.

        Args:
            image: its name and stamp say which; its pixels and its geometry are not used.
            key: of the sample, ``<name>/<drive>/<scan>``.

        Raises:
            InputError: the drives hold no such image.
        """
        drive, scan = self._drives.find(key)
        return self._teacher.segment(image, drive.load_image_truth(scan, image.name), drive.config.seed)

    def describe(self) -> dict[str, Any]:
        """What made the segments, JSON types."""
        return {
            "teacher": "simulated",
            "model": f"revision {TEACHER_REVISION}",
            "weights": None,
            "preprocessing": None,
            "templates": list(self.dictionary.templates),
            "logit_scale": None,
            "dictionary": self.dictionary.hash,
            "errors": asdict(self._teacher.config),
            "features": self._features.describe(),
            "drives": self._drives.fingerprint(),
        }


def load_as_calibrated(
    drive: SyntheticFolder, scan: int, errors: TeacherErrorConfig, seed: int | None = None
) -> Sample:
    """A scan and its images with the extrinsics a user would have, and without ground truth.

    Args:
        drive: of the scan.
        scan: its number.
        errors: calibration and stamp error.
        seed: of the error; by default that of the drive.

    Raises:
        InputError: the drive has no such scan, or a file is missing or broken.
    """
    sample, velocity = drive.load_sample(scan), lidar_velocity(drive, scan)
    seed = drive.config.seed if seed is None else seed
    images = tuple(
        replace(i, camera_from_lidar=perturb_extrinsics(i.camera_from_lidar, errors, seed, i.name, velocity))
        for i in sample.images
    )
    return replace(sample, images=images, class_id=None)


def lidar_velocity(drive: SyntheticFolder, scan: int) -> NDArray[np.float64]:
    """(3,) metres per second in the LiDAR frame, by the difference of neighbouring poses."""
    if len(drive) < 2:
        return np.zeros(3)
    stamps = [drive.stamp_ns(i) for i in sorted((scan, scan - 1 if scan else scan + 1))]
    first, second = (drive.ego_pose(stamp) @ drive.base_from_lidar for stamp in stamps)
    shift = (second[:3, 3] - first[:3, 3]) / ((stamps[1] - stamps[0]) * 1e-9)
    velocity: NDArray[np.float64] = first[:3, :3].T @ shift
    return velocity
