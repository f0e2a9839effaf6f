"""The exported graph computes what the trained network computes, on clouds of any size."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from untrained_network import untrained_network

from ov_seg_ros.core.label_space import LabelSpace
from ov_seg_ros.core.pyramid import build_pyramid
from ov_seg_ros.core.student_description import METADATA_KEY, StudentDescription
from ov_seg_ros.core.voxels import VoxelGrid
from training.atomic_files import StorageFullError
from training.export import export_student
from training.student.minkunet import NETWORKS, MinkUNet
from training.student.sparse_layers import Tables

pytestmark = pytest.mark.xdist_group("export")

FEATURES = ("offset_x", "offset_y", "height", "intensity")
GRID = VoxelGrid("cartesian", (0.2, 0.2, 0.2), (-50.0, -50.0, -5.0), (50.0, 50.0, 10.0))


def random_cloud(num_points: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    ground = np.stack([rng.uniform(-20, 20, num_points), rng.uniform(-20, 20, num_points), np.zeros(num_points)], 1)
    ground[::3, 2] = rng.uniform(0, 3, len(ground[::3]))
    return ground.astype(np.float32)


def make_network(name: str) -> MinkUNet:
    return untrained_network(NETWORKS[name], len(FEATURES), 5)


@pytest.fixture(scope="module", params=sorted(NETWORKS))
def exported(request, tmp_path_factory):
    space = LabelSpace("five", tuple("abcde"), ((0, 0, 0),) * 5)
    network = make_network(request.param)
    description = StudentDescription(request.param, space, GRID, FEATURES, network.config.num_levels, {"seed": 0})
    path = tmp_path_factory.mktemp("export") / "student.onnx"
    export_student(network, description, path)
    return network, description, path


@pytest.mark.parametrize("num_points", [1, 300, 6000])
@pytest.mark.parametrize("num_threads", [1, 2])
def test_logits_equal_torch(exported, num_points, num_threads):
    network, description, path = exported
    voxels = GRID.voxelize(random_cloud(num_points, seed=num_points))
    pyramid = build_pyramid(voxels.coords, description.num_levels)
    features = np.random.default_rng(1).normal(size=(len(voxels), len(FEATURES))).astype(np.float32)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"features": features, **pyramid.graph_inputs()})
    with torch.no_grad():
        expected = network(torch.from_numpy(features), Tables.from_pyramid(pyramid)).numpy()
    assert np.abs(logits - expected).max() <= 1e-4 * np.abs(expected).max()
    np.testing.assert_array_equal(logits.argmax(1), expected.argmax(1))


def test_the_file_holds_its_description_and_standard_operators_only(exported):
    _, description, path = exported
    model = onnx.load(path)
    assert {node.domain for node in model.graph.node} == {""}
    assert [o.domain for o in model.opset_import] == [""]
    metadata = {p.key: p.value for p in model.metadata_props}
    assert StudentDescription.from_json(metadata[METADATA_KEY]) == description


def test_graph_inputs_are_what_the_pyramid_gives(exported):
    _, description, path = exported
    pyramid = build_pyramid(np.zeros((1, 3), np.int32), description.num_levels)
    names = {value.name for value in onnx.load(path).graph.input}
    assert names == {"features", *pyramid.graph_inputs()}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_costs_no_older_student(tmp_path):
    space = LabelSpace("five", tuple("abcde"), ((0, 0, 0),) * 5)
    network = make_network("small")
    description = StudentDescription("small", space, GRID, FEATURES, network.config.num_levels, {"seed": 0})
    (tmp_path / "student.onnx").write_bytes(b"older")
    (tmp_path / "student.onnx.part").symlink_to("/dev/full")
    with pytest.raises(StorageFullError, match=r"no space left in .*: student\.onnx needs .* more"):
        export_student(network, description, tmp_path / "student.onnx")
    assert (tmp_path / "student.onnx").read_bytes() == b"older"
