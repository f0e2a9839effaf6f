from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ov_seg_ros.core.class_distribution import classify_logits, spread_to_points

logits_arrays = arrays(
    np.float32, st.tuples(st.integers(0, 20), st.integers(1, 20)), elements=st.floats(-1e4, 1e4, width=32)
)


def test_by_hand() -> None:
    logits = np.log(np.array([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]], np.float32)) + np.float32(7)
    class_id, probability, entropy = classify_logits(logits)
    assert class_id.tolist() == [0, 2]
    assert probability == pytest.approx([0.5, 0.8], rel=1e-5)
    nats = [-(0.5 * np.log(0.5) + 0.5 * np.log(0.25)), -(0.2 * np.log(0.1) + 0.8 * np.log(0.8))]
    assert entropy == pytest.approx(nats, rel=1e-5)


def test_extremes() -> None:
    logits = np.array([[3e38, -3e38], [-np.inf, 2.0], [5.0, 5.0]], np.float32)
    class_id, probability, entropy = classify_logits(logits)
    assert class_id.tolist() == [0, 1, 0]
    assert probability.tolist() == [1.0, 1.0, 0.5]
    assert entropy == pytest.approx([0.0, 0.0, np.log(2)])


def test_exp_and_log_are_as_good_as_they_say() -> None:
    x = -np.linspace(0, 87, 300_001).astype(np.float32)
    pairs = np.stack([np.zeros_like(x), x], axis=1)
    _, probability, entropy = classify_logits(pairs)
    weight = np.exp(x.astype(np.float64))
    np.testing.assert_allclose(probability, 1 / (1 + weight), rtol=2e-7)
    np.testing.assert_allclose(entropy, np.log1p(weight) - weight * x / (1 + weight), rtol=0, atol=4e-7)


def test_one_class_is_certain() -> None:
    class_id, probability, entropy = classify_logits(np.array([[-4.0]], np.float32))
    assert (class_id[0], probability[0], entropy[0]) == (0, 1.0, 0.0)


def test_nan_shows() -> None:
    _, probability, _ = classify_logits(np.array([[np.nan, 1.0], [0.0, np.nan], [0.0, 1.0]], np.float32))
    assert np.isnan(probability).tolist() == [True, True, False]


@given(logits_arrays)
def test_agrees_with_float64(logits: np.ndarray) -> None:
    class_id, probability, entropy = classify_logits(logits)
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    softmax = np.exp(shifted) / np.exp(shifted).sum(axis=1, keepdims=True)
    plogp = np.where(softmax > 0, softmax * np.log(np.maximum(softmax, 1e-300)), 0)
    assert (class_id.dtype, probability.dtype, entropy.dtype) == (np.uint8, np.float32, np.float32)
    np.testing.assert_array_equal(class_id, logits.argmax(axis=1))
    np.testing.assert_allclose(probability, softmax.max(axis=1), rtol=1e-5)
    np.testing.assert_allclose(entropy, -plogp.sum(axis=1), rtol=1e-4, atol=1e-5)
    assert np.all(entropy >= 0)


def test_points_get_what_their_voxel_got() -> None:
    per_voxel = np.array([3, 7], np.uint8), np.array([0.5, 0.75], np.float32), np.array([0.1, 0.2], np.float32)
    class_id, probability, entropy = spread_to_points(per_voxel, np.array([1, -1, 0, 1], np.int32))
    assert class_id.tolist() == [7, 255, 3, 7]
    assert probability.tolist() == [0.75, 0.0, 0.5, 0.75]
    assert entropy == pytest.approx([0.2, 0.0, 0.1, 0.2])


def test_without_voxels_every_point_is_unknown() -> None:
    per_voxel = classify_logits(np.zeros((0, 5), np.float32))
    class_id, probability, entropy = spread_to_points(per_voxel, np.full(3, -1, np.int32))
    assert class_id.tolist() == [255, 255, 255]
    assert not probability.any()
    assert not entropy.any()
