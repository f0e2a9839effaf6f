"""Overlapping masks painted by score, on masks drawn by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from training.teachers.instance_merging import InstanceMasks, paint_instances  # noqa: E402

DICTIONARY: Any = SimpleNamespace(text_class=np.array([0, 0, 1, 255], np.uint8))


def found(*masks: tuple[list[list[float]], float, int]) -> InstanceMasks:
    """(mask, score, text) each."""
    return InstanceMasks(
        torch.tensor([mask for mask, _, _ in masks]).reshape(len(masks), -1, 4),
        torch.tensor([score for _, score, _ in masks]),
        np.array([text for _, _, text in masks], np.int64),
    )


CAR = [[0.9, 0.9, 0.0, 0.0], [0.9, 0.7, 0.0, 0.0]]
SEDAN = [[0.8, 0.8, 0.8, 0.0], [0.8, 0.8, 0.0, 0.0]]  # the same object with a rim
ROAD = [[0.6, 0.6, 0.6, 0.6], [0.6, 0.6, 0.6, 0.6]]
OTHER_CAR = [[0.0, 0.0, 0.0, 0.9], [0.0, 0.0, 0.0, 0.2]]


def test_higher_scores_are_painted_first() -> None:
    segments = paint_instances(found((ROAD, 0.5, 2), (CAR, 0.8, 0)), DICTIONARY, (2, 4))
    assert segments.segment_id.tolist() == [[1, 1, 2, 2], [1, 1, 2, 2]]
    assert segments.text_id.tolist() == [0, 2]
    assert segments.class_id.tolist() == [0, 1]
    np.testing.assert_allclose(segments.confidence, [0.8 * (0.9 * 3 + 0.7) / 4, 0.5 * 0.6], rtol=1e-6)
    assert segments.features is None


def test_a_synonym_of_something_painted_leaves_no_rim() -> None:
    segments = paint_instances(found((CAR, 0.8, 0), (SEDAN, 0.7, 1)), DICTIONARY, (2, 4))
    assert segments.segment_id.tolist() == [[1, 1, 0, 0], [1, 1, 0, 0]]
    assert segments.text_id.tolist() == [0]


def test_a_mask_that_is_visible_enough_keeps_what_is_free() -> None:
    segments = paint_instances(found((CAR, 0.8, 0), (SEDAN, 0.7, 1)), DICTIONARY, (2, 4), visible_share=0.2)
    assert segments.segment_id.tolist() == [[1, 1, 2, 0], [1, 1, 0, 0]]


@pytest.mark.parametrize(("merge", "expected"), [(False, [1, 1, 0, 2]), (True, [1, 1, 0, 1])])
def test_objects_of_one_text_are_segments_of_their_own_or_one(merge: bool, expected: list[int]) -> None:
    segments = paint_instances(found((CAR, 0.8, 0), (OTHER_CAR, 0.6, 0)), DICTIONARY, (2, 4), merge_texts=merge)
    assert segments.segment_id.tolist() == [expected, [1, 1, 0, 0]]
    assert segments.text_id.tolist() == ([0] if merge else [0, 0])


def test_equal_scores_keep_the_order_of_the_texts() -> None:
    segments = paint_instances(found((ROAD, 0.5, 2), (ROAD, 0.5, 3)), DICTIONARY, (2, 4))
    assert segments.class_id.tolist() == [1]


def test_nothing_found_is_void() -> None:
    nothing = InstanceMasks(torch.zeros(0, 2, 4), torch.zeros(0), np.zeros(0, np.int64))
    for merge in (False, True):
        segments = paint_instances(nothing, DICTIONARY, (6, 8), merge_texts=merge)
        assert not segments.segment_id.any()
        assert segments.text_id.shape == (0,)


def test_small_masks_are_enlarged() -> None:
    segments = paint_instances(found((CAR, 0.8, 0)), DICTIONARY, (4, 8))
    assert segments.segment_id[:, :3].all()
    assert not segments.segment_id[:, 5:].any()
