"""torchsparse 1.4 on the CPU, with its own maps. Version 2 has no CPU kernels any more and is left out here.

Never run against torchsparse itself, which has no package to install. Facts relied on, from version 1.4
(github.com/mit-han-lab/torchsparse, commit 6f25d2718eea228a6d49d124aaae1da8a2f70919): ``torchsparse/tensor.py``:
``SparseTensor(feats, coords, stride)`` with coordinates (N, 4) int32 whose last column is the batch, and the
dictionaries ``cmaps`` and ``kmaps`` of what was found; ``torchsparse/nn/functional/conv.py``: ``conv3d(input, weight,
kernel_size, stride=, transposed=)`` with weights (positions, C_in, C_out), coarse coordinates in units of the finest
cell; outputs share the dictionaries of their input. Its order of positions is asked for, see
``library.find_positions``.
"""

from __future__ import annotations

import importlib.util
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor

from benchmarks.peers.case import Case
from benchmarks.peers.library import LibraryRun, Maps, SparseLibrary
from benchmarks.peers.unet import DOWN, SUBMANIFOLD, UP
from ov_seg_ros.core.errors import ConfigError, MissingDependencyError

NAME = "torchsparse"
INSTALL = "pip install git+https://github.com/mit-han-lab/torchsparse.git@v1.4.0 (compiles it)"


def warm(case: Case, threads: int) -> LibraryRun:
    """Maps found before."""
    _check()
    return LibraryRun(case, threads, _Torchsparse(), with_maps=False)


def cold(case: Case, threads: int) -> LibraryRun:
    """Maps found in every run."""
    _check()
    return LibraryRun(case, threads, _Torchsparse(), with_maps=True)


def _check() -> None:
    if importlib.util.find_spec("torchsparse") is None:
        raise MissingDependencyError("torchsparse", INSTALL, f"the peer {NAME}")
    if not version("torchsparse").startswith("1."):
        raise ConfigError(f"{NAME} {version('torchsparse')} computes on a GPU only: {INSTALL}")


class _Torchsparse(SparseLibrary):
    name = NAME

    def prepare(self, weight: Tensor, kind: str, level: int) -> Tensor:
        return weight

    def build_maps(self, coords: Tensor, num_levels: int) -> Maps:
        return _OwnMaps(coords)


class _OwnMaps(Maps):
    """torchsparse finds its maps when a convolution first needs them and keeps them in dictionaries."""

    def __init__(self, coords: Tensor) -> None:
        self.order = None
        self._coords = {0: torch.nn.functional.pad(coords, (0, 1))}  # batch index last
        self._cmaps: dict[Any, Any] = {}
        self._kmaps: dict[Any, Any] = {}

    def convolve(self, features: Tensor, weight: Tensor, kind: str, level: int) -> Tensor:
        from torchsparse import SparseTensor
        from torchsparse.nn import functional

        at = level + 1 if kind == UP else level
        tensor = SparseTensor(features, self._coords[at], stride=2**at)
        tensor.cmaps, tensor.kmaps = self._cmaps, self._kmaps
        if kind == SUBMANIFOLD:
            return functional.conv3d(tensor, weight, 3).feats
        out = functional.conv3d(tensor, weight, 2, stride=2, transposed=kind == UP)
        if kind == DOWN:
            self._coords[level + 1] = out.coords
        return out.feats
