"""Voxels, maps, features and classes by plain constructions, which the fast ones have to equal, and by other libraries.

Those in NumPy say what is meant: distinct cells by ``np.unique``, neighbours by ``np.searchsorted``. They are the
references of the tests as well, which is why torch and spconv are imported where they are used.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.data_types import IGNORE_ID, PointCloud
from ov_seg_ros.core.point_features import HEIGHT_SCALE, RANGE_SCALE, normalized_intensity
from ov_seg_ros.core.pyramid import NUM_OFFSETS, Level, Pyramid, Stride, kernel_offset
from ov_seg_ros.core.voxels import VoxelGrid, Voxels

_BIAS, _BITS = 1 << 20, 21


def pack(cells: NDArray[np.integer]) -> NDArray[np.int64]:
    """Cells (V, 3) to int64 keys in the same order; adding ``key_shift`` of an offset gives the neighbour's key."""
    x, y, z = (cells.astype(np.int64) + _BIAS).T
    return (x << 2 * _BITS) | (y << _BITS) | z


def unpack(keys: NDArray[np.int64]) -> NDArray[np.int32]:
    """The inverse of ``pack``."""
    field = (1 << _BITS) - 1
    return (np.stack([keys >> 2 * _BITS, (keys >> _BITS) & field, keys & field], axis=1) - _BIAS).astype(np.int32)


def key_shift(k: int) -> int:
    """What kernel offset k adds to a key."""
    dx, dy, dz = kernel_offset(k)
    return (dx << 2 * _BITS) + (dy << _BITS) + dz


def voxelize(grid: VoxelGrid, points: NDArray[np.float32]) -> Voxels:
    """Cell of every point by division, distinct ones by sorting."""
    axes = grid.axes(points)
    with np.errstate(over="ignore", invalid="ignore"):
        cells = np.floor((axes - np.float32(grid.range_min)) / np.float32(grid.voxel_size))
    inside = ((cells >= 0) & (cells < np.float32(grid.shape))).all(axis=1)
    keys, inverse = np.unique(pack(cells[inside].astype(np.int32)), return_inverse=True)
    point_to_voxel = np.full(len(points), -1, np.int32)
    point_to_voxel[inside] = inverse
    return Voxels(unpack(keys), point_to_voxel)


def build_pyramid(coords: NDArray[np.int32], num_levels: int) -> Pyramid:
    """Neighbours by look-up of their keys, parents by sorting those of all children."""
    levels, strides = [build_level(coords)], []
    for _ in range(num_levels - 1):
        stride, coords = build_stride(coords)
        strides.append(stride)
        levels.append(build_level(coords))
    return Pyramid(tuple(levels), tuple(strides))


def build_level(coords: NDArray[np.int32]) -> Level:
    """Pairs of one level."""
    keys = pack(coords)
    found = [find(keys, keys + key_shift(k)) for k in range(NUM_OFFSETS)]
    centre, neighbor = (np.concatenate(rows).astype(np.int64) for rows in zip(*found, strict=True))
    return Level(coords, centre, neighbor, np.cumsum([0] + [len(pairs[0]) for pairs in found]))


