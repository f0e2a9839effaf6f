"""Surfels: the returns of a LiDAR as small planes, sized by the beam spacing and tilted like the surface.

All angles are azimuth and elevation in axes parallel to the LiDAR's, seen from the LiDAR or from a camera centre.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ov_seg_ros.core.beam_columns import DOWN, LEFT, RIGHT, UP, BeamSpacing, Columns, find_neighbors

_REACH = 0.5  # of the gap to the next beam: where one surfel ends the next begins
_WIDEST_GAP = 1.5  # in elevation spacings; in wider gaps returns are missing and nothing is known
_EDGE_ON = 0.2  # determinant below which a camera sees a patch from its edge or its back


class Surfels(NamedTuple):
    """One plane per return, as a camera centre sees it.

    Attributes:
        azimuth: (M,) float64 direction from the camera centre, radians.
        elevation: (M,) float64 the same upwards.
        distance: (M,) float64 from the camera centre, metres.
        inverse_slope: (M, 2) float64 change of 1 / distance per radian of azimuth and of elevation.
        extent: (M, 3) float64 reach to either side, downward and upward, radians.
    """

    azimuth: NDArray[np.float64]
    elevation: NDArray[np.float64]
    distance: NDArray[np.float64]
    inverse_slope: NDArray[np.float64]
    extent: NDArray[np.float64]


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
    neighbor = find_neighbors(columns.elevation, columns.column, columns.start, spacing.elevation)
    slope, reach = _fit_in_lidar_view(xyz, columns.azimuth, columns.elevation, neighbor, *spacing)
    return Surfels(*_carry_to_camera(xyz, columns.azimuth, columns.elevation, slope, reach, center))


@njit(cache=True)
def _limited_slope(
    i: int,
    back: NDArray[np.int32],
    ahead: NDArray[np.int32],
    angle: NDArray[np.float64],
    inverse: NDArray[np.float64],
) -> float:
    """Slope at i over the smoothest of three stencils (ENO): the flatter of its halves (minmod), 0 if they disagree.

    The stencils are the neighbours on both sides, or two in a row on one side, so a discontinuity on one side does
    not reach the slope.
    """
    b, a = back[i], ahead[i]
    best, slope = np.inf, 0.0
    for stencil in range(3):
        if stencil == 0:
            p, q, r = b, np.int32(i), a
        elif stencil == 1:
            p, q, r = (back[b] if b >= 0 else b), b, np.int32(i)
        else:
            p, q, r = np.int32(i), a, (ahead[a] if a >= 0 else a)
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
    xyz: NDArray[np.float64],
    azimuth: NDArray[np.float64],
    elevation: NDArray[np.float64],
    neighbor: NDArray[np.int32],
    spacing_azimuth: float,
    spacing_elevation: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(M, 2) slopes of the inverse range and (M, 3) reach sideways, down and up, all seen from the LiDAR."""
    count = len(xyz)
    left, right, down, up = neighbor[LEFT], neighbor[RIGHT], neighbor[DOWN], neighbor[UP]
    inverse = np.empty(count)
    for i in range(count):
        inverse[i] = 1.0 / max(np.sqrt(xyz[i, 0] ** 2 + xyz[i, 1] ** 2 + xyz[i, 2] ** 2), 1e-3)
    slope, reach = np.empty((count, 2)), np.empty((count, 3))
    widest = _WIDEST_GAP * spacing_elevation
    for i in range(count):
        slope[i, 0] = _limited_slope(i, left, right, azimuth, inverse)
        slope[i, 1] = _limited_slope(i, down, up, elevation, inverse)
        gap_down = elevation[i] - elevation[down[i]] if down[i] >= 0 else spacing_elevation
        gap_up = elevation[up[i]] - elevation[i] if up[i] >= 0 else spacing_elevation
        reach[i, 0] = _REACH * spacing_azimuth
        reach[i, 1] = _REACH * min(gap_down, widest)
        reach[i, 2] = _REACH * min(gap_up, widest)
    return slope, reach


@njit(cache=True)
def _carry_to_camera(
    xyz: NDArray[np.float64],
    azimuth: NDArray[np.float64],
    elevation: NDArray[np.float64],
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
        r = max(np.sqrt(xyz[i, 0] ** 2 + xyz[i, 1] ** 2 + xyz[i, 2] ** 2), 1e-3)
        ca, sa, ce, se = np.cos(azimuth[i]), np.sin(azimuth[i]), np.cos(elevation[i]), np.sin(elevation[i])
        # tangents: change of the point per radian of LiDAR azimuth (t) and elevation (s), with the range along
        dr_t, dr_s = -slope[i, 0] * r * r, -slope[i, 1] * r * r
        t_x, t_y, t_z = -r * ce * sa + dr_t * ce * ca, r * ce * ca + dr_t * ce * sa, dr_t * se
        s_x, s_y, s_z = -r * se * ca + dr_s * ce * ca, -r * se * sa + dr_s * ce * sa, r * ce + dr_s * se
        t_flat, s_flat = (t_x * x + t_y * y) / flat, (s_x * x + s_y * y) / flat
        # the same as changes of azimuth, elevation and inverse distance at the camera
        az_t, az_s = (t_y * x - t_x * y) / (flat * flat), (s_y * x - s_x * y) / (flat * flat)
        el_t, el_s = (t_z * flat - t_flat * z) / (d * d), (s_z * flat - s_flat * z) / (d * d)
        inv_t, inv_s = -(t_flat * flat + t_z * z) / (d * d * d), -(s_flat * flat + s_z * z) / (d * d * d)
        determinant = az_t * el_s - az_s * el_t
        if determinant < _EDGE_ON:  # no slope to speak of: a patch of the same size, facing the camera
            az_t = el_s = min(r / d, 4.0)
        else:
            inverse_slope[i, 0] = (inv_t * el_s - inv_s * el_t) / determinant
            inverse_slope[i, 1] = (inv_s * az_t - inv_t * az_s) / determinant
        extent[i, 0] = abs(az_t) * reach[i, 0]
        extent[i, 1], extent[i, 2] = abs(el_s) * reach[i, 1], abs(el_s) * reach[i, 2]
    return az, el, distance, inverse_slope, extent
