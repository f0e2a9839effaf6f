"""Stand-ins for torchsparse 1.4 and MinkowskiEngine 0.5: the interface that our adapters rely on, spelled out.

They compute by dictionaries of coordinates, in an order of kernel positions and rows of their own. What they prove is
that the adapters pass on levels, maps and weights as meant, not that a library is right.
"""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from itertools import product
from types import ModuleType, SimpleNamespace

import pytest

pytest.importorskip("torch", reason="contests compare with torch")

import torch
from torch import Tensor, nn


def offsets(edge: int) -> list[tuple[int, int, int]]:
    """Kernel positions, x running fastest: not our order."""
    span = range(-1, 2) if edge == 3 else range(2)
    return [(x, y, z) for z, y, x in product(span, span, span)]


def convolve(features: Tensor, weight: Tensor, read: list, written: list, edge: int, step: int) -> Tensor:
    """Rows at ``written`` cells gather from the cells around them, ``step`` apart."""
    row = {cell: i for i, cell in enumerate(read)}
    out = torch.zeros(len(written), weight.shape[2])
    for position, (dx, dy, dz) in enumerate(offsets(edge)):
        for i, (x, y, z) in enumerate(written):
            j = row.get((x + step * dx, y + step * dy, z + step * dz))
            if j is not None:
                out[i] += features[j] @ weight[position]
    return out


def transpose(features: Tensor, weight: Tensor, coarse: list, fine: list, step: int) -> Tensor:
    row = {cell: i for i, cell in enumerate(coarse)}
    out = torch.zeros(len(fine), weight.shape[2])
    for position, (dx, dy, dz) in enumerate(offsets(2)):
        for i, (x, y, z) in enumerate(fine):
            j = row.get((x - step * dx, y - step * dy, z - step * dz))
            if j is not None:
                out[i] += features[j] @ weight[position]
    return out


def install(monkeypatch: pytest.MonkeyPatch, *names: str) -> list[ModuleType]:
    modules = []
    for name in names:
        module = ModuleType(name)
        module.__spec__ = ModuleSpec(name, None)
        module.__path__ = []
        monkeypatch.setitem(sys.modules, name, module)
        modules.append(module)
    return modules


def install_torchsparse(monkeypatch: pytest.MonkeyPatch, version: str = "1.4.0") -> None:
    root, nn_module, functional = install(monkeypatch, "torchsparse", "torchsparse.nn", "torchsparse.nn.functional")
    root.SparseTensor = TorchsparseTensor
    nn_module.functional = functional
    functional.conv3d = conv3d
    monkeypatch.setattr("benchmarks.peers.torchsparse_peer.version", lambda package: version)


class TorchsparseTensor:
    def __init__(self, feats: Tensor, coords: Tensor, stride: int = 1) -> None:
        assert coords.dtype == torch.int32
        assert (coords[:, 3] == 0).all()  # batch index last
        self.feats, self.coords, self.stride = feats, coords, (stride,) * 3
        self.cmaps: dict = {}
        self.kmaps: dict = {}


def conv3d(input, weight, kernel_size, bias=None, stride=1, dilation=1, transposed=False):
    assert bias is None
    assert dilation == 1
    step = input.stride[0]
    cells = [tuple(cell) for cell in input.coords[:, :3].tolist()]
    if transposed:
        finer = input.cmaps[(step // 2,) * 3]  # as torchsparse: a KeyError unless the stride was walked down
        assert (step // 2, kernel_size) in input.kmaps
        fine = [tuple(cell) for cell in finer[:, :3].tolist()]
        out = TorchsparseTensor(transpose(input.feats, weight, cells, fine, step // 2), finer, step // 2)
    else:
        coords = input.coords
        if stride == 2:
            coarse = sorted({tuple(v // (2 * step) * 2 * step for v in cell) for cell in cells}, reverse=True)
            coords = torch.tensor([(*cell, 0) for cell in coarse], dtype=torch.int32)
        input.kmaps[step, kernel_size] = True
        written = [tuple(cell) for cell in coords[:, :3].tolist()]
        feats = convolve(input.feats, weight, cells, written, kernel_size, step)
        out = TorchsparseTensor(feats, coords, step * stride)
    out.cmaps, out.kmaps = input.cmaps, input.kmaps
    out.cmaps.setdefault(out.stride, out.coords)
    return out


def install_minkowski_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    (module,) = install(monkeypatch, "MinkowskiEngine")
    module.SparseTensor = MinkowskiTensor
    module.MinkowskiConvolution = MinkowskiConvolution
    module.MinkowskiConvolutionTranspose = MinkowskiConvolutionTranspose


class MinkowskiTensor:
    def __init__(self, features, coordinates=None, coordinate_map_key=None, coordinate_manager=None) -> None:
        if coordinates is not None:
            assert coordinates.dtype == torch.int32
            assert (coordinates[:, 0] == 0).all()  # batch index first
            order = torch.arange(len(coordinates) - 1, -1, -1)
            features, coordinates = features[order], coordinates[order]
            coordinate_map_key, cells = 1, [tuple(cell) for cell in coordinates[:, 1:].tolist()]
            coordinate_manager = SimpleNamespace(cells={1: cells})
        assert len(features) == len(coordinate_manager.cells[coordinate_map_key])
        self.F, self.coordinate_map_key, self.coordinate_manager = features, coordinate_map_key, coordinate_manager


class MinkowskiConvolution(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int, dimension: int) -> None:
        super().__init__()
        assert dimension == 3
        self.edge, self.stride = kernel_size, stride
        self.kernel = nn.Parameter(torch.empty(kernel_size**3, in_channels, out_channels))

    def forward(self, tensor: MinkowskiTensor) -> MinkowskiTensor:
        step, manager = tensor.coordinate_map_key, tensor.coordinate_manager
        cells = manager.cells[step]
        key = step * self.stride
        if self.stride == 2:
            coarse = sorted({tuple(v // key * key for v in cell) for cell in cells}, key=lambda cell: cell[::-1])
            manager.cells.setdefault(key, coarse)
        return self.result(convolve(tensor.F, self.kernel, cells, manager.cells[key], self.edge, step), key, manager)

    def result(self, features: Tensor, key: int, manager: SimpleNamespace) -> MinkowskiTensor:
        return MinkowskiTensor(features, coordinate_map_key=key, coordinate_manager=manager)


class MinkowskiConvolutionTranspose(MinkowskiConvolution):
    def forward(self, tensor: MinkowskiTensor) -> MinkowskiTensor:
        step, manager = tensor.coordinate_map_key // 2, tensor.coordinate_manager
        cells, fine = manager.cells[tensor.coordinate_map_key], manager.cells[step]
        return self.result(transpose(tensor.F, self.kernel, cells, fine, step), step, manager)
