"""What sparse convolutions on a GPU read: for every row of a result, the rows it is made of.

All arrays have a fixed capacity, so that a recorded CUDA graph serves every scan; how much of it a scan fills is itself
a number on the device, which the host never has to wait for. So is whether the scan fits.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class RowTable:
    """Rows of the source that each row of a result is made of.

    Attributes:
        rows: (capacity, K) int32 row of the source at each of K kernel positions, -1 = none. K = 27: 3 x 3 x 3, in
            the order of ``core.pyramid.kernel_offset``; K = 8: the corners 4 * (x & 1) + 2 * (y & 1) + (z & 1).
        order: (capacity,) int32, the rows of the result in the order in which they are best worked on: those with the
            same positions occupied side by side. The first ``count`` are the rows that exist.
        count: (1,) int32, rows that the result needs; more than the capacity where they do not fit.
    """

    rows: torch.Tensor
    order: torch.Tensor
    count: torch.Tensor


@dataclass(frozen=True)
class DevicePyramid:
    """All tables of a sparse U-Net, finest level first; the counterpart of ``core.pyramid.Pyramid``.

    Levels need not fit their tables. Then ``overflowed`` is set, and the tables hold what the first rows of each level
    are made of: no row is named for which its level has no room.

    Attributes:
        counts: (1,) int32 voxels that each level has, even if there is no room for all of them. Where the finest level
            has no room, coarser ones are those of the voxels that it has room for.
        neighbors: of each level, K = 27, from the level to itself.
        down: of each stride, K = 8, a row per coarse voxel: its fine voxels by corner.
        up: of each stride, K = 8, a row per fine voxel: its coarse voxel in the column of the fine voxel's corner.
        overflowed: (1,) bool, whether some level has more voxels than there is room for.
    """

    counts: tuple[torch.Tensor, ...]
    neighbors: tuple[RowTable, ...]
    down: tuple[RowTable, ...]
    up: tuple[RowTable, ...]
    overflowed: torch.Tensor
