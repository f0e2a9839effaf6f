"""Pooling per segment against the same arithmetic with every map at full resolution."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ov_seg_ros.core.data_types import TeacherSegments
from ov_seg_ros.core.errors import InputError

torch = pytest.importorskip("torch")

from training.teachers import map_enlargement  # noqa: E402
from training.teachers import segment_pooling as pooling  # noqa: E402

CLASSES = (0, 0, 1, 255, 2)


def dictionary(classes: tuple[int, ...] = CLASSES) -> Any:
    return SimpleNamespace(text_class=np.array(classes, np.uint8))


def enlarge(maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(C, h, w) to (C, H, W) by torch, in float64."""
    return torch.nn.functional.interpolate(
        torch.as_tensor(maps, dtype=torch.float64)[None], size, mode="bilinear", align_corners=False
    )[0].numpy()


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def naive_features(segments: TeacherSegments, features_low: np.ndarray) -> np.ndarray:
    size = segments.segment_id.shape
    full = enlarge(np.moveaxis(features_low, 2, 0), size)
    means = [full[:, segments.segment_id == r + 1].mean(1) for r in range(len(segments.text_id))]
    return unit(np.reshape(means, (-1, len(full))))


def test_a_label_map_by_hand() -> None:
    text_map = np.array([[4, 4, 1], [-1, 3, 1]])
    confidence = np.array([[0.5, 0.7, 0.2], [0.9, 0.4, 0.4]], np.float32)
    segments = pooling.segments_from_labels(text_map, confidence, None, dictionary(), (2, 3))
    assert segments.segment_id.tolist() == [[3, 3, 1], [0, 2, 1]]
    assert segments.segment_id.dtype == np.uint16
    assert segments.text_id.tolist() == [1, 3, 4]
    assert segments.class_id.tolist() == [0, 255, 2]
    np.testing.assert_allclose(segments.confidence, [0.3, 0.4, 0.6], rtol=1e-6)
    assert segments.features is None


def test_a_small_label_map_is_enlarged_to_the_nearest_pixel() -> None:
    segments = pooling.segments_from_labels(np.array([[0, 2]]), np.ones((1, 2)), None, dictionary(), (2, 4))
    assert segments.segment_id.tolist() == [[1, 1, 2, 2]] * 2


def test_text_map_of_bytes_does_not_wrap() -> None:
    many = dictionary((0,) * 300)
    segments = pooling.segments_from_labels(np.full((1, 1), 255, np.uint8), np.ones((1, 1)), None, many, (1, 1))
    assert segments.text_id.tolist() == [255]


def test_cell_weights_by_hand() -> None:
    """Two cells over four pixels: pixel centres at -0.25, 0.25, 0.75, 1.25 cells; the outer ones are clamped."""
    weights = map_enlargement.cell_weights(np.array([[1, 1, 2, 2]]), 2, (1, 2))
    np.testing.assert_allclose(weights, [[[1.75, 0.25]], [[0.25, 1.75]]])


