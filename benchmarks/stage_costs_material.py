"""What ``stage_costs.py`` runs the stages on: a synthetic drive, or scans of any source with masks that are there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.data_types import CameraImage, Sample, TeacherSegments
from ov_seg_ros.core.label_space import LabelSpace
from training.config import LABEL_SPACES
from training.dictionary import DICTIONARIES, ClassDictionary
from training.simulated_drives import CalibratedDrives, RenderedDrives, SimulatedDriveTeacher, TrueDrives
from training.sources.protocol import Source
from training.sources.resolve import open_source
from training.sources.synthetic import HELD_OUT_SEEDS, DriveConfig, SyntheticDrive
from training.sources.synthetic_folder import write_drive
from training.teacher_choice import TeacherChoice
from training.teachers.protocol import Teacher
from training.teachers.simulated import TeacherErrorConfig
from training.teachers.simulated_features import SimulatedFeatures
from training.teachers.simulated_text_space import TextSpace, TextSpaceConfig

SCAN_STRIDE = 20
"""Revolutions between two scans of a synthetic drive: 2 s."""

NUM_FEATURES = 768
"""Numbers of a feature, as CLIP ViT-L/14 has them; it decides disk and the last layer of the pre-training."""


@dataclass(frozen=True)
class Material:
    """Scans, and a teacher that knows their images.

    Attributes:
        name: of the row.
        teacher_name: of the row of the label stage.
        dictionary: of the teacher.
        open_source: the scans, for the stages before evaluation.
        open_truth: the same scans with ground truth.
        build_teacher: the teacher; has features.
    """

    name: str
    teacher_name: str
    dictionary: ClassDictionary
    open_source: Callable[[], Source]
    open_truth: Callable[[], Source]
    build_teacher: Callable[[], Teacher]


def synthetic_material(folder: Path, lidar: str, scans: int) -> Material:
    """Renders a drive that no student learns from, unless it is there; the simulated teacher looks at it."""
    config = DriveConfig(HELD_OUT_SEEDS[lidar][0], lidar, scans, SCAN_STRIDE)
    if not (folder / lidar / "drive.json").exists():
        write_drive(SyntheticDrive(config), folder / lidar)
    drives = RenderedDrives([folder / lidar])
    space = LabelSpace.load(LABEL_SPACES / "nuscenes16.yaml")
    dictionary = ClassDictionary.load(DICTIONARIES / "nuscenes.yaml", space)
    features = SimulatedFeatures(TextSpace.make(dictionary, TextSpaceConfig(dimensions=NUM_FEATURES)))
    teacher = SimulatedDriveTeacher(drives, TeacherErrorConfig(), features)
    return Material(
        f"synthetic, {lidar}",
        "simulated",
        dictionary,
        lambda: CalibratedDrives(drives),
        lambda: TrueDrives(drives),
        lambda: teacher,
    )


def real_material(spec: str, teacher_file: Path, changes: dict[str, Any], scans: int) -> Material:
    """The first scans of a source; a teacher without features gets drawn ones, a source without truth a false one."""
    choice = TeacherChoice.load(teacher_file, changes)
    dictionary = choice.load_dictionary()
    source = FirstSamples(open_source(spec), scans)
    teacher = choice.build()
    if teacher.text_features is None:
        teacher = DrawnFeatures(teacher)
    truth = FirstSamples(source, scans, dictionary.label_space)
    return Material(source.name, choice.kind, dictionary, partial(_same, source), lambda: truth, lambda: teacher)


def _same(source: Source) -> Source:
    return source


class FirstSamples:
    """The first samples of a source; with a label space, those without ground truth are said to be of class 0."""

    def __init__(self, source: Source, count: int, truth: LabelSpace | None = None) -> None:
        self._source, self._truth = source, truth
        self._count = min(count, len(source))
        self.name = source.name
        self.label_space = truth or source.label_space

    def __len__(self) -> int:
        return self._count

    def load_sample(self, index: int) -> Sample:
        """One of them."""
        sample = self._source.load_sample(index)
        if sample.class_id is None and self._truth is not None:
            return replace(sample, class_id=np.zeros(len(sample.cloud), np.uint8))
        return sample

    def describe(self) -> dict[str, Any]:
        """See ``Source``."""
        return {"first": self._count, "of": self._source.describe()}


class DrawnFeatures:
    """A teacher whose segments get random unit vectors: they cost what real ones cost, and mean nothing."""

    def __init__(self, teacher: Teacher) -> None:
        self._teacher = teacher
        self.dictionary = teacher.dictionary
        self.text_features = _unit_vectors(len(teacher.dictionary))

    @property
    def label_space(self) -> LabelSpace:
        """Of the teacher."""
        return self._teacher.label_space

    def segment(self, image: CameraImage, key: str) -> TeacherSegments:
        """The segments of the teacher, with features."""
        segments = self._teacher.segment(image, key)
        return replace(segments, features=_unit_vectors(len(segments.class_id)))

    def describe(self) -> dict[str, Any]:
        """Of the teacher, and that its features are drawn."""
        return {**self._teacher.describe(), "features": "drawn"}


def _unit_vectors(count: int) -> NDArray[np.float32]:
    vectors = np.random.default_rng(count).standard_normal((count, NUM_FEATURES)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
