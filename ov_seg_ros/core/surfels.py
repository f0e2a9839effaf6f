"""Surfels: the returns of a LiDAR as small planes, sized by the beam spacing and tilted like the surface.

All angles are azimuth and elevation in axes parallel to the LiDAR's, seen either from the LiDAR or from a camera
centre. Beam spacing and neighbours come from the cloud alone, so any beam layout and any point order will do.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

_ANCHORS = 128
_SPACING_LIMITS = (5e-4, 0.05)  # rad between beams, whatever the cloud says
_COLUMN_WIDTH = 1.5  # in azimuth spacings: wide enough that every beam has a return in nearly every column
_MAX_CELLS = 2_000_000
_REACH = 0.5


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


class Surfels(NamedTuple):
    """One plane per return, as a camera centre sees it.

    Attributes:
        azimuth, elevation: (M,) float64 direction from the camera centre, radians.
        distance: (M,) float64 from the camera centre, metres.
        inverse_slope: (M, 2) float64 change of 1 / distance per radian of azimuth and of elevation.
        extent: (M, 3) float64 reach to either side, downward and upward, radians.
    """

    azimuth: NDArray[np.float64]
    elevation: NDArray[np.float64]
    distance: NDArray[np.float64]
    inverse_slope: NDArray[np.float64]
    extent: NDArray[np.float64]


def spherical(xyz: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Azimuth and elevation, radians, of (M, 3) points."""
    return np.arctan2(xyz[:, 1], xyz[:, 0]), np.arctan2(xyz[:, 2], np.hypot(xyz[:, 0], xyz[:, 1]))


def sort_into_columns(
    azimuth: NDArray[np.float64], elevation: NDArray[np.float64]
) -> tuple[NDArray[np.int64], Columns, BeamSpacing]:
    """Sorts points into azimuth columns and measures how far apart their beams are.

    Returns:
        The order (M,), the columns, and the spacing; where it cannot be measured, it is the smallest possible.
    """
    spacing = float(np.clip(_nearest_angle(azimuth, elevation), *_SPACING_LIMITS))
    column = ((azimuth - azimuth.min()) / (_COLUMN_WIDTH * spacing)).astype(np.int64)
    order = np.lexsort((azimuth, elevation, column))
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
    nearest = np.empty(len(anchors))
    for k in range(len(anchors)):
        best = 1.0
        for j in range(len(azimuth)):
            squared = (azimuth[j] - azimuth[anchors[k]]) ** 2 + (elevation[j] - elevation[anchors[k]]) ** 2
            if 1e-10 < squared < best:  # the point itself and second returns do not count
                best = squared
        nearest[k] = best
    return nearest


def fit_surfels(
    xyz: NDArray[np.float64], columns: Columns, spacing: BeamSpacing, center: NDArray[np.float64]
) -> Surfels:
    """Gives every return the size and slope of its patch of surface, and carries it over to a camera centre.

    Args:
        xyz: (M, 3) metres, LiDAR axes and origin, in the order of ``columns``.
        columns: of ``sort_into_columns``.
        spacing: of ``sort_into_columns``.
        center: (3,) camera centre in the same frame, metres.
    """
    inverse = 1.0 / np.maximum(np.linalg.norm(xyz, axis=1), 1e-3)
    slope, reach = _fit_in_lidar_view(*columns, inverse, spacing.azimuth, spacing.elevation)
    return Surfels(*_carry_to_camera(xyz, columns.azimuth, columns.elevation, inverse, slope, reach, center))


@njit(cache=True)
def _nearest_in_column(elevation: NDArray[np.float64], first: int, last: int, target: float) -> int:
    """Index in first:last with the elevation nearest to ``target``; -1 in an empty column."""
    if first == last:
        return -1
    k = first + np.searchsorted(elevation[first:last], target)
    if k == last or (k > first and target - elevation[k - 1] < elevation[k] - target):
        k -= 1
    return k


@njit(cache=True)
def _find_neighbors(
    elevation: NDArray[np.float64],
    column: NDArray[np.int64],
    start: NDArray[np.int64],
    spacing_elevation: float,
) -> NDArray[np.int32]:
    """(4, M) index of the next return of the same beam to either side, and of the beams below and above; -1 = none."""
    count = len(elevation)
    neighbor = np.full((4, count), -1, np.int32)
    for i in range(count):
        for side in range(2):
            for distance in range(1, 3):
                k = column[i] + (2 * side - 1) * distance
                if k < 0 or k + 1 >= len(start):
                    break
                j = _nearest_in_column(elevation, start[k], start[k + 1], elevation[i])
                if j >= 0 and abs(elevation[j] - elevation[i]) < 0.3 * spacing_elevation:
                    neighbor[side, i] = j
                    break
        down, up = i - 1, i + 1
        first, last = start[column[i]], start[column[i] + 1]
        while down >= first and elevation[i] - elevation[down] < 0.4 * spacing_elevation:
            down -= 1
        while up < last and elevation[up] - elevation[i] < 0.4 * spacing_elevation:
            up += 1
        neighbor[2, i] = down if down >= first else -1
        neighbor[3, i] = up if up < last else -1
    return neighbor


