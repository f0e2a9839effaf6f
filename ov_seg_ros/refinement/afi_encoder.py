"""The way up of AFI: from level to coarser level, gathering class votes by direction."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ov_seg_ros.refinement.afi_config import AfiConfig
from ov_seg_ros.refinement.farthest_points import sample_farthest

TINY = 1e-8
"""Keeps lengths of zero from being divided by; as released."""


@dataclass(frozen=True)
class Structure:
    """What surrounds the P points of a level, by direction: the geometry that votes travel along.

    Attributes:
        weight: (P, B) float64, share of the point's surroundings in each of the B directions, sums to 1 or 0.
        direction: (P, B, 3) float64 unit vectors to the mean of the neighbours in that direction, 0 if there is none.
        length: (P, B) float64, metres to that mean.
    """

    weight: NDArray[np.float64]
    direction: NDArray[np.float64]
    length: NDArray[np.float64]


@dataclass(frozen=True)
class Level:
    """One level of the hierarchy, P points.

    Attributes:
        points: (P, 3) float64, metres.
        votes: (P, C) float64, rows sum to 1 or 0.
        tree: k-d tree of the points.
        structure: of their surroundings; None at the finest level, the scan.
    """

    points: NDArray[np.float64]
    votes: NDArray[np.float64]
    tree: cKDTree
    structure: Structure | None = None


@dataclass(frozen=True)
class _Neighborhood:
    """K neighbours of M centres: index (M, K), unit (M, K, 3) towards them, distance (M, K), bin (M, K) of B."""

    index: NDArray[np.int64]
    unit: NDArray[np.float64]
    distance: NDArray[np.float64]
    bin: NDArray[np.int64]


def fibonacci_sphere(count: int) -> NDArray[np.float64]:
    """(count, 3) unit vectors spread evenly over the sphere, from pole +y to pole -y."""
    y = 1 - 2 * np.arange(count) / (count - 1)
    angle = np.pi * (3 - np.sqrt(5)) * np.arange(count)
    radius = np.sqrt(np.maximum(0, 1 - y * y))
    return np.column_stack([np.cos(angle) * radius, y, np.sin(angle) * radius])


def normalize_votes(votes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows divided by their sums; zero rows stay zero."""
    total = votes.sum(axis=1, keepdims=True)
    return np.divide(votes, total, out=np.zeros_like(votes), where=total > 0)


def encode(points: NDArray[np.float64], votes: NDArray[np.float64], config: AfiConfig) -> list[Level]:
    """Builds the hierarchy.

    Args:
        points: (N, 3) float64, N >= 1, finite.
        votes: (N, C) float64, rows sum to 1 or 0.
        config: sizes, numbers of neighbours and directions, weights.

    Returns:
        The scan and ``config.num_stages`` levels above it, finest first.
    """
    levels = [Level(points, votes, _tree(points))]
    sphere = fibonacci_sphere(config.num_directions)
    for size in config.level_sizes(len(points))[1:]:
        levels.append(_next_level(levels[-1], size, sphere, config))
    return levels


def _tree(points: NDArray[np.float64]) -> cKDTree:
    """Splits in the middle of boxes: twice as fast to build as medians, as fast to ask."""
    return cKDTree(points, balanced_tree=False, compact_nodes=False)


def _next_level(below: Level, size: int, sphere: NDArray[np.float64], config: AfiConfig) -> Level:
    centers = sample_farthest(below.points, below.tree, size)
    around = _find_neighbors(below, centers, sphere, config)
    count, length, direction = _gather_offsets(around.bin, around.unit, around.distance, len(sphere))
    own = below.structure
    if own is None:
        count = np.where(count > config.min_count, count, 0.0)
        weight = count / np.maximum(count.sum(axis=1, keepdims=True), 1)
        influence = np.ones(size)
        line_weight = np.ones(around.distance.shape)
    else:
        line_weight = _line_weights(
            centers,
            around.index,
            around.unit,
            around.distance,
            own.weight,
            own.direction,
            own.length,
            config.min_cosine,
        )
        strength = line_weight.sum(axis=1)
        line_weight = line_weight / np.where(strength > 0, strength, 1)[:, None]
        weight = _sum_by_bin(line_weight, around.bin, len(sphere))
        influence = strength / max(strength.mean(), TINY)
        if not config.weighted_votes:
            line_weight = np.ones(line_weight.shape)
    pooled, largest = _pool(below.votes, around.index, around.bin, line_weight, weight / (length + TINY))
    votes = influence[:, None] * pooled + config.keep_weight * below.votes[centers] + TINY * largest
    points = below.points[centers]
    return Level(points, normalize_votes(votes), _tree(points), Structure(weight, direction, length))


def _find_neighbors(below: Level, centers: NDArray, sphere: NDArray[np.float64], config: AfiConfig) -> _Neighborhood:
    count = min(config.num_neighbors, len(below.points))
    distance, index = below.tree.query(below.points[centers], k=np.arange(1, count + 1))
    unit, bins = _sort_by_direction(below.points, centers, index, sphere)
    return _Neighborhood(index, unit, distance, bins)


