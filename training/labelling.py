"""The label stage on synthetic drives: teacher, lifting and colours, one file per scan."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ov_seg_ros.core.data_types import PseudoLabels, Sample
from ov_seg_ros.core.label_space import LabelSpace
from training.lifting import lift_segments
from training.scan_colors import colors_by_camera, no_camera
from training.simulated_drives import load_as_calibrated
from training.sources.synthetic_folder import SyntheticFolder
from training.student.examples import LabelledScan
from training.teachers.simulated import SimulatedTeacher, TeacherErrorConfig


@dataclass(frozen=True)
class SimulatedLabels:
    """Lifted labels of a synthetic drive, made as a user's would be: by a fallible teacher and calibration.

    Attributes:
        drive: with images and their truth (which the simulated teacher alone reads).
        errors: of the teacher.
        seed: of the errors of this drive.
        label_space: classes.
    """

    drive: SyntheticFolder
    errors: TeacherErrorConfig
    seed: int
    label_space: LabelSpace

    def lift(self, index: int) -> PseudoLabels:
        """Labels of scan ``index``, point for point."""
        sample = self.as_calibrated(index)
        teacher = SimulatedTeacher(self.errors, self.label_space)
        segments = {
            image.name: teacher.segment(image, self.drive.load_image_truth(index, image.name), self.seed)
            for image in sample.images
        }
        return lift_segments(sample, segments)

    def as_calibrated(self, index: int) -> Sample:
        """The sample with the extrinsics a user would have: off by the calibration and stamp error of the drive."""
        return load_as_calibrated(self.drive, index, self.errors, self.seed)


def label_drive(labels: SimulatedLabels, out: Path, use_truth: bool) -> Iterator[Path]:
    """Writes one ``LabelledScan`` per scan and yields its path; scans already there are kept.

    Args:
        labels: the lifted labels.
        out: folder of the drive's files.
        use_truth: store the ground truth of the whole cloud instead, without colours (the supervised ceiling only).
    """
    for index in range(len(labels.drive)):
        path = out / f"{index:06d}.npz"
        if not path.exists():
            _labelled_scan(labels, index, use_truth).save(path)
        yield path


def _labelled_scan(labels: SimulatedLabels, index: int, use_truth: bool) -> LabelledScan:
    if use_truth:
        sample = labels.drive.load_sample(index, with_images=False)
        class_id = sample.class_id
        assert class_id is not None
        confidence = np.ones(len(class_id), np.float32)
        color, camera = None, no_camera(sample)
    else:
        sample = labels.as_calibrated(index)
        lifted = labels.lift(index)
        class_id, confidence = lifted.class_id, lifted.confidence
        color, camera = colors_by_camera(sample)
    ring = labels.drive.load_scan_fields(index)["ring"]
    cloud = sample.cloud
    return LabelledScan(cloud.points, cloud.intensity, ring, class_id, confidence, color, camera)
