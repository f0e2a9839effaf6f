"""A student file becomes the network it came from, and its norms find out what they see without changing it."""

from copy import deepcopy
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from tiny_model import write_tiny_model
from untrained_network import untrained_network

from ov_seg_ros.core.errors import InputError, ModelError
from ov_seg_ros.core.label_space import LabelSpace
from ov_seg_ros.core.student_description import StudentDescription
from ov_seg_ros.core.voxels import VoxelGrid
from ov_seg_ros.runtime.model_file import shipped_model_path
from ov_seg_ros.runtime.segmenter import Segmenter
from training.export import export_student
from training.import_student import load_network, measure_norms
from training.student.examples import LabelledScan, make_batch
from training.student.minkunet import NETWORKS

FEATURES = ("offset_x", "height", "intensity")
GRID = VoxelGrid("cartesian", (0.2, 0.2, 0.2), (-50.0, -50.0, -5.0), (50.0, 50.0, 10.0))
SPACE = LabelSpace("four", tuple("abcd"), ((0, 0, 0),) * 4)


def batch_of(seed, count=1500, features=FEATURES, grid=GRID, levels=5):
    rng = np.random.default_rng(seed)
    points = np.stack([rng.uniform(-9, 9, count), rng.uniform(-9, 9, count), rng.uniform(0, 1, count)], 1)
    zeros = np.zeros(count, np.uint16)
    scan = LabelledScan(
        points.astype(np.float32),
        rng.random(count).astype(np.float32),
        zeros,
        zeros.astype(np.uint8),
        np.ones(count, np.float32),
        None,
        zeros.astype(np.int8),
    )
    return make_batch([scan], grid, features, levels, 4)


def logits(network, batch):
    with torch.no_grad():
        return network.eval()(batch.features, batch.tables).numpy()


def make_network(name):
    return untrained_network(NETWORKS[name], len(FEATURES), len(SPACE), seed=3)


def export(network, name, path, recipe=None):
    recipe = {"network": name} if recipe is None else recipe
    export_student(network, StudentDescription(name, SPACE, GRID, FEATURES, network.config.num_levels, recipe), path)
    return path


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_the_network_computes_the_same(name, tmp_path):
    network = make_network(name)
    restored, description = load_network(export(network, name, tmp_path / "student.onnx"))
    expected = logits(network, batch_of(0))
    assert description.label_space == SPACE
    assert not restored.training
    np.testing.assert_allclose(logits(restored, batch_of(0)), expected, atol=1e-4 * np.abs(expected).max())


def test_a_network_read_back_is_written_as_it_was(tmp_path):
    first = export(make_network("small"), "small", tmp_path / "first.onnx")
    second = export(load_network(first)[0], "small", tmp_path / "second.onnx")
    weights = [[numpy_helper.to_array(w) for w in onnx.load(path).graph.initializer] for path in (first, second)]
    for a, b in zip(*weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-9)


def test_measured_norms_know_what_they_see_and_compute_the_same(tmp_path):
    network, _ = load_network(export(make_network("small"), "small", tmp_path / "student.onnx"))
    batches = [batch_of(1), batch_of(2, count=700)]
    expected, seen = logits(network, batch_of(0)), []
    network.stem.norm.register_forward_pre_hook(lambda _norm, inputs: seen.append(inputs[0].detach().clone()))
    measure_norms(network, batches)
    rows = torch.cat(seen).double()
    norm = network.stem.norm
    np.testing.assert_allclose(norm.running_mean, rows.mean(dim=0), atol=1e-5)
    np.testing.assert_allclose(norm.running_var, rows.var(dim=0, unbiased=False), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(logits(network, batch_of(0)), expected, atol=1e-3 * np.abs(expected).max())


def test_after_measuring_a_network_in_training_mode_still_knows_its_classes(tmp_path):
    network, _ = load_network(export(make_network("small"), "small", tmp_path / "student.onnx"))
    batch = batch_of(1)
    expected = logits(network, batch)
    with torch.no_grad():
        before = deepcopy(network).train()(batch.features, batch.tables).numpy()
    measure_norms(network, [batch])
    with torch.no_grad():
        after = network.train()(batch.features, batch.tables).numpy()
    assert np.abs(after - expected).max() < 1e-2 * np.abs(expected).max()
    assert np.abs(before - expected).max() > 0.1 * np.abs(expected).max()


def test_nothing_can_be_measured_without_scans():
    with pytest.raises(InputError, match="no scans to measure"):
        measure_norms(make_network("small"), [])


def test_the_shipped_student_can_be_read_back():
    network, description = load_network(shipped_model_path())
    batch = batch_of(5, 800, description.point_features, description.grid, description.num_levels)
    segmenter = Segmenter.load(shipped_model_path(), "cpu", 1)
    assert description.label_space == segmenter.description.label_space
    assert logits(network, batch).shape == (len(batch.features), len(description.label_space))


@pytest.mark.parametrize(("recipe", "message"), [({}, "names the network None"), ({"network": "big"}, "'big', known")])
def test_a_student_of_an_unknown_network_is_refused(recipe, message, tmp_path):
    with pytest.raises(ModelError, match=message):
        load_network(export(make_network("small"), "small", tmp_path / "student.onnx", recipe))


def test_weights_of_another_network_are_refused(tmp_path):
    path = export(make_network("minkunet18"), "small", tmp_path / "student.onnx")
    with pytest.raises(ModelError, match=r"student.onnx holds a weight of shape .* where its network has one"):
        load_network(path)


def change_weights(path: Path, change):
    model = onnx.load(path)
    change(model.graph.initializer)
    onnx.save(model, path)


def test_a_file_with_weights_missing_or_left_over_is_refused(tmp_path):
    path = export(make_network("small"), "small", tmp_path / "student.onnx")
    change_weights(path, lambda weights: weights.append(numpy_helper.from_array(np.zeros(3, np.float32), "more")))
    with pytest.raises(ModelError, match="holds more weights"):
        load_network(path)
    change_weights(path, lambda weights: weights.__delitem__(slice(-2, None)))
    with pytest.raises(ModelError, match="holds no further weight"):
        load_network(path)


def test_what_is_no_student_of_ours_is_refused(tmp_path):
    with pytest.raises(ModelError, match="does not exist"):
        load_network(tmp_path / "absent.onnx")
    write_tiny_model(tmp_path / "tiny.onnx")
    with pytest.raises(ModelError, match="only students that this package trained"):
        load_network(tmp_path / "tiny.onnx")
