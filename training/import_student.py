"""The way back from a student file to a network that can go on learning: ``export`` read backwards.

A student file holds every batch norm folded into its convolution. That is enough to compute the same logits, but a
training also needs to know what the norms saw; ``measure_norms`` finds that out on scans.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor, nn

from ov_seg_ros.core.errors import InputError, ModelError
from ov_seg_ros.core.pyramid import NUM_OFFSETS
from ov_seg_ros.core.student_description import StudentDescription
from ov_seg_ros.runtime.model_file import load_model_file
from training.student.examples import Batch
from training.student.minkunet import NETWORKS, Blocks, ConvNorm, MinkUNet, ResidualBlock


def load_network(path: Path) -> tuple[MinkUNet, StudentDescription]:
    """A network that computes what the student does, in evaluation mode, and the description of the student.

    Its batch norms change nothing yet: call ``measure_norms`` before it learns.

    Raises:
        ModelError: the file is no student, or its weights are not those of the network its recipe names.
    """
    model = load_model_file(path)
    description = model.description
    name = description.recipe.get("network")
    if name not in NETWORKS:
        raise ModelError(
            f"{path}: its recipe names the network {name!r}, known are {', '.join(NETWORKS)}; only students that this "
            "package trained can be read back"
        )
    network = MinkUNet(NETWORKS[name], len(description.point_features), len(description.label_space))
    weights = _WeightReader(path, onnx.load_from_string(model.content))
    with torch.no_grad():
        _read_network(weights, network)
    weights.refuse_rest()
    return network.eval(), description


@torch.no_grad()
def measure_norms(network: MinkUNet, batches: Iterable[Batch]) -> None:
    """Gives every batch norm the mean and variance of what it sees, without changing what the network computes.

    A network in training mode normalises with the statistics of its batch, so weights and biases that belong to other
    statistics would make it forget within one step.

    Args:
        network: changed in place; put into evaluation mode.
        batches: of scans like those it will learn from.

    Raises:
        InputError: there is no batch.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm1d)]
    sums = [torch.zeros(3, norm.num_features, dtype=torch.float64) for norm in norms]

    def add(total: Tensor, rows: Tensor) -> None:
        rows = rows.double()
        total += torch.stack([torch.full_like(total[0], len(rows)), rows.sum(dim=0), rows.square().sum(dim=0)])

    hooks = [
        norm.register_forward_pre_hook(lambda _norm, inputs, total=total: add(total, inputs[0]))
        for norm, total in zip(norms, sums, strict=True)
    ]
    network.eval()
    for batch in batches:
        network(batch.features, batch.tables)
    for hook in hooks:
        hook.remove()
    for norm, (count, first, second) in zip(norms, sums, strict=True):
        if not count.all():
            raise InputError("there are no scans to measure the batch norms of a student on: lift some first")
        mean = first / count
        _change_statistics(norm, mean, (second / count - mean.square()).clamp(min=0))


class _WeightReader:
    """The real-valued weights of a student file, in the order in which the exporter wrote them."""

    def __init__(self, path: Path, model: onnx.ModelProto) -> None:
        arrays = (numpy_helper.to_array(tensor) for tensor in model.graph.initializer)
        self._path = path
        self._weights: Iterator[NDArray] = (array for array in arrays if array.dtype == np.float32)

    def take(self, *shape: int) -> Tensor:
        """The next weight, which must have this shape."""
        found = next(self._weights, None)
        if found is None or found.size != np.prod(shape):
            have = "no further weight" if found is None else f"a weight of shape {found.shape}"
            raise ModelError(
                f"{self._path} holds {have} where its network has one of shape {shape}: the file was changed, or "
                "exported by another version"
            )
        return torch.from_numpy(found.reshape(shape).copy())

    def refuse_rest(self) -> None:
        """All weights must have been taken."""
        if next(self._weights, None) is not None:
            raise ModelError(f"{self._path} holds more weights than its network has: it is of another version")


def _read_network(weights: _WeightReader, network: MinkUNet) -> None:
    """The steps of ``export``, in its order."""
    _read_submanifold(weights, network.stem)
    for down, blocks in zip(network.down, network.encoder, strict=True):
        assert isinstance(down, ConvNorm)
        bias = weights.take(down.conv.weight.shape[2])
        _set_folded(down, torch.stack([weights.take(*down.conv.weight.shape[1:]) for _ in range(8)]), bias)
        _read_blocks(weights, blocks)
    for up, blocks in zip(network.up, network.decoder, strict=True):
        assert isinstance(up, ConvNorm)
        weight = torch.stack([weights.take(*up.conv.weight.shape[1:]) for _ in range(8)])
        _set_folded(up, weight, weights.take(up.conv.weight.shape[2]))
        _read_blocks(weights, blocks)
    head = network.head
    head.weight.copy_(weights.take(head.in_features, head.out_features).T)
    head.bias.copy_(weights.take(head.out_features))


def _read_submanifold(weights: _WeightReader, layer: ConvNorm) -> None:
    weight = torch.empty_like(layer.conv.weight)
    _, fan_in, fan_out = weight.shape
    weight[NUM_OFFSETS] = weights.take(fan_in, fan_out)
    bias = weights.take(fan_out)
    for k in range(NUM_OFFSETS):
        for position in (k, 26 - k):
            weight[position] = weights.take(fan_in, fan_out)
    _set_folded(layer, weight, bias)


def _read_blocks(weights: _WeightReader, blocks: nn.Module) -> None:
    assert isinstance(blocks, Blocks)
    for block in blocks:
        assert isinstance(block, ResidualBlock)
        if block.shortcut is not None:
            linear, norm = block.shortcut[0], block.shortcut[1]
            assert isinstance(linear, nn.Linear)
            linear.weight.copy_(weights.take(linear.in_features, linear.out_features).T)
            _make_neutral(norm, weights.take(linear.out_features))
        _read_submanifold(weights, block.first)
        _read_submanifold(weights, block.second)


def _set_folded(layer: ConvNorm, weight: Tensor, bias: Tensor) -> None:
    layer.conv.weight.copy_(weight)
    _make_neutral(layer.norm, bias)


def _make_neutral(norm: nn.Module, bias: Tensor) -> None:
    """A norm that adds ``bias`` and does nothing else."""
    assert isinstance(norm, nn.BatchNorm1d)
    mean, variance = _statistics(norm)
    mean.zero_()
    variance.fill_(1 - norm.eps)
    norm.weight.fill_(1)
    norm.bias.copy_(bias)


def _change_statistics(norm: nn.BatchNorm1d, mean: Tensor, variance: Tensor) -> None:
    """Other statistics, with the weight and bias that make the norm compute the same."""
    old_mean, old_variance = _statistics(norm)
    scale = norm.weight.double() / torch.sqrt(old_variance.double() + norm.eps)
    shift = norm.bias.double() - old_mean.double() * scale
    norm.weight.copy_(scale * torch.sqrt(variance + norm.eps))
    norm.bias.copy_(shift + mean * scale)
    old_mean.copy_(mean)
    old_variance.copy_(variance)


def _statistics(norm: nn.BatchNorm1d) -> tuple[Tensor, Tensor]:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return norm.running_mean, norm.running_var
