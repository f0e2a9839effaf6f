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
    geometry = _voxel_geometry(
        cloud.points,
        grid.axes(cloud.points),
        normalized_intensity(cloud.intensity),
        voxels.coords,
        voxels.point_to_voxel,
        np.asarray(grid.range_min, np.float32),
        np.asarray(grid.voxel_size, np.float32),
    )
    columns = {name: geometry[:, i] for i, name in enumerate(GEOMETRY)}
    if uses_color(names):
        mean_color = _voxel_color(color, voxels)
        columns.update({name: mean_color[:, i] for i, name in enumerate(COLOR)})
    return np.stack([columns[name] for name in names], axis=1)


def _voxel_color(color: NDArray[np.float32] | None, voxels: Voxels) -> NDArray[np.float32]:
    """(V, 4): mean colour of the coloured points, share of coloured points."""
    mean = np.zeros((len(voxels), 4), np.float32)
    if color is None:
        return mean
    inside = voxels.point_to_voxel >= 0
    row, valid = voxels.point_to_voxel[inside], color[inside, 3]
    total = np.bincount(row, minlength=len(voxels))
    colored = np.bincount(row, weights=valid, minlength=len(voxels))
    for channel in range(3):
        weights = color[inside, channel] * valid
        mean[:, channel] = np.bincount(row, weights=weights, minlength=len(voxels)) / np.maximum(colored, 1)
    mean[:, 3] = colored / np.maximum(total, 1)
    return mean


@njit(cache=True, nogil=True)
def _voxel_geometry(points, axes, intensity, coords, point_to_voxel, low, size):  # type: ignore[no-untyped-def]
    out = np.zeros((len(coords), 8), np.float32)
    bottom = np.full(len(coords), np.inf, np.float32)
    top = np.full(len(coords), -np.inf, np.float32)
    for i in range(len(points)):
        v = point_to_voxel[i]
        if v < 0:
            continue
        for axis in range(3):
            out[v, axis] += (axes[i, axis] - low[axis]) / size[axis] - coords[v, axis] - np.float32(0.5)
        z = points[i, 2]
        out[v, 3] += z
        out[v, 4] += np.sqrt(points[i, 0] * points[i, 0] + points[i, 1] * points[i, 1])
        bottom[v] = min(bottom[v], z)
        top[v] = max(top[v], z)
        out[v, 6] += 1
        out[v, 7] += intensity[i]
    for v in range(len(coords)):
        count = out[v, 6]
        for column in (0, 1, 2, 7):
            out[v, column] /= count
        out[v, 3] /= count * np.float32(HEIGHT_SCALE)
        out[v, 4] /= count * np.float32(RANGE_SCALE)
        out[v, 5] = top[v] - bottom[v]
        out[v, 6] = np.log(np.float32(1) + count) / np.float32(4)
    return out
