"""From logits to a class, its probability and the entropy of the distribution."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ov_seg_ros.core.data_types import IGNORE_ID

_LANES = 32
"""Voxels that go side by side; a multiple of the width of vector instructions, and few enough for the fast caches."""
_ZERO, _ONE = np.float32(0), np.float32(1)
_NEGLIGIBLE = np.float32(-87)
"""Differences of logits below it have weights that float32 hardly knows (1e-38)."""
_ROUND = np.float32(3 << 22)
"""float32 of this size have no fraction."""
_LOG2_E = np.float32(1 / np.log(2))
_LOG2_HIGH = np.float32(355 / 512)
"""log 2 in few bits, so that multiples are exact, and what is missing."""
_LOG2_LOW = np.float32(np.log(2) - 355 / 512)
_BITS_OF_ONE, _BITS_OF_SQRT_HALF = np.int32(0x3F800000), np.int32(0x3F3504F3)
_EXP_SERIES = tuple(
    np.float32(c) for c in (0.5, 0.166666667, 0.0416664642, 0.00833329834, 0.00139337332, 0.000198993925)
)
"""(exp(r) - 1 - r) / r**2 by powers of r, fitted at Chebyshev nodes of |r| <= log(2) / 2."""
_LOG_SERIES = tuple(np.float32(c) for c in (0.66666665, 0.40000418, 0.28534019))
"""(log((1 + s) / (1 - s)) / s - 2) / s**2 by powers of s**2, likewise, |s| <= 0.172."""


def classify_logits(
    logits: NDArray[np.float32],
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]:
    """Softmax over the classes, numerically stable, by vector instructions.

    Classes are exact. exp and log are our own, the same on every machine: the probability differs from one computed
    with the exact exp by at most 4e-7 of it, the entropy by at most 2e-6 nats (up to 255 classes).

    Args:
        logits: (V, C) float32, C <= 255; minus infinity rules a class out.

    Returns:
        (V,) uint8 most probable class (the first of equals), (V,) float32 its probability, and
        (V,) float32 entropy of all C probabilities in nats, 0 to log(C). NaN logits give NaN probability.
    """
    flat = np.ascontiguousarray(logits, np.float32).reshape(-1)
    return _classify(flat, np.int64(logits.shape[1]))


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
    return _spread(*per_voxel, point_to_voxel)


@njit(cache=True, nogil=True)
def _spread(class_id, probability, entropy, point_to_voxel):  # type: ignore[no-untyped-def]
    num_points = len(point_to_voxel)
    point_class = np.empty(num_points, np.uint8)
    point_probability = np.empty(num_points, np.float32)
    point_entropy = np.empty(num_points, np.float32)
    for i in range(num_points):
        if point_to_voxel[i] < 0:
            point_class[i], point_probability[i], point_entropy[i] = IGNORE_ID, _ZERO, _ZERO
        else:
            v = np.uint32(point_to_voxel[i])
            point_class[i], point_probability[i], point_entropy[i] = class_id[v], probability[v], entropy[v]
    return point_class, point_probability, point_entropy


@njit(cache=True, nogil=True, error_model="numpy")
def _classify(logits, num_classes):  # type: ignore[no-untyped-def]
    """Voxels go in groups, one per lane of the vector instructions, so that no order of summation changes."""
    num_voxels = len(logits) // num_classes
    class_id = np.empty(num_voxels, np.uint8)
    probability = np.empty(num_voxels, np.float32)
    entropy = np.empty(num_voxels, np.float32)
    group = np.zeros((num_classes, _LANES), np.float32)
    best_class = np.empty(_LANES, np.int32)
    best, total, weighted = np.empty(_LANES, np.float32), np.empty(_LANES, np.float32), np.empty(_LANES, np.float32)
    for start in range(0, num_voxels, _LANES):
        num = min(_LANES, num_voxels - start)
        for lane in range(num):
            row = logits[(start + lane) * num_classes : (start + lane + 1) * num_classes]
            for c in range(num_classes):
                group[c, lane] = row[c]
        _largest(group, best, best_class)
        _add_up(group, best, total, weighted)
        for lane in range(_LANES):
            weighted[lane] = max(_ZERO, _log(total[lane]) - weighted[lane] / total[lane])  # -sum(p log p)
            total[lane] = _ONE / total[lane]
        for lane in range(num):
            v = start + lane
            class_id[v], probability[v], entropy[v] = best_class[lane], total[lane], weighted[lane]
    return class_id, probability, entropy


@njit(nogil=True)
def _largest(group, best, best_class):  # type: ignore[no-untyped-def]
    """The largest logit of every lane, and the first class that has it."""
    for lane in range(_LANES):
        best[lane], best_class[lane] = group[0, lane], 0
    for c in range(1, len(group)):
        logits = group[c]
        for lane in range(_LANES):
            is_larger = logits[lane] > best[lane]
            best[lane] = logits[lane] if is_larger else best[lane]
            best_class[lane] = np.int32(c) if is_larger else best_class[lane]


@njit(nogil=True)
def _add_up(group, best, total, weighted):  # type: ignore[no-untyped-def]
    """Sums of exp(d) and exp(d) * d with d = logit - largest logit, lane by lane."""
    for lane in range(_LANES):
        total[lane], weighted[lane] = _ZERO, _ZERO
    for c in range(len(group)):
        logits = group[c]
        for lane in range(_LANES):
            difference = logits[lane] - best[lane]
            weight = _exp(difference)
            total[lane] += weight
            weighted[lane] += _ZERO if difference < _NEGLIGIBLE else weight * difference


@njit(nogil=True)
def _exp(x):  # type: ignore[no-untyped-def]
    """exp(x) of x <= 0 to 1 unit in the last place; 0 below _NEGLIGIBLE, NaN of NaN.

    x = n log 2 + r, and exp(x) = 2**n exp(r) with a polynomial for the small r. Adding _ROUND rounds to a whole n,
    which then stands in the lowest bits.
    """
    rounded = np.float32(x * _LOG2_E + _ROUND)
    power = np.int32((rounded.view(np.int32) << np.int32(23)) + _BITS_OF_ONE).view(np.float32)  # 2**n
    n = rounded - _ROUND
    r = (x - n * _LOG2_HIGH) - n * _LOG2_LOW
    series = _EXP_SERIES[5]
    for k in (4, 3, 2, 1, 0):
        series = series * r + _EXP_SERIES[k]
    return _ZERO if x < _NEGLIGIBLE else (series * (r * r) + r + _ONE) * power


@njit(nogil=True, error_model="numpy")
def _log(x):  # type: ignore[no-untyped-def]
    """log(x) of 1 <= x <= 256 to 4e-7: of x = 2**n m, by a series in (m - 1) / (m + 1)."""
    bits = np.float32(x).view(np.int32)
    n = np.int32(np.int32(bits - _BITS_OF_SQRT_HALF) >> np.int32(23))
    m = np.int32(bits - (n << np.int32(23))).view(np.float32)  # sqrt(1 / 2) <= m < sqrt(2)
    s = (m - _ONE) / (m + _ONE)
    square = s * s
    series = _LOG_SERIES[2]
    for k in (1, 0):
        series = series * square + _LOG_SERIES[k]
    return np.float32(n) * _LOG2_HIGH + (np.float32(n) * _LOG2_LOW + (s * (square * series) + (s + s)))
