"""The compiled kernels against the plain layers in float64: values, gradients of features and of weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ov_seg_ros.core.pyramid import build_pyramid
from ov_seg_ros.core.voxels import VoxelGrid
from training.student import compiled_layers
from training.student.minkunet import MinkUNet, NetworkConfig
from training.student.sparse_backends import use_backend
from training.student.sparse_layers import TABLES, Tables

GRID = VoxelGrid("cartesian", (0.5, 0.5, 0.5), (-20, -20, -4), (20, 20, 4))
STEPS = ("submanifold", "down", "up")


def tables_of(num_points: int) -> tuple[Tables, list[int]]:
    points = np.random.default_rng(0).uniform((-20, -20, -1), (20, 20, 1), (num_points, 3)).astype(np.float32)
    pyramid = build_pyramid(GRID.voxelize(points).coords, 2)
    return Tables.from_pyramid(pyramid), [len(level) for level in pyramid.levels]


def run(backend, step: str, features: torch.Tensor, weight: torch.Tensor, tables: Tables) -> list[torch.Tensor]:
    """Output, and gradients of features and weight under a fixed gradient of the output."""
    features, weight = features.clone().requires_grad_(), weight.clone().requires_grad_()
    table = tables.levels[0] if step == "submanifold" else tables.strides[0]
    out = getattr(backend, step)(features, weight, table)
    generator = torch.Generator().manual_seed(7)
    out.backward(torch.randn(out.shape, generator=generator, dtype=torch.float64).to(out.dtype))
    return [out.detach(), features.grad, weight.grad]


@pytest.mark.parametrize("num_threads", [1, 2])
@pytest.mark.parametrize("channels", [(5, 8), (8, 24), (48, 40), (33, 17), (96, 96)])
@pytest.mark.parametrize("num_points", [1, 40, 5000])
@pytest.mark.parametrize("step", STEPS)
def test_values_and_gradients(step: str, num_points: int, channels: tuple[int, int], num_threads: int) -> None:
    tables, rows = tables_of(num_points)
    torch.manual_seed(0)
    features = torch.randn(rows[1] if step == "up" else rows[0], channels[0])
    weight = torch.randn(27 if step == "submanifold" else 8, *channels)
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        found = run(compiled_layers.BACKEND, step, features, weight, tables)
    finally:
        torch.set_num_threads(before)
    expected = run(TABLES, step, features.double(), weight.double(), tables)
    for value, exact in zip(found, expected, strict=True):
        assert value.dtype == torch.float32
        assert (value - exact).abs().max() <= 1e-5 * max(1.0, exact.abs().max())


def test_no_voxels() -> None:
    tables = Tables.from_pyramid(build_pyramid(np.zeros((0, 3), np.int32), 2))
    out, to_features, to_weight = run(
        compiled_layers.BACKEND, "submanifold", torch.zeros(0, 8), torch.ones(27, 8, 8), tables
    )
    assert out.shape == to_features.shape == (0, 8)
    assert not to_weight.any()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_types_are_left_to_the_plain_layers(dtype: torch.dtype) -> None:
    tables, rows = tables_of(200)
    features, weight = torch.randn(rows[0], 8, dtype=dtype), torch.randn(27, 8, 8, dtype=dtype)
    found = compiled_layers.submanifold(features, weight, tables.levels[0])
    assert torch.equal(found, TABLES.submanifold(features, weight, tables.levels[0]))


def test_frozen_weights_get_no_gradient_and_cost_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled_layers, "weight_gradient", lambda *_: pytest.fail("not needed"))
    tables, rows = tables_of(100)
    features = torch.randn(rows[0], 8, requires_grad=True)
    compiled_layers.submanifold(features, torch.randn(27, 8, 8), tables.levels[0]).sum().backward()
    assert features.grad is not None


def test_a_network_learns_the_same() -> None:
    losses = {}
    tables, rows = tables_of(3000)
    for name in ("tables", "compiled"):
        torch.manual_seed(0)
        network = MinkUNet(NetworkConfig(8, (16,), (16,), (1,), (1,)), 8, 4)
        use_backend(network, name)
        optimizer = torch.optim.SGD(network.parameters(), 0.1)
        features, labels = torch.randn(rows[0], 8), torch.randint(4, (rows[0],))
        losses[name] = []
        for _ in range(5):
            loss = torch.nn.functional.cross_entropy(network(features, tables), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses[name].append(loss.item())
    assert losses["compiled"] == pytest.approx(losses["tables"], rel=1e-4)
    assert losses["compiled"][-1] < losses["compiled"][0]
