"""Sparse convolutions on the neighbour tables of ``ov_seg_ros.core.pyramid``, in torch.

Each layer is, per kernel offset, a gather, a matrix product and a scatter-add whose rows are distinct,
so results depend neither on the number of threads nor, on a GPU, on who adds first. The exporter writes the same
three steps as ONNX nodes.
Other libraries can do the same arithmetic on the same weights and tables: see ``sparse_backends``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ov_seg_ros.core.pyramid import NUM_OFFSETS, Pyramid

CENTRE = NUM_OFFSETS


@dataclass(frozen=True)
class LevelTables:
    """``core.pyramid.Level`` as tensors; ``starts`` stay Python numbers, ``derived`` is what backends made of them."""

    centre: Tensor
    neighbor: Tensor
    starts: list[int]
    derived: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True)
class StrideTables:
    """``core.pyramid.Stride`` as tensors, with the number of coarse voxels; ``derived`` as in ``LevelTables``."""

    child: Tensor
    parent: Tensor
    position: Tensor
    starts: list[int]
    num_coarse: int
    derived: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True)
class Tables:
    """All index tables that one forward pass needs."""

    levels: tuple[LevelTables, ...]
    strides: tuple[StrideTables, ...]

    @classmethod
    def from_pyramid(cls, pyramid: Pyramid, device: torch.device | str = "cpu") -> Tables:
        """Copies the arrays of a pyramid to ``device``."""
        levels = tuple(
            LevelTables(_tensor(v.pair_centre, device), _tensor(v.pair_neighbor, device), v.pair_starts.tolist())
            for v in pyramid.levels
        )
        strides = tuple(
            StrideTables(
                _tensor(s.child, device),
                _tensor(s.parent, device),
                _tensor(s.position, device),
                s.starts.tolist(),
                len(pyramid.levels[i + 1]),
            )
            for i, s in enumerate(pyramid.strides)
        )
        return cls(levels, strides)

    def to(self, device: torch.device) -> Tables:
        """The same tables on a device."""
        levels = tuple(LevelTables(v.centre.to(device), v.neighbor.to(device), v.starts) for v in self.levels)
        strides = tuple(
            StrideTables(s.child.to(device), s.parent.to(device), s.position.to(device), s.starts, s.num_coarse)
            for s in self.strides
        )
        return Tables(levels, strides)


def _tensor(array: Any, device: torch.device | str) -> Tensor:
    return torch.from_numpy(array).to(device)


def submanifold(features: Tensor, weight: Tensor, tables: LevelTables) -> Tensor:
    """(V, C_in) to (V, C_out) by ``weight`` (27, C_in, C_out)."""
    return _SubmanifoldFunction.apply(features, weight, tables)


def down(features: Tensor, weight: Tensor, tables: StrideTables) -> Tensor:
    """(V_fine, C_in) to (V_coarse, C_out) by ``weight`` (8, C_in, C_out)."""
    grouped = features.index_select(0, tables.child)  # (V_fine, C_in), by corner
    return _ParentSum.apply(_grouped_matmul(grouped, weight, tables.starts), tables)


def up(features: Tensor, weight: Tensor, tables: StrideTables) -> Tensor:
    """(V_coarse, C_in) to (V_fine, C_out) by ``weight`` (8, C_in, C_out)."""
    grouped = _ParentRows.apply(features, tables)  # (V_fine, C_in), by corner
    return _grouped_matmul(grouped, weight, tables.starts).index_select(0, tables.position)


@dataclass(frozen=True)
class SparseBackend:
    """Who does the arithmetic of the three convolutions: the functions above, or others with their signatures."""

    name: str
    submanifold: Callable[[Tensor, Tensor, LevelTables], Tensor]
    down: Callable[[Tensor, Tensor, StrideTables], Tensor]
    up: Callable[[Tensor, Tensor, StrideTables], Tensor]

    def __deepcopy__(self, _memo: dict[int, Any]) -> SparseBackend:
        """Itself: copies of a network share their backend."""
        return self


TABLES = SparseBackend("tables", submanifold, down, up)


class SubmanifoldConv(nn.Module):
    """3 x 3 x 3 convolution on the active voxels only (cross-correlation, as torch and spconv).

    ``weight`` is (27, C_in, C_out), kernel position k as in ``core.pyramid.kernel_offset``. No bias: a norm follows.
    """

    backend: SparseBackend = TABLES

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(27, in_channels, out_channels))
        nn.init.normal_(self.weight, std=(2.0 / (27 * out_channels)) ** 0.5)

    def forward(self, features: Tensor, tables: LevelTables) -> Tensor:
        """(V, C_in) to (V, C_out)."""
        return self.backend.submanifold(*_in_one_type(features, self.weight), tables)


class DownConv(nn.Module):
    """2 x 2 x 2 convolution of stride 2; ``weight`` is (8, C_in, C_out) by corner of ``core.pyramid.Stride``."""

    backend: SparseBackend = TABLES

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(8, in_channels, out_channels))
        nn.init.normal_(self.weight, std=(2.0 / (8 * out_channels)) ** 0.5)

    def forward(self, features: Tensor, tables: StrideTables) -> Tensor:
        """(V_fine, C_in) to (V_coarse, C_out)."""
        return self.backend.down(*_in_one_type(features, self.weight), tables)


class UpConv(nn.Module):
    """Transpose of ``DownConv``: 2 x 2 x 2, stride 2, back onto the fine voxels; ``weight`` (8, C_in, C_out)."""

    backend: SparseBackend = TABLES

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(8, in_channels, out_channels))
        nn.init.normal_(self.weight, std=(2.0 / (8 * out_channels)) ** 0.5)

    def forward(self, features: Tensor, tables: StrideTables) -> Tensor:
        """(V_coarse, C_in) to (V_fine, C_out)."""
        return self.backend.up(*_in_one_type(features, self.weight), tables)


def _in_one_type(features: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Features and weight in the type of the autocast region, if one is active: sums must not mix types."""
    device = features.device.type
    if not torch.is_autocast_enabled(device):
        return features, weight
    dtype = torch.get_autocast_dtype(device)
    return features.to(dtype), weight.to(dtype)


