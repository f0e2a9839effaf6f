"""What a 2D teacher is to the rest of the project: something that turns an image into segments."""

from __future__ import annotations

from typing import Protocol

from ov_seg_ros.core.data_types import CameraImage, TeacherSegments
from ov_seg_ros.core.label_space import LabelSpace


class Teacher(Protocol):
    """A 2D open-vocabulary segmentation model.

    Attributes:
        label_space: the classes its segments speak of.
    """

    label_space: LabelSpace

    def segment(self, image: CameraImage, key: str) -> TeacherSegments:
        """Segments one image.

        Args:
            image: what to look at; its geometry is not used.
            key: of the sample the image belongs to; with ``image.name`` it names cached results.
        """
        ...