@njit(cache=True)
def _limited_slope(
    i: int,
    back: NDArray[np.int32],
    ahead: NDArray[np.int32],
    angle: NDArray[np.float64],
    inverse: NDArray[np.float64],
) -> float:
    """Slope at i over the smoothest of three stencils (ENO): the flatter of its halves (minmod), 0 if they disagree."""
    b, a = back[i], ahead[i]
    best, slope = np.inf, 0.0
    for stencil in range(3):
        if stencil == 0:
            p, q, r = b, i, a
        elif stencil == 1:
            p, q, r = (back[b] if b >= 0 else -1), b, i
        else:
            p, q, r = i, a, (ahead[a] if a >= 0 else -1)
        if p < 0 or q < 0 or r < 0:
            continue
        first = (inverse[q] - inverse[p]) / (angle[q] - angle[p])
        second = (inverse[r] - inverse[q]) / (angle[r] - angle[q])
        if abs(second - first) < best:
            best = abs(second - first)
            slope = 0.0 if first * second <= 0.0 else (first if abs(first) < abs(second) else second)
    return slope


@njit(cache=True)
def _fit_in_lidar_view(
    azimuth: NDArray[np.float64],
    elevation: NDArray[np.float64],
    column: NDArray[np.int64],
    start: NDArray[np.int64],
    inverse: NDArray[np.float64],
    spacing_azimuth: float,
    spacing_elevation: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(M, 2) slopes of the inverse range and (M, 3) reach sideways, down and up, all seen from the LiDAR."""
    count = len(inverse)
    neighbor = _find_neighbors(elevation, column, start, spacing_elevation)
    slope, reach = np.zeros((count, 2)), np.empty((count, 3))
    for i in range(count):
        slope[i, 0] = _limited_slope(i, neighbor[0], neighbor[1], azimuth, inverse)
        slope[i, 1] = _limited_slope(i, neighbor[2], neighbor[3], elevation, inverse)
        down, up = neighbor[2, i], neighbor[3, i]
        gap_down = elevation[i] - elevation[down] if down >= 0 else spacing_elevation
        gap_up = elevation[up] - elevation[i] if up >= 0 else spacing_elevation
        reach[i, 0] = _REACH * spacing_azimuth
        reach[i, 1] = _REACH * min(gap_down, 1.5 * spacing_elevation)
        reach[i, 2] = _REACH * min(gap_up, 1.5 * spacing_elevation)
    return slope, reach


@njit(cache=True)
def _carry_to_camera(
    xyz: NDArray[np.float64],
    azimuth: NDArray[np.float64],
    elevation: NDArray[np.float64],
    inverse: NDArray[np.float64],
    slope: NDArray[np.float64],
    reach: NDArray[np.float64],
    center: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """The five arrays of ``Surfels``: the tangents of each patch, turned into angles at the camera centre."""
    count = len(xyz)
    az, el, distance = np.empty(count), np.empty(count), np.empty(count)
    inverse_slope, extent = np.zeros((count, 2)), np.empty((count, 3))
    for i in range(count):
        x, y, z = xyz[i, 0] - center[0], xyz[i, 1] - center[1], xyz[i, 2] - center[2]
        flat = max(np.sqrt(x * x + y * y), 1e-6)
        d = np.sqrt(flat * flat + z * z)
        az[i], el[i], distance[i] = np.arctan2(y, x), np.arctan2(z, flat), d
        ca, sa, ce, se = np.cos(azimuth[i]), np.sin(azimuth[i]), np.cos(elevation[i]), np.sin(elevation[i])
        r = 1.0 / inverse[i]
        # jacobian[:, k] = change of (azimuth, elevation, inverse distance) at the camera per radian at the LiDAR
        jacobian = np.empty((3, 2))
        for k in range(2):
            dr = -slope[i, k] * r * r
            if k == 0:
                tx, ty, tz = -r * ce * sa + dr * ce * ca, r * ce * ca + dr * ce * sa, dr * se
            else:
                tx, ty, tz = -r * se * ca + dr * ce * ca, -r * se * sa + dr * ce * sa, r * ce + dr * se
            jacobian[0, k] = (ty * x - tx * y) / (flat * flat)
            radial = (tx * x + ty * y) / flat
            jacobian[1, k] = (tz * flat - radial * z) / (d * d)
            jacobian[2, k] = -(radial * flat + tz * z) / (d * d * d)
        scale = min(r / d, 4.0)
        determinant = jacobian[0, 0] * jacobian[1, 1] - jacobian[0, 1] * jacobian[1, 0]
        if determinant < 0.2:  # the camera sees the patch edge-on or from behind: its slope means nothing there
            jacobian[0, 0], jacobian[0, 1], jacobian[1, 0], jacobian[1, 1] = scale, 0.0, 0.0, scale
        else:
            a, b = jacobian[2, 0], jacobian[2, 1]
            inverse_slope[i, 0] = (a * jacobian[1, 1] - b * jacobian[1, 0]) / determinant
            inverse_slope[i, 1] = (b * jacobian[0, 0] - a * jacobian[0, 1]) / determinant
        for side in range(3):
            if side == 0:
                extent[i, 0] = abs(jacobian[0, 0]) * reach[i, 0]
            else:
                extent[i, side] = abs(jacobian[1, 1]) * reach[i, side]
    return az, el, distance, inverse_slope, extent


def cast_surfels(
    surfels: Surfels, spacing: BeamSpacing, silhouette: float, margin: float, relative_margin: float
) -> NDArray[np.bool_]:
    """(M,) bool, False where another surfel lies in front of the point by more than the margin."""
    cell = np.array([spacing.azimuth, spacing.elevation / 3.0])
    low = np.array([surfels.azimuth.min(), surfels.elevation.min()])
    size = np.array([np.ptp(surfels.azimuth), np.ptp(surfels.elevation)])
    cell *= max(1.0, float(np.sqrt(np.prod(size / cell) / _MAX_CELLS)))
    shape = (size / cell).astype(np.int64) + 1
    nearest = _draw(*surfels, low, cell, shape[0], shape[1], silhouette)
    return _stands_clear(*surfels[:4], nearest, low, cell, margin, relative_margin)


@njit(cache=True)
def _draw(
    azimuth: NDArray[np.float64],
    elevation: NDArray[np.float64],
    distance: NDArray[np.float64],
    inverse_slope: NDArray[np.float64],
    extent: NDArray[np.float64],
    low: NDArray[np.float64],
    cell: NDArray[np.float64],
    columns: int,
    rows: int,
    silhouette: float,
) -> NDArray[np.int32]:
    """(rows, columns) index of the nearest surfel at each cell centre, -1 = none."""
    nearest = np.full((rows, columns), -1, np.int32)
    buffer = np.full((rows, columns), np.inf)
    for i in range(len(azimuth)):
        side = extent[i, 0] + silhouette
        # a cell belongs to the surfel when its centre does: round, not floor
        u0 = max(int(np.ceil((azimuth[i] - side - low[0]) / cell[0] - 0.5)), 0)
        u1 = min(int(np.floor((azimuth[i] + side - low[0]) / cell[0] - 0.5)), columns - 1)
        v0 = max(int(np.ceil((elevation[i] - extent[i, 1] - silhouette - low[1]) / cell[1] - 0.5)), 0)
        v1 = min(int(np.floor((elevation[i] + extent[i, 2] + silhouette - low[1]) / cell[1] - 0.5)), rows - 1)
        for v in range(v0, v1 + 1):
            de = low[1] + (v + 0.5) * cell[1] - elevation[i]
            for u in range(u0, u1 + 1):
                da = low[0] + (u + 0.5) * cell[0] - azimuth[i]
                inverse = 1.0 / distance[i] + inverse_slope[i, 0] * da + inverse_slope[i, 1] * de
                d = max(1.0 / inverse, distance[i]) if inverse > 1e-4 else 1e4
                if d < buffer[v, u]:
                    buffer[v, u] = d
                    nearest[v, u] = i
    return nearest


@njit(cache=True)
def _stands_clear(
    azimuth: NDArray[np.float64],
    elevation: NDArray[np.float64],
    distance: NDArray[np.float64],
    inverse_slope: NDArray[np.float64],
    nearest: NDArray[np.int32],
    low: NDArray[np.float64],
    cell: NDArray[np.float64],
    margin: float,
    relative_margin: float,
) -> NDArray[np.bool_]:
    clear = np.ones(len(azimuth), np.bool_)
    for i in range(len(azimuth)):
        j = nearest[int((elevation[i] - low[1]) / cell[1]), int((azimuth[i] - low[0]) / cell[0])]
        if j < 0 or j == i:
            continue
        da, de = azimuth[i] - azimuth[j], elevation[i] - elevation[j]
        inverse = 1.0 / distance[j] + inverse_slope[j, 0] * da + inverse_slope[j, 1] * de
        front = max(1.0 / inverse, distance[j]) if inverse > 1e-4 else 1e4
        clear[i] = distance[i] - front <= max(margin, relative_margin * distance[i])
    return clear
