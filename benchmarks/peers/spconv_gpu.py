"""spconv 2.3 on a GPU: its implicit GEMM on our maps. Facts relied on: see ``training.student.spconv_layers``."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.peers.case import Case
from benchmarks.peers.library import LibraryRun, Maps, SparseLibrary
from benchmarks.peers.unet import DOWN, SUBMANIFOLD, UP
from ov_seg_ros.core.errors import MissingDependencyError
from ov_seg_ros.core.pyramid import build_pyramid
from training.student.kernel_maps import KernelMap
from training.student.sparse_layers import Tables
from training.student.spconv_layers import INSTALL, SortedTable

DEVICE = "cuda"


def implicit_gemm(case: Case, dtype: torch.dtype = torch.float16) -> LibraryRun:
    """A contender whose ``run`` launches one forward pass and waits for nothing.

    Raises:
        MissingDependencyError: spconv is not installed.
    """
    if importlib.util.find_spec("spconv") is None:
        raise MissingDependencyError("spconv", INSTALL, "the peer spconv")
    return LibraryRun(case, 1, _ImplicitGemm(), with_maps=False, place=(DEVICE, dtype))


class _ImplicitGemm(SparseLibrary):
    name = "spconv on a GPU"

    def prepare(self, weight: Tensor, kind: str, level: int) -> Tensor:
        edge = round(len(weight) ** (1 / 3))
        return weight.permute(2, 0, 1).reshape(weight.shape[2], edge, edge, edge, weight.shape[1]).contiguous()

    def build_maps(self, coords: Tensor, num_levels: int) -> Maps:
        return _OurMaps(coords, num_levels)


class _OurMaps(Maps):
    def __init__(self, coords: Tensor, num_levels: int) -> None:
        self.order = None
        tables = Tables.from_pyramid(build_pyramid(coords.cpu().numpy(), num_levels), DEVICE)
        strides = [KernelMap.of_stride(stride) for stride in tables.strides]
        sizes = [len(coords), *(stride.num_out for stride in strides)]
        levels = [KernelMap.of_level(level, size) for level, size in zip(tables.levels, sizes, strict=True)]
        self._tables: dict[str, list[SortedTable]] = {
            SUBMANIFOLD: [SortedTable.of(level) for level in levels],
            DOWN: [SortedTable.of(stride) for stride in strides],
            UP: [SortedTable.of(stride.reversed()) for stride in strides],
        }
        self._every: list[Any] = [np.array([0xFFFFFFFF], np.uint32)]

    def convolve(self, features: Tensor, weight: Tensor, kind: str, level: int) -> Tensor:
        from spconv.pytorch.functional import SparseImplicitGemmFunction

        table = self._tables[kind][level]
        return SparseImplicitGemmFunction.apply(
            *(features, weight, table.table, table.table, [table.mask], [table.mask]),
            *([table.order], [table.order], table.table.shape[1], self._every, False, False),
        )
