"""A student's network on an NVIDIA GPU: every layer one launch, recorded once and replayed for every scan.

Buffers and tiles have a fixed capacity and are allocated once; what a scan fills of them is a number on the device.
So the host neither waits nor allocates, and all of ``run`` can be recorded in a CUDA graph.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from ov_seg_ros.core.errors import InputError
from ov_seg_ros.gpu.convolution_reference import convolve_by_torch
from ov_seg_ros.gpu.convolution_terms import ConvolutionWeights, Operands
from ov_seg_ros.gpu.device_tables import DevicePyramid, RowTable
from ov_seg_ros.gpu.tile_shapes import STEP, TileShape, tile_shape_of
from ov_seg_ros.runtime.buffer_plan import Placement, plan_buffers
from ov_seg_ros.runtime.layer_plan import Factor, Layer, TableKey, plan_layers
from ov_seg_ros.runtime.network_plan import Features, plan_network
from ov_seg_ros.runtime.onnx_graph import OnnxGraph

DTYPES = {"float16": torch.float16, "float32": torch.float32}


@dataclass(frozen=True)
class _Launch:
    """A layer on the device."""

    layer: Layer
    weights: ConvolutionWeights
    shape: TileShape


class TritonNetwork:
    """Runs one network on one GPU. Not for several threads at once.

    Args:
        graph: of a student.
        num_features: columns of its input.
        device: where; with Triton's interpreter also a CPU.
        dtype: "float16" or "float32", of features and matrices in memory; sums are float32 either way.
        kernels: "triton", or "torch" for the reference, several times slower.
        choose: shape of each convolution's tiles; a benchmark may pass its own.

    Attributes:
        num_classes: C.

    Raises:
        NotPlannableError: the graph holds something else than sparse convolutions.
    """

    def __init__(
        self,
        graph: OnnxGraph,
        num_features: int,
        device: str | torch.device,
        dtype: Literal["float16", "float32"] = "float16",
        kernels: Literal["triton", "torch"] = "triton",
        choose: Callable[[ConvolutionWeights], TileShape] = tile_shape_of,
    ) -> None:
        features = Features(num_features)
        steps = plan_network(graph, features)
        self.num_classes = steps[-1].columns
        self._features = num_features
        self._layout = plan_buffers(steps, features, STEP)
        self._entrance = self._layout.of(features)
        self._device, self._dtype = torch.device(device), DTYPES[dtype]
        self._launches: list[_Launch] = []
        for layer in plan_layers(steps, self._layout, STEP):
            weights = self._upload(layer)
            self._launches.append(_Launch(layer, weights, choose(weights)))
        self._engine: _Engine = _TorchEngine() if kernels == "torch" else _TritonEngine(self._launches)
        self._capacities: tuple[int, ...] = ()
        self._buffers: list[torch.Tensor] = []
        self._logits = torch.empty(0, device=self._device)

    def prepare(self, capacities: Sequence[int]) -> None:
        """Allocates everything for scans of at most so many voxels.

        Args:
            capacities: rows of each level's tables, finest first.

        Raises:
            InputError: too few levels, or more rows than the kernel can number.
        """
        levels = 1 + max(buffer.level for buffer in self._layout.buffers)
        if len(capacities) < levels:
            raise InputError(f"the network has {levels} levels, the pyramid {len(capacities)}")
        shapes = [(capacities[buffer.level], buffer.width) for buffer in self._layout.buffers]
        largest = max(max(rows * width for rows, width in shapes), 27 * max(capacities))
        if largest >= 2**31:
            raise InputError(
                f"{max(capacities)} voxels are too many, a buffer would have {largest} values, above 2^31: label fewer"
                " points at once"
            )
        self._capacities = ()
        self._buffers = []  # given back before the new ones are taken
        self._buffers = [torch.zeros(shape, dtype=self._dtype, device=self._device) for shape in shapes]
        width = len(self._launches[-1].weights.bias)
        self._logits = torch.zeros((capacities[0], width), dtype=torch.float32, device=self._device)
        self._engine.prepare(capacities, self._device)
        self._capacities = tuple(capacities)

    def run(self, features: torch.Tensor, pyramid: DevicePyramid) -> torch.Tensor:
        """Logits of a scan, in the order of the current stream; allocates only when the capacities change.

        The first run compiles the kernels, so it cannot be recorded in a CUDA graph; the runs after it can.

        Args:
            features: (capacity, F) float32 on the device; rows beyond the count may hold anything.
            pyramid: tables of the same voxels, with as many levels as the network.

        Returns:
            (capacity, C) float32 on the device, overwritten by the next run; rows beyond the count are undefined.
            Rows are apart by C rounded up to 16.

        Raises:
            InputError: features and tables do not fit each other or the network.
        """
        capacities = tuple(len(table.rows) for table in pyramid.neighbors)
        if features.shape[0] != capacities[0] or features.shape[1] < self._features:
            raise InputError(
                f"features must have shape ({capacities[0]}, {self._features}), got {tuple(features.shape)}"
            )
        if capacities != self._capacities:
            self.prepare(capacities)
        self._enter(features)
        self._engine.begin(pyramid)
        for launch in self._launches:
            self._engine.convolve(launch, self._operands(launch), pyramid)
        return self._logits[:, : self.num_classes]

    def _enter(self, features: torch.Tensor) -> None:
        """Features into their buffer, which may have held something else meanwhile."""
        columns = -(-self._features // STEP) * STEP
        entrance = self._view(self._entrance, columns)
        entrance[:, : self._features].copy_(features[:, : self._features])
        if columns > self._features:
            entrance[:, self._features :].zero_()

    def _operands(self, launch: _Launch) -> Operands:
        layer, c_out = launch.layer, len(launch.weights.bias)
        is_last = launch is self._launches[-1]
        return Operands(
            self._logits if is_last else self._view(layer.target, c_out),
            self._factor_view(layer.gathered),
            self._factor_view(layer.plain),
            None if layer.residual is None else self._view(layer.residual, c_out),
        )

    def _factor_view(self, factor: Factor | None) -> torch.Tensor | None:
        return None if factor is None else self._view(factor.source, factor.columns)

    def _view(self, place: Placement, columns: int) -> torch.Tensor:
        return self._buffers[place.buffer][:, place.first : place.first + columns]

    def _upload(self, layer: Layer) -> ConvolutionWeights:
        gathered = None if layer.gathered is None else self._matrices(layer.gathered)
        plain = None if layer.plain is None else self._matrices(layer.plain)[0]
        return ConvolutionWeights(torch.from_numpy(layer.bias).to(self._device), gathered, plain, layer.relu)

    def _matrices(self, factor: Factor) -> torch.Tensor:
        return torch.from_numpy(factor.weight).to(self._device, self._dtype)


class _TorchEngine:
    def prepare(self, capacities: Sequence[int], device: torch.device) -> None:
        """Needs no room."""

    def begin(self, pyramid: DevicePyramid) -> None:
        """Reads the tables as they are."""

    def convolve(self, launch: _Launch, operands: Operands, pyramid: DevicePyramid) -> None:
        convolve_by_torch(launch.weights, operands, _table(pyramid, launch.layer.table))


class _TritonEngine:
    """Cuts every table that a layer reads into tiles, once per scan and number of rows."""

    def __init__(self, launches: Sequence[_Launch]) -> None:
        from ov_seg_ros.gpu.convolution import convolve
        from ov_seg_ros.gpu.tile_table import TileTable, empty_tile_table, fill_tile_table

        self._convolve, self._empty, self._fill = convolve, empty_tile_table, fill_tile_table
        self._keys = sorted(
            {(launch.layer.table, launch.shape.block_m) for launch in launches},
            key=lambda key: (key[0].kind, key[0].index, key[1]),
        )
        self._tiles: dict[tuple[TableKey, int], TileTable] = {}

    def prepare(self, capacities: Sequence[int], device: torch.device) -> None:
        self._tiles = {}
        for table, block_m in self._keys:
            rows = capacities[table.index + (table.kind == "down")]
            positions = 27 if table.kind == "neighbors" else 8
            self._tiles[table, block_m] = self._empty(rows, positions, block_m, device)

    def begin(self, pyramid: DevicePyramid) -> None:
        for (table, _), tiles in self._tiles.items():
            self._fill(tiles, _table(pyramid, table))

    def convolve(self, launch: _Launch, operands: Operands, _pyramid: DevicePyramid) -> None:
        tiles = self._tiles[launch.layer.table, launch.shape.block_m]
        self._convolve(launch.weights, operands, tiles, launch.shape)


_Engine = _TorchEngine | _TritonEngine


def _table(pyramid: DevicePyramid, key: TableKey) -> RowTable:
    return getattr(pyramid, key.kind)[key.index]
