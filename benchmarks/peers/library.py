"""A sparse-convolution library of others, playing our network: only its three convolutions are its own.

Shortcuts, activations and sums are torch's and work in place; batch norms are folded in; weights stand ready in the
library's own form. That is the best case for every library.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.peers.case import Case
from benchmarks.peers.unet import DOWN, SUBMANIFOLD, UP, run_unet
from ov_seg_ros.core.errors import ConfigError
from ov_seg_ros.core.pyramid import kernel_offset


class Maps(Protocol):
    """The kernel maps of one scan in a library's form.

    Attributes:
        order: (V,) int64, row ``order[i]`` of the scan is row i of the library; None = the same order.
    """

    order: Tensor | None

    def convolve(self, features: Tensor, weight: Any, kind: str, level: int) -> Tensor:
        """One convolution without bias; ``level`` is the finer one of a stride."""


class SparseLibrary(Protocol):
    """A library.

    Attributes:
        name: for messages.
    """

    name: str

    def prepare(self, weight: Tensor, kind: str, level: int) -> Any:
        """A weight (positions, C_in, C_out), positions in the library's order, in the form ``Maps.convolve`` takes."""

    def build_maps(self, coords: Tensor, num_levels: int) -> Maps:
        """What is known of a scan before its first convolution; the rest may follow in ``Maps.convolve``.

        Args:
            coords: (V, 3) int32 cells in lexicographic order, each >= 0.
            num_levels: resolutions of the network.
        """


class LibraryRun:
    """A contender: one library on one case.

    Args:
        case: network and scan.
        threads: of torch; libraries read their own settings from the environment.
        library: who convolves.
        with_maps: builds the maps in every run instead of once.
        place: device and type of features and weights; coordinates stay where they are.
    """

    def __init__(
        self,
        case: Case,
        threads: int,
        library: SparseLibrary,
        with_maps: bool,
        place: tuple[str, torch.dtype] = ("cpu", torch.float32),
    ) -> None:
        torch.set_num_threads(threads)
        self._library, self._with_maps = library, with_maps
        self._positions = find_positions(library, place)
        self._weights = {name: torch.from_numpy(weight).to(*place) for name, weight in case.weights().items()}
        self._biases = {name: torch.from_numpy(bias).to(*place) for name, bias in case.biases().items()}
        self._prepared: dict[str, Any] = {}
        self._coords, self._num_levels = torch.from_numpy(case.coords()), case.about["num_levels"]
        self._features = torch.from_numpy(case.features()).to(*place)
        self._maps = library.build_maps(self._coords, self._num_levels)

    def run(self) -> Tensor:
        """One forward pass, rows in the library's order."""
        with torch.inference_mode():
            if self._with_maps:
                self._maps = self._library.build_maps(self._coords, self._num_levels)
            order = self._maps.order
            features = self._features if order is None else self._features[order]
            return run_unet(self._weights, features, self)

    def logits(self, result: Tensor) -> NDArray[np.float32]:
        """In the order of the scan."""
        order = self._maps.order
        if order is not None:
            logits = torch.empty_like(result)
            logits[order] = result
            result = logits
        return result.float().cpu().numpy()

    def convolve(self, features: Tensor, layer: str, kind: str, level: int) -> Tensor:
        """The library's convolution, our bias."""
        if layer not in self._prepared:  # in the first run, which does not count
            weight = self._weights[layer][self._positions[kind]]
            self._prepared[layer] = self._library.prepare(weight, kind, level)
        return self._maps.convolve(features, self._prepared[layer], kind, level).add_(self._biases[layer])

    def linear(self, features: Tensor, layer: str, level: int) -> Tensor:
        """A matrix product."""
        return torch.addmm(self._biases[layer], features, self._weights[layer][0])

    def relu(self, features: Tensor) -> Tensor:
        """In place."""
        return features.relu_()

    def add(self, features: Tensor, other: Tensor) -> Tensor:
        """In place."""
        return features.add_(other)

    def concat(self, features: Tensor, other: Tensor) -> Tensor:
        """A new array."""
        return torch.cat([features, other], dim=1)


_EDGE = 4


def find_positions(
    library: SparseLibrary, place: tuple[str, torch.dtype] = ("cpu", torch.float32)
) -> dict[str, Tensor]:
    """Which of our kernel positions each position of a library is, found by asking it.

    On a full block of 4 x 4 x 4 voxels, whose features are their numbers, weights that send position c to channel c
    show which voxel position c reads. So no library's documentation has to be trusted.

    Returns:
        Per kind of convolution, (27,) or (8,) int64: position c of the library is position [c] of ours.

    Raises:
        ConfigError: the answers are no order of our positions, so this version of the library works differently.
    """
    grid = torch.arange(_EDGE, dtype=torch.int32)
    coords = torch.cartesian_prod(grid, grid, grid)  # lexicographic; voxel (x, y, z) is number 16 x + 4 y + z
    with torch.inference_mode():
        maps = library.build_maps(coords, 2)
        order = torch.arange(len(coords)) if maps.order is None else maps.order
        number = order[:, None].float()

        def ask(kind: str, volume: int, features: Tensor) -> Tensor:
            weight = library.prepare(torch.eye(volume)[:, None, :].contiguous().to(*place), kind, 0)
            return maps.convolve(features.to(*place), weight, kind, 0).round().long().cpu()

        inner = _number(1, 1, 1)
        read = ask(SUBMANIFOLD, 27, number)[order == inner][0]
        neighbors = {_number(*(1 + d for d in kernel_offset(k))): k for k in range(27)}
        found = {SUBMANIFOLD: [neighbors.get(int(i), -1) for i in read]}
        children = ask(DOWN, 8, number)[0]
        found[DOWN] = [_corner(int(i)) for i in children]
        used = ask(UP, 8, torch.ones(len(coords) // 8, 1))
        found[UP] = [_corner(int(order[column.argmax()])) for column in used.T]
    for kind, positions in found.items():
        if sorted(positions) != list(range(len(positions))):
            raise ConfigError(
                f"{library.name}: its {kind} convolution reads positions {positions} of ours, expected each of them"
                " once: this version works differently, adapt its file in benchmarks/peers"
            )
    return {kind: torch.tensor(positions) for kind, positions in found.items()}


def _number(x: int, y: int, z: int) -> int:
    return (x * _EDGE + y) * _EDGE + z


def _corner(number: int) -> int:
    """Corner of a voxel in its parent, numbered as in ``core.pyramid.Stride``."""
    x, y, z = number // _EDGE**2, number // _EDGE % _EDGE, number % _EDGE
    return 4 * (x & 1) + 2 * (y & 1) + (z & 1)
