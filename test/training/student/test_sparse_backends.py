"""One checkpoint under every backend: the same logits, the same gradients, clear words where a library is missing."""

import importlib.util
import sys
from copy import deepcopy
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ov_seg_ros.core.errors import ConfigError, MissingDependencyError
from ov_seg_ros.core.pyramid import build_pyramid
from training.student.kernel_maps import backend_of_kernels
from training.student.minkunet import NETWORKS, MinkUNet
from training.student.sparse_backends import BACKENDS, load_backend, use_backend
from training.student.sparse_layers import TABLES, SubmanifoldConv, Tables


def test_default_is_tables():
    layer = SubmanifoldConv(2, 3)
    assert layer.backend is TABLES
    use_backend(layer, "tables")
    assert layer.backend is TABLES


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(ConfigError, match="auto, tables, compiled, torchsparse, spconv, got 'minkowski'"):
        load_backend("minkowski")


@pytest.mark.parametrize("name", ["torchsparse", "spconv"])
def test_missing_library_says_the_install_line(name, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    network = MinkUNet(NETWORKS["small"], 3, 4)
    with pytest.raises(MissingDependencyError, match=f"{name}, which is not installed: pip install"):
        use_backend(network, name)
    assert all(m.backend is TABLES for m in network.modules() if isinstance(m, SubmanifoldConv))


def test_torchsparse_without_gpu_is_refused(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="needs a CUDA GPU"):
        load_backend("torchsparse")


def table_of(coords: np.ndarray) -> Tables:
    return Tables.from_pyramid(build_pyramid(coords.astype(np.int32), 5))


def counting_backend(calls: list[str], runs: bool):
    """Does nothing but write down when a map is prepared and used."""

    def prepare(kernel_map):
        calls.append(f"prepare {kernel_map.volume}")
        return kernel_map

    def convolve(features, weight, kernel_map):
        calls.append(f"convolve {kernel_map.volume}")
        return features.new_zeros(kernel_map.num_out, weight.shape[2])

    return backend_of_kernels("counting", lambda _: runs, prepare, convolve)


def test_layers_of_a_level_share_one_map():
    calls: list[str] = []
    backend = counting_backend(calls, runs=True)
    tables = table_of(np.array([[0, 0, 0], [0, 0, 1]]))
    layer = SubmanifoldConv(2, 3)
    layer.backend = backend
    for _ in range(2):
        layer(torch.ones(2, 2), tables.levels[0])
    assert calls == ["prepare 27", "convolve 27", "convolve 27"]


def test_features_a_library_cannot_take_go_to_the_default():
    calls: list[str] = []
    tables = table_of(np.array([[0, 0, 0], [0, 0, 1]]))
    layer = SubmanifoldConv(2, 3)
    expected = layer(torch.ones(2, 2), tables.levels[0])
    layer.backend = counting_backend(calls, runs=False)
    assert torch.equal(layer(torch.ones(2, 2), tables.levels[0]), expected)
    assert not calls


def test_scans_without_a_voxel_never_reach_a_library():
    calls: list[str] = []
    network = MinkUNet(NETWORKS["small"], 3, 4).eval()
    for module in network.modules():
        if hasattr(module, "backend"):
            module.backend = counting_backend(calls, runs=True)
    assert network(torch.zeros(0, 3), table_of(np.zeros((0, 3)))).shape == (0, 4)
    assert not calls


@pytest.mark.parametrize("name", BACKENDS)
def test_checkpoint_is_the_same_under_every_backend(name, monkeypatch):
    torchsparse = SimpleNamespace(allow_tf32=True)
    monkeypatch.setitem(sys.modules, "torchsparse", SimpleNamespace(backends=torchsparse))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    plain, other = MinkUNet(NETWORKS["small"], 3, 4), MinkUNet(NETWORKS["small"], 3, 4)
    use_backend(other, name)
    assert torchsparse.allow_tf32 == (name != "torchsparse")  # float32 is float32
    other.load_state_dict(plain.state_dict())
    copied = deepcopy(other)  # as the trainer copies a network to average it
    assert copied.stem.conv.backend == other.stem.conv.backend
    for (key, value), (other_key, other_value) in zip(
        plain.state_dict().items(), copied.state_dict().items(), strict=True
    ):
        assert key == other_key
        assert torch.equal(value, other_value)
