"""Neighbour tables of a sparse U-Net, made on a GPU: the counterpart of ``core.pyramid.build_pyramid``.

All levels are made at once, from the finest voxels: level l of the pyramid is the set of cells coords >> l. That sorts
more than going from level to level would, but takes a fifth of the launches, which cost more. A row is found by a
binary search in the sorted keys of its level.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ov_seg_ros.core.errors import ConfigError
from ov_seg_ros.core.pyramid import kernel_offset
from ov_seg_ros.gpu.device_tables import DevicePyramid, RowTable
from ov_seg_ros.gpu.device_voxels import KeyLayout, check_tensor, distinct_keys

_NUM_NEIGHBORS = 27
_NUM_CORNERS = 8


class PyramidBuilder:
    """Makes the tables of one network for scan after scan.

    Levels are as large as the finest one: in the worst case no two voxels share a cell of any level.

    Args:
        shape: cells per axis of the grid, ``VoxelGrid.shape``.
        num_levels: resolutions including the finest, 5 for a MinkUNet.
        capacity: voxels the finest level may have, at least 1.
        device: where voxels lie.

    Raises:
        ConfigError: a number is not positive.
    """

    def __init__(self, shape: tuple[int, int, int], num_levels: int, capacity: int, device: torch.device | str) -> None:
        if min(num_levels, capacity) < 1:
            raise ConfigError(f"num_levels and capacity must be at least 1, got {num_levels} and {capacity}")
        nx, ny, nz = shape
        layouts = [KeyLayout.of((_halved(nx, i), _halved(ny, i), _halved(nz, i))) for i in range(num_levels)]
        self._none, dtype = layouts[0].none, layouts[0].dtype  # what is no key of the finest level is one of none
        self._capacity = capacity
        strides = torch.tensor([layout.strides for layout in layouts], dtype=dtype)  # (L, 3)
        steps = torch.tensor([kernel_offset(k) for k in range(_NUM_NEIGHBORS)], dtype=dtype)  # (27, 3)
        self._strides = strides[:, None].to(device)  # (L, 1, 3)
        self._steps = (strides[:, None] * steps).sum(dim=2, dtype=dtype)[:, :, None].to(device)  # (L, 27, 1)
        self._halvings = torch.arange(num_levels, dtype=torch.int32, device=device)[:, None, None]
        self._row = torch.arange(capacity, dtype=torch.int32, device=device)
        self._no_key = torch.tensor([self._none], dtype=dtype, device=device)
        self._no_query = torch.tensor([-self._none], dtype=dtype, device=device)
        self._no_row = torch.tensor([-1], dtype=torch.int32, device=device)
        self._end = torch.full((num_levels, 1), self._none, dtype=dtype, device=device)
        self._neighbor_bits = torch.tensor([[1 << k] for k in range(_NUM_NEIGHBORS)], dtype=torch.int32, device=device)
        self._corner_weights = torch.tensor([4, 2, 1], dtype=torch.int32, device=device)
        self._corner_bits = torch.tensor([1 << k for k in range(_NUM_CORNERS)], dtype=torch.uint8, device=device)

    def build(self, coords: Tensor, count: Tensor) -> DevicePyramid:
        """Makes all tables of a scan.

        Rows of every level are in the order of ``core.pyramid.Pyramid``. ``order`` sorts them by the bit mask of their
        occupied positions, largest first, rows with the same mask in their order.

        Args:
            coords: (capacity, 3) int32 distinct cells in lexicographic order, inside the grid; ``DeviceVoxels.coords``.
            count: (1,) int32, cells that exist; the rows behind them may hold anything.

        Raises:
            InputError: a tensor has another shape or type.
        """
        check_tensor("coords", coords, (self._capacity, 3), torch.int32)
        check_tensor("count", count, (1,), torch.int32)
        cells = coords >> self._halvings  # (L, capacity, 3)
        exists = self._row < count
        dtype = self._strides.dtype
        key = torch.where(exists, (cells * self._strides).sum(dim=2, dtype=dtype), self._no_key)  # (L, capacity)
        keys = distinct_keys(key, self._none)  # (L, capacity + 1)
        counts = torch.searchsorted(keys, self._end, out_int32=True).unbind(0)
        neighbors = self._neighbors(keys)
        if len(counts) == 1:
            return DevicePyramid(counts, _tables(*neighbors, counts), (), ())
        row = torch.searchsorted(keys, key, out_int32=True)  # (L, capacity) row on each level, of every finest voxel
        rows, order = self._strides_between(cells, row, exists)
        down = _tables(rows[0], order[0], counts[1:])
        return DevicePyramid(counts, _tables(*neighbors, counts), down, _tables(rows[1], order[1], counts[:-1]))

    def _neighbors(self, keys: Tensor) -> tuple[Tensor, Tensor]:
        """Tables (L, capacity, 27) int32 and their order (L, capacity) of levels with these keys (L, capacity + 1).

        Searched position by position: voxels side by side have neighbours side by side, which saves memory traffic.
        """
        levels, capacity = len(keys), self._capacity
        own = torch.where(keys < self._no_key, keys, self._no_query)[:, None, :-1]
        wanted = (own + self._steps).view(levels, -1)  # (L, 27 * capacity)
        place = torch.searchsorted(keys, wanted, out_int32=True)
        there = torch.empty_like(wanted)
        for level in range(levels):  # torch.gather would do it at once, but reads indices of twice the size
            torch.index_select(keys[level], 0, place[level], out=there[level])
        found = (there == wanted).view(levels, _NUM_NEIGHBORS, capacity)
        place = place.view(levels, _NUM_NEIGHBORS, capacity)
        rows = torch.empty((levels, capacity, _NUM_NEIGHBORS), dtype=torch.int32, device=keys.device)
        torch.where(found.transpose(1, 2), place.transpose(1, 2), self._no_row, out=rows)
        return rows, _order((found * self._neighbor_bits).sum(dim=1, dtype=torch.int32))

    def _strides_between(self, cells: Tensor, row: Tensor, exists: Tensor) -> tuple[Tensor, Tensor]:
        """Tables (2, L - 1, capacity, 8) int32, down and up, and their order (2, L - 1, capacity).

        Every finest voxel writes its ancestors of two levels into each other's rows. Those that share an ancestor
        write the same number into the same place.

        Args:
            cells: (L, capacity, 3) int32 cell on each level of every finest voxel.
            row: (L, capacity) int32 its row; of voxels that do not exist the first free one, which is to stay empty.
            exists: (capacity,) bool.
        """
        corner = ((cells[:-1] & 1) * self._corner_weights).sum(dim=2, dtype=torch.int64)  # (L - 1, capacity)
        fine, coarse = row[:-1], row[1:]
        place = torch.add(corner, torch.stack((coarse, fine)), alpha=_NUM_CORNERS)
        source = torch.where(exists, torch.stack((fine, coarse)), self._no_row)
        size = (2, len(fine), self._capacity * _NUM_CORNERS)
        rows = torch.full(size, -1, dtype=torch.int32, device=row.device).scatter_(2, place, source)
        rows = rows.view(2, len(fine), self._capacity, _NUM_CORNERS)
        return rows, _order(((rows >= 0) * self._corner_bits).sum(dim=3, dtype=torch.uint8))


def _halved(cells: int, times: int) -> int:
    """Cells of an axis after halvings, the last one perhaps half outside."""
    return -(-cells >> times)


def _order(mask: Tensor) -> Tensor:
    """Rows in the order of their masks (..., capacity), the largest first: rows that do not exist have mask 0."""
    return torch.sort(mask, dim=-1, descending=True, stable=True).indices.to(torch.int32)


def _tables(rows: Tensor, order: Tensor, counts: tuple[Tensor, ...]) -> tuple[RowTable, ...]:
    """One table per level, views."""
    return tuple(RowTable(*table) for table in zip(rows, order, counts, strict=True))