@settings(max_examples=60, deadline=None)
@given(
    size=st.tuples(st.integers(1, 23), st.integers(1, 19)),
    cells=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    band=st.sampled_from([1, 1500, 2**26]),
    seed=st.integers(0, 2**31),
)
def test_pooled_features_equal_those_of_the_enlarged_map(
    size: tuple[int, int], cells: tuple[int, int], band: int, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    low = generator.normal(size=(*cells, 6)).astype(np.float32)
    text_map = generator.integers(-1, 5, size)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(map_enlargement, "BAND_BYTES", band)
        segments = pooling.segments_from_labels(text_map, np.ones(size), low, dictionary(), size)
        area = [(segments.segment_id == r + 1).sum() for r in range(len(segments.text_id))]
        weights = map_enlargement.cell_weights(segments.segment_id, len(area), cells)
    assert segments.features is not None
    np.testing.assert_allclose(segments.features, naive_features(segments, low), atol=2e-4)
    np.testing.assert_allclose(weights.sum((1, 2)), area)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid", "none"])
@pytest.mark.parametrize("band", [1, 40_000, 2**26])
def test_scores_equal_those_at_full_resolution(activation: Any, band: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(map_enlargement, "BAND_BYTES", band)
    generator = np.random.default_rng(3)
    scores = generator.normal(0.5, 0.2, (5, 7, 9)).astype(np.float32).clip(0, 1)
    low = generator.normal(size=(4, 3, 8)).astype(np.float32)
    full = enlarge(scores, (30, 41))
    if activation == "softmax":
        full = np.exp(full) / np.exp(full).sum(0)
    elif activation == "sigmoid":
        full = 1 / (1 + np.exp(-full))
    segments = pooling.segments_from_scores(torch.as_tensor(scores), low, dictionary(), (30, 41), activation)
    assert_equal_maps(segments, full)
    np.testing.assert_allclose(segments.features, naive_features(segments, low), atol=1e-5)


def assert_equal_maps(segments: TeacherSegments, full: np.ndarray, confidence: np.ndarray | None = None) -> None:
    """``full`` (T, H, W): the winner everywhere but at ties, and its mean value per segment."""
    two = np.sort(full, axis=0)[-2:]
    clear = two[1] - two[0] > 1e-5
    assert clear.mean() > 0.99
    text = segments.text_id[segments.segment_id.astype(int) - 1]
    np.testing.assert_array_equal(text[clear], full.argmax(0)[clear])
    best = two[1] if confidence is None else confidence
    mean = [best[segments.segment_id == r + 1].mean() for r in range(len(segments.text_id))]
    np.testing.assert_allclose(segments.confidence, mean, atol=1e-5)


@pytest.mark.parametrize("band", [1, 60_000, 2**26])
def test_queries_equal_pixel_embeddings_at_full_resolution(band: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(map_enlargement, "BAND_BYTES", band)
    generator = np.random.default_rng(5)
    probabilities = generator.dirichlet(np.full(6, 0.3), 11)[:, :5]
    logits = generator.normal(0, 4, (11, 6, 10))
    embedding = unit(generator.normal(size=(11, 16)))
    masks = 1 / (1 + np.exp(-enlarge(logits, (24, 37))))
    full = np.einsum("qt,qhw->thw", probabilities, masks)
    confidence = full.max(0) / np.maximum(full.sum(0), 1)
    assert (full.sum(0) > 1).any()
    pixel_embedding = np.einsum("qd,qhw->dhw", embedding, masks)

    segments = pooling.segments_from_queries(probabilities, logits, embedding, dictionary(), (24, 37))
    assert_equal_maps(segments, full, confidence)
    expected = [pixel_embedding[:, segments.segment_id == r + 1].sum(1) for r in range(len(segments.text_id))]
    np.testing.assert_allclose(segments.features, unit(np.stack(expected)), atol=1e-5)


def test_unsure_pixels_are_void_if_asked_for() -> None:
    scores = np.array([[[0.2, 0.6]], [[0.3, 0.1]], [[0.0, 0.0]], [[0.0, 0.0]], [[0.0, 0.0]]])
    segments = pooling.segments_from_scores(scores, None, dictionary(), (1, 2), "none", void_below=0.5)
    assert segments.segment_id.tolist() == [[0, 1]]
    assert segments.text_id.tolist() == [0]


def test_a_sink_that_wins_is_a_segment_of_class_255() -> None:
    probabilities = np.array([[0.0, 0.0, 0.1, 0.8, 0.0]])
    segments = pooling.segments_from_queries(probabilities, np.zeros((1, 2, 2)), None, dictionary(), (4, 4))
    assert segments.class_id.tolist() == [255]
    assert segments.text_id.tolist() == [3]
    np.testing.assert_allclose(segments.confidence, 0.4)
    assert segments.features is None


def test_instances_may_share_a_text() -> None:
    segments = pooling.make_segments(
        np.array([[1, 2, 2, 0]], np.uint16), np.array([2, 2]), np.array([[0.2, 0.4, 0.6, 1.0]]), None, dictionary()
    )
    assert segments.class_id.tolist() == [1, 1]
    np.testing.assert_allclose(segments.confidence, [0.2, 0.5])


def test_an_image_without_labels_has_no_segments() -> None:
    segments = pooling.segments_from_labels(
        np.full((3, 3), -1), np.zeros((3, 3)), np.ones((2, 2, 4)), dictionary(), (6, 6)
    )
    assert not segments.segment_id.any()
    assert segments.features is not None
    assert segments.features.shape == (0, 4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda d: pooling.segments_from_labels(np.full((2, 2), 5), np.ones((2, 2)), None, d, (2, 2)), "-1..4"),
        (lambda d: pooling.segments_from_labels(np.zeros((2, 2), int), np.ones((2, 3)), None, d, (2, 2)), "both be"),
        (lambda d: pooling.segments_from_scores(np.ones((4, 2, 2)), None, d, (2, 2)), "first is 5"),
        (lambda d: pooling.segments_from_scores(np.full((5, 2, 2), np.nan), None, d, (2, 2)), "NaN"),
        (lambda d: pooling.segments_from_queries(np.ones((3, 5)), np.ones((2, 2, 2)), None, d, (2, 2)), "first is 2"),
        (lambda d: pooling.segments_from_queries(np.ones((2, 4)), np.ones((2, 2, 2)), None, d, (2, 2)), "4 columns"),
        (lambda d: pooling.make_segments(np.ones((1, 1), np.uint16), np.arange(2), np.ones((1, 1)), None, d), "1..2"),
    ],
)  # fmt: skip
def test_arrays_that_do_not_fit_are_refused(call: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call(dictionary())


MEASURE = """
import resource, types
import numpy as np, torch
from training.teachers.segment_pooling import segments_from_queries
torch.set_num_threads(1)
generator = np.random.default_rng(0)
dictionary = types.SimpleNamespace(text_class=np.zeros(32, np.uint8))
probabilities = generator.dirichlet(np.full(33, 0.05), 100)[:, :32]
coarse = torch.as_tensor(generator.normal(-6, 6, (1, 100, 6, 9)), dtype=torch.float32)
masks = torch.nn.functional.interpolate(coarse, (160, 284), mode="bilinear")[0]
embedding = generator.normal(size=(100, 768))
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before = peak()
segments = segments_from_queries(probabilities, masks, embedding, dictionary, (900, 1600))
print(f"{peak() - before:.0f} MB for {len(segments.text_id)} segments")
"""


def test_a_nuscenes_image_takes_a_small_part_of_its_pixel_embeddings() -> None:
    """900 x 1600 pixels, 100 queries, 768 channels: the map of embeddings alone would take 4.4 GB."""
    pytest.importorskip("resource", reason="peak memory is read from the operating system")
    root = Path(pooling.__file__).parents[2]
    run = subprocess.run([sys.executable, "-c", MEASURE], cwd=root, capture_output=True, text=True, check=True)
    assert float(run.stdout.split()[0]) < 400
