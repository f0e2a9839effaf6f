"""What the network sees of the points inside a voxel.

Training and robot call the same function, so they cannot disagree. The features do not depend on the
scale of the sensor's intensity: each scan is divided by its own 95th percentile.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ov_seg_ros.core.data_types import PointCloud
from ov_seg_ros.core.errors import ConfigError
from ov_seg_ros.core.voxels import VoxelGrid, Voxels

GEOMETRY = ("offset_x", "offset_y", "offset_z", "height", "range", "extent_z", "count", "intensity")
COLOR = ("red", "green", "blue", "color_valid")

HEIGHT_SCALE = 4.0
"""Metres of height (z in the LiDAR frame) that make one unit."""
RANGE_SCALE = 50.0
"""Metres of horizontal range that make one unit."""
INTENSITY_CAP = 1.5
"""Scan-normalised intensities are clipped here: retroreflectors say no more."""

_TOP = GEOMETRY.index("extent_z")
"""Where the highest point of a voxel is kept until the lowest is known as well."""
_BLOCK = 256
"""Points whose offsets are computed in one go, by vector instructions, before they are added one by one."""
_SMALL_COUNT = 64
"""Logarithms of smaller counts come from a table."""


def uses_color(names: Sequence[str]) -> bool:
    """Whether a student with these input features wants camera colours."""
    return any(name in COLOR for name in names)


def check_names(names: Sequence[str]) -> None:
    """Raises ConfigError unless every name is a known feature, once."""
    unknown = [n for n in names if n not in GEOMETRY + COLOR]
    if unknown or not names or len(set(names)) != len(names):
        raise ConfigError(f"point_features must be distinct names out of {', '.join(GEOMETRY + COLOR)}, got {names}")


def normalized_intensity(intensity: NDArray[np.float32]) -> NDArray[np.float32]:
    """Intensity (N,) of any scale to [0, INTENSITY_CAP]: divided by the scan's own 95th percentile.

    Invalid values count as 0; a scan without intensity stays 0.
    """
    clean = np.where(np.isfinite(intensity), intensity, 0).astype(np.float32)
    if len(clean) == 0:
        return clean
    rank = int(0.95 * (len(clean) - 1))
    scale = np.partition(clean, rank)[rank]
    if scale <= 0:
        scale = clean.max()
    return np.clip(clean / scale, 0, INTENSITY_CAP) if scale > 0 else np.zeros_like(clean)


def voxel_features(
    cloud: PointCloud,
    voxels: Voxels,
    grid: VoxelGrid,
    names: Sequence[str],
    color: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Means of the points' features per voxel.

    Args:
        cloud: the scan that was voxelised, N points.
        voxels: ``grid.voxelize(cloud.points)``, V voxels.
        grid: the grid.
        names: F features out of GEOMETRY and COLOR, in the order of the columns: offset_* = mean position
            relative to the cell's centre in cells (grid axes), height and range in units of HEIGHT_SCALE and
            RANGE_SCALE, extent_z = highest minus lowest point in metres, count = log(1 + points) / 4,
            intensity normalised per scan, red, green, blue in 0..1 = mean over the coloured points,
            color_valid = share of the points with a colour.
        color: (N, 4) float32 red, green, blue in 0..1 and valid (0 or 1); None = no colours at all.

    Returns:
        (V, F) float32.
    """
    check_names(names)
    columns: tuple[str, ...] = GEOMETRY
    table = _voxel_geometry(
        np.ascontiguousarray(cloud.points, np.float32).reshape(-1),
        _grid_axes(cloud, voxels, grid).reshape(-1),
        normalized_intensity(cloud.intensity),
        voxels.point_to_voxel,
        np.int64(len(voxels)),
        np.asarray(grid.range_min, np.float32),
        np.asarray(grid.voxel_size, np.float32),
    )
    if uses_color(names):
        columns += COLOR
        table = np.concatenate([table, _voxel_color(color, voxels)], axis=1)
    if tuple(names) == columns:
        return table
    return np.take(table, [columns.index(name) for name in names], axis=1)


def _grid_axes(cloud: PointCloud, voxels: Voxels, grid: VoxelGrid) -> NDArray[np.float32]:
    axes = grid.axes(cloud.points) if voxels.axes is None else voxels.axes
    return np.ascontiguousarray(axes, np.float32)


