"""Farthest-point sampling: points of a scan that cover it evenly, each as far as possible from those before it."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.spatial import cKDTree

BLOCK = 64
"""Points that are skipped together when a new sample is too far away to matter to any of them."""


def sample_farthest(points: NDArray[np.float64], tree: cKDTree, count: int) -> NDArray[np.int64]:
    """Samples points one after the other, beginning with point 0; the result is that of the plain algorithm.

    The order of the k-d tree puts neighbours side by side. Cut into blocks with bounding boxes, most of the scan needs
    no look at a new sample: tens of times faster than the plain algorithm on a scan.

    Args:
        points: (N, 3) float64, finite.
        tree: of these points.
        count: of samples, 1 to N.

    Returns:
        (count,) int64, all different; of points equally far, the first comes first.
    """
    order = np.asarray(tree.indices, np.int64)
    return _sample(points[order], order, count, BLOCK)


@njit(cache=True, nogil=True)
def _sample(points, order, count, block_size):  # type: ignore[no-untyped-def]
    num_points = len(points)
    num_blocks = (num_points + block_size - 1) // block_size
    low, high = _bounding_boxes(points, num_blocks, block_size)
    squared = np.full(num_points, np.inf)  # to the nearest sample so far; -1 = is one
    farthest = np.full(num_blocks, np.inf)  # largest of a block
    candidate = np.zeros(num_blocks, np.int64)  # where it is
    samples = np.empty(count, np.int64)
    position = 0
    while order[position] != 0:
        position += 1
    for sample in range(count):
        samples[sample] = order[position]
        squared[position] = -1.0
        farthest[position // block_size] = np.inf  # its block must be looked at
        for block in range(num_blocks):
            if _squared_to_box(points[position], low[block], high[block]) < farthest[block]:
                first, last = block * block_size, min((block + 1) * block_size, num_points)
                candidate[block] = _update(points, order, squared, first, last, position)
                farthest[block] = squared[candidate[block]]
        best = 0
        for block in range(1, num_blocks):
            ahead = farthest[block] - farthest[best]
            if ahead > 0 or (ahead == 0 and order[candidate[block]] < order[candidate[best]]):
                best = block
        position = candidate[best]
    return samples


@njit(cache=True, nogil=True)
def _bounding_boxes(points, num_blocks, block_size):  # type: ignore[no-untyped-def]
    low = np.full((num_blocks, 3), np.inf)
    high = np.full((num_blocks, 3), -np.inf)
    for i in range(len(points)):
        for axis in range(3):
            low[i // block_size, axis] = min(low[i // block_size, axis], points[i, axis])
            high[i // block_size, axis] = max(high[i // block_size, axis], points[i, axis])
    return low, high


@njit(cache=True, nogil=True)
def _squared_to_box(point, low, high):  # type: ignore[no-untyped-def]
    total = 0.0
    for axis in range(3):
        outside = max(low[axis] - point[axis], point[axis] - high[axis], 0.0)
        total += outside * outside
    return total


@njit(cache=True, nogil=True)
def _update(points, order, squared, first, last, position):  # type: ignore[no-untyped-def]
    """Takes a new sample into account in one block; returns the block's farthest point, the first of equals."""
    best = first
    for i in range(first, last):
        x = points[i, 0] - points[position, 0]
        y = points[i, 1] - points[position, 1]
        z = points[i, 2] - points[position, 2]
        squared[i] = min(squared[i], x * x + y * y + z * z)
        if squared[i] > squared[best] or (squared[i] == squared[best] and order[i] < order[best]):
            best = i
    return best
