"""How much a network has to compute and to move on a scan, counted from its kernel maps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from numpy.typing import NDArray

from benchmarks.peers.unet import DOWN, SUBMANIFOLD, run_unet
from ov_seg_ros.core.pyramid import Level, Pyramid, Stride

_FLOAT_BYTES = 4


@dataclass(frozen=True)
class LayerWork:
    """One layer on one scan.

    Attributes:
        layer: its name, as of ``Case.weights``.
        rows: rows of the matrix product of every kernel position, in the order of the weights; 0 where none meets.
        c_in, c_out: columns of its input and output.
        rows_in, rows_out: rows of its input and output.
    """

    layer: str
    rows: tuple[int, ...]
    c_in: int
    c_out: int
    rows_in: int
    rows_out: int

    @property
    def macs(self) -> int:
        """Multiply-adds."""
        return sum(self.rows) * self.c_in * self.c_out

    @property
    def bytes(self) -> int:
        """Input, weights and bias read once and output written once, float32; index tables are not counted."""
        weights = len(self.rows) * self.c_in * self.c_out + self.c_out
        return _FLOAT_BYTES * (self.rows_in * self.c_in + weights + self.rows_out * self.c_out)


@dataclass(frozen=True)
class Workload:
    """All layers of a network on one scan, in the order they run.

    Attributes:
        layers: convolutions, shortcuts and head.
        added_bytes: what residual additions read besides: their second operand.
    """

    layers: tuple[LayerWork, ...]
    added_bytes: int

    @property
    def macs(self) -> int:
        """Multiply-adds of all matrix products."""
        return sum(layer.macs for layer in self.layers)

    @property
    def bytes(self) -> int:
        """The least that layer-by-layer work moves if every array is touched once per layer."""
        return sum(layer.bytes for layer in self.layers) + self.added_bytes


def count_work(shapes: Mapping[str, tuple[int, ...]], pyramid: Pyramid) -> Workload:
    """Counts.

    Args:
        shapes: per layer, the shape (positions, C_in, C_out) of its weight.
        pyramid: kernel maps of the scan.
    """
    counter = _Counter(shapes, pyramid)
    run_unet(shapes, (len(pyramid.levels[0]), shapes["stem"][1]), counter)
    return Workload(tuple(counter.layers), counter.added_bytes)


def shapes_of(weights: Mapping[str, NDArray]) -> dict[str, tuple[int, ...]]:
    """The shapes of weights."""
    return {name: weight.shape for name, weight in weights.items()}


def level_rows(level: Level) -> tuple[int, ...]:
    """Pairs of each of the 27 kernel positions; opposite positions have as many, the centre has every voxel."""
    half = tuple(int(end - start) for start, end in pairwise(level.pair_starts))
    return (*half, len(level), *half[::-1])


def stride_rows(stride: Stride) -> tuple[int, ...]:
    """Fine voxels in each of the 8 corners."""
    return tuple(int(end - start) for start, end in pairwise(stride.starts))


class _Counter:
    """An arithmetic whose features are a shape (rows, columns)."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], pyramid: Pyramid) -> None:
        self.layers: list[LayerWork] = []
        self.added_bytes = 0
        self._shapes, self._pyramid = shapes, pyramid

    def convolve(self, features: tuple[int, int], layer: str, kind: str, level: int) -> tuple[int, int]:
        fine = self._pyramid.levels[level]
        if kind == SUBMANIFOLD:
            return self._note(features, layer, level_rows(fine), len(fine))
        rows_out = len(self._pyramid.levels[level + 1]) if kind == DOWN else len(fine)
        return self._note(features, layer, stride_rows(self._pyramid.strides[level]), rows_out)

    def linear(self, features: tuple[int, int], layer: str, level: int) -> tuple[int, int]:
        return self._note(features, layer, (features[0],), features[0])

    def _note(self, features: tuple[int, int], layer: str, rows: tuple[int, ...], rows_out: int) -> tuple[int, int]:
        positions, c_in, c_out = self._shapes[layer]
        assert (positions, c_in) == (len(rows), features[1]), layer
        self.layers.append(LayerWork(layer, rows, c_in, c_out, features[0], rows_out))
        return rows_out, c_out

    def relu(self, features: tuple[int, int]) -> tuple[int, int]:
        return features

    def add(self, features: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
        self.added_bytes += _FLOAT_BYTES * other[0] * other[1]
        return features

    def concat(self, features: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
        return features[0], features[1] + other[1]
