"""CLIP features for the segments of a teacher that has none of its own, so that TMP can learn from it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.data_types import CameraImage, TeacherSegments
from ov_seg_ros.core.errors import ConfigError
from ov_seg_ros.core.label_space import LabelSpace
from training.teachers.maskclip import MaskClipTeacher
from training.teachers.protocol import Teacher

if TYPE_CHECKING:
    from training.dictionary import ClassDictionary


class ClipFeatures:
    """Takes segments and labels from one teacher, features and text features from MaskCLIP's dense CLIP.

    Attributes:
        text_features: (T, D) float32 unit vectors, MaskCLIP's.
    """

    def __init__(self, segmenter: Teacher, features: MaskClipTeacher) -> None:
        """Joins two teachers.

        Raises:
            ConfigError: they were made for different dictionaries.
        """
        if segmenter.dictionary.hash != features.dictionary.hash:
            raise ConfigError(
                f"segments and features need the same dictionary, got {segmenter.dictionary.name!r} and "
                f"{features.dictionary.name!r} with other texts, classes or templates"
            )
        self._segmenter = segmenter
        self._features = features
        self.text_features: NDArray[np.float32] = features.text_features

    @property
    def label_space(self) -> LabelSpace:
        """The segmenter's."""
        return self._segmenter.label_space

    @property
    def dictionary(self) -> ClassDictionary:
        """The segmenter's."""
        return self._segmenter.dictionary

    def segment(self, image: CameraImage, key: str) -> TeacherSegments:
        """The segmenter's segments with the mean dense CLIP feature over the pixels of each."""
        segments = self._segmenter.segment(image, key)
        pooled = self._features.pool(image.image, segments.segment_id, len(segments.text_id))
        return replace(segments, features=pooled)

    def describe(self) -> dict[str, Any]:
        """The segmenter's description, with ``features`` saying where those come from."""
        own = self._features.describe()
        return {
            **self._segmenter.describe(),
            "features": own,
            "templates": own["templates"],
            "logit_scale": own["logit_scale"],
            "feature_dim": own["feature_dim"],
        }
