"""Which input row meets which weight for which output row: the form that other libraries' kernels are fed from.

A map lists triples (row written, row read, kernel position). The position indexes the weights of ``sparse_layers`` as
they are stored, so a library that takes its map as an argument needs no other order of them, whatever order
it would number its own kernel positions in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from ov_seg_ros.core.errors import ConfigError
from training.student.sparse_layers import CENTRE, TABLES, LevelTables, SparseBackend, StrideTables

KERNEL_TYPES = (torch.float32, torch.float16)
"""What the kernels of the libraries compute in on a GPU."""


@dataclass(frozen=True)
class KernelMap:
    """One sparse convolution: ``out[into] += features[source] @ weight[position]`` over all triples.

    No two triples share ``into`` and ``position``, nor ``source`` and ``position``.

    Attributes:
        into: (P,) int64 row written.
        source: (P,) int64 row read.
        position: (P,) int64 in [0, volume).
        num_out: rows of the output.
        num_in: rows of the input.
        volume: kernel positions, 27 or 8.
    """

    into: Tensor
    source: Tensor
    position: Tensor
    num_out: int
    num_in: int
    volume: int

    @classmethod
    def of_level(cls, tables: LevelTables, num_voxels: int) -> KernelMap:
        """Map of a submanifold convolution."""
        every = torch.arange(num_voxels, device=tables.centre.device)
        offset = _positions(tables.starts, tables.centre)
        into = torch.cat([tables.centre, every, tables.neighbor])
        source = torch.cat([tables.neighbor, every, tables.centre])
        position = torch.cat([offset, torch.full_like(every, CENTRE), 2 * CENTRE - offset])
        return cls(into, source, position, num_voxels, num_voxels, 2 * CENTRE + 1)

    @classmethod
    def of_stride(cls, tables: StrideTables) -> KernelMap:
        """Map of the convolution onto the coarser voxels; ``reversed`` it is that of the transposed convolution."""
        corner = _positions(tables.starts, tables.child)
        return cls(tables.parent, tables.child, corner, tables.num_coarse, len(tables.child), 8)

    def reversed(self) -> KernelMap:
        """The same triples read and written the other way round."""
        return KernelMap(self.source, self.into, self.position, self.num_in, self.num_out, self.volume)

    def table(self, num_rows: int | None = None) -> Tensor:
        """(num_rows, volume) int32: the row read for each output row and position, -1 = none.

        Args:
            num_rows: at least ``num_out``, which is the default; the rows beyond read nothing.
        """
        table = self.source.new_full((num_rows or self.num_out, self.volume), -1, dtype=torch.int32)
        table[self.into, self.position] = self.source.int()
        return table

    def pair_lists(self) -> tuple[Tensor, Tensor]:
        """The pairs by position.

        Returns:
            (2, volume, longest list) int32 rows read and rows written, -1 behind the end of a list, and
            (volume,) int32 lengths of the lists.
        """
        order = torch.argsort(self.position, stable=True)
        position = self.position[order]
        lengths = torch.bincount(position, minlength=self.volume)
        slot = torch.arange(len(order), device=order.device) - (lengths.cumsum(0) - lengths)[position]
        pairs = self.into.new_full((2, self.volume, int(lengths.max())), -1, dtype=torch.int32)
        pairs[0, position, slot] = self.source[order].int()
        pairs[1, position, slot] = self.into[order].int()
        return pairs, lengths.int()


def backend_of_kernels(
    name: str,
    runs: Callable[[Tensor], bool],
    prepare: Callable[[KernelMap], Any],
    convolve: Callable[[Tensor, Tensor, Any], Tensor],
) -> SparseBackend:
    """A backend from one function that convolves along any map.

    Its convolutions raise ConfigError for a type of ``features`` on the GPU that is not in ``KERNEL_TYPES``.

    Args:
        name: of the backend.
        runs: whether these features are for ``convolve``; others, and scans without a voxel, go to the default backend.
        prepare: a map in the library's form; called once per table, as the layers of a level share it.
        convolve: (features (num_in, C_in), weight (volume, C_in, C_out), prepared map) to (num_out, C_out).
    """

    def run(step: str, features: Tensor, weight: Tensor, tables: Any, make_map: Callable[[], KernelMap]) -> Tensor:
        if not len(features) or not runs(features):
            return getattr(TABLES, step)(features, weight, tables)
        if features.is_cuda and features.dtype not in KERNEL_TYPES:
            raise ConfigError(
                f"{name} computes in float32 or float16, got {features.dtype}: train with precision fp32 or fp16, or "
                "use the sparse backend tables"
            )
        key = f"{name} {step}"
        if key not in tables.derived:
            tables.derived[key] = prepare(make_map())
        return convolve(features, weight, tables.derived[key])

    def submanifold(features: Tensor, weight: Tensor, tables: LevelTables) -> Tensor:
        return run("submanifold", features, weight, tables, lambda: KernelMap.of_level(tables, len(features)))

    def down(features: Tensor, weight: Tensor, tables: StrideTables) -> Tensor:
        return run("down", features, weight, tables, lambda: KernelMap.of_stride(tables))

    def up(features: Tensor, weight: Tensor, tables: StrideTables) -> Tensor:
        return run("up", features, weight, tables, lambda: KernelMap.of_stride(tables).reversed())

    return SparseBackend(name, submanifold, down, up)


def _positions(starts: list[int], like: Tensor) -> Tensor:
    """Kernel position of each of the rows that ``starts`` groups."""
    lengths = torch.tensor([end - start for start, end in pairwise(starts)], device=like.device)
    return torch.arange(len(lengths), device=like.device).repeat_interleave(lengths, output_size=starts[-1])
