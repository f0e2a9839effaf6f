"""The convolutions of ``sparse_layers`` by the kernels of spconv 2.3.

spconv's autograd functions take maps of rows as their arguments, so ours go in directly: no coordinates and no hashing;
only the axes of the weights are exchanged on the way, (volume, C_in, C_out) to (C_out, k, k, k, C_in).

- On a GPU: implicit GEMM, as spconv's own default. Never run so far: no GPU was at hand.
- On the CPU: gather, product, scatter in float32, which is what the tests run. It is right on one thread alone: above,
  spconv 2.3.8 writes wrong sums, different ones each time. Its backward pass on the CPU asks for a CUDA stream. Where
  either stands in the way, the default backend computes.

Facts relied on, from spconv 2.3.8 (github.com/traveller59/spconv):

- ``spconv/pytorch/functional.py``: ``SparseConvFunction`` is an autograd function of (features, filters, pairs (2,
  volume, length) int32 of rows read and written, counts (volume,) int32, rows written, algorithm), and
  ``SparseImplicitGemmFunction`` of (features, filters, pair_fwd (volume, rows written) int32 with -1 for none, pair_bwd
  (volume, rows read) likewise, masks, backward masks, orders, backward orders, rows written, mask filters, is_train,
  is_subm). Both cast to float16 where autocast is on for CUDA, whatever its type.
- ``spconv/pytorch/ops.py``, ``get_indice_pairs_implicit_gemm``: bit k of a mask, (rows, 1) int32 read as uint32, says
  that a row has a pair at position k; masks are sorted, and the order, (rows,) int32, says which row each one is of;
  both come in lists of one (two with split masks); the mask filter of an unsplit kernel is [0xffffffff] uint32.
  Without is_subm the backward pass reads pair_bwd and the backward masks as they are.
- ``spconv/constants.py``: filters are (C_out, k, k, k, C_in), positions in the order of the map.
  ``SPCONV_ALLOW_TF32`` is off, so float32 is float32.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ov_seg_ros.core.errors import MissingDependencyError
from training.student.kernel_maps import KernelMap, backend_of_kernels
from training.student.sparse_layers import SparseBackend

NAME = "spconv"
INSTALL = "pip install spconv-cu120 (or the one of your CUDA; plain spconv is for the CPU)"


def load_backend() -> SparseBackend:
    """The backend.

    Raises:
        MissingDependencyError: spconv is not installed.
    """
    if importlib.util.find_spec("spconv") is None:
        raise MissingDependencyError("spconv", INSTALL, "the sparse backend spconv")
    return backend_of_kernels(NAME, _is_right, prepare, convolve)


def _is_right(features: Tensor) -> bool:
    """Whether spconv computes these features, and rightly."""
    if features.is_cuda:
        return True
    has_backward = torch.cuda.is_available() or not torch.is_grad_enabled()
    return features.dtype == torch.float32 and torch.get_num_threads() == 1 and has_backward


@dataclass(frozen=True)
class PairLists:
    """A map for the CPU: ``KernelMap.pair_lists``."""

    pairs: Tensor
    counts: Tensor
    num_out: int


@dataclass(frozen=True)
class SortedTable:
    """Half a map for implicit GEMM.

    Attributes:
        table: (volume, N) int32 rows read, -1 = none.
        mask: (N, 1) int32, bit k = there is a row at position k; ascending.
        order: (N,) int32 which row each mask is of.
    """

    table: Tensor
    mask: Tensor
    order: Tensor

    @classmethod
    def of(cls, kernel_map: KernelMap) -> SortedTable:
        """The table of a map with its rows' masks in order."""
        table = kernel_map.table()  # (N, volume)
        bits = 2 ** torch.arange(kernel_map.volume, device=table.device)
        mask, order = torch.sort(((table >= 0) * bits).sum(dim=1))
        return cls(table.T.contiguous(), mask.int()[:, None], order.int())


def prepare(kernel_map: KernelMap) -> PairLists | tuple[SortedTable, SortedTable]:
    """The form spconv wants a map in: lists on the CPU, forward and backward table on a GPU."""
    if kernel_map.into.is_cuda:
        return sorted_tables(kernel_map)
    return PairLists(*kernel_map.pair_lists(), kernel_map.num_out)


def sorted_tables(kernel_map: KernelMap) -> tuple[SortedTable, SortedTable]:
    """The forward and the backward table of a map."""
    return SortedTable.of(kernel_map), SortedTable.of(kernel_map.reversed())


def convolve(features: Tensor, weight: Tensor, prepared: PairLists | tuple[SortedTable, SortedTable]) -> Tensor:
    """(num_in, C_in) to (num_out, C_out) along a prepared map."""
    from spconv.core import ConvAlgo
    from spconv.pytorch.functional import SparseConvFunction, SparseImplicitGemmFunction

    edge = round(len(weight) ** (1 / 3))
    filters = weight.permute(2, 0, 1).reshape(weight.shape[2], edge, edge, edge, weight.shape[1]).contiguous()
    if isinstance(prepared, PairLists):
        pairs, counts = prepared.pairs, prepared.counts
        return SparseConvFunction.apply(features, filters, pairs, counts, prepared.num_out, ConvAlgo.Native)
    forward, backward = prepared
    every = [np.array([0xFFFFFFFF], np.uint32)]
    with torch.cuda.device_of(features):  # kernels start on the current device
        return SparseImplicitGemmFunction.apply(
            *(features, filters, forward.table, backward.table, [forward.mask], [backward.mask]),
            *([forward.order], [backward.order], forward.table.shape[1], every, True, False),
        )
