"""From what dense 2D networks predict to segments with one feature each, without any map of features per pixel.

A feature map at the resolution of a 900 x 1600 image with 768 channels takes 4.4 GB. All networks here are linear from
their small maps or few queries to that map, so the sums over the pixels of a segment move inside:

* feature map of (h', w') cells, enlarged bilinearly: a segment's sum is a weighted sum of cells, and the weights come
  from spreading its pixels back to the cells (the transpose of the enlargement), ``cell_weights``;
* queries with masks: sum over pixels of ``sum_q embedding_q sigmoid(mask_q)`` is ``sum_q embedding_q
  (sum over pixels of sigmoid(mask_q))``, ``segments_from_queries``.

Maps per text or per query are enlarged in bands of rows and thrown away (see ``map_enlargement``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.data_types import TeacherSegments
from ov_seg_ros.core.errors import InputError
from training.teachers.map_enlargement import cell_weights, enlarge_in_bands, enlarge_nearest

if TYPE_CHECKING:
    import torch

    from training.dictionary import ClassDictionary

Activation = Literal["softmax", "sigmoid", "none"]


def segments_from_labels(
    text_map: NDArray[Any],
    confidence_map: NDArray[np.floating[Any]],
    features_low: NDArray[Any] | torch.Tensor | None,
    dictionary: ClassDictionary,
    image_size: tuple[int, int],
) -> TeacherSegments:
    """One segment per text that occurs in a label map, in ascending order of the texts.

    Args:
        text_map: (h, w) integers, index into the texts of the dictionary, -1 = void. A smaller map than the image is
            enlarged to the nearest neighbour.
        confidence_map: (h, w) in [0, 1] of the label at each pixel.
        features_low: (h', w', D) feature map of the whole image at any resolution, or None. A segment's feature is
            the mean over its pixels of this map, enlarged bilinearly to the image, then scaled to unit length.
        dictionary: maps texts to classes; sinks (class 255) are segments like any other.
        image_size: (H, W) = (rows, columns) of the result.

    Raises:
        InputError: shapes disagree, or a label is not a text of the dictionary.
    """
    text_map, confidence_map = np.asarray(text_map), np.asarray(confidence_map)
    if text_map.ndim != 2 or text_map.shape != confidence_map.shape:
        raise InputError(
            f"text_map and confidence_map must both be (h, w), got {text_map.shape}, {confidence_map.shape}"
        )
    texts = len(dictionary.text_class)
    if text_map.size and (text_map.min() < -1 or text_map.max() >= texts):
        raise InputError(f"text_map must hold -1..{texts - 1} (texts), got {text_map.min()}..{text_map.max()}")
    text_map = enlarge_nearest(text_map, image_size).astype(np.int64)
    confidence_map = enlarge_nearest(confidence_map, image_size)
    area = np.bincount((text_map + 1).ravel(), minlength=texts + 1)[1:]
    text_id = np.flatnonzero(area)
    number = np.zeros(texts + 1, np.uint16)
    number[text_id + 1] = np.arange(1, len(text_id) + 1)
    segment_id = number[text_map + 1]
    return make_segments(segment_id, text_id, confidence_map, features_low, dictionary)


def make_segments(
    segment_id: NDArray[np.uint16],
    text_id: NDArray[Any],
    confidence_map: NDArray[np.floating[Any]],
    features_low: NDArray[Any] | torch.Tensor | None,
    dictionary: ClassDictionary,
) -> TeacherSegments:
    """Segments of a finished id map: looks up classes, averages confidence, pools features.

    Args:
        segment_id: (H, W) 0 = void, 1..R; every segment has at least one pixel.
        text_id: (R,) text of each segment; several segments may share one (instances).
        confidence_map: (H, W) in [0, 1].
        features_low: (h', w', D) or None, see ``segments_from_labels``.
        dictionary: maps texts to classes.
    """
    count = len(text_id)
    area = np.bincount(segment_id.ravel(), minlength=count + 1)[1:]
    if len(area) != count or not area.all():
        raise InputError(f"segment_id must hold each of 1..{count} (one per text_id), areas are {area.tolist()}")
    total = np.bincount(segment_id.ravel(), np.asarray(confidence_map, np.float64).ravel(), count + 1)[1:]
    features = None if features_low is None else pool_features(segment_id, count, features_low)
    return TeacherSegments(
        segment_id=segment_id.astype(np.uint16, copy=False),
        class_id=dictionary.text_class[text_id].astype(np.uint8),
        confidence=np.clip(total / area, 0.0, 1.0).astype(np.float32),
        text_id=np.asarray(text_id, np.int32),
        features=features,
    )


def pool_features(
    segment_id: NDArray[np.integer[Any]], count: int, features_low: NDArray[Any] | torch.Tensor
) -> NDArray[np.float32]:
    """Mean feature of each segment over its pixels, scaled to unit length.

    Args:
        segment_id: (H, W) 0 = void, 1..count.
        count: R, number of segments.
        features_low: (h', w', D) map of the whole image.

    Returns:
        (R, D) float32; a row of zeros stays one.
    """
    low = _to_numpy(features_low).astype(np.float32, copy=False)
    if low.ndim != 3:
        raise InputError(f"features_low must have shape (h', w', D), got {low.shape}")
    weights = cell_weights(segment_id, count, low.shape[:2])
    return _unit(weights.reshape(count, low.shape[0] * low.shape[1]) @ low.reshape(-1, low.shape[2]).astype(np.float64))


def segments_from_scores(
    text_scores: NDArray[Any] | torch.Tensor,
    features_low: NDArray[Any] | torch.Tensor | None,
    dictionary: ClassDictionary,
    image_size: tuple[int, int],
    activation: Activation = "softmax",
    void_below: float = 0.0,
) -> TeacherSegments:
    """One segment per text that wins a pixel of a score map enlarged to the image.

    Args:
        text_scores: (T, h, w) one map per text, at any resolution; enlarged first, then turned into probabilities.
        features_low: (h', w', D) or None, see ``segments_from_labels``.
        dictionary: T texts.
        image_size: (H, W).
        activation: what makes probabilities of scores: softmax over the texts (logits with their scale applied),
            sigmoid, or none.
        void_below: pixels whose highest probability is lower are void.

    Raises:
        InputError: the number of maps is not the number of texts, or they hold NaN.
    """
    import torch

    scores = _checked(text_scores, 3, len(dictionary.text_class), "text_scores")
    text_map = np.empty(image_size, np.int64)
    confidence_map = np.empty(image_size, np.float32)
    for rows, band in enlarge_in_bands(scores, image_size, channels=2 * len(scores)):
        if activation == "softmax":
            band = torch.softmax(band, dim=0)
        elif activation == "sigmoid":
            band = torch.sigmoid(band)
        best, text = band.max(dim=0)
        text[best < void_below] = -1
        text_map[rows], confidence_map[rows] = text.cpu().numpy(), best.cpu().numpy()
    return segments_from_labels(text_map, confidence_map, features_low, dictionary, image_size)


def segments_from_queries(
    class_probabilities: NDArray[Any] | torch.Tensor,
    mask_logits: NDArray[Any] | torch.Tensor,
    query_features: NDArray[Any] | torch.Tensor | None,
    dictionary: ClassDictionary,
    image_size: tuple[int, int],
) -> TeacherSegments:
    """Semantic segments of a network that predicts Q masks, each with a distribution over the texts.

    Per pixel the score of text t is ``S_t = sum_q P(t | q) sigmoid(mask_q)`` (MaskFormer, semantic inference) and the
    highest wins. S may sum to more than 1 where masks overlap; the confidence is ``S_t / max(1, sum_t S_t)``. A
    segment's feature is the unit vector along ``sum_q feature_q sum_(pixels of the segment) sigmoid(mask_q)``, which
    is AFOV's sum of pixel embeddings without the embeddings.

    Args:
        class_probabilities: (Q, T), rows sum to at most 1 (a background column already dropped).
        mask_logits: (Q, h, w) of the whole image at any resolution, enlarged before the sigmoid.
        query_features: (Q, D) or None.
        dictionary: T texts.
        image_size: (H, W).

    Raises:
        InputError: shapes disagree with each other or with the dictionary, or values are NaN.
    """
    import torch

    masks = _checked(mask_logits, 3, None, "mask_logits")
    probabilities = _checked(class_probabilities, 2, len(masks), "class_probabilities").to(masks.device)
    texts = len(dictionary.text_class)
    if probabilities.shape[1] != texts:
        raise InputError(f"class_probabilities has {probabilities.shape[1]} columns, the dictionary {texts} texts")
    text_map = np.empty(image_size, np.int64)
    confidence_map = np.empty(image_size, np.float32)
    mask_sum = np.zeros((texts, len(masks)))
    for rows, band in enlarge_in_bands(masks, image_size, channels=2 * len(masks) + texts):
        mask = torch.sigmoid(band).flatten(1)  # (Q, P)
        score = probabilities.T @ mask  # (T, P)
        best, text = score.max(dim=0)
        best = best / score.sum(dim=0).clamp(min=1.0)
        present, index = torch.unique(text, return_inverse=True)
        member = torch.nn.functional.one_hot(index, len(present)).to(mask.dtype)  # (P, present)
        mask_sum[present.cpu().numpy()] += (mask @ member).T.double().cpu().numpy()
        text_map[rows] = text.cpu().numpy().reshape(-1, image_size[1])
        confidence_map[rows] = best.cpu().numpy().reshape(-1, image_size[1])
    segments = segments_from_labels(text_map, confidence_map, None, dictionary, image_size)
    if query_features is None:
        return segments
    embedding = _to_numpy(_checked(query_features, 2, len(masks), "query_features"))
    features = _unit(mask_sum[segments.text_id] @ embedding.astype(np.float64))
    return TeacherSegments(segments.segment_id, segments.class_id, segments.confidence, segments.text_id, features)


def _checked(values: Any, dimensions: int, first: int | None, name: str) -> torch.Tensor:
    import torch

    tensor = torch.as_tensor(values).detach()
    if tensor.ndim != dimensions or (first is not None and len(tensor) != first):
        wanted = "any" if first is None else str(first)
        raise InputError(
            f"{name} must have {dimensions} axes of which the first is {wanted}, got {tuple(tensor.shape)}"
        )
    if not bool(torch.isfinite(tensor).all()):
        raise InputError(f"{name} holds NaN or infinite values; check the weights and the precision of the network")
    return tensor.float()


def _to_numpy(values: Any) -> NDArray[Any]:
    return values.detach().float().cpu().numpy() if hasattr(values, "detach") else np.asarray(values)


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float32]:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0).astype(np.float32)
