"""Neighbour tables of a sparse U-Net, made on a GPU: the counterpart of ``core.pyramid.build_pyramid``.

All levels are made at once, from the finest voxels: level l of the pyramid is the set of cells coords >> l. Keys, and
the rows of all tables of a kind, lie in one array, level behind level, each with room of its own: a launch serves all
levels, and little is moved that no scan needs. A row is found by a binary search in the sorted keys.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from ov_seg_ros.core.errors import ConfigError
from ov_seg_ros.core.pyramid import kernel_offset
from ov_seg_ros.gpu.device_tables import DevicePyramid, RowTable
from ov_seg_ros.gpu.device_voxels import KeyLayout, KeySegments, check_tensor, key_type

_NUM_NEIGHBORS = 27
_NUM_CORNERS = 8
_MAX_LEVELS = 16
"""So that the number of a level and a bit for each neighbour fit into an int32."""


class PyramidBuilder:
    """Makes the tables of one network for scan after scan.

    Args:
        shape: cells per axis of the grid, ``VoxelGrid.shape``.
        capacities: voxels that each level has room for, finest first; each at least 1, best a multiple of 4: then all
            tables begin at multiples of 16 bytes.
        device: where voxels lie.

    Raises:
        ConfigError: a capacity is not positive, or there is none or more than 16.
    """

    def __init__(self, shape: tuple[int, int, int], capacities: Sequence[int], device: torch.device | str) -> None:
        if min(capacities, default=0) < 1 or len(capacities) > _MAX_LEVELS:
            raise ConfigError(
                f"a pyramid needs 1 to {_MAX_LEVELS} levels, each with room for at least 1 voxel, "
                f"got capacities of {list(capacities)}"
            )
        num_levels = len(capacities)
        layouts = _level_layouts(shape, num_levels)
        none = [layout.none for layout in layouts]
        dtype = key_type(none[-1] + 2 * layouts[0].reach)
        self._capacity = capacities[0]
        self._room = torch.tensor(capacities, dtype=torch.int32, device=device)
        self._row = torch.arange(self._capacity, dtype=torch.int32, device=device)
        self._halvings = torch.arange(num_levels, dtype=torch.int32, device=device)[:, None, None]
        self._strides = torch.tensor([[layout.strides] for layout in layouts], dtype=dtype, device=device)  # (L, 1, 3)
        self._first_keys = torch.tensor([[[0, 0, layout.first]] for layout in layouts], dtype=dtype, device=device)
        self._no_key = torch.tensor(none, dtype=dtype, device=device)[:, None]
        self._first_rows = _first_rows(capacities).to(torch.int32).to(device)[:, None]
        self._coarse_keys = KeySegments(capacities[1:], none[1:], dtype, device) if num_levels > 1 else None
        self._neighbors = _NeighborSearch(layouts, capacities, dtype, device)
        self._corners = _CornerTables(capacities, device) if num_levels > 1 else None

    def build(self, coords: Tensor, count: Tensor) -> DevicePyramid:
        """Makes all tables of a scan.

        Rows of every level are in the order of ``core.pyramid.Pyramid``. ``order`` sorts them by the bit mask of their
        occupied positions, largest first, rows with the same mask in their order.

        Args:
            coords: (capacities[0], 3) int32 distinct cells in lexicographic order, inside the grid;
                ``DeviceVoxels.coords``.
            count: (1,) int32, cells that exist, more than capacities[0] where only the first ones are given; the rows
                behind them may hold anything.

        Raises:
            InputError: a tensor has another shape or type.
        """
        check_tensor("coords", coords, (self._capacity, 3), torch.int32)
        check_tensor("count", count, (1,), torch.int32)
        cells = coords >> self._halvings  # (L, capacity, 3)
        dtype = self._strides.dtype
        key = torch.addcmul(self._first_keys, cells.to(dtype), self._strides).sum(dim=2, dtype=dtype)
        key = torch.where(self._row < count, key, self._no_key)  # (L, capacity), a range of numbers per level
        keys, counts = self._sort(key, count)
        overflowed = (counts > self._room).any(dim=0, keepdim=True)
        count_of = counts.split(1)
        neighbors = self._neighbors.tables(keys, count_of)
        if self._corners is None:
            return DevicePyramid(count_of, neighbors, (), (), overflowed)
        slot = torch.searchsorted(keys, key, out_int32=True)  # (L, capacity) on each level, of every finest voxel
        has_row = slot < torch.searchsorted(keys, self._no_key, out_int32=True)
        down, up = self._corners.tables(cells, slot - self._first_rows, has_row, count_of)
        return DevicePyramid(count_of, neighbors, down, up, overflowed)

    def _sort(self, key: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
        """Distinct keys (R + 1,) of all R rows, level behind level, and the number (L,) that each level has."""
        if self._coarse_keys is None:
            return torch.cat((key[0], self._no_key[0])), count
        coarse, coarse_counts = self._coarse_keys.fill(key[1:])
        return torch.cat((key[0], coarse)), torch.cat((count, coarse_counts))  # the finest are sorted already


class _NeighborSearch:
    """Tables of what lies next to each voxel, of the R rows of all levels.

    Args:
        layouts: keys of each level.
        capacities: rows of each level.
        dtype: of keys.
        device: where they lie.
    """

    def __init__(
        self,
        layouts: Sequence[KeyLayout],
        capacities: Sequence[int],
        dtype: torch.dtype,
        device: torch.device | str,
    ) -> None:
        level = _owner_of_rows(capacities)
        first_row = _first_rows(capacities)[level].to(torch.int32)[:, None]
        strides = torch.tensor([[layout.strides] for layout in layouts], dtype=dtype)  # (L, 1, 3)
        offsets = torch.tensor([kernel_offset(k) for k in range(_NUM_NEIGHBORS)], dtype=dtype)  # (27, 3)
        self._capacities = list(capacities)
        self._steps = (strides * offsets).sum(dim=2, dtype=dtype)[:, :, None].to(device)  # (L, 27, 1)
        self._no_key = torch.tensor([layout.none for layout in layouts], dtype=dtype)[level].to(device)
        self._no_query = torch.tensor([-layouts[0].reach - 1], dtype=dtype, device=device)
        self._no_row = (first_row - 1).to(device)
        self._first_coarse_row = first_row[capacities[0] :].to(device)
        self._bits = torch.tensor(neighbor_bits(), dtype=torch.int32)[:, None].to(device)
        self._order = _RowOrder(capacities, _NUM_NEIGHBORS, torch.int32, device)

    def tables(self, keys: Tensor, counts: Sequence[Tensor]) -> tuple[RowTable, ...]:
        """One per level, from the sorted keys (R + 1,) of all.

        Searched position by position: voxels side by side have neighbours side by side, which saves memory traffic.
        """
        own = torch.where(keys[:-1] < self._no_key, keys[:-1], self._no_query)
        wanted = torch.empty((_NUM_NEIGHBORS, len(own)), dtype=keys.dtype, device=keys.device)
        parts = zip(own.split(self._capacities), self._steps, wanted.split(self._capacities, dim=1), strict=True)
        for part, steps, out in parts:  # the steps of every single row would be as much to read as is written
            torch.add(part, steps, out=out)
        slot = torch.searchsorted(keys, wanted, out_int32=True)
        found = keys.index_select(0, slot.view(-1)).view(slot.shape) == wanted
        rows = torch.empty((len(own), _NUM_NEIGHBORS), dtype=torch.int32, device=keys.device)
        torch.where(found.t(), slot.t(), self._no_row, out=rows)
        rows[self._capacities[0] :].sub_(self._first_coarse_row)  # from slots among all keys to rows of a level
        mask = (found * self._bits).sum(dim=0, dtype=torch.int32)  # (R,)
        return _tables(rows, self._order.of(mask), self._capacities, counts)


class _CornerTables:
    """Tables between each level and the next coarser one, down and up.

    Args:
        capacities: rows of each level.
        device: where they lie.
    """

    def __init__(self, capacities: Sequence[int], device: torch.device | str) -> None:
        self._capacities = [*capacities[1:], *capacities[:-1]]  # of the tables down, then of those up
        self._first_rows = _first_rows(self._capacities).to(torch.int32).view(2, -1, 1).to(device)
        self._outside = torch.tensor([sum(self._capacities)], dtype=torch.int32, device=device)
        self._weights = torch.tensor([4, 2, 1], dtype=torch.int32, device=device)
        self._bits = (1 << torch.arange(_NUM_CORNERS, dtype=torch.int16)).to(device)
        self._order = _RowOrder(self._capacities, _NUM_CORNERS, torch.int16, device)

    def tables(
        self, cells: Tensor, row: Tensor, has_row: Tensor, counts: Sequence[Tensor]
    ) -> tuple[tuple[RowTable, ...], tuple[RowTable, ...]]:
        """Down and up, one per stride.

        Every finest voxel writes its ancestors of two levels into each other's rows. Those that share an ancestor
        write the same number into the same place.

        Args:
            cells: (L, V, 3) int32 cell on each level of each of V finest voxels.
            row: (L, V) int32 its row there.
            has_row: (L, V) bool, whether it has one.
            counts: of each level.
        """
        corner = ((cells[:-1] & 1) * self._weights).sum(dim=2, dtype=torch.int64)  # (L - 1, V)
        fine, coarse = row[:-1], row[1:]
        into = torch.stack((coarse, fine)).add_(self._first_rows)  # (2, L - 1, V)
        into = torch.where(has_row[:-1] & has_row[1:], into, self._outside)
        place = torch.add(corner, into, alpha=_NUM_CORNERS)
        size = (sum(self._capacities) + 1, _NUM_CORNERS)  # the last row takes what belongs nowhere
        rows = torch.full(size, -1, dtype=torch.int32, device=row.device)
        rows.view(-1).scatter_(0, place.view(-1), torch.stack((fine, coarse)).view(-1))
        rows = rows[:-1]
        mask = ((rows >= 0) * self._bits).sum(dim=1, dtype=torch.int16)
        tables = _tables(rows, self._order.of(mask), self._capacities, [*counts[1:], *counts[:-1]])
        return tables[: len(fine)], tables[len(fine) :]


def neighbor_bits() -> list[int]:
    """The bit of each of the 27 kernel positions in the mask that rows are sorted by.

    Positions that few rows have occupied get the highest bits, so they fall into few tiles: those above and below
    first, as most of what a LiDAR sees of a street is level, then those at the corners. So tiles multiply fewer rows
    that are not there.
    """

    def rarity(k: int) -> tuple[int, int, int]:
        x, y, z = kernel_offset(k)
        return abs(z), abs(x) + abs(y), z

    ranked = sorted(range(_NUM_NEIGHBORS), key=rarity)
    return [1 << ranked.index(k) for k in range(_NUM_NEIGHBORS)]


class _RowOrder:
    """Sorts the rows of tables that lie one behind the other, every table for itself.

    Args:
        capacities: rows of each table; at most 16 tables for 27 positions.
        num_positions: K.
        dtype: has room for K bits and the number of a table.
        device: where tables lie.
    """

    def __init__(
        self, capacities: Sequence[int], num_positions: int, dtype: torch.dtype, device: torch.device | str
    ) -> None:
        table = _owner_of_rows(capacities)
        self._later_tables = ((len(capacities) - 1 - table) << num_positions).to(dtype).to(device)
        self._first_row = _first_rows(capacities)[table].to(torch.int32).to(device)

    def of(self, mask: Tensor) -> Tensor:
        """(R,) int32: rows of each table by the bit masks (R,) of their occupied positions, the largest first.

        A row that does not exist has no position occupied, so it comes last.
        """
        place = torch.sort(mask.add_(self._later_tables), descending=True, stable=True).indices
        return torch.sub(place, self._first_row, out=torch.empty_like(place, dtype=torch.int32))


def _level_layouts(shape: tuple[int, int, int], num_levels: int) -> list[KeyLayout]:
    """Keys of each level, those of a level so far behind those of the finer one that no step leads back to them.

    The last cells of a level may be half outside the grid.
    """
    layouts = [KeyLayout.of(shape)]
    for _ in range(num_levels - 1):
        x, y, z = shape
        shape = -(-x >> 1), -(-y >> 1), -(-z >> 1)
        layouts.append(KeyLayout.of(shape, first=layouts[-1].none + layouts[-1].reach + 1))
    return layouts


def _first_rows(capacities: Sequence[int]) -> Tensor:
    """(len(capacities),) int64, where each of them begins if they lie one behind the other."""
    return torch.tensor([0, *itertools.accumulate(capacities)][:-1])


def _owner_of_rows(capacities: Sequence[int]) -> Tensor:
    """(R,) int64, the number of the table or level that each row belongs to."""
    return torch.arange(len(capacities)).repeat_interleave(torch.tensor(capacities))


def _tables(rows: Tensor, order: Tensor, capacities: list[int], counts: Sequence[Tensor]) -> tuple[RowTable, ...]:
    """Views of the rows and the order of all tables."""
    parts = zip(rows.split(capacities), order.split(capacities), counts, strict=True)
    return tuple(RowTable(*part) for part in parts)
