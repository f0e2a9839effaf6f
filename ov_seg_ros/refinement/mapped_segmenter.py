"""A segmenter that speaks the classes of somebody else; it is used like the segmenter itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ov_seg_ros.core.class_map import ClassMap
from ov_seg_ros.core.data_types import IGNORE_ID, CameraImage, PointCloud, SegmentedCloud
from ov_seg_ros.core.student_description import StudentDescription
from ov_seg_ros.refinement.refined_segmenter import SegmenterLike, SegmenterWrapper


def map_classes(segmenter: SegmenterLike, path: str) -> SegmenterLike:
    """Adds a class map to a segmenter.

    Args:
        segmenter: that labels.
        path: of the map's YAML file (``core.class_map``); "" gives the segmenter back as it is.

    Raises:
        ConfigError: the file is missing or wrong, or leaves out a class of the student.
    """
    return MappedSegmenter(segmenter, ClassMap.load(Path(path).expanduser())) if path else segmenter


class MappedSegmenter(SegmenterWrapper):
    """Labels scans with a segmenter and translates the classes.

    ``probability`` stays that of the student's own class, the least that a class joined of several can have, and
    ``entropy`` that of the student's classes; both are 0 where the map makes a class unknown.
    """

    def __init__(self, segmenter: SegmenterLike, class_map: ClassMap) -> None:
        """Prepares the translation.

        Raises:
            ConfigError: the map leaves out a class of the student.
        """
        super().__init__(segmenter)
        self._table = class_map.table(segmenter.description.label_space)
        self._description = replace(segmenter.description, label_space=class_map.label_space)

    @property
    def description(self) -> StudentDescription:
        """What the student knows about itself, with the classes that come out."""
        return self._description

    def segment(self, cloud: PointCloud, images: Sequence[CameraImage] = ()) -> SegmentedCloud:
        """Labels a scan; arguments and errors are those of the segmenter inside."""
        segmented = self._segmenter.segment(cloud, images)
        class_id = self._table[segmented.class_id]
        unknown = class_id == IGNORE_ID
        probability = np.where(unknown, np.float32(0), segmented.probability)
        entropy = np.where(unknown, np.float32(0), segmented.entropy)
        return SegmentedCloud(class_id, probability, entropy, segmented.stage_ms)
