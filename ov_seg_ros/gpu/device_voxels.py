"""Voxelisation on a GPU: the cells of ``core.voxels.VoxelGrid``, in the same order, without waiting for a number.

How many voxels there are is known only on the device. So every array has room for as many voxels as points, and what
the host would decide by a number the device decides by a comparison.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ov_seg_ros.core.errors import ConfigError, InputError
from ov_seg_ros.core.voxels import VoxelGrid

_LARGEST_INT32 = 2**31 - 1


@dataclass(frozen=True)
class DeviceVoxels:
    """The occupied cells of one scan; the counterpart of ``core.voxels.Voxels``.

    Attributes:
        coords: (capacity, 3) int32, distinct, in lexicographic order; those from ``count`` on lie outside the grid.
        count: (1,) int32, voxels that exist.
        point_to_voxel: (capacity,) int32, -1 = invalid point, outside the grid, or padding.
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

    Raises:
        ConfigError: the capacity is not positive.
    """

    def __init__(self, grid: VoxelGrid, capacity: int, device: torch.device | str) -> None:
        if capacity < 1:
            raise ConfigError(f"a scan on the device needs room for at least 1 point, got a capacity of {capacity}")
        layout, shape = KeyLayout.of(grid.shape), grid.shape
        dtype = key_type(layout.none)
        self._capacity = capacity
        self._cylindrical = grid.kind == "cylindrical"
        self._none = layout.none
        self._low = torch.tensor(grid.range_min, dtype=torch.float32, device=device)
        self._size = torch.tensor(grid.voxel_size, dtype=torch.float32, device=device)
        self._last_cell = torch.tensor([cells - 1 for cells in shape], dtype=torch.float32, device=device)
        self._first_cell = torch.zeros(3, dtype=torch.float32, device=device)
        self._strides = torch.tensor(layout.strides, dtype=dtype, device=device)
        self._lengths = torch.tensor([shape[0] + 2, shape[1] + 1, shape[2] + 1], dtype=dtype, device=device)
        self._no_key = torch.tensor([layout.none], dtype=dtype, device=device)
        self._no_row = torch.tensor([-1], dtype=torch.int32, device=device)
        self._row = torch.arange(capacity, dtype=torch.int32, device=device)

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
        key, has_cell = self._keys(cells, num_points)
        keys = distinct_keys(key[None], self._none)[0]  # (capacity + 1,)
        count = torch.searchsorted(keys, self._no_key, out_int32=True)
        row = torch.searchsorted(keys, key, out_int32=True)
        coords = torch.div(keys[:-1, None], self._strides, rounding_mode="trunc") % self._lengths
        return DeviceVoxels(coords.to(torch.int32), count, torch.where(has_cell, row, self._no_row), cells)

    def _axes(self, points: Tensor) -> Tensor:
        """``VoxelGrid.axes``."""
        if not self._cylindrical:
            return points
        x, y, z = points.unbind(1)
        return torch.stack((torch.hypot(x, y), torch.atan2(y, x), z), dim=1)

    def _keys(self, cells: Tensor, num_points: Tensor) -> tuple[Tensor, Tensor]:
        """(capacity,) key of every point, and whether it has a cell."""
        cell = cells.floor()
        clamped = cell.clamp(self._first_cell, self._last_cell)  # keeps NaN, which equals nothing
        has_cell = (cell == clamped).all(dim=1) & (self._row < num_points)
        dtype = self._strides.dtype
        key = (clamped.to(dtype) * self._strides).sum(dim=1, dtype=dtype)
        return torch.where(has_cell, key, self._no_key), has_cell


def distinct_keys(keys: Tensor, end: int) -> Tensor:
    """Sorts keys and drops repetitions.

    Args:
        keys: (B, capacity) keys of B sets; every key of a set is smaller than every key of the next.
        end: at least as large as all of them.

    Returns:
        (B, capacity + 1): of each set the distinct keys, in order, then ``end``, at least once.
    """
    batch, capacity = keys.shape
    ordered = torch.sort(keys.view(-1)).values.view(batch, capacity)  # as one row: sets stay apart by themselves
    differs = torch.zeros((batch, capacity), dtype=torch.int64, device=keys.device)
    torch.ne(ordered[:, 1:], ordered[:, :-1], out=differs[:, 1:])
    slot = differs.view(-1).cumsum(0).view(batch, capacity)  # as one row: devices add up a long one by many blocks
    if batch > 1:
        slot = slot - slot[:, :1]
    distinct = torch.full((batch, capacity + 1), end, dtype=keys.dtype, device=keys.device)
    return distinct.scatter_(1, slot, ordered)  # equal keys meet in a slot: whichever comes last, it is the same


def check_tensor(name: str, tensor: Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """Raises InputError unless a tensor has this shape and type; looks at no value, so nothing waits."""
    if tensor.shape != shape or tensor.dtype != dtype:
        raise InputError(f"{name} must be {shape} {dtype}, got {tuple(tensor.shape)} {tensor.dtype}")
