"""A student computed by the GPU's kernels gives what our kernels for the CPU give."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from device_pyramid import to_device
from numpy.typing import NDArray
from triton_device import DEVICE

from ov_seg_ros.core.errors import InputError, ModelError
from ov_seg_ros.core.label_space import LabelSpace
from ov_seg_ros.core.pyramid import Pyramid, build_pyramid
from ov_seg_ros.core.student_description import StudentDescription
from ov_seg_ros.core.voxels import VoxelGrid
from ov_seg_ros.gpu.convolution_terms import ConvolutionWeights
from ov_seg_ros.gpu.tile_shapes import TileShape, tile_shape_of
from ov_seg_ros.runtime.compiled_network import CompiledNetwork
from ov_seg_ros.runtime.model_file import load_model_file, shipped_model_path
from ov_seg_ros.runtime.network_plan import NotPlannableError
from ov_seg_ros.runtime.onnx_graph import Node, OnnxGraph, read_onnx_graph
from ov_seg_ros.runtime.triton_network import TritonNetwork
from training.export import export_student
from training.student.minkunet import MinkUNet, NetworkConfig

pytest.importorskip("triton")
pytestmark = pytest.mark.xdist_group("triton")

FEATURES = ("offset_x", "offset_y", "offset_z", "height", "intensity")
GRID = VoxelGrid("cartesian", (0.2, 0.2, 0.2), (-50.0, -50.0, -5.0), (50.0, 50.0, 10.0))
DEEP = NetworkConfig(16, (16, 32, 64, 128), (128, 64, 48, 48), (2, 1, 1, 1), (1, 1, 1, 2))  # half a MinkUNet18
SLIM = NetworkConfig(8, (8, 24), (24, 8), (1, 1), (1, 1))
NUM_CLASSES = 17


def large_tiles(weights: ConvolutionWeights) -> TileShape:
    """What the interpreter is fast with: few programs of few steps. On a GPU, what is used there."""
    shape = tile_shape_of(weights)
    if DEVICE == "cuda":
        return shape
    c_in = 16 if weights.gathered is None else weights.gathered.shape[1]
    return replace(shape, block_m=256, block_k=c_in & -c_in)


def export(config: NetworkConfig, folder: Path) -> OnnxGraph:
    torch.manual_seed(0)
    network = MinkUNet(config, len(FEATURES), NUM_CLASSES)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            torch.nn.init.normal_(module.bias, std=0.1)
    space = LabelSpace("many", tuple(f"class {i}" for i in range(NUM_CLASSES)), ((0, 0, 0),) * NUM_CLASSES)
    path = folder / "student.onnx"
    export_student(network.eval(), StudentDescription("s", space, GRID, FEATURES, config.num_levels, {}), path)
    return read_onnx_graph(path.read_bytes())


@pytest.fixture(scope="module")
def slim(tmp_path_factory: pytest.TempPathFactory) -> OnnxGraph:
    return export(SLIM, tmp_path_factory.mktemp("slim"))


def scan(num_points: int, levels: int, seed: int = 0) -> Pyramid:
    rng = np.random.default_rng(seed)
    points = rng.uniform(-2, 2, (num_points, 3)) * (1, 1, 0.1)
    return build_pyramid(GRID.voxelize(points.astype(np.float32)).coords, levels)


def capacities_of(pyramid: Pyramid, spare: int = 30) -> list[int]:
    return [len(level) + spare for level in pyramid.levels]


def features_of(pyramid: Pyramid, columns: int) -> NDArray[np.float32]:
    return np.random.default_rng(1).normal(size=(len(pyramid.levels[0]), columns)).astype(np.float32)


def run(
    network: TritonNetwork, features: NDArray[np.float32], pyramid: Pyramid, spare: int = 30
) -> NDArray[np.float32]:
    """Logits of the voxels; the rows behind them hold NaN before."""
    capacities = capacities_of(pyramid, spare)
    padded = np.full((capacities[0], features.shape[1]), np.nan, np.float32)
    padded[: len(features)] = features
    logits = network.run(torch.from_numpy(padded).to(DEVICE), to_device(pyramid, capacities, DEVICE))
    assert logits.dtype == torch.float32
    assert logits.shape == (capacities[0], network.num_classes)
    return logits[: len(features)].cpu().numpy()


def assert_close(logits: NDArray[np.float32], expected: NDArray[np.float32], bound: float) -> None:
    assert np.abs(logits - expected).max(initial=0) <= bound * np.abs(expected).max(initial=1)


@pytest.fixture(scope="module")
def shipped() -> tuple[OnnxGraph, int, int]:
    try:
        model = load_model_file(shipped_model_path())
    except ModelError as error:
        pytest.skip(str(error))
    description = model.description
    return read_onnx_graph(model.content), len(description.point_features), description.num_levels


@pytest.mark.parametrize(("dtype", "bound"), [("float32", 1e-5), ("float16", 2e-3)])
def test_the_shipped_student(shipped: tuple[OnnxGraph, int, int], dtype: str, bound: float) -> None:
    graph, columns, levels = shipped
    pyramid = scan(200, levels)
    features = features_of(pyramid, columns)
    expected = CompiledNetwork(graph, columns, 1).run(features, pyramid)
    for kernels in ("triton", "torch"):
        network = TritonNetwork(graph, columns, DEVICE, dtype, kernels, large_tiles)  # type: ignore[arg-type]
        assert_close(run(network, features, pyramid), expected, bound)


def test_a_deep_network(tmp_path: Path) -> None:
    graph = export(DEEP, tmp_path)
    pyramid = scan(40, DEEP.num_levels)
    features = features_of(pyramid, len(FEATURES))
    expected = CompiledNetwork(graph, len(FEATURES), 1).run(features, pyramid)
    network = TritonNetwork(graph, len(FEATURES), DEVICE, "float32", choose=large_tiles)
    assert_close(run(network, features, pyramid), expected, 1e-5)


def test_scans_of_any_size_leave_no_trace(slim: OnnxGraph) -> None:
    """Buffers, tiles and padding columns keep what the scan before left in them; here it is nonsense and NaN."""
    network = TritonNetwork(slim, len(FEATURES), DEVICE, "float32", choose=large_tiles)
    compiled = CompiledNetwork(slim, len(FEATURES), 1)
    for num_points in (300, 1, 0, 100, 300):
        pyramid = scan(num_points, SLIM.num_levels, seed=num_points)
        features = features_of(pyramid, len(FEATURES))
        spare = 400 - len(pyramid.levels[0])
        for level in pyramid.levels[1:]:
            assert len(level) + spare <= 400
        assert_close(run(network, features, pyramid, spare), compiled.run(features, pyramid), 1e-5)


def test_nan_in_rows_of_an_earlier_scan_never_returns(slim: OnnxGraph) -> None:
    network = TritonNetwork(slim, len(FEATURES), DEVICE, "float32", choose=large_tiles)
    large, small = scan(200, SLIM.num_levels), scan(20, SLIM.num_levels, seed=1)
    capacities = capacities_of(large)
    poison = torch.full((capacities[0], len(FEATURES)), float("nan"), device=DEVICE)
    assert network.run(poison, to_device(large, capacities, DEVICE))[: len(large.levels[0])].isnan().all()
    features = features_of(small, len(FEATURES))
    poison[: len(features)] = torch.from_numpy(features).to(DEVICE)
    logits = network.run(poison, to_device(small, capacities, DEVICE))[: len(features)].cpu().numpy()
    assert_close(logits, CompiledNetwork(slim, len(FEATURES), 1).run(features, small), 1e-5)


def test_a_scan_that_fills_its_capacity(slim: OnnxGraph) -> None:
    pyramid = scan(150, SLIM.num_levels)
    features = features_of(pyramid, len(FEATURES))
    network = TritonNetwork(slim, len(FEATURES), DEVICE, "float32", choose=large_tiles)
    expected = CompiledNetwork(slim, len(FEATURES), 1).run(features, pyramid)
    assert_close(run(network, features, pyramid, spare=0), expected, 1e-5)


def test_tiles_of_different_sizes_in_one_network(slim: OnnxGraph) -> None:
    def mixed(weights: ConvolutionWeights) -> TileShape:
        return replace(large_tiles(weights), block_m=64 if weights.relu else 128)

    pyramid = scan(100, SLIM.num_levels)
    features = features_of(pyramid, len(FEATURES))
    network = TritonNetwork(slim, len(FEATURES), DEVICE, "float32", choose=mixed)
    assert_close(run(network, features, pyramid), CompiledNetwork(slim, len(FEATURES), 1).run(features, pyramid), 1e-5)


def test_a_network_of_one_matrix_product() -> None:
    rng = np.random.default_rng(0)
    weights = {"w": rng.normal(size=(5, 3)).astype(np.float32), "b": np.array([1, 2, 3], np.float32)}
    graph = OnnxGraph((Node("Gemm", ("features", "w", "b"), ("logits",), {}),), weights, ("logits",))
    pyramid = scan(50, 1)
    features = features_of(pyramid, 5)
    expected = features @ weights["w"] + weights["b"]
    assert_close(run(TritonNetwork(graph, 5, DEVICE, "float32"), features, pyramid), expected, 1e-5)


def test_runs_write_into_the_same_memory_once_prepared(slim: OnnxGraph) -> None:
    """What a CUDA graph recorded stays where it is."""
    pyramid = scan(50, SLIM.num_levels)
    network = TritonNetwork(slim, len(FEATURES), DEVICE, "float32", choose=large_tiles)
    network.prepare(capacities_of(pyramid))
    features = features_of(pyramid, len(FEATURES))
    capacities = capacities_of(pyramid)
    padded = torch.zeros((capacities[0], len(FEATURES)), device=DEVICE)
    padded[: len(features)] = torch.from_numpy(features).to(DEVICE)
    tables = to_device(pyramid, capacities, DEVICE)
    first = network.run(padded, tables)
    again, copy = network.run(padded, tables), first.clone()
    assert first.data_ptr() == again.data_ptr()
    assert torch.equal(again[: len(features)], copy[: len(features)])


def test_other_graphs_are_refused() -> None:
    graph = OnnxGraph((Node("Sigmoid", ("features",), ("logits",), {}),), {}, ("logits",))
    with pytest.raises(NotPlannableError, match="Sigmoid"):
        TritonNetwork(graph, 4, DEVICE)


def test_what_does_not_fit_is_refused(slim: OnnxGraph) -> None:
    network = TritonNetwork(slim, len(FEATURES), DEVICE, kernels="torch")
    pyramid = scan(20, SLIM.num_levels)
    capacities = capacities_of(pyramid)
    with pytest.raises(InputError, match="features must have shape"):
        network.run(torch.zeros((3, len(FEATURES)), device=DEVICE), to_device(pyramid, capacities, DEVICE))
    with pytest.raises(InputError, match="the network has 3 levels"):
        network.prepare(capacities[:2])
    with pytest.raises(InputError, match="too many"):
        network.prepare([2**27] * 3)
