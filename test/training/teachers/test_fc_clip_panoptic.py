"""The panoptic merge, by hand and against a mask-by-mask implementation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ov_seg_ros.core.errors import ConfigError
from training.teachers.fc_clip_panoptic import PanopticRules, PanopticSegments, merge_panoptic

IN, OUT = 4.0, -4.0


def merge(
    probabilities: list[list[float]], masks: list[str], things: list[bool], rules: PanopticRules | None = None
) -> PanopticSegments:
    """Masks as rows of one image line: "#" inside, "." outside."""
    logits = torch.tensor([[[IN if pixel == "#" else OUT for pixel in mask]] for mask in masks])
    return merge_panoptic(
        torch.tensor(probabilities), logits, torch.tensor(things), lambda x: x, rules or PanopticRules()
    )


def test_things_stay_apart_and_stuff_is_joined() -> None:
    probabilities = [[0.9, 0.1, 0.0], [0.1, 0.8, 0.1], [0.7, 0.2, 0.1], [0.0, 0.6, 0.4]]
    result = merge(probabilities, ["##......", "..##....", "....##..", "......##"], [True, False])
    assert result.segment_id.tolist() == [[1, 1, 2, 2, 3, 3, 2, 2]]
    assert result.label.tolist() == [0, 1, 0]
    assert result.pixels.tolist() == [[2, 0, 0, 0], [0, 2, 0, 2], [0, 0, 2, 0]]


def test_a_mask_that_is_void_gives_nothing_and_takes_nothing() -> None:
    result = merge([[0.3, 0.7], [0.6, 0.4]], ["####", "##.."], [True])
    assert result.segment_id.tolist() == [[1, 1, 0, 0]]


def test_pixels_outside_of_their_best_mask_are_void() -> None:
    result = merge([[0.9, 0.1]], ["#.#."], [False])
    assert result.segment_id.tolist() == [[1, 0, 1, 0]]


def test_a_mask_that_lost_too_much_of_itself_is_dropped() -> None:
    probabilities = [[0.9, 0.1], [0.6, 0.4]]
    kept = merge(probabilities, ["##....", ".#####"], [True])  # keeps 4 of 5 pixels, 80 %
    assert kept.segment_id.tolist() == [[1, 1, 2, 2, 2, 2]]
    dropped = merge(probabilities, ["##....", ".####."], [True])  # keeps 3 of 4, 75 %
    assert dropped.segment_id.tolist() == [[1, 1, 0, 0, 0, 0]]
    loose = merge(probabilities, ["##....", ".####."], [True], PanopticRules(overlap_threshold=0.7))
    assert loose.segment_id.tolist() == [[1, 1, 2, 2, 2, 0]]


def test_the_object_threshold_drops_unsure_masks() -> None:
    rules = PanopticRules(object_mask_threshold=0.5)
    result = merge([[0.5, 0.2], [0.6, 0.2]], ["##..", "..##"], [True], rules)
    assert result.segment_id.tolist() == [[0, 0, 1, 1]]


def test_nothing_but_void() -> None:
    result = merge([[0.1, 0.9], [0.2, 0.8]], ["####", "##.."], [True])
    assert result.segment_id.tolist() == [[0, 0, 0, 0]]
    assert result.label.shape == (0,)
    assert result.pixels.shape == (0, 2)


def test_masks_are_resized_before_they_compete() -> None:
    logits = torch.tensor([[[IN, OUT]]])
    result = merge_panoptic(
        torch.tensor([[0.9, 0.1]]),
        logits,
        torch.tensor([True]),
        lambda x: x.repeat_interleave(2, 2).repeat_interleave(3, 1),
        PanopticRules(),
    )
    assert result.segment_id.tolist() == [[1, 1, 0, 0]] * 3


def slow_merge(
    probabilities: np.ndarray, logits: np.ndarray, things: np.ndarray, overlap: float
) -> tuple[np.ndarray, list[int]]:
    """Mask by mask, as the papers describe it."""
    mask = 1.0 / (1.0 + np.exp(-logits.astype(np.float64)))
    queries = [q for q in range(len(mask)) if probabilities[q].argmax() < len(things)]
    result, labels, stuff = np.zeros(mask.shape[1:], int), [], {}
    if not queries:
        return result, labels
    winner = np.array(queries)[np.argmax([probabilities[q].max() * mask[q] for q in queries], axis=0)]
    for q in queries:
        won, full = winner == q, mask[q] >= 0.5
        if not (won & full).any() or won.sum() / full.sum() < overlap:
            continue
        label = int(probabilities[q].argmax())
        if not things[label] and label in stuff:
            result[won & full] = stuff[label]
            continue
        labels.append(label)
        stuff[label] = len(labels)
        result[won & full] = len(labels)
    return result, labels


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**16), st.integers(1, 9), st.integers(1, 4), st.sampled_from([0.0, 0.5, 0.8]))
def test_agrees_with_a_mask_by_mask_implementation_whatever_the_batch(
    seed: int, queries: int, at_once: int, overlap: float
) -> None:
    random = np.random.default_rng(seed)
    probabilities = random.dirichlet(np.full(4, 0.5), queries).astype(np.float32)
    logits = (random.standard_normal((queries, 5, 7)) * 3).astype(np.float32)
    things = random.random(3) < 0.5
    expected, labels = slow_merge(probabilities, logits, things, overlap)
    rules = PanopticRules(overlap_threshold=overlap, masks_at_once=at_once)
    result = merge_panoptic(
        torch.from_numpy(probabilities), torch.from_numpy(logits), torch.from_numpy(things), lambda x: x, rules
    )
    np.testing.assert_array_equal(result.segment_id, expected)
    assert result.label.tolist() == labels
    areas = np.bincount(expected.ravel(), minlength=len(labels) + 1)[1:]
    np.testing.assert_array_equal(result.pixels.sum(1), areas)


def test_rules_outside_of_their_range_are_refused() -> None:
    with pytest.raises(ConfigError, match="overlap_threshold must be within"):
        PanopticRules(overlap_threshold=1.5)
    with pytest.raises(ConfigError, match="masks_at_once must be at least 1"):
        PanopticRules(masks_at_once=0)
