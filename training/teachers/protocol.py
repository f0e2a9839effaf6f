"""What a 2D teacher is to the rest of the project: something that turns an image into segments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.data_types import CameraImage, TeacherSegments
from ov_seg_ros.core.label_space import LabelSpace

if TYPE_CHECKING:
    from training.dictionary import ClassDictionary


class Teacher(Protocol):
    """A 2D open-vocabulary segmentation model.

    A semantic teacher makes one segment of all pixels of an image that got the same text ("car" and "sedan" are two
    segments of one class); a panoptic one makes a segment per instance. Segments of sink texts, which no class of
    the label space owns (sky, the bonnet of the own vehicle), are kept with ``class_id`` 255.

    Attributes:
        label_space: the classes its segments speak of.
        dictionary: the texts it was asked for; ``TeacherSegments.text_id`` indexes them.
        text_features: (T, D) float32 unit vectors of those texts, in the space of ``TeacherSegments.features``;
            None for a teacher without such a space.
    """

    @property
    def label_space(self) -> LabelSpace:
        """The classes its segments speak of."""
        ...

    @property
    def dictionary(self) -> ClassDictionary:
        """The texts it was asked for."""
        ...

    @property
    def text_features(self) -> NDArray[np.float32] | None:
        """(T, D) float32 unit vectors of the texts, or None."""
        ...

    def segment(self, image: CameraImage, key: str) -> TeacherSegments:
        """Segments one image.

        Args:
            image: what to look at; its geometry is not used.
            key: of the sample the image belongs to; with ``image.name`` it names cached results.

        Returns:
            Segments at the size of the image.

        Raises:
            InputError: the image cannot be segmented; the message names ``key`` and the camera.
        """
        ...

    def describe(self) -> dict[str, Any]:
        """What made the segments, in JSON types: goes into the store beside them and into hashes.

        At least ``teacher``, ``model``, ``weights``, ``preprocessing``, ``templates``, ``logit_scale`` (None where
        there is none) and ``dictionary`` (its hash). Two teachers that may differ in one segment differ here.
        """
        ...
