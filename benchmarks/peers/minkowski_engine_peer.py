"""MinkowskiEngine 0.5 on the CPU, with its own maps.

Never run against MinkowskiEngine itself, which has no package to install. Facts relied on, from version 0.5.4
(github.com/NVIDIA/MinkowskiEngine): ``MinkowskiSparseTensor.py``: ``SparseTensor(features, coordinates)`` with
coordinates (N, 4) int32 whose first column is the batch; its rows ``C`` and ``F`` may stand in another order;
``SparseTensor(features, coordinate_map_key=, coordinate_manager=)`` reuses the maps of the manager.
``MinkowskiConvolution.py``: ``MinkowskiConvolution`` and ``MinkowskiConvolutionTranspose`` (in_channels,
out_channels, kernel_size=, stride=, dimension=) with a parameter ``kernel`` (positions, C_in, C_out). Its order of
positions is asked for, see ``library.find_positions``. Its OpenMP and BLAS threads multiply; its best setting, one
OpenMP thread and BLAS with all threads, is made in ``entrants``.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import torch
from torch import Tensor

from benchmarks.peers.case import Case
from benchmarks.peers.library import LibraryRun, Maps, SparseLibrary
from benchmarks.peers.unet import DOWN, SUBMANIFOLD, UP
from ov_seg_ros.core.errors import MissingDependencyError

NAME = "MinkowskiEngine"
INSTALL = "build it, see github.com/NVIDIA/MinkowskiEngine (python setup.py install --cpu_only --blas=openblas)"


def warm(case: Case, threads: int) -> LibraryRun:
    """Maps found before."""
    _check()
    return LibraryRun(case, threads, _MinkowskiEngine(), with_maps=False)


def cold(case: Case, threads: int) -> LibraryRun:
    """Maps found in every run."""
    _check()
    return LibraryRun(case, threads, _MinkowskiEngine(), with_maps=True)


def _check() -> None:
    if importlib.util.find_spec("MinkowskiEngine") is None:
        raise MissingDependencyError("MinkowskiEngine", INSTALL, f"the peer {NAME}")


class _MinkowskiEngine(SparseLibrary):
    name = NAME

    def prepare(self, weight: Tensor, kind: str, level: int) -> Any:
        import MinkowskiEngine as ME  # noqa: N817  # its own abbreviation

        _, c_in, c_out = weight.shape
        layer = ME.MinkowskiConvolutionTranspose if kind == UP else ME.MinkowskiConvolution
        edge, stride = (3, 1) if kind == SUBMANIFOLD else (2, 2)
        module = layer(c_in, c_out, kernel_size=edge, stride=stride, dimension=3)
        assert module.kernel.shape == weight.shape
        module.kernel.data = weight
        return module.eval()

    def build_maps(self, coords: Tensor, num_levels: int) -> Maps:
        return _OwnMaps(coords)


class _OwnMaps(Maps):
    """MinkowskiEngine finds its maps when a module first needs them and keeps them in a manager."""

    def __init__(self, coords: Tensor) -> None:
        import MinkowskiEngine as ME  # noqa: N817

        number = torch.arange(len(coords), dtype=torch.float32)[:, None]  # exact: scans have fewer than 2**24 voxels
        tensor = ME.SparseTensor(number, coordinates=torch.nn.functional.pad(coords, (1, 0)))
        self.order = tensor.F[:, 0].long()
        self._manager, self._keys = tensor.coordinate_manager, {0: tensor.coordinate_map_key}

    def convolve(self, features: Tensor, weight: Any, kind: str, level: int) -> Tensor:
        import MinkowskiEngine as ME  # noqa: N817

        key = self._keys[level + 1 if kind == UP else level]
        out = weight(ME.SparseTensor(features, coordinate_map_key=key, coordinate_manager=self._manager))
        if kind == DOWN:
            self._keys[level + 1] = out.coordinate_map_key
        return out.F
