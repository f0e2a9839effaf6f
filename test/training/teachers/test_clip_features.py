"""Segments of one teacher with the features of another."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ov_seg_ros.core.camera import CameraModel
from ov_seg_ros.core.data_types import CameraImage, TeacherSegments
from ov_seg_ros.core.errors import ConfigError
from training.teachers.clip_features import ClipFeatures

SEGMENTS = TeacherSegments(
    np.array([[1, 1, 2, 0]], np.uint16), np.array([0, 1], np.uint8), np.ones(2, np.float32), np.array([0, 1], np.int32)
)
IMAGE = CameraImage("front", np.zeros((1, 4, 3), np.uint8), CameraModel(4, 1, 5.0, 5.0, 2.0, 0.5), np.eye(4))


def segmenter(dictionary: str = "a") -> Any:
    return SimpleNamespace(
        dictionary=SimpleNamespace(hash=dictionary, name="words"),
        label_space="space",
        segment=lambda image, key: SEGMENTS,
        describe=lambda: {"teacher": "sam3", "templates": ["{}"], "logit_scale": None, "dictionary": dictionary},
    )


def features(dictionary: str = "a") -> Any:
    return SimpleNamespace(
        dictionary=SimpleNamespace(hash=dictionary, name="words"),
        text_features=np.eye(3, dtype=np.float32),
        pool=lambda image, segment_id, count: np.full((count, 3), segment_id.max(), np.float32),
        describe=lambda: {"teacher": "maskclip", "templates": ["a {}"], "logit_scale": 100.0, "feature_dim": 3},
    )


def test_segments_keep_their_labels_and_get_features() -> None:
    teacher = ClipFeatures(segmenter(), features())
    found = teacher.segment(IMAGE, "drive/0")
    assert found.segment_id is SEGMENTS.segment_id
    assert found.features is not None
    assert found.features.tolist() == [[2, 2, 2], [2, 2, 2]]
    assert teacher.text_features is not None
    assert teacher.text_features.shape == (3, 3)
    assert teacher.label_space == "space"


def test_the_description_names_both() -> None:
    description = ClipFeatures(segmenter(), features()).describe()
    assert description["teacher"] == "sam3"
    assert description["features"]["teacher"] == "maskclip"
    assert description["logit_scale"] == 100.0
    assert description["dictionary"] == "a"


def test_two_dictionaries_are_refused() -> None:
    with pytest.raises(ConfigError, match="need the same dictionary"):
        ClipFeatures(segmenter("a"), features("b"))
