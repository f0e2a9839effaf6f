"""Checkpoint to a self-describing ONNX file: standard operators only, batch norms folded, parity checked.

The graph's inputs are ``features`` (V, F) float32 and the index arrays of ``Pyramid.graph_inputs``;
its output is ``logits`` (V, C) float32. Every sparse convolution is a Gather, a MatMul and a ScatterND per
kernel offset: the rows of one offset are distinct, so ScatterND is exact on any number of threads.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from ov_seg_ros.core.pyramid import NUM_OFFSETS
from ov_seg_ros.core.student_description import METADATA_KEY, StudentDescription
from training.atomic_files import write_bytes
from training.student.minkunet import Blocks, ConvNorm, MinkUNet, ResidualBlock

OPSET = 18
IR_VERSION = 10
"""What ONNX Runtime 1.18 and later read."""


def export_student(network: MinkUNet, description: StudentDescription, path: Path) -> None:
    """Writes ``network`` with its description to ``path``.

    Args:
        network: trained; used in evaluation mode, unchanged.
        description: stored as JSON in the file's metadata.
        path: of the .onnx file; its folder is created. An older file stays until the new one is whole.

    Raises:
        StorageFullError: the disk is full.
    """
    graph = _GraphWriter(num_levels=description.num_levels, num_features=len(description.point_features))
    logits = _write_network(graph, network)
    model = graph.finish(logits, len(description.label_space), description)
    onnx.checker.check_model(model)
    write_bytes(path, model.SerializeToString())


class _GraphWriter:
    """Collects nodes and weights; shares the slices of the index arrays between all layers of a level."""

    def __init__(self, num_levels: int, num_features: int) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.inputs = [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["voxels0", num_features])]
        self.one = self.constant(np.array([1], np.int64))
        self.bounds = [self.constant(np.array([i], np.int64)) for i in range(NUM_OFFSETS + 2)]
        self.pairs = [self._level_pairs(i) for i in range(num_levels)]
        self.corners = [self._stride_corners(i) for i in range(num_levels - 1)]

    def constant(self, array: NDArray) -> str:
        name = f"weight{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def node(self, operator: str, *inputs: str, **attributes: Any) -> str:
        name = f"{operator.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], **attributes))
        return name

    def _index_input(self, name: str, size: str | int) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, TensorProto.INT64, [size]))
        return name

    def _bounds(self, starts: str, count: int) -> list[str]:
        return [self.node("Slice", starts, self.bounds[i], self.bounds[i + 1]) for i in range(count)]

    def _level_pairs(self, i: int) -> list[tuple[str, str, int]]:
        """(row written as (P, 1), row read as (P,), kernel position) per off-centre position."""
        centre = self._index_input(f"level{i}_pair_centre", f"pairs{i}")
        neighbor = self._index_input(f"level{i}_pair_neighbor", f"pairs{i}")
        bounds = self._bounds(self._index_input(f"level{i}_pair_starts", NUM_OFFSETS + 1), NUM_OFFSETS + 1)
        pairs = []
        for k in range(NUM_OFFSETS):
            a = self.node("Slice", centre, bounds[k], bounds[k + 1])
            b = self.node("Slice", neighbor, bounds[k], bounds[k + 1])
            pairs.append((self.node("Unsqueeze", a, self.one), b, k))
            pairs.append((self.node("Unsqueeze", b, self.one), a, 26 - k))
        return pairs

    def _stride_corners(self, i: int) -> tuple[str, list[tuple[str, str]], str]:
        """Position input, (child, parent) rows per corner, and the number of coarse voxels as a (1,) tensor."""
        child = self._index_input(f"stride{i}_child", f"voxels{i}")
        parent = self._index_input(f"stride{i}_parent", f"voxels{i}")
        bounds = self._bounds(self._index_input(f"stride{i}_starts", 9), 9)
        position = self._index_input(f"stride{i}_position", f"voxels{i}")
        corners = [
            (self.node("Slice", child, bounds[o], bounds[o + 1]), self.node("Slice", parent, bounds[o], bounds[o + 1]))
            for o in range(8)
        ]
        last = self.node("ReduceMax", parent, keepdims=1)
        return position, corners, self.node("Add", last, self.one)

    def submanifold(self, features: str, weight: NDArray, bias: NDArray, level: int) -> str:
        out = self.node("Gemm", features, self.constant(weight[NUM_OFFSETS]), self.constant(bias))
        for into, source, k in self.pairs[level]:
            gathered = self.node("Gather", features, source, axis=0)
            product = self.node("MatMul", gathered, self.constant(weight[k]))
            out = self.node("ScatterND", out, into, product, reduction="add")
        return out

    def down(self, features: str, weight: NDArray, bias: NDArray, stride: int) -> str:
        _, corners, num_coarse = self.corners[stride]
        width = self.constant(np.array([weight.shape[2]], np.int64))
        out = self.node("Expand", self.constant(bias[None]), self.node("Concat", num_coarse, width, axis=0))
        for o, (child, parent) in enumerate(corners):
            product = self.node("MatMul", self.node("Gather", features, child, axis=0), self.constant(weight[o]))
            out = self.node("ScatterND", out, self.node("Unsqueeze", parent, self.one), product, reduction="add")
        return out

    def up(self, features: str, weight: NDArray, bias: NDArray, stride: int) -> str:
        position, corners, _ = self.corners[stride]
        products = [
            self.node("MatMul", self.node("Gather", features, parent, axis=0), self.constant(weight[o]))
            for o, (_, parent) in enumerate(corners)
        ]
        rows = self.node("Gather", self.node("Concat", *products, axis=0), position, axis=0)
        return self.node("Add", rows, self.constant(bias))

    def finish(self, logits: str, num_classes: int, description: StudentDescription) -> onnx.ModelProto:
        self.nodes.append(helper.make_node("Identity", [logits], ["logits"]))
        output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["voxels0", num_classes])
        graph = helper.make_graph(self.nodes, "student", self.inputs, [output], self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
        model.producer_name = "ov_seg_ros"
        helper.set_model_props(model, {METADATA_KEY: description.to_json()})
        return model


def _write_network(graph: _GraphWriter, network: MinkUNet) -> str:
    """The steps of ``MinkUNet.forward``, in its order."""
    current = graph.node("Relu", graph.submanifold("features", *_folded(network.stem), level=0))
    skips = []
    for i, (down, blocks) in enumerate(zip(network.down, network.encoder, strict=True)):
        skips.append(current)
        current = graph.node("Relu", graph.down(current, *_folded(down), stride=i))
        current = _write_blocks(graph, current, blocks, level=i + 1)
    for up, blocks in zip(network.up, network.decoder, strict=True):
        i = len(skips) - 1
        current = graph.node("Relu", graph.up(current, *_folded(up), stride=i))
        current = _write_blocks(graph, graph.node("Concat", current, skips.pop(), axis=1), blocks, level=i)
    head = network.head
    return graph.node("Gemm", current, graph.constant(_array(head.weight.T)), graph.constant(_array(head.bias)))


def _write_blocks(graph: _GraphWriter, features: str, blocks: nn.Module, level: int) -> str:
    assert isinstance(blocks, Blocks)
    for block in blocks:
        assert isinstance(block, ResidualBlock)
        straight = features
        if block.shortcut is not None:
            linear, norm = block.shortcut[0], block.shortcut[1]
            scale, bias = _norm_scale(norm)
            assert isinstance(linear, nn.Linear)
            weight = _array(linear.weight.T * scale)
            straight = graph.node("Gemm", features, graph.constant(weight), graph.constant(_array(bias)))
        inner = graph.node("Relu", graph.submanifold(features, *_folded(block.first), level=level))
        outer = graph.submanifold(inner, *_folded(block.second), level=level)
        features = graph.node("Relu", graph.node("Add", outer, straight))
    return features


def _folded(layer: nn.Module) -> tuple[NDArray, NDArray]:
    """Weight and bias of the convolution with its batch norm (evaluation statistics) folded in."""
    assert isinstance(layer, ConvNorm)
    scale, bias = _norm_scale(layer.norm)
    return _array(layer.conv.weight * scale), _array(bias)


def _norm_scale(norm: nn.Module) -> tuple[Tensor, Tensor]:
    assert isinstance(norm, nn.BatchNorm1d)
    assert norm.running_var is not None
    assert norm.running_mean is not None
    scale = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
    return scale, norm.bias.double() - norm.running_mean.double() * scale


def _array(tensor: Tensor) -> NDArray:
    return tensor.detach().cpu().float().numpy()
