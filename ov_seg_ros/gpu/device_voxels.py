"""Voxelisation on a GPU: the cells of ``core.voxels.VoxelGrid``, in the same order, without waiting for a number.

How many voxels there are is known only on the device. So every array has a fixed room, and what the host would decide
by a number the device decides by a comparison.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ov_seg_ros.core.errors import ConfigError, InputError
from ov_seg_ros.core.voxels import HALF_TURN, VoxelGrid

_LARGEST_INT32 = 2**31 - 1


@dataclass(frozen=True)
class DeviceVoxels:
    """The occupied cells of one scan; the counterpart of ``core.voxels.Voxels``.

    Of more voxels than there is room for, the first ones are kept.

    Attributes:
        coords: (voxel_capacity, 3) int32, distinct, in lexicographic order; those from ``count`` on lie outside the
            grid.
        count: (1,) int32, voxels that the scan has, even if there is no room for all of them.
        point_to_voxel: (capacity,) int32, -1 = invalid point, outside the grid, padding, or in a voxel that was not
            kept.
        cells: (capacity, 3) float32 place of each point on the axes of the grid, in cells from its lower corner;
            anything where ``point_to_voxel`` is -1.
    """

    coords: Tensor
    count: Tensor
    point_to_voxel: Tensor
    cells: Tensor


@dataclass(frozen=True)
class KeyLayout:
    """Cells as single numbers, in lexicographic order.

    The key of a cell is first + x * strides[0] + y * strides[1] + z. The axes y and z are one cell longer than the
    grid. This cell is never occupied, so one step out of the grid, to either side, leads to no cell on its other side.

    Attributes:
        first: key of the cell (0, 0, 0).
        strides: of x, y, z.
        none: larger than the key of any cell of the grid and of any neighbour of one; stands for no cell.
    """

    first: int
    strides: tuple[int, int, int]
    none: int

    @classmethod
    def of(cls, shape: tuple[int, int, int], first: int = 0) -> KeyLayout:
        """For a grid of ``shape`` cells."""
        num_x, num_y, num_z = shape
        stride_x = (num_y + 1) * (num_z + 1)
        return cls(first, (stride_x, num_z + 1, 1), first + (num_x + 1) * stride_x)

    @property
    def reach(self) -> int:
        """How far the keys of neighbours are apart, at most."""
        return sum(self.strides)


def key_type(largest: int) -> torch.dtype:
    """The narrowest type that holds all keys: it is sorted and searched faster."""
    return torch.int32 if largest <= _LARGEST_INT32 else torch.int64


class DeviceGrid:
    """Sorts scans into a grid.

    Cells are those of ``VoxelGrid.voxelize``, bit by bit; of a cylindrical grid but for points that lie within a
    rounding error of a border between cells, because libraries of different devices round angles differently.

    Args:
        grid: cells.
        capacity: points a scan may have, at least 1.
        device: where scans lie.
        voxel_capacity: voxels there is room for, at least 1; None = as many as points.

    Raises:
        ConfigError: a capacity is not positive.
    """

    def __init__(
        self, grid: VoxelGrid, capacity: int, device: torch.device | str, voxel_capacity: int | None = None
    ) -> None:
        voxel_capacity = check_capacities(capacity, voxel_capacity)
        layout, shape = KeyLayout.of(grid.shape), grid.shape
        dtype = key_type(layout.none)
        self._capacity = capacity
        self._voxel_capacity = voxel_capacity
        self._cylindrical = grid.kind == "cylindrical"
        self._low = torch.tensor(grid.range_min, dtype=torch.float32, device=device)
        self._size = torch.tensor(grid.voxel_size, dtype=torch.float32, device=device)
        self._last_cell = torch.tensor([cells - 1 for cells in shape], dtype=torch.float32, device=device)
        self._first_cell = torch.zeros(3, dtype=torch.float32, device=device)
        self._strides = torch.tensor(layout.strides, dtype=dtype, device=device)
        self._lengths = torch.tensor([shape[0] + 2, shape[1] + 1, shape[2] + 1], dtype=dtype, device=device)
        self._no_key = torch.tensor([layout.none], dtype=dtype, device=device)
        self._no_row = torch.tensor([-1], dtype=torch.int32, device=device)
        self._row = torch.arange(capacity, dtype=torch.int32, device=device)
        self._segments = KeySegments([voxel_capacity], [layout.none], dtype, device)

    def voxelize(self, points: Tensor, num_points: Tensor) -> DeviceVoxels:
        """Finds the occupied cells.

        Args:
            points: (capacity, 3) float32, metres; NaN and infinite points belong to no cell.
            num_points: (1,) int32, points that exist; the rows behind them may hold anything.

        Raises:
            InputError: a tensor has another shape or type.
        """
        check_tensor("points", points, (self._capacity, 3), torch.float32)
        check_tensor("num_points", num_points, (1,), torch.int32)
        cells = (self._axes(points) - self._low) / self._size
        key = self._keys(cells, num_points)
        keys, count = self._segments.fill(key[None])  # (voxel_capacity + 1,)
        row = torch.searchsorted(keys, key, out_int32=True)  # without a voxel, at least as large as their number
        point_to_voxel = torch.where(row < count.clamp(max=self._voxel_capacity), row, self._no_row)
        coords = torch.div(keys[:-1, None], self._strides, rounding_mode="trunc") % self._lengths
        return DeviceVoxels(coords.to(torch.int32), count, point_to_voxel, cells)

    def _axes(self, points: Tensor) -> Tensor:
        """``VoxelGrid.axes``."""
        if not self._cylindrical:
            return points
        x, y, z = points.unbind(1)
        phi = torch.atan2(y, x)
        phi = torch.where(phi >= float(HALF_TURN), -float(HALF_TURN), phi)
        return torch.stack((torch.hypot(x, y), phi, z), dim=1)

    def _keys(self, cells: Tensor, num_points: Tensor) -> Tensor:
        """(capacity,) key of every point, ``none`` for one without a cell."""
        cell = cells.floor()
        clamped = cell.clamp(self._first_cell, self._last_cell)  # keeps NaN, which equals nothing
        has_cell = (cell == clamped).all(dim=1) & (self._row < num_points)
        dtype = self._strides.dtype
        key = (clamped.to(dtype) * self._strides).sum(dim=1, dtype=dtype)
        return torch.where(has_cell, key, self._no_key)


class KeySegments:
    """Sets of distinct keys, one behind the other in one sorted array, each in a segment with room for so many.

    Where a set ends before its segment, the rest holds a key that is larger than its own and smaller than those of the
    next set. So one binary search finds keys of all sets.

    Args:
        capacities: keys that each of S segments has room for.
        none: what stands for no key in each of them, ascending; every key of a segment is smaller than its own and
            larger than the one before.
        dtype: of keys.
        device: where they lie.
    """

    def __init__(
        self, capacities: Sequence[int], none: Sequence[int], dtype: torch.dtype, device: torch.device | str
    ) -> None:
        ends = list(itertools.accumulate(capacities))
        segments = zip(none, capacities, strict=True)
        no_key = [torch.full((capacity,), number, dtype=dtype) for number, capacity in segments]
        self._empty = torch.cat([*no_key, torch.full((2,), none[-1], dtype=dtype)]).to(device)
        self._none = torch.tensor(none, dtype=dtype, device=device)[:, None]
        self._ends = torch.tensor(ends, dtype=torch.int64, device=device)[:, None]
        self._firsts = torch.tensor([0, *ends[:-1]], dtype=torch.int64, device=device)[:, None]
        self._outside = torch.tensor([ends[-1] + 1], dtype=torch.int64, device=device)

    def fill(self, keys: Tensor) -> tuple[Tensor, Tensor]:
        """Sorts keys into their segments and drops repetitions, and the largest ones where there are too many.

        Args:
            keys: (S, N) of every set, N the same for all; ``none`` where there is no key.

        Returns:
            (sum of capacities + 1,): the segments, and behind them the ``none`` of the last one. And (S,) int32, how
            many distinct keys each set has, even if there is no room for all of them.
        """
        ordered = torch.sort(keys.view(-1)).values.view(keys.shape)  # as one row: sets stay apart by themselves
        differs = torch.zeros(keys.shape, dtype=torch.int64, device=keys.device)
        torch.ne(ordered[:, 1:], ordered[:, :-1], out=differs[:, 1:])
        slot = differs.view(-1).cumsum(0).view(keys.shape)  # as one row: devices add up a long one by many blocks
        if len(keys) > 1:
            slot = slot + (self._firsts - slot[:, :1])
        end = slot[:, -1:] + (ordered[:, -1:] < self._none)
        count = torch.empty(len(keys), dtype=torch.int32, device=keys.device)
        torch.sub(end[:, 0], self._firsts[:, 0], out=count)
        slot = torch.where(slot < self._ends, slot, self._outside)
        filled = self._empty.clone().scatter_(0, slot.view(-1), ordered.view(-1))  # equal keys meet in a slot
        return filled[:-1], count


def check_capacities(points: int, voxels: int | None) -> int:
    """The number of voxels, as many as points where it is None.

    Raises:
        ConfigError: a number is not positive.
    """
    voxels = points if voxels is None else voxels
    if min(points, voxels) < 1:
        raise ConfigError(
            f"a scan on the device needs room for at least 1 point and 1 voxel, got a capacity of {points} points and "
            f"{voxels} voxels"
        )
    return voxels


def check_tensor(name: str, tensor: Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """Raises InputError unless a tensor has this shape and type; looks at no value, so nothing waits."""
    if tensor.shape != shape or tensor.dtype != dtype:
        raise InputError(f"{name} must be {shape} {dtype}, got {tuple(tensor.shape)} {tensor.dtype}")
