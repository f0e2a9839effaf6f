"""The order in which a spinning LiDAR saw its points, found again from the points alone.

Any beam layout and any point order will do, with returns missing, because nothing but directions is used: points are
sorted into narrow columns of azimuth, and neighbours are sought within a column (the beams below and above) and in the
next columns (the same beam a moment before and after).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

_ANCHORS = 48  # points at which the spacing is measured
_SPACING_LIMITS = (5e-4, 0.05)  # rad between beams, whatever the cloud says
_COLUMN_WIDTH = 1.5  # in azimuth spacings: wide enough that every beam has a return in nearly every column
_SAME_BEAM = 0.3  # in elevation spacings: so far a beam may wander between columns
_NEXT_BEAM = 0.4  # in elevation spacings: nearer returns in a column belong to the same beam
LEFT, RIGHT, DOWN, UP = range(4)
"""Rows of the neighbour table."""


class BeamSpacing(NamedTuple):
    """Typical angle between neighbouring returns, radians: along a beam's circle, and from beam to beam."""

    azimuth: float
    elevation: float


class Columns(NamedTuple):
    """Points sorted by azimuth column, and by elevation within a column.

    Attributes:
        azimuth: (M,) float64 radians, in sorted order, like the next two.
        elevation: (M,) float64 radians.
        column: (M,) int64 column of each point.
        start: (K + 1,) int64, column k holds the points start[k]:start[k + 1].
    """

    azimuth: NDArray[np.float64]
    elevation: NDArray[np.float64]
    column: NDArray[np.int64]
    start: NDArray[np.int64]


def sort_into_columns(
    azimuth: NDArray[np.float64], elevation: NDArray[np.float64]
) -> tuple[NDArray[np.int64], Columns, BeamSpacing]:
    """Sorts points into azimuth columns and measures how far apart their beams are.

    Args:
        azimuth: (M,) radians, M > 0; neighbours across +-pi are not found.
        elevation: (M,) radians.

    Returns:
        The order (M,), the columns in that order, and the spacing (its lower limit where it cannot be measured).
    """
    spacing = float(np.clip(_nearest_angle(azimuth, elevation), *_SPACING_LIMITS))
    column = ((azimuth - azimuth.min()) / (_COLUMN_WIDTH * spacing)).astype(np.int64)
    order = np.argsort(4.0 * column + elevation, kind="stable")  # elevations span less than 4
    azimuth, elevation, column = azimuth[order], elevation[order], column[order]
    start = np.searchsorted(column, np.arange(column[-1] + 2))
    gap = np.diff(elevation)[np.diff(column) == 0]
    gap = gap[gap > 0.5 * spacing]
    vertical = float(np.clip(np.median(gap), *_SPACING_LIMITS)) if len(gap) else spacing
    return order, Columns(azimuth, elevation, column, start), BeamSpacing(spacing, vertical)


def _nearest_angle(azimuth: NDArray[np.float64], elevation: NDArray[np.float64]) -> float:
    """Median angle from a point to its nearest neighbour, over anchors spread through the cloud."""
    anchors = np.unique(np.linspace(0, len(azimuth) - 1, _ANCHORS).astype(np.int64))
    nearest = np.sqrt(_nearest_squared(azimuth * np.cos(elevation.mean()), elevation, anchors))
    return float(np.median(nearest))


@njit(cache=True)
def _nearest_squared(
    azimuth: NDArray[np.float64], elevation: NDArray[np.float64], anchors: NDArray[np.int64]
) -> NDArray[np.float64]:
    nearest = np.full(len(anchors), 1.0)
    for k in range(len(anchors)):
        a, e = azimuth[anchors[k]], elevation[anchors[k]]
        for j in range(len(azimuth)):
            squared = (azimuth[j] - a) ** 2 + (elevation[j] - e) ** 2
            if 1e-10 < squared < nearest[k]:  # the point itself and second returns do not count
                nearest[k] = squared
    return nearest


@njit(cache=True)
def find_neighbors(
    elevation: NDArray[np.float64], column: NDArray[np.int64], start: NDArray[np.int64], spacing_elevation: float
) -> NDArray[np.int32]:
    """Finds the returns next to each return.

    Args:
        elevation: (M,) of ``Columns``, like the next two.
        column: (M,).
        start: (K + 1,).
        spacing_elevation: of ``BeamSpacing``.

    Returns:
        (4, M) index of the neighbour LEFT, RIGHT (same beam, at most two columns off), DOWN and UP (next beams in
        the column); -1 = none.
    """
    neighbor = np.full((4, len(elevation)), -1, np.int32)
    for i in range(len(elevation)):
        for side in range(2):
            for steps in range(1, 3):
                k = column[i] + (2 * side - 1) * steps
                if k < 0 or k + 1 >= len(start):
                    break
                j = _nearest_in_column(elevation, start[k], start[k + 1], elevation[i])
                if j >= 0 and abs(elevation[j] - elevation[i]) < _SAME_BEAM * spacing_elevation:
                    neighbor[side, i] = j
                    break
        down, up = i - 1, i + 1
        first, last = start[column[i]], start[column[i] + 1]
        while down >= first and elevation[i] - elevation[down] < _NEXT_BEAM * spacing_elevation:
            down -= 1
        while up < last and elevation[up] - elevation[i] < _NEXT_BEAM * spacing_elevation:
            up += 1
        if down >= first:
            neighbor[DOWN, i] = down
        if up < last:
            neighbor[UP, i] = up
    return neighbor


@njit(cache=True)
def _nearest_in_column(elevation: NDArray[np.float64], first: int, last: int, target: float) -> int:
    """Index in first:last with the elevation nearest to ``target``; -1 in an empty column."""
    low, high = first, last
    while low < high:
        middle = (low + high) // 2
        if elevation[middle] < target:
            low = middle + 1
        else:
            high = middle
    if low == last or (low > first and target - elevation[low - 1] < elevation[low] - target):
        low -= 1
    return low if first < last else -1
