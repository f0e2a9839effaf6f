"""Neighbour tables of a sparse U-Net, made on a GPU: the counterpart of ``core.pyramid.build_pyramid``.

All levels are made at once, from the finest voxels: level l of the pyramid is the set of cells coords >> l. That takes
a fifth of the launches of going from level to level, and moves as many bytes, because the host cannot know how many
voxels a coarse level has. A row is found by a binary search in the sorted keys of its level.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ov_seg_ros.core.errors import ConfigError
from ov_seg_ros.core.pyramid import kernel_offset
from ov_seg_ros.gpu.device_tables import DevicePyramid, RowTable
from ov_seg_ros.gpu.device_voxels import KeyLayout, check_tensor, distinct_keys, key_type

_NUM_NEIGHBORS = 27
_NUM_CORNERS = 8
_MAX_LEVELS = 16
"""So that the number of a level and a bit for each neighbour fit into an int32."""


class PyramidBuilder:
    """Makes the tables of one network for scan after scan.

    Levels are as large as the finest one: in the worst case no two voxels share a cell of any level.

    Args:
        shape: cells per axis of the grid, ``VoxelGrid.shape``.
        num_levels: resolutions including the finest, 5 for a MinkUNet.
        capacity: voxels the finest level may have, at least 1.
        device: where voxels lie.

    Raises:
        ConfigError: a number is not positive, or there are more than 16 levels.
    """

    def __init__(self, shape: tuple[int, int, int], num_levels: int, capacity: int, device: torch.device | str) -> None:
        if min(num_levels, capacity) < 1 or num_levels > _MAX_LEVELS:
            raise ConfigError(
                f"a pyramid needs 1 to {_MAX_LEVELS} levels and room for at least 1 voxel, "
                f"got num_levels {num_levels} and a capacity of {capacity}"
            )
        layouts = _level_layouts(shape, num_levels)
        self._last_key = layouts[-1].none
        dtype = key_type(self._last_key + 2 * layouts[0].reach)
        self._capacity = capacity
        strides = torch.tensor([layout.strides for layout in layouts], dtype=dtype)[:, None]  # (L, 1, 3)
        offsets = torch.tensor([kernel_offset(k) for k in range(_NUM_NEIGHBORS)], dtype=dtype)  # (27, 3)
        self._strides = strides.to(device)
        self._steps = (strides * offsets).sum(dim=2, dtype=dtype)[:, :, None].to(device)  # (L, 27, 1)
        self._first_keys = torch.tensor([[[0, 0, layout.first]] for layout in layouts], dtype=dtype, device=device)
        self._no_key = torch.tensor([[layout.none] for layout in layouts], dtype=dtype, device=device)  # (L, 1)
        self._no_query = torch.tensor([-layouts[0].reach - 1], dtype=dtype, device=device)
        self._no_row = torch.tensor([-1], dtype=torch.int32, device=device)
        self._row = torch.arange(capacity, dtype=torch.int32, device=device)
        self._halvings = torch.arange(num_levels, dtype=torch.int32, device=device)[:, None, None]
        self._corner_weights = torch.tensor([4, 2, 1], dtype=torch.int32, device=device)
        self._neighbor_order = _RowOrder((num_levels,), _NUM_NEIGHBORS, torch.int32, capacity, device)
        self._corner_order = _RowOrder((2, num_levels - 1), _NUM_CORNERS, torch.int16, capacity, device)

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
        key = torch.addcmul(self._first_keys, cells.to(dtype), self._strides).sum(dim=2, dtype=dtype)
        key = torch.where(exists, key, self._no_key)  # (L, capacity), a range of numbers per level
        keys = distinct_keys(key, self._last_key)  # (L, capacity + 1)
        counts = torch.searchsorted(keys, self._no_key, out_int32=True).unbind(0)
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
        return rows, self._neighbor_order.of(found, dim=1)

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
        return rows, self._corner_order.of(rows >= 0, dim=3)


class _RowOrder:
    """Sorts the rows of several tables at once.

    Args:
        tables: shape of the array of tables, at most 16 of them for 27 positions.
        num_positions: K.
        dtype: has room for K bits and the number of a table.
        capacity: rows of a table.
        device: where tables lie.
    """

    def __init__(
        self, tables: tuple[int, ...], num_positions: int, dtype: torch.dtype, capacity: int, device: torch.device | str
    ) -> None:
        number = torch.arange(math.prod(tables)).view(*tables, 1)
        self._later_tables = (number.flip(*range(len(tables))) << num_positions).to(dtype).to(device)
        self._first_row = (number * capacity).to(device)
        self._bits = (1 << torch.arange(num_positions)).to(dtype).to(device)

    def of(self, occupied: Tensor, dim: int) -> Tensor:
        """(*tables, capacity) int32: rows by the masks of their occupied positions, the largest first.

        A row that does not exist has no position occupied, so it comes last.

        Args:
            occupied: (*tables, capacity and K in this or the other order) bool.
            dim: of the positions.
        """
        bits = self._bits if dim == occupied.ndim - 1 else self._bits[:, None]
        mask = (occupied * bits).sum(dim=dim, dtype=bits.dtype) + self._later_tables
        place = torch.sort(mask.view(-1), descending=True, stable=True).indices.view(mask.shape)
        order = torch.empty_like(place, dtype=torch.int32)
        return torch.sub(place, self._first_row, out=order)


def _level_layouts(shape: tuple[int, int, int], num_levels: int) -> list[KeyLayout]:
    """Keys of each level, those of a level behind those of the finer one. The last cells may be half outside."""
    layouts = [KeyLayout.of(shape)]
    for _ in range(num_levels - 1):
        x, y, z = shape
        shape = -(-x >> 1), -(-y >> 1), -(-z >> 1)
        layouts.append(KeyLayout.of(shape, first=layouts[-1].none + 1))
    return layouts


def _tables(rows: Tensor, order: Tensor, counts: tuple[Tensor, ...]) -> tuple[RowTable, ...]:
    """One table per level, views."""
    return tuple(RowTable(*table) for table in zip(rows, order, counts, strict=True))
