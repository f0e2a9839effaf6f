"""Our compiled kernels compute what the trained network computes, on clouds of every kind and any number of threads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from untrained_network import untrained_network

from ov_seg_ros.core.label_space import LabelSpace
from ov_seg_ros.core.pyramid import Pyramid, build_pyramid
from ov_seg_ros.core.student_description import StudentDescription
from ov_seg_ros.core.voxels import VoxelGrid
from ov_seg_ros.runtime.model_file import load_model_file
from ov_seg_ros.runtime.network import Network, load_network
from training.export import export_student
from training.student.minkunet import NETWORKS, MinkUNet, NetworkConfig
from training.student.sparse_layers import Tables

pytestmark = pytest.mark.xdist_group("compiled")

FEATURES = ("offset_x", "offset_y", "offset_z", "height", "intensity")  # padded to eight columns
GRID = VoxelGrid("cartesian", (0.2, 0.2, 0.2), (-50.0, -50.0, -5.0), (50.0, 50.0, 10.0))
SLIM = NetworkConfig(8, (8, 16), (16, 8), (1, 1), (1, 1))
NUM_CLASSES = 11  # not a multiple of anything


def make_network(config: NetworkConfig) -> MinkUNet:
    return untrained_network(config, len(FEATURES), NUM_CLASSES)


def export(network: MinkUNet, folder: Path) -> Path:
    classes = tuple(f"class {i}" for i in range(NUM_CLASSES))
    space = LabelSpace("eleven", classes, ((0, 0, 0),) * NUM_CLASSES)
    path = folder / "student.onnx"
    export_student(network, StudentDescription("s", space, GRID, FEATURES, network.config.num_levels, {}), path)
    return path


@pytest.fixture(scope="module", params=["slim", *sorted(NETWORKS)])
def student(request, tmp_path_factory) -> tuple[MinkUNet, Path]:
    network = make_network(NETWORKS.get(request.param, SLIM))
    return network, export(network, tmp_path_factory.mktemp("compiled"))


@pytest.fixture(scope="module")
def slim(tmp_path_factory) -> tuple[MinkUNet, Path]:
    network = make_network(SLIM)
    return network, export(network, tmp_path_factory.mktemp("slim"))


def reference(network: MinkUNet, features: NDArray, pyramid: Pyramid) -> NDArray:
    """Logits in float64 by torch."""
    doubled = MinkUNet(network.config, len(FEATURES), NUM_CLASSES).double().eval()
    doubled.load_state_dict(network.state_dict())
    with torch.no_grad():
        return doubled(torch.from_numpy(features).double(), Tables.from_pyramid(pyramid)).numpy()


def street(num_points: int, seed: int = 0) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    points = rng.uniform(-20, 20, (num_points, 3)) * (1, 1, 0)
    points[::3, 2] = rng.uniform(0, 3, len(points[::3]))
    return points.astype(np.float32)


def compiled(path: Path, num_threads: int) -> Network:
    return load_network(load_model_file(path), "compiled", num_threads)


def assert_equal_to_torch(network: MinkUNet, runs: Network, points: NDArray[np.float32]) -> None:
    voxels = GRID.voxelize(points)
    pyramid = build_pyramid(voxels.coords, network.config.num_levels)
    features = np.random.default_rng(1).normal(size=(len(voxels), len(FEATURES))).astype(np.float32)
    logits, expected = runs.run(features, pyramid), reference(network, features, pyramid)
    assert logits.dtype == np.float32
    assert logits.shape == expected.shape
    assert np.abs(logits - expected).max(initial=0) <= 1e-5 * np.abs(expected).max(initial=1)


def test_every_network_on_a_street(student) -> None:
    network, path = student
    assert_equal_to_torch(network, compiled(path, 2), street(2000))


CLOUDS = {
    "empty": np.zeros((0, 3), np.float32),
    "one point": np.array([[3, -4, 1]], np.float32),
    "all in one voxel": np.random.default_rng(0).uniform(0.01, 0.19, (5000, 3)).astype(np.float32),
    "two far apart": np.array([[-49.9, -49.9, -4.9], [49.9, 49.9, 9.9]], np.float32),
    "full block": np.stack(np.meshgrid(*[np.arange(12) * 0.2 + 0.1] * 3), -1).reshape(-1, 3).astype(np.float32),
    "random": np.random.default_rng(0).uniform(-60, 60, (20_000, 3)).astype(np.float32),
}


@pytest.mark.parametrize("num_threads", [1, 3])
@pytest.mark.parametrize("cloud", CLOUDS)
def test_every_kind_of_cloud(slim, cloud: str, num_threads: int) -> None:
    network, path = slim
    assert_equal_to_torch(network, compiled(path, num_threads), CLOUDS[cloud])


def test_two_million_points(slim) -> None:
    network, path = slim
    points = np.random.default_rng(0).uniform((-50, -50, -1), (50, 50, 1), (2_000_000, 3)).astype(np.float32)
    assert_equal_to_torch(network, compiled(path, 2), points)


def test_scans_of_any_order_leave_no_trace(slim) -> None:
    """Buffers keep what the scan before left in them."""
    network, path = slim
    runs = compiled(path, 2)
    for num_points in (5000, 1, 8000, 0, 300, 8000):
        assert_equal_to_torch(network, runs, street(num_points, seed=num_points))


def test_threads_and_repetitions_change_no_bit(slim) -> None:
    _, path = slim
    voxels = GRID.voxelize(street(30_000))
    pyramid = build_pyramid(voxels.coords, SLIM.num_levels)
    features = np.random.default_rng(1).normal(size=(len(voxels), len(FEATURES))).astype(np.float32)
    first = compiled(path, 1).run(features, pyramid)
    for num_threads in (1, 2, 4):
        runs = compiled(path, num_threads)
        for _ in range(20):
            np.testing.assert_array_equal(runs.run(features, pyramid), first)


def test_nan_in_a_feature_reaches_the_logits(slim) -> None:
    """So that the segmenter can report it: nothing turns it into zero on the way."""
    _, path = slim
    pyramid = build_pyramid(np.zeros((1, 3), np.int32), SLIM.num_levels)
    assert np.isnan(compiled(path, 1).run(np.full((1, len(FEATURES)), np.nan, np.float32), pyramid)).all()
