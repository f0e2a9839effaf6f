"""Points to the distinct cells they lie in, in order: one radix sort of words that hold cell and point.

A word is x | y | z | row of the point, each in as many bits as it needs. Only the bits of the cell are sorted by, so
a scan of 120 000 points in a grid of 2048 x 2048 x 160 cells takes three passes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

_NONE, _ONE = np.uint64(0), np.uint64(1)
_ZERO, _OUTSIDE = np.float32(0), np.float32(-1)
_BLOCK = 256
"""Points whose cells are computed in one go, by vector instructions, before they are packed one by one."""
_DIGIT_BITS = 11
"""Sorted by in one pass, at most: the places where 2048 lists go on fit the fast caches."""


class WordLayout(NamedTuple):
    """How many bits of a word each part has."""

    x: int
    y: int
    z: int
    row: int

    @classmethod
    def of(cls, shape: tuple[int, int, int], num_points: int) -> WordLayout:
        """For a grid of ``shape`` cells and a number of points."""
        x, y, z = ((cells - 1).bit_length() for cells in shape)
        return cls(x, y, z, max(num_points - 1, 0).bit_length())

    def fits(self) -> bool:
        """Whether a word has enough bits: not for millions of points in a grid of nearly a million cells per axis."""
        return sum(self) <= 64


@njit(cache=True, nogil=True, error_model="numpy")
def sort_into_cells(axes, low, size, shape, layout):  # type: ignore[no-untyped-def]
    """Distinct cells of points in lexicographic order, and the cell of every point.

    Args:
        axes: (3 * N,) float32 grid axes of the points, one after the other.
        low: (3,) float32 lower corner of the grid.
        size: (3,) float32 edges of a cell.
        shape: (3,) float32 cells per axis.
        layout: (4,) uint64 bits of x, y, z, row.

    Returns:
        coords (V, 3) int32 and point_to_voxel (N,) int32, as in ``Voxels``.
    """
    words, point_to_voxel = _pack(axes, low, size, shape, layout)
    words = _radix_sort(words, layout[3], layout[0] + layout[1] + layout[2] + layout[3])
    x_shift, y_shift, row_bits = layout[1] + layout[2], layout[2], layout[3]
    y_mask, z_mask, row_mask = (_ONE << layout[1]) - _ONE, (_ONE << layout[2]) - _ONE, (_ONE << row_bits) - _ONE
    num_voxels = min(len(words), 1)
    for i in range(1, len(words)):
        num_voxels += np.int64((words[i] >> row_bits) != (words[i - 1] >> row_bits))
    coords = np.empty((num_voxels, 3), np.int32)
    voxel = np.int64(-1)
    for i in range(len(words)):
        cell = words[i] >> row_bits
        if i == 0 or cell != words[i - 1] >> row_bits:
            voxel += 1
            coords[voxel, 0] = cell >> x_shift
            coords[voxel, 1] = (cell >> y_shift) & y_mask
            coords[voxel, 2] = cell & z_mask
        point_to_voxel[words[i] & row_mask] = voxel
    return coords, point_to_voxel


@njit(nogil=True, error_model="numpy")
def _pack(axes, low, size, shape, layout):  # type: ignore[no-untyped-def]
    """Words of the points inside the grid, and (N,) int32 of -1."""
    num_points = len(axes) // 3
    point_to_voxel = np.empty(num_points, np.int32)
    words = np.empty(num_points + 1, np.uint64)
    x, y, z = np.empty(_BLOCK, np.int32), np.empty(_BLOCK, np.int32), np.empty(_BLOCK, np.int32)
    y_bits, z_bits, row_bits = layout[1], layout[2], layout[3]
    count = _NONE
    for start in range(0, num_points, _BLOCK):
        num = min(_BLOCK, num_points - start)
        _cells_of_block(axes[3 * start : 3 * (start + num)], low, size, shape, x, y, z)
        for i in range(num):
            cell = (((np.uint64(x[i]) << y_bits) | np.uint64(y[i])) << z_bits) | np.uint64(z[i])
            words[count] = (cell << row_bits) | np.uint64(start + i)
            point_to_voxel[start + i] = -1
            count += np.uint64(x[i] >= 0)
    return words[:count], point_to_voxel


@njit(nogil=True, error_model="numpy")
def _cells_of_block(axes, low, size, shape, x, y, z):  # type: ignore[no-untyped-def]
    """Cells of a few points; x is -1 where a point is invalid or outside the grid."""
    low_x, low_y, low_z = low[0], low[1], low[2]
    size_x, size_y, size_z = size[0], size[1], size[2]
    end_x, end_y, end_z = shape[0], shape[1], shape[2]
    for i in range(len(axes) // 3):
        cell_x = np.floor((axes[3 * i] - low_x) / size_x)
        cell_y = np.floor((axes[3 * i + 1] - low_y) / size_y)
        cell_z = np.floor((axes[3 * i + 2] - low_z) / size_z)
        inside = (cell_x >= _ZERO) & (cell_x < end_x) & (cell_y >= _ZERO)  # NaN is not
        inside &= (cell_y < end_y) & (cell_z >= _ZERO) & (cell_z < end_z)
        x[i] = np.int32(cell_x if inside else _OUTSIDE)
        y[i] = np.int32(cell_y if inside else _ZERO)
        z[i] = np.int32(cell_z if inside else _ZERO)


@njit(nogil=True)
def _radix_sort(words, first_bit, end_bit):  # type: ignore[no-untyped-def]
    """Sorts by bits [first_bit, end_bit), least significant digit first; equal ones keep their order."""
    num_bits = np.int64(end_bit - first_bit)
    passes = (num_bits + _DIGIT_BITS - 1) // _DIGIT_BITS
    if passes == 0 or len(words) < 2:
        return words
    digit_bits = (num_bits + passes - 1) // passes
    mask = np.uint64((1 << digit_bits) - 1)
    place = np.zeros((passes, 1 << digit_bits), np.uint32)
    for i in range(len(words)):
        digits = words[i] >> first_bit
        for p in range(passes):
            place[p, digits & mask] += np.uint32(1)
            digits >>= np.uint64(digit_bits)
    other = np.empty_like(words)
    for p in range(passes):
        own, shift = place[p], first_bit + np.uint64(p * digit_bits)
        total = np.uint32(0)
        for digit in range(len(own)):
            own[digit], total = total, np.uint32(total + own[digit])
        for i in range(len(words)):
            digit = (words[i] >> shift) & mask
            other[own[digit]] = words[i]
            own[digit] += np.uint32(1)
        words, other = other, words
    return words