def _grouped_matmul(rows: Tensor, weight: Tensor, starts: list[int]) -> Tensor:
    """Rows [starts[o], starts[o + 1]) times weight[o]."""
    return torch.cat([rows[starts[o] : starts[o + 1]] @ weight[o] for o in range(len(weight))])


def _sum_by_parent(rows: Tensor, tables: StrideTables) -> Tensor:
    """(V_fine, C), by corner, to (V_coarse, C). A voxel has one child per corner: the rows of each sum are distinct."""
    out = rows.new_zeros(tables.num_coarse, rows.shape[1])
    for begin, end in zip(tables.starts, tables.starts[1:], strict=False):
        out.index_add_(0, tables.parent[begin:end], rows[begin:end])
    return out


class _ParentSum(torch.autograd.Function):
    """Sum over children."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, tables: StrideTables) -> Tensor:
        ctx.tables = tables
        return _sum_by_parent(rows, tables)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0].index_select(0, ctx.tables.parent), None


class _ParentRows(torch.autograd.Function):
    """Every child gets the row of its parent."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, tables: StrideTables) -> Tensor:
        ctx.tables = tables
        return features.index_select(0, tables.parent)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return _sum_by_parent(grads[0], ctx.tables), None


class _SubmanifoldFunction(torch.autograd.Function):
    """Gathers again in the backward pass instead of keeping 26 gathered copies."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, tables: LevelTables) -> Tensor:
        out = features @ weight[CENTRE]
        for into, source, k in _directed_pairs(tables):
            out.index_add_(0, into, features.index_select(0, source) @ weight[k])
        ctx.save_for_backward(features, weight)
        ctx.tables = tables
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        (grad,) = grads
        features, weight = ctx.saved_tensors
        grad_features = grad @ weight[CENTRE].T
        grad_weight = torch.zeros_like(weight)
        grad_weight[CENTRE] = features.T @ grad
        for into, source, k in _directed_pairs(ctx.tables):
            rows = grad.index_select(0, into)
            grad_weight[k] = features.index_select(0, source).T @ rows
            grad_features.index_add_(0, source, rows @ weight[k].T)
        return grad_features, grad_weight, None


def _directed_pairs(tables: LevelTables) -> list[tuple[Tensor, Tensor, int]]:
    """(row written, row read, kernel position) of the 26 off-centre positions that occur."""
    pairs = []
    for k in range(NUM_OFFSETS):
        rows = slice(tables.starts[k], tables.starts[k + 1])
        if rows.start < rows.stop:
            pairs.append((tables.centre[rows], tables.neighbor[rows], k))
            pairs.append((tables.neighbor[rows], tables.centre[rows], 26 - k))
    return pairs