def find(keys: NDArray[np.int64], wanted: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of ``wanted`` that are among the sorted ``keys``, and where."""
    place = np.searchsorted(keys, wanted)
    hit = np.flatnonzero(keys[np.minimum(place, len(keys) - 1)] == wanted) if len(keys) else np.zeros(0, np.int64)
    return hit, place[hit]


def build_stride(coords: NDArray[np.int32]) -> tuple[Stride, NDArray[np.int32]]:
    """The step from cells ``coords`` to those twice as large, and these."""
    keys, parent = np.unique(pack(coords >> 1), return_inverse=True)
    corner = (coords & 1) @ np.array([4, 2, 1])
    child = np.argsort(corner, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(corner, minlength=8))])
    return Stride(child, parent[child], starts, np.argsort(child)), unpack(keys)


def geometry(cloud: PointCloud, voxels: Voxels, grid: VoxelGrid) -> NDArray[np.float64]:
    """The columns ``point_features.GEOMETRY`` in float64, without rounding of sums."""
    inside = voxels.point_to_voxel >= 0
    row = voxels.point_to_voxel[inside]
    cell = (grid.axes(cloud.points)[inside] - np.float32(grid.range_min)) / np.float32(grid.voxel_size)
    offset = cell - voxels.coords[row] - 0.5
    points = cloud.points[inside].astype(np.float64)
    count = np.bincount(row, minlength=len(voxels))

    def mean(values: NDArray[np.floating]) -> NDArray[np.float64]:
        return np.bincount(row, weights=values, minlength=len(voxels)) / count

    top, bottom = np.full(len(voxels), -np.inf), np.full(len(voxels), np.inf)
    np.maximum.at(top, row, points[:, 2])
    np.minimum.at(bottom, row, points[:, 2])
    columns = [mean(offset[:, axis]) for axis in range(3)]
    columns += [mean(points[:, 2]) / HEIGHT_SCALE, mean(np.hypot(points[:, 0], points[:, 1])) / RANGE_SCALE]
    columns += [top - bottom, np.log(1 + count) / 4, mean(normalized_intensity(cloud.intensity)[inside])]
    return np.stack(columns, axis=1)


def classify(logits: NDArray[np.float32]) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]:
    """Class, probability and entropy of finite logits."""
    difference = logits - logits.max(axis=1, keepdims=True)
    weight = np.exp(difference)
    total = weight.sum(axis=1)
    entropy = np.log(total) - (weight * difference).sum(axis=1) / total
    return logits.argmax(axis=1).astype(np.uint8), 1 / total, entropy


def spread(
    per_voxel: tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]], point_to_voxel: NDArray[np.int32]
) -> tuple[NDArray[np.generic], ...]:
    """What the voxel of each point got; index -1 finds the appended last entry."""
    unknown = (np.uint8(IGNORE_ID), np.float32(0), np.float32(0))
    return tuple(np.append(values, last)[point_to_voxel] for values, last in zip(per_voxel, unknown, strict=True))


def differences(found: Pyramid, expected: Pyramid) -> list[str]:
    """Names of the arrays that differ in shape, type or any value."""
    ours, theirs = found.graph_inputs(), expected.graph_inputs()
    for arrays, pyramid in ((ours, found), (theirs, expected)):
        arrays |= {f"level{i}_coords": level.coords for i, level in enumerate(pyramid.levels)}
    return [name for name in theirs if not same(ours.get(name), theirs[name])]


def same(found: NDArray[np.generic] | None, expected: NDArray[np.generic]) -> bool:
    """Whether two arrays agree in shape, type and every value."""
    return found is not None and found.dtype == expected.dtype and np.array_equal(found, expected)


def torch_tables(pyramid: Pyramid) -> None:
    """Rows of all 26 neighbours on every level by ``torch.searchsorted``, as a GPU would."""
    import torch

    shifts = torch.tensor([key_shift(k) for k in range(27) if k != 13])
    for level in pyramid.levels:
        keys = torch.from_numpy(pack(level.coords))
        wanted = keys[:, None] + shifts
        place = torch.searchsorted(keys, wanted).clamp_(max=len(keys) - 1)
        torch.where(keys[place] == wanted, place, len(keys))


def spconv_maps(coords: NDArray[np.int32], num_levels: int) -> None:
    """Pairs of all levels and strides by spconv, from its own hash tables."""
    import spconv.pytorch.ops as ops
    import torch
    from spconv.core import ConvAlgo

    batch = np.zeros((len(coords), 1), np.int32)
    cells = torch.from_numpy(np.concatenate([batch, coords], axis=1))
    shape = [int(extent) + 2 for extent in coords.max(axis=0)]
    none, one, two, three = ([n] * 3 for n in range(4))
    for level in range(num_levels):
        ops.get_indice_pairs(cells, 1, shape, ConvAlgo.Native, three, one, one, one, none, True)
        if level + 1 < num_levels:
            cells, _, _ = ops.get_indice_pairs(cells, 1, shape, ConvAlgo.Native, two, two, none, one, none)
            shape = [extent // 2 + 1 for extent in shape]
