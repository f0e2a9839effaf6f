"""Open3D's SparseConv on the CPU (``open3d.ml.torch``), with the neighbour lists of its own radius search.

Its layers search in every call. Here a search is kept for all layers of a level, so Open3D is shown better than its
layers are. Facts relied on, from Open3D 0.20 ``ml/torch/python/layers/convolutions.py``: ``SparseConv`` and
``SparseConvTranspose`` search in the maximum norm with a radius of 0.51 times the kernel, around positions moved by
half a voxel for even kernels, and give the result to ``ops.continuous_conv`` and ``ops.continuous_conv_transpose``
with coordinate_mapping "identity" and interpolation "nearest_neighbor"; filters are (k, k, k, C_in, C_out).
"""

from __future__ import annotations

import importlib.util
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from benchmarks.peers.case import Case
from benchmarks.peers.library import LibraryRun, Maps, SparseLibrary
from benchmarks.peers.unet import DOWN, SUBMANIFOLD, UP
from ov_seg_ros.core.errors import ConfigError, MissingDependencyError

NAME = "Open3D"
INSTALL = "pip install open3d-cpu, built for this version of torch, and Debian's libusb-1.0-0 and libgl1"


def warm(case: Case, threads: int) -> LibraryRun:
    """Neighbours found before."""
    return LibraryRun(case, threads, _Open3D(_load()), with_maps=False)


def cold(case: Case, threads: int) -> LibraryRun:
    """Neighbours found in every run."""
    return LibraryRun(case, threads, _Open3D(_load()), with_maps=True)


def _load() -> ModuleType:
    if importlib.util.find_spec("open3d") is None:
        raise MissingDependencyError("open3d", INSTALL, f"the peer {NAME}")
    try:
        import open3d.ml.torch as ml3d
    except Exception as error:  # missing system libraries, or another version of torch
        raise ConfigError(f"{NAME} is installed but does not load ({error}): {INSTALL}") from error
    return ml3d


class _Open3D(SparseLibrary):
    name = NAME

    def __init__(self, ml3d: ModuleType) -> None:
        self._ml3d = ml3d

    def prepare(self, weight: Tensor, kind: str, level: int) -> Tensor:
        edge = round(len(weight) ** (1 / 3))
        return weight.reshape(edge, edge, edge, *weight.shape[1:]).contiguous()

    def build_maps(self, coords: Tensor, num_levels: int) -> Maps:
        return _Neighbors(self._ml3d, coords, num_levels)


class _Neighbors(Maps):
    def __init__(self, ml3d: ModuleType, coords: Tensor, num_levels: int) -> None:
        self.order = None
        self._ops = ml3d.ops
        search = ml3d.layers.FixedRadiusSearch(metric="Linf", ignore_query_point=False, return_distances=False)
        self._none = torch.empty(0)
        self._sizes = [2**level for level in range(num_levels)]
        self._centres: list[Tensor] = []  # of the cells, in units of the finest
        for size in self._sizes:
            self._centres.append((coords.float() + 0.5) * size)
            coords = torch.unique(coords >> 1, dim=0)  # sorted, so in lexicographic order
        self._found: dict[tuple[str, int], Any] = {}
        for level, (size, centres) in enumerate(zip(self._sizes, self._centres, strict=True)):
            self._found[SUBMANIFOLD, level] = search(centres, centres, 1.53 * size, hash_table_size_factor=1 / 64)
        for level, (size, centres) in enumerate(zip(self._sizes[:-1], self._centres[1:], strict=True)):
            fine = self._centres[level]
            self._found[DOWN, level] = search(fine, centres, 1.02 * size, hash_table_size_factor=1 / 64)
        self._inverse = [self._invert(level) for level in range(num_levels - 1)]

    def convolve(self, features: Tensor, weight: Tensor, kind: str, level: int) -> Tensor:
        edge, fine = weight.shape[0], self._centres[level]
        shared = {
            "filters": weight,
            "extents": torch.full((1, 1), float(self._sizes[level] * edge)),
            "offset": torch.full((3,), 0.0 if edge == 3 else -0.5),
            "inp_features": features,
            "neighbors_importance": self._none,
            "align_corners": False,
            "coordinate_mapping": "identity",
            "interpolation": "nearest_neighbor",
            "normalize": False,
        }
        found = self._found[kind if kind == SUBMANIFOLD else DOWN, level]
        if kind != UP:
            return self._ops.continuous_conv(
                out_positions=fine if kind == SUBMANIFOLD else self._first_children(level),
                inp_positions=fine,
                inp_importance=self._none,
                neighbors_index=found.neighbors_index,
                neighbors_row_splits=found.neighbors_row_splits,
                **shared,
            )
        index, splits = self._inverse[level]
        return self._ops.continuous_conv_transpose(
            out_positions=fine,
            inp_positions=self._first_children(level),
            out_importance=self._none,
            inp_neighbors_index=found.neighbors_index,
            inp_neighbors_importance_sum=self._none,
            inp_neighbors_row_splits=found.neighbors_row_splits,
            neighbors_index=index,
            neighbors_row_splits=splits,
            **shared,
        )

    def _first_children(self, level: int) -> Tensor:
        """Centres of the first of the 8 cells in each coarser one: where its layers want a voxel of an even kernel."""
        return self._centres[level + 1] - 0.5 * self._sizes[level]

    def _invert(self, level: int) -> tuple[Tensor, Tensor]:
        found = self._found[DOWN, level]
        index, splits, _ = self._ops.invert_neighbors_list(
            len(self._centres[level]), found.neighbors_index, found.neighbors_row_splits, self._none
        )
        return index, splits