def _voxel_color(color: NDArray[np.float32] | None, voxels: Voxels) -> NDArray[np.float32]:
    """(V, 4): mean colour of the coloured points, share of coloured points."""
    if color is None:
        return np.zeros((len(voxels), 4), np.float32)
    return _mean_color(np.ascontiguousarray(color, np.float32), voxels.point_to_voxel, np.int64(len(voxels)))


@njit(cache=True, nogil=True, error_model="numpy")
def _mean_color(color, point_to_voxel, num_voxels):  # type: ignore[no-untyped-def]
    total = np.zeros((num_voxels, 5), np.float64)  # red, green, blue, coloured points, points
    for i in range(len(color)):
        v = point_to_voxel[i]
        if v < 0:
            continue
        valid = color[i, 3]
        for channel in range(3):
            total[v, channel] += color[i, channel] * valid
        total[v, 3] += valid
        total[v, 4] += 1
    mean = np.empty((num_voxels, 4), np.float32)
    for v in range(num_voxels):
        for channel in range(3):
            mean[v, channel] = total[v, channel] / max(total[v, 3], 1.0)
        mean[v, 3] = total[v, 3] / max(total[v, 4], 1.0)
    return mean


@njit(cache=True, nogil=True, error_model="numpy")
def _voxel_geometry(points, axes, intensity, point_to_voxel, num_voxels, low, size):  # type: ignore[no-untyped-def]
    """The columns GEOMETRY of (3 * N,) points and grid axes; sums in the order of the points."""
    out = np.zeros((num_voxels, 8), np.float32)
    bottom = np.full(num_voxels, np.inf, np.float32)
    for v in range(num_voxels):
        out[v, _TOP] = -np.inf
    offset, distance = np.empty((3, _BLOCK), np.float64), np.empty(_BLOCK, np.float32)
    for start in range(0, len(point_to_voxel), _BLOCK):
        stop = min(start + _BLOCK, len(point_to_voxel))
        _offsets_of_block(axes[3 * start : 3 * stop], low, size, offset)
        _distances_of_block(points[3 * start : 3 * stop], distance)
        for i in range(stop - start):
            if point_to_voxel[start + i] < 0:
                continue
            v = np.uint32(point_to_voxel[start + i])
            z = points[3 * (start + i) + 2]
            out[v, 0] += offset[0, i]
            out[v, 1] += offset[1, i]
            out[v, 2] += offset[2, i]
            out[v, 3] += z
            out[v, 4] += distance[i]
            out[v, _TOP] = max(out[v, _TOP], z)
            bottom[v] = min(bottom[v], z)
            out[v, 6] += np.float32(1)
            out[v, 7] += intensity[start + i]
    _finish(out, bottom)
    return out


@njit(nogil=True, error_model="numpy")
def _offsets_of_block(axes, low, size, offset):  # type: ignore[no-untyped-def]
    """Position relative to the cell's centre, in cells; in float64, because near 0 float32 would round."""
    low_x, low_y, low_z = low[0], low[1], low[2]
    size_x, size_y, size_z = size[0], size[1], size[2]
    for i in range(len(axes) // 3):
        x, y, z = (axes[3 * i] - low_x) / size_x, (axes[3 * i + 1] - low_y) / size_y, (axes[3 * i + 2] - low_z) / size_z
        offset[0, i] = np.float64(x) - np.float64(np.floor(x)) - 0.5
        offset[1, i] = np.float64(y) - np.float64(np.floor(y)) - 0.5
        offset[2, i] = np.float64(z) - np.float64(np.floor(z)) - 0.5


@njit(nogil=True)
def _distances_of_block(points, distance):  # type: ignore[no-untyped-def]
    for i in range(len(points) // 3):
        x, y = points[3 * i], points[3 * i + 1]
        distance[i] = np.sqrt(x * x + y * y)


@njit(nogil=True, error_model="numpy")
def _finish(out, bottom):  # type: ignore[no-untyped-def]
    """Sums to means."""
    log_count = np.empty(_SMALL_COUNT, np.float32)
    for count in range(_SMALL_COUNT):
        log_count[count] = np.log(np.float32(1 + count)) / np.float32(4)
    for v in range(len(out)):
        count = out[v, 6]
        for column in (0, 1, 2, 7):
            out[v, column] /= count
        out[v, 3] /= count * np.float32(HEIGHT_SCALE)
        out[v, 4] /= count * np.float32(RANGE_SCALE)
        out[v, _TOP] -= bottom[v]
        if count < _SMALL_COUNT:
            out[v, 6] = log_count[np.uint32(count)]
        else:
            out[v, 6] = np.log(np.float32(1) + count) / np.float32(4)