@njit(cache=True, nogil=True)
def _sort_by_direction(points, centers, neighbors, sphere):  # type: ignore[no-untyped-def]
    """Unit vectors from centres to neighbours (M, K, 3), and which direction of the sphere is nearest (M, K)."""
    unit = np.zeros((*neighbors.shape, 3))
    bins = np.zeros(neighbors.shape, np.int64)
    for c in range(neighbors.shape[0]):
        for j in range(neighbors.shape[1]):
            squared = 0.0
            for axis in range(3):
                unit[c, j, axis] = points[neighbors[c, j], axis] - points[centers[c], axis]
                squared += unit[c, j, axis] ** 2
            if squared == 0:
                continue  # no direction: bin 0
            nearest = -np.inf
            for axis in range(3):
                unit[c, j, axis] /= np.sqrt(squared) + TINY
            for b in range(len(sphere)):
                x, y, z = unit[c, j]
                cosine = x * sphere[b, 0] + y * sphere[b, 1] + z * sphere[b, 2]
                if cosine > nearest:
                    nearest = cosine
                    bins[c, j] = b
    return unit, bins


@njit(cache=True, nogil=True)
def _gather_offsets(bins, unit, distance, num_bins):  # type: ignore[no-untyped-def]
    """Number of neighbours per bin (M, B), and length (M, B) and direction (M, B, 3) of their mean offset."""
    num_centers, num_neighbors = bins.shape
    count = np.zeros((num_centers, num_bins))
    direction = np.zeros((num_centers, num_bins, 3))
    length = np.zeros((num_centers, num_bins))
    for c in range(num_centers):
        for j in range(num_neighbors):
            count[c, bins[c, j]] += 1
            for axis in range(3):
                direction[c, bins[c, j], axis] += unit[c, j, axis] * distance[c, j]
        count[c, 0] -= 1  # the centre itself
        for b in range(num_bins):
            if count[c, b] == 0:
                continue
            squared = 0.0
            for axis in range(3):
                direction[c, b, axis] /= count[c, b]
                squared += direction[c, b, axis] ** 2
            length[c, b] = np.sqrt(squared)
            for axis in range(3):
                direction[c, b, axis] /= length[c, b] + TINY
    return count, length, direction


@njit(cache=True, nogil=True)
def _line_weights(centers, neighbors, unit, distance, weight, direction, length, min_cosine):  # type: ignore[no-untyped-def]
    """How much structure lies on the line from a centre to each of its neighbours, and how tightly: (M, K)."""
    result = np.zeros(neighbors.shape)
    for c in range(len(centers)):
        for j in range(neighbors.shape[1]):
            i, n = centers[c], neighbors[c, j]
            share_c, ahead_c, behind_c = along_line(unit[c, j], weight[i], direction[i], length[i], min_cosine)
            share_n, ahead_n, behind_n = along_line(unit[c, j], weight[n], direction[n], length[n], min_cosine)
            if ahead_c + behind_c > 0 and ahead_n + behind_n > 0:
                covered = ahead_c + behind_c + ahead_n + behind_n
                span = distance[c, j] + behind_c + ahead_n + TINY
                result[c, j] = share_c * share_n * covered / span
    return result


@njit(cache=True, nogil=True)
def along_line(line, weight, direction, length, min_cosine):  # type: ignore[no-untyped-def]
    """Of one point's structure: the weight on a line, and how far it reaches along the line and against it."""
    share = ahead = behind = 0.0
    for b in range(len(weight)):
        cosine = line[0] * direction[b, 0] + line[1] * direction[b, 1] + line[2] * direction[b, 2]
        if cosine > min_cosine:
            share += weight[b]
            ahead = max(ahead, length[b])
        elif cosine < -min_cosine:
            share += weight[b]
            behind = max(behind, length[b])
    return share, ahead, behind


@njit(cache=True, nogil=True)
def _sum_by_bin(values, bins, num_bins):  # type: ignore[no-untyped-def]
    result = np.zeros((len(values), num_bins))
    for c in range(values.shape[0]):
        for j in range(values.shape[1]):
            result[c, bins[c, j]] += values[c, j]
    return result


@njit(cache=True, nogil=True)
def _pool(votes, neighbors, bins, neighbor_weight, bin_weight):  # type: ignore[no-untyped-def]
    """Mean of the votes per bin, weighted by bin, nearer bins more; and the largest vote per class: (M, C) each."""
    num_centers, num_bins = bin_weight.shape
    num_classes = votes.shape[1]
    pooled = np.zeros((num_centers, num_classes))
    largest = np.zeros((num_centers, num_classes))
    sums = np.empty((num_bins, num_classes))
    for c in range(num_centers):
        sums[:] = 0
        for j in range(neighbors.shape[1]):
            for k in range(num_classes):
                vote = votes[neighbors[c, j], k]
                sums[bins[c, j], k] += neighbor_weight[c, j] * vote
                largest[c, k] = max(largest[c, k], vote)
        total = bin_weight[c].sum()
        for b in range(num_bins):
            cast = sums[b].sum()
            if bin_weight[c, b] > 0 and cast > 0:
                for k in range(num_classes):
                    pooled[c, k] += bin_weight[c, b] / (total * cast) * sums[b, k]
    return pooled, largest
