"""Our network in torch on the neighbour tables, without gradients: as it is trained, and with batch norms folded."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.peers.case import Case
from benchmarks.peers.library import LibraryRun, Maps, SparseLibrary
from benchmarks.peers.unet import SUBMANIFOLD
from ov_seg_ros.core.pyramid import build_pyramid
from training.student.minkunet import MinkUNet, NetworkConfig
from training.student.sparse_layers import TABLES, Tables


class TorchTables:
    """The module ``MinkUNet`` in evaluation mode."""

    def __init__(self, case: Case, threads: int) -> None:
        torch.set_num_threads(threads)
        about = case.about
        stem, *stages = (about["config"][f.name] for f in fields(NetworkConfig))
        config = NetworkConfig(stem, *map(tuple, stages))
        self._network = MinkUNet(config, about["in_channels"], about["num_classes"]).eval()
        self._network.load_state_dict(torch.load(case.state_path, weights_only=True))
        self._features = torch.from_numpy(case.features())
        self._tables = Tables.from_pyramid(case.pyramid())

    def run(self) -> torch.Tensor:
        """One forward pass."""
        with torch.inference_mode():
            return self._network(self._features, self._tables)

    def logits(self, result: torch.Tensor) -> NDArray[np.float32]:
        """As an array."""
        return result.numpy()


def folded(case: Case, threads: int) -> LibraryRun:
    """The convolutions of ``sparse_layers`` in the network that the libraries of others compute."""
    return LibraryRun(case, threads, _OurLayers(), with_maps=False)


class _OurLayers(SparseLibrary):
    name = "torch"

    def prepare(self, weight: torch.Tensor, kind: str, level: int) -> torch.Tensor:
        return weight

    def build_maps(self, coords: torch.Tensor, num_levels: int) -> Maps:
        return _OurTables(coords, num_levels)


class _OurTables(Maps):
    def __init__(self, coords: torch.Tensor, num_levels: int) -> None:
        self.order = None
        self._tables = Tables.from_pyramid(build_pyramid(coords.numpy(), num_levels))

    def convolve(self, features: torch.Tensor, weight: torch.Tensor, kind: str, level: int) -> torch.Tensor:
        tables = self._tables.levels if kind == SUBMANIFOLD else self._tables.strides
        return getattr(TABLES, kind)(features, weight, tables[level])
