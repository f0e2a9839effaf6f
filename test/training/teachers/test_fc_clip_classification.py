"""Mask pooling, synonyms and the geometric ensemble of FC-CLIP, by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ov_seg_ros.core.errors import InputError
from training.teachers.fc_clip_classification import (
    COCO_NAMES,
    best_of_synonyms,
    ensemble,
    load_training_names,
    pool_by_mask,
    seen_texts,
    text_logits,
)


def test_pooling_averages_the_pixels_with_a_positive_logit() -> None:
    features = torch.tensor([[[1.0, 2.0], [3.0, 4.0]], [[0.0, 10.0], [0.0, 30.0]]])  # (2, 2, 2)
    masks = torch.tensor([[[1.0, -1.0], [5.0, 0.0]], [[-1.0, 0.1], [-1.0, 0.1]], [[-1.0, -1.0], [-1.0, -1.0]]])
    pooled = pool_by_mask(features, masks)
    np.testing.assert_allclose(pooled, [[2.0, 0.0], [3.0, 20.0], [0.0, 0.0]], atol=1e-6)


def test_pooling_shrinks_larger_masks_first() -> None:
    features = torch.tensor([[[1.0, 5.0]]])  # (1, 1, 2)
    masks = torch.tensor([[[3.0, 3.0, -1.0, -1.0], [-1.0, 3.0, -1.0, -1.0]]])  # left half: mean 2 > 0, right half < 0
    np.testing.assert_allclose(pool_by_mask(features, masks), [[1.0]], atol=1e-6)


def test_text_logits_are_cosines_times_a_bounded_factor() -> None:
    embeddings, texts = torch.tensor([[3.0, 4.0]]), torch.eye(2)
    np.testing.assert_allclose(text_logits(embeddings, texts, torch.tensor(math.log(10.0))), [[6.0, 8.0]], rtol=1e-6)
    np.testing.assert_allclose(text_logits(embeddings, texts, torch.tensor(9.0)), [[60.0, 80.0]], rtol=1e-6)


def test_the_best_synonym_counts() -> None:
    logits = torch.tensor([[1.0, 5.0, 2.0], [0.0, -1.0, -2.0]])
    best = best_of_synonyms(logits, torch.tensor([1, 0, 1]), 2)
    assert best.tolist() == [[5.0, 2.0], [-1.0, 0.0]]


def test_the_ensemble_by_hand() -> None:
    """p_in = (4/5, 1/5), p_out = (1/5, 4/5), a = (0.4, 0.8), p_void = 1/2.

    0.8 ** 0.6 * 0.2 ** 0.4 = 0.459479, 0.2 ** 0.2 * 0.8 ** 0.8 = 0.606287; shares 0.431127 and 0.568873, half of each.
    """
    trained = torch.tensor([[4.0, 1.0]]).log()
    void = torch.tensor([5.0]).log()  # as much as both classes together
    frozen = torch.tensor([[1.0, 4.0]]).log()
    result = ensemble(trained, void, frozen, torch.tensor([0.4, 0.8]))
    np.testing.assert_allclose(result, [[0.215563, 0.284437, 0.5]], atol=2e-6)


def test_share_0_is_the_trained_head_alone_and_share_1_is_clip_alone() -> None:
    trained, frozen = torch.tensor([[0.3, -1.0, 2.0]]), torch.tensor([[1.0, 0.5, -3.0]])
    void = torch.tensor([-100.0])
    alone = ensemble(trained, void, frozen, torch.zeros(3))[:, :3]
    np.testing.assert_allclose(alone, trained.softmax(-1), rtol=1e-5)
    alone = ensemble(trained, void, frozen, torch.ones(3))[:, :3]
    np.testing.assert_allclose(alone, frozen.softmax(-1), rtol=1e-5)


def test_probabilities_too_small_for_float32_do_no_harm() -> None:
    """exp(-200) is 0 in float32; the published product of powers would be log(0) * 0 = NaN here."""
    trained, frozen = torch.tensor([[0.0, -200.0]]), torch.tensor([[0.0, -100.0]])
    result = ensemble(trained, torch.tensor([-200.0]), frozen, torch.tensor([0.4, 0.8]))
    np.testing.assert_allclose(result, [[1.0, 0.0, 0.0]], atol=1e-6)


@given(st.integers(1, 5), st.integers(1, 6), st.integers(0, 2**16))
def test_probabilities_sum_to_one_and_follow_the_classes(queries: int, classes: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    trained, frozen = (torch.randn(queries, classes, generator=generator) * 10 for _ in range(2))
    void, share = torch.randn(queries, generator=generator), torch.rand(classes, generator=generator)
    result = ensemble(trained, void, frozen, share)
    np.testing.assert_allclose(result.sum(1), 1.0, atol=1e-5)
    order = torch.randperm(classes, generator=generator)
    moved = ensemble(trained[:, order], void, frozen[:, order], share[order])
    np.testing.assert_allclose(moved[:, :-1], result[:, :-1][:, order], atol=1e-6)


def test_the_training_names_are_those_of_coco() -> None:
    names = load_training_names()
    assert {"person", "car", "cars", "traffic light", "playingfield", "palm tree", "rug"} <= names
    assert "invalid_class_id" not in names
    assert not [name for name in names if name != name.strip() or not name]


def test_the_table_has_133_classes_with_ascending_ids() -> None:
    rows = [line.split(":") for line in COCO_NAMES.read_text().splitlines() if not line.startswith("#")]
    ids = [int(coco_id) for coco_id, _ in rows]
    assert len(ids) == 133
    assert ids == sorted(set(ids))
    assert sum(coco_id <= 90 for coco_id in ids) == 80  # the things of COCO


def test_seen_means_letter_for_letter() -> None:
    names = load_training_names()
    assert seen_texts(["car", "Car", "sedan", "bushes", "bush", "car "], names) == [
        True,
        False,
        False,
        True,
        False,
        False,
    ]


def test_a_damaged_table_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_text("1:person\ncar\n")
    with pytest.raises(InputError, match="line 2: expected"):
        load_training_names(path)
    with pytest.raises(InputError, match="does not exist"):
        load_training_names(tmp_path / "none.txt")
