"""What fewer bits would gain on this processor, with the libraries at hand: bfloat16 and float16 by torch, int8 by ORT.

Beside the contest: errors of a hundredth are the price, and none of it is what the node runs. The question is whether
a path of ours with fewer bits would be worth its errors.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnxruntime.quantization import QuantType, quantize_dynamic

from benchmarks.peers.case import Case
from benchmarks.peers.unet import DOWN, SUBMANIFOLD, UP, run_unet
from ov_seg_ros.core.pyramid import NUM_OFFSETS, Pyramid
from ov_seg_ros.runtime.providers import CPU, create_session


def bfloat16(case: Case, threads: int) -> ReducedTables:
    """Rows and weights of 16 bits with the exponent of float32."""
    return ReducedTables(case, threads, torch.bfloat16)


def float16(case: Case, threads: int) -> ReducedTables:
    """Rows and weights of 16 bits with the larger mantissa."""
    return ReducedTables(case, threads, torch.float16)


class ReducedTables:
    """Gathers and multiplies rows of 16 bits; sums are float32."""

    def __init__(self, case: Case, threads: int, dtype: torch.dtype) -> None:
        torch.set_num_threads(threads)
        self._dtype = dtype
        self._weights = {name: torch.from_numpy(weight).to(dtype) for name, weight in case.weights().items()}
        self._biases = {name: torch.from_numpy(bias) for name, bias in case.biases().items()}
        self._features = torch.from_numpy(case.features()).to(dtype)
        self._lists = _index_lists(case.pyramid())

    def run(self) -> torch.Tensor:
        """One forward pass."""
        with torch.inference_mode():
            return run_unet(self._weights, self._features, self)

    def logits(self, result: torch.Tensor) -> NDArray[np.float32]:
        """In float32."""
        return result.float().numpy()

    def convolve(self, features: torch.Tensor, layer: str, kind: str, level: int) -> torch.Tensor:
        """A product per kernel position, added up in float32."""
        rows, lists = self._lists[kind, level]
        weight = self._weights[layer]
        sums = self._biases[layer].repeat(rows, 1)
        for position, into, read in lists:
            source = features if read is None else features.index_select(0, read)
            products = (source @ weight[position]).float()
            sums = sums.add_(products) if into is None else sums.index_add_(0, into, products)
        return sums.to(self._dtype)

    def linear(self, features: torch.Tensor, layer: str, level: int) -> torch.Tensor:
        """A matrix product."""
        return torch.addmm(self._biases[layer].to(self._dtype), features, self._weights[layer][0])

    def relu(self, features: torch.Tensor) -> torch.Tensor:
        """In place."""
        return features.relu_()

    def add(self, features: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """In place."""
        return features.add_(other)

    def concat(self, features: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """A new array."""
        return torch.cat([features, other], dim=1)


class OnnxInt8:
    """The exported student with weights of 8 bits; ONNX Runtime quantises the rows on the way."""

    def __init__(self, case: Case, threads: int) -> None:
        reduced = case.folder / f"int8_{threads}.onnx"
        quantize_dynamic(onnx.load(case.model_path), reduced, weight_type=QuantType.QInt8)
        self._session = create_session(reduced.read_bytes(), CPU, threads, str(reduced)).session
        arrays: dict[str, Any] = {"features": case.features(), **case.pyramid().graph_inputs()}
        self._inputs = {node.name: arrays[node.name] for node in self._session.get_inputs()}

    def run(self) -> NDArray[np.float32]:
        """One forward pass."""
        return self._session.run(["logits"], self._inputs)[0]

    def logits(self, result: NDArray[np.float32]) -> NDArray[np.float32]:
        """They are the result."""
        return result


_Lists = tuple[int, list[tuple[int, torch.Tensor | None, torch.Tensor | None]]]


def _index_lists(pyramid: Pyramid) -> dict[tuple[str, int], _Lists]:
    """By kind and level: rows of the result, and per kernel position where products go and which rows they are of."""
    lists: dict[tuple[str, int], _Lists] = {}
    for i, level in enumerate(pyramid.levels):
        both: list[tuple[int, torch.Tensor | None, torch.Tensor | None]] = [(NUM_OFFSETS, None, None)]
        for k, (centre, neighbor) in enumerate(_parts(level.pair_starts, level.pair_centre, level.pair_neighbor)):
            both += [(k, centre, neighbor), (26 - k, neighbor, centre)]
        lists[SUBMANIFOLD, i] = len(level), both
    for i, stride in enumerate(pyramid.strides):
        corners = list(enumerate(_parts(stride.starts, stride.child, stride.parent)))
        lists[DOWN, i] = len(pyramid.levels[i + 1]), [(k, parent, child) for k, (child, parent) in corners]
        lists[UP, i] = len(pyramid.levels[i]), [(k, child, parent) for k, (child, parent) in corners]
    return lists


def _parts(starts: NDArray[np.int64], *arrays: NDArray[np.int64]) -> list[list[torch.Tensor]]:
    bounds = pairwise(starts.tolist())
    return [[torch.from_numpy(array[begin:end]) for array in arrays] for begin, end in bounds]
