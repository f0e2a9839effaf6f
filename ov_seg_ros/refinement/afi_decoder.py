"""The way down of AFI: from coarse to fine, every point takes votes along the structure it lies on."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ov_seg_ros.refinement.afi_config import AfiConfig
from ov_seg_ros.refinement.afi_encoder import TINY, Level, along_line, normalize_votes

EVEN_SHARE = 1e-6
"""Share that every coarse neighbour has even when no structure lies on the line to it; as released."""


def decode(levels: list[Level], config: AfiConfig) -> NDArray[np.float64]:
    """Carries the votes of the coarsest level down to the scan.

    Args:
        levels: from ``afi_encoder.encode``, finest first.
        config: number of neighbours, weights of own votes.

    Returns:
        (N, C) float64 votes of the points of the finest level; rows sum to 1 or 0.
    """
    votes = levels[-1].votes
    for fine, coarse in zip(levels[-2::-1], levels[:0:-1], strict=True):
        votes = _descend(fine, coarse, votes, config)
    return votes


def _descend(fine: Level, coarse: Level, coarse_votes: NDArray[np.float64], config: AfiConfig) -> NDArray[np.float64]:
    structure = coarse.structure
    assert structure is not None  # of a coarse level
    count = min(config.num_decoder_neighbors, len(coarse.points))
    _, index = coarse.tree.query(fine.points, k=np.arange(1, count + 1))
    share = _shares(fine.points, coarse.points, index, structure.weight, structure.direction, config.min_cosine)
    strength = share.sum(axis=1) + TINY
    skip = config.skip_weight_between(len(fine.points), len(coarse.points)) * strength.mean() + TINY
    mixed = _mix(fine.votes, coarse_votes, index, share, strength, skip)
    return normalize_votes(mixed)


@njit(cache=True, nogil=True)
def _shares(points, coarse_points, neighbors, weight, direction, min_cosine):  # type: ignore[no-untyped-def]
    """How much structure of a coarse neighbour lies on the line to it: (N, K)."""
    result = np.zeros(neighbors.shape)
    no_length = np.zeros(weight.shape[1])
    line = np.empty(3)
    for i in range(neighbors.shape[0]):
        for j in range(neighbors.shape[1]):
            n = neighbors[i, j]
            squared = 0.0
            for axis in range(3):
                line[axis] = coarse_points[n, axis] - points[i, axis]
                squared += line[axis] * line[axis]
            line /= np.sqrt(squared) + TINY
            result[i, j] = along_line(line, weight[n], direction[n], no_length, min_cosine)[0]
    return result


@njit(cache=True, nogil=True)
def _mix(own, coarse, neighbors, share, strength, skip):  # type: ignore[no-untyped-def]
    """Own vote and the votes of the coarse neighbours, by their shares: (N, C), not normalised."""
    result = np.empty(own.shape)
    num_neighbors = neighbors.shape[1]
    for i in range(own.shape[0]):
        total = share[i].sum() / strength[i] + num_neighbors * EVEN_SHARE
        result[i] = skip * own[i]
        for j in range(num_neighbors):
            part = (share[i, j] / strength[i] + EVEN_SHARE) / total * strength[i]
            for c in range(own.shape[1]):
                result[i, c] += part * coarse[neighbors[i, j], c]
    return result
