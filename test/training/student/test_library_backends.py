"""The convolutions of torchsparse and spconv against ours: real kernels where they run, stand-ins elsewhere.

Only spconv's CPU kernels run without a GPU. Forward and backward must agree to float32 rounding.
"""

import inspect

import numpy as np
import pytest
import sparse_kernel_stand_ins as stand_ins
import torch

from ov_seg_ros.core.errors import ConfigError
from ov_seg_ros.core.pyramid import build_pyramid
from training.student import spconv_layers, torchsparse_layers
from training.student.kernel_maps import backend_of_kernels
from training.student.minkunet import NETWORKS, MinkUNet
from training.student.sparse_backends import load_backend
from training.student.sparse_layers import TABLES, DownConv, SubmanifoldConv, Tables, UpConv

CLOUDS = {"one voxel": 1, "sparse": 60, "crowded": 700}
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def spconv_cpu(one_thread, monkeypatch):
    """spconv's CPU kernels, with the one thing missing from their backward pass: a CUDA stream that they do not use."""
    ops = pytest.importorskip("spconv.pytorch.ops", reason="spconv is not installed")
    monkeypatch.setattr(ops, "get_current_stream", lambda: 0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    return load_backend("spconv")


@pytest.fixture
def spconv_stand_in(monkeypatch):
    functional = pytest.importorskip("spconv.pytorch.functional", reason="spconv is not installed")
    monkeypatch.setattr(functional, "SparseImplicitGemmFunction", stand_ins.SpconvImplicitGemmFunction)
    return backend_of_kernels("spconv", lambda _: True, spconv_layers.sorted_tables, spconv_layers.convolve)


@pytest.fixture
def torchsparse_stand_in(monkeypatch):
    stand_ins.install_torchsparse(monkeypatch)
    return backend_of_kernels("torchsparse", lambda _: True, torchsparse_layers.prepare, torchsparse_layers.convolve)


@pytest.fixture
def spconv_gpu():
    pytest.importorskip("spconv", reason="spconv is not installed")
    return load_backend("spconv")


@pytest.fixture
def torchsparse_gpu():
    pytest.importorskip("torchsparse", reason="torchsparse is not installed")
    return load_backend("torchsparse")


@pytest.fixture(
    params=[
        "spconv_cpu",
        "spconv_stand_in",
        "torchsparse_stand_in",
        pytest.param("spconv_gpu", marks=needs_gpu),
        pytest.param("torchsparse_gpu", marks=needs_gpu),
    ]
)
def library(request):
    """(backend, device to test it on)."""
    return request.getfixturevalue(request.param), "cuda" if request.param.endswith("gpu") else "cpu"


def random_cloud(count: int, size: int = 16, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.unique(rng.integers(0, size, (count, 3)), axis=0).astype(np.int32)


def run(layer, backend, features, tables, grad):
    """Output and gradients of features and weight."""
    layer.backend = backend
    layer.weight.grad = None
    features = features.clone().requires_grad_()
    out = layer(features, tables)
    out.backward(grad)
    return out.detach(), features.grad, layer.weight.grad


@pytest.mark.parametrize("count", CLOUDS.values(), ids=CLOUDS.keys())
def test_layers_and_gradients_equal_ours(library, count):
    backend, device = library
    pyramid = build_pyramid(random_cloud(count), 2)
    tables = Tables.from_pyramid(pyramid, device)
    fine, coarse = len(pyramid.levels[0]), len(pyramid.levels[1])
    torch.manual_seed(0)
    for layer, index_tables, num_in, num_out in (
        (SubmanifoldConv(5, 7), tables.levels[0], fine, fine),
        (DownConv(5, 6), tables.strides[0], fine, coarse),
        (UpConv(6, 4), tables.strides[0], coarse, fine),
    ):
        layer.to(device)
        features = torch.randn(num_in, layer.weight.shape[1], device=device)
        grad = torch.randn(num_out, layer.weight.shape[2], device=device)
        ours = run(layer, TABLES, features, index_tables, grad)
        theirs = run(layer, backend, features, index_tables, grad)
        for mine, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(other, mine, atol=1e-4, rtol=1e-4)


def test_network_gives_the_same_logits_for_several_scans(library):
    backend, device = library
    shifted = random_cloud(60, seed=2) + np.array([64, 0, 0], np.int32)
    coords = np.concatenate([random_cloud(50, seed=1), shifted])
    tables = Tables.from_pyramid(build_pyramid(coords, 5), device)
    torch.manual_seed(0)
    network = MinkUNet(NETWORKS["small"], 3, 4).to(device)
    features = torch.randn(len(coords), 3, device=device)
    gradients = []
    for chosen in (TABLES, backend):
        for module in network.modules():
            if hasattr(module, "backend"):
                module.backend = chosen
        network.zero_grad()
        network.eval()(features, tables).square().mean().backward()
        gradients.append([p.grad.clone() for p in network.parameters()])
        with torch.no_grad():
            logits = network(features, tables)
        if chosen is TABLES:
            expected = logits
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)
    for mine, other in zip(*gradients, strict=True):
        torch.testing.assert_close(other, mine, atol=1e-4, rtol=1e-3)


def test_spconv_leaves_several_threads_to_the_default(spconv_cpu, monkeypatch):
    monkeypatch.setattr(spconv_layers, "convolve", None)
    features = torch.randn(1, 5)
    tables = Tables.from_pyramid(build_pyramid(np.zeros((1, 3), np.int32), 1)).levels[0]
    layer = SubmanifoldConv(5, 7)
    layer.backend = load_backend("spconv")
    with pytest.raises(TypeError, match="'NoneType' object is not callable"):
        layer(features, tables)
    torch.set_num_threads(2)
    layer(features, tables)


def test_bfloat16_on_a_gpu_is_refused(spconv_cpu):
    class OnGpu(torch.Tensor):
        is_cuda = True

    features = torch.zeros(1, 5, dtype=torch.bfloat16).as_subclass(OnGpu)
    tables = Tables.from_pyramid(build_pyramid(np.zeros((1, 3), np.int32), 1)).levels[0]
    with pytest.raises(ConfigError, match=r"got torch\.bfloat16: train with precision fp32 or fp16"):
        spconv_cpu.submanifold(features, torch.zeros(27, 5, 7), tables)


def test_spconv_has_the_interface_relied_on():
    functional = pytest.importorskip("spconv.pytorch.functional", reason="spconv is not installed")
    native = list(inspect.signature(functional.SparseConvFunction.forward).parameters)
    assert native[1:7] == ["features", "filters", "indice_pairs", "indice_pair_num", "num_activate_out", "algo"]
    theirs = list(inspect.signature(functional.SparseImplicitGemmFunction.forward).parameters)
    ours = list(inspect.signature(stand_ins.SpconvImplicitGemmFunction.forward).parameters)
    assert theirs[: len(ours)] == ours


@needs_gpu
def test_torchsparse_has_the_interface_relied_on():
    pytest.importorskip("torchsparse", reason="torchsparse is not installed")
    from torchsparse.nn import functional
    from torchsparse.nn.functional.conv.func import ImplicitGEMMConvolutionFuntion

    for theirs, ours in (
        (functional.transpose_kernel_map, stand_ins.transpose_kernel_map),
        (ImplicitGEMMConvolutionFuntion.forward, stand_ins.TorchsparseFunction.forward),
    ):
        assert list(inspect.signature(theirs).parameters) == list(inspect.signature(ours).parameters)
