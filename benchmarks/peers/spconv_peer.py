"""spconv 2.3 on the CPU: its kernels on our maps, and its own modules with its own maps.

One thread only: with more, spconv 2.3.8 writes wrong sums, different ones each time. Facts relied on, from spconv
2.3.8 (github.com/traveller59/spconv): ``spconv/pytorch/conv.py``: weights are (C_out, k, k, k, C_in); on the CPU
there is neither bias nor activation; a convolution returns a tensor with a copy of the dictionary of its maps, new
ones added. Maps of strided convolutions are never reused by another one, so those are built in every run of the
modules.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import torch
from torch import Tensor

from benchmarks.peers.case import Case
from benchmarks.peers.library import LibraryRun, Maps, SparseLibrary
from benchmarks.peers.unet import DOWN, SUBMANIFOLD, UP
from ov_seg_ros.core.errors import ConfigError, MissingDependencyError
from ov_seg_ros.core.pyramid import build_pyramid
from training.student.kernel_maps import KernelMap
from training.student.sparse_layers import Tables
from training.student.spconv_layers import PairLists, prepare

NAME = "spconv"
_SHAPE_STEP = 32  # a multiple of every stride, so that coarse cells begin where ours do


def on_our_maps(case: Case, threads: int) -> LibraryRun:
    """The kernels of spconv, fed with our maps."""
    _check(threads)
    return LibraryRun(case, threads, _KernelsOnOurMaps(), with_maps=False)


def warm(case: Case, threads: int) -> LibraryRun:
    """The modules of spconv; the maps of the submanifold convolutions are built before."""
    _check(threads)
    return LibraryRun(case, threads, _Modules(), with_maps=False)


def cold(case: Case, threads: int) -> LibraryRun:
    """The modules of spconv, their maps built in every run."""
    _check(threads)
    return LibraryRun(case, threads, _Modules(), with_maps=True)


def _check(threads: int) -> None:
    if importlib.util.find_spec("spconv") is None:
        raise MissingDependencyError("spconv", "pip install spconv", f"the peer {NAME}")
    if threads != 1:
        raise ConfigError(
            f"{NAME} 2.3 is wrong on the CPU above one thread (its sums race): measured at one thread only"
        )


def _filters(weight: Tensor) -> Tensor:
    edge = round(len(weight) ** (1 / 3))
    return weight.permute(2, 0, 1).reshape(weight.shape[2], edge, edge, edge, weight.shape[1]).contiguous()


def _map_key(kind: str, level: int) -> str:
    return f"{'level' if kind == SUBMANIFOLD else 'stride'}{level}"


class _KernelsOnOurMaps(SparseLibrary):
    name = NAME

    def prepare(self, weight: Tensor, kind: str, level: int) -> Tensor:
        return _filters(weight)

    def build_maps(self, coords: Tensor, num_levels: int) -> Maps:
        return _OurMaps(coords, num_levels)


class _OurMaps(Maps):
    def __init__(self, coords: Tensor, num_levels: int) -> None:
        self.order = None
        tables = Tables.from_pyramid(build_pyramid(coords.numpy(), num_levels))
        strides = [KernelMap.of_stride(stride) for stride in tables.strides]
        sizes = [len(coords), *(stride.num_out for stride in strides)]
        levels = [KernelMap.of_level(level, size) for level, size in zip(tables.levels, sizes, strict=True)]
        self._pairs: dict[str, list[Any]] = {
            SUBMANIFOLD: [prepare(level) for level in levels],
            DOWN: [prepare(stride) for stride in strides],
            UP: [prepare(stride.reversed()) for stride in strides],
        }

    def convolve(self, features: Tensor, weight: Tensor, kind: str, level: int) -> Tensor:
        from spconv.core import ConvAlgo
        from spconv.pytorch.functional import SparseConvFunction

        lists: PairLists = self._pairs[kind][level]
        return SparseConvFunction.apply(features, weight, lists.pairs, lists.counts, lists.num_out, ConvAlgo.Native)


class _Modules(SparseLibrary):
    name = NAME

    def prepare(self, weight: Tensor, kind: str, level: int) -> Any:
        from spconv.core import ConvAlgo
        from spconv.pytorch import SparseConv3d, SparseInverseConv3d, SubMConv3d

        options = {"indice_key": _map_key(kind, level), "bias": False, "algo": ConvAlgo.Native}
        _, c_in, c_out = weight.shape
        if kind == SUBMANIFOLD:
            module = SubMConv3d(c_in, c_out, 3, **options)
        elif kind == DOWN:
            module = SparseConv3d(c_in, c_out, 2, stride=2, **options)
        else:
            module = SparseInverseConv3d(c_in, c_out, 2, **options)
        filters = _filters(weight)
        assert filters.shape == module.weight.shape
        module.weight.data = filters
        return module.eval()

    def build_maps(self, coords: Tensor, num_levels: int) -> Maps:
        return _OwnMaps(coords)


class _OwnMaps(Maps):
    """spconv finds its maps when a module first needs them; what it found is kept from one convolution to the next."""

    def __init__(self, coords: Tensor) -> None:
        self.order = None
        shape = [int(n) // _SHAPE_STEP * _SHAPE_STEP + _SHAPE_STEP for n in coords.max(dim=0).values]
        self._places = {0: (torch.nn.functional.pad(coords, (1, 0)), shape)}  # batch index first
        self._found: dict[str, Any] = {}

    def convolve(self, features: Tensor, weight: Any, kind: str, level: int) -> Tensor:
        from spconv.pytorch import SparseConvTensor

        cells, shape = self._places[level + 1 if kind == UP else level]
        if kind == DOWN:
            self._found.pop(_map_key(kind, level), None)
        out = weight(SparseConvTensor(features, cells, shape, 1, indice_dict=self._found))
        self._found = out.indice_dict
        if kind == DOWN:
            self._places[level + 1] = (out.indices, out.spatial_shape)
        return out.features
