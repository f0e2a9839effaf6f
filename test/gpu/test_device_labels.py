"""Labels on a device: those of ``core.class_distribution``."""

import numpy as np
import pytest

pytest.importorskip("torch", reason="provider triton needs torch")

import torch
from hypothesis import given
from hypothesis import strategies as st

from ov_seg_ros.core.class_distribution import classify_logits, spread_to_points
from ov_seg_ros.gpu.device_labels import label_points


def on_device(logits, count, point_to_voxel):
    number, fits = torch.tensor([count], dtype=torch.int32), torch.tensor([False])
    return label_points(torch.from_numpy(logits), number, point_to_voxel, fits)


@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(0, 40),
    padding=st.integers(0, 5),
    classes=st.integers(1, 20),
    scale=st.sampled_from([0.01, 1.0, 30.0, 1e4]),
)
def test_equals_the_cpu(seed, count, padding, classes, scale):
    random = np.random.default_rng(seed)
    logits = (random.normal(size=(count + padding, classes)) * scale).astype(np.float32)
    logits[count:] = np.nan
    rows = random.integers(-1, count, 60).astype(np.int32) if count else np.full(60, -1, np.int32)
    if len(logits) == 0:
        logits = np.full((1, classes), np.nan, np.float32)
    found = on_device(logits, count, torch.from_numpy(rows))
    class_id, probability, entropy = spread_to_points(classify_logits(logits[:count]), rows)
    np.testing.assert_array_equal(found.class_id.numpy(), class_id)
    np.testing.assert_allclose(found.probability.numpy(), probability, rtol=2e-6)
    np.testing.assert_allclose(found.entropy.numpy(), entropy, rtol=1e-5, atol=2e-6)
    assert found.class_id.dtype == torch.uint8
    assert found.probability.dtype == found.entropy.dtype == torch.float32
    assert (found.voxels.item(), found.broken.item()) == (count, 0)


def test_impossible_classes_and_equals():
    logits = np.array([[0, -np.inf, 0], [-np.inf, 5, -np.inf]], np.float32)
    found = on_device(logits, 2, torch.tensor([0, 1, -1], dtype=torch.int32))
    assert found.class_id.tolist() == [0, 1, 255]
    assert found.probability.tolist() == [0.5, 1, 0]
    np.testing.assert_allclose(found.entropy.tolist(), [np.log(2), 0, 0], rtol=1e-6)
    assert found.broken.item() == 0


def test_broken_voxels_are_counted_padding_is_not():
    logits = np.array([[0, np.nan], [0, 1], [np.nan, np.nan], [np.nan, 0]], np.float32)
    found = on_device(logits, 3, torch.tensor([1], dtype=torch.int32))
    assert found.broken.tolist() == [2]
