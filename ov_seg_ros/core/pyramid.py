"""Neighbour tables of every stride of a sparse U-Net, built once per scan, outside the network.

A 3 x 3 x 3 submanifold convolution is, per kernel offset, a gather, a matrix product and
a scatter-add along a list of (neighbour, centre) pairs; offset 26 - k has the pairs of offset k
swapped, so 13 lists per level serve all 26. A 2 x 2 x 2 convolution of stride 2 and its
transpose walk one list that groups the fine voxels by their corner in the coarse voxel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.errors import InputError
from ov_seg_ros.core.neighbor_pairs import neighbor_pairs
from ov_seg_ros.core.voxel_columns import coarsen, columns_of

NUM_OFFSETS = 13


def kernel_offset(k: int) -> tuple[int, int, int]:
    """Offset (dx, dy, dz) of kernel position k in 0..26; 13 is the centre, 26 - k the opposite of k."""
    return k // 9 - 1, k // 3 % 3 - 1, k % 3 - 1


@dataclass(frozen=True)
class Level:
    """One stride of the pyramid.

    Attributes:
        coords: (V, 3) int32 cells in lexicographic order, in units of this stride's cell.
        pair_centre: (P,) int64 row of the centre voxel, grouped by kernel offset 0..12.
        pair_neighbor: (P,) int64 row of the voxel at centre + kernel_offset(k).
        pair_starts: (14,) int64, pairs of offset k are [starts[k], starts[k + 1]).
    """

    coords: NDArray[np.int32]
    pair_centre: NDArray[np.int64]
    pair_neighbor: NDArray[np.int64]
    pair_starts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.coords)

    def neighbor_table(self) -> NDArray[np.int32]:
        """(V, 27) int32: row of the voxel at each kernel offset, V where there is none."""
        table = np.full((len(self), 27), len(self), np.int32)
        table[:, 13] = np.arange(len(self))
        for k in range(NUM_OFFSETS):
            pairs = slice(self.pair_starts[k], self.pair_starts[k + 1])
            centre, neighbor = self.pair_centre[pairs], self.pair_neighbor[pairs]
            table[centre, k] = neighbor
            table[neighbor, 26 - k] = centre
        return table


@dataclass(frozen=True)
class Stride:
    """The step between a level and the next coarser one (cells twice as large).

    Attributes:
        child: (V_fine,) int64 fine rows, grouped by their corner 4 * (x & 1) + 2 * (y & 1) + (z & 1).
        parent: (V_fine,) int64 coarse row of each ``child``.
        starts: (9,) int64, corner o is [starts[o], starts[o + 1]).
        position: (V_fine,) int64, the inverse permutation: child[position[i]] == i.
    """

    child: NDArray[np.int64]
    parent: NDArray[np.int64]
    starts: NDArray[np.int64]
    position: NDArray[np.int64]


@dataclass(frozen=True)
class Pyramid:
    """All levels, finest first, and the strides between them (one fewer)."""

    levels: tuple[Level, ...]
    strides: tuple[Stride, ...]

    def graph_inputs(self) -> dict[str, NDArray[np.int64]]:
        """The index arrays under the names that the exported network asks for."""
        arrays: dict[str, NDArray[np.int64]] = {}
        for i, level in enumerate(self.levels):
            arrays[f"level{i}_pair_centre"] = level.pair_centre
            arrays[f"level{i}_pair_neighbor"] = level.pair_neighbor
            arrays[f"level{i}_pair_starts"] = level.pair_starts
        for i, stride in enumerate(self.strides):
            arrays[f"stride{i}_child"] = stride.child
            arrays[f"stride{i}_parent"] = stride.parent
            arrays[f"stride{i}_starts"] = stride.starts
            arrays[f"stride{i}_position"] = stride.position
        return arrays


def build_pyramid(coords: NDArray[np.int32], num_levels: int) -> Pyramid:
    """Builds the tables of a U-Net with ``num_levels`` resolutions.

    Args:
        coords: (V, 3) int32 distinct cells in lexicographic order (``Voxels.coords``).
        num_levels: resolutions including the finest, 5 for a MinkUNet.

    Raises:
        InputError: a cell comes twice, or before one that is smaller.
    """
    coords = np.ascontiguousarray(coords, np.int32)
    *columns, wrong_row = columns_of(coords)
    if wrong_row < len(coords):
        raise InputError(
            "cells must be distinct and in lexicographic order, as VoxelGrid.voxelize gives them: "
            f"row {wrong_row} is {coords[wrong_row].tolist()}, after {coords[wrong_row - 1].tolist()}"
        )
    levels = [Level(coords, *neighbor_pairs(*columns))]
    strides = []
    for _ in range(num_levels - 1):
        child, parent, starts, position, coords, *columns = coarsen(*columns)
        strides.append(Stride(child, parent, starts, position))
        levels.append(Level(coords, *neighbor_pairs(*columns)))
    return Pyramid(tuple(levels), tuple(strides))
