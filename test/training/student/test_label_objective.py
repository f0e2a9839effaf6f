"""Learning from labels: how much each class counts, and scans that teach nothing."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ov_seg_ros.core.voxels import VoxelGrid
from training.student.augmentation import AugmentationConfig
from training.student.examples import LabelledScan
from training.student.label_objective import LabelledScans, LabelLossConfig, LabelObjective
from training.student.minkunet import MinkUNet, NetworkConfig
from training.student.trainer import Trainer, TrainerConfig

GRID = VoxelGrid("cartesian", (0.5, 0.5, 0.5), (-20.0, -20.0, -5.0), (20.0, 20.0, 5.0))
FEATURES = ("height", "intensity", "extent_z")

TINY = NetworkConfig(8, (12,), (8,), (1,), (1,))


def labelled_scans(files, num_classes=3):
    return LabelledScans(files, GRID, FEATURES, num_classes, with_color=False, augmentation=AugmentationConfig())


def write_labels(path: Path, class_id: list[int]) -> Path:
    """A scan of which only the labels matter."""
    count = len(class_id)
    ones = np.ones(count, np.float32)
    ring, camera = np.zeros(count, np.uint16), np.full(count, -1, np.int8)
    LabelledScan(np.ones((count, 3), np.float32), ones, ring, np.array(class_id, np.uint8), ones, None, camera).save(
        path
    )
    return path


def test_rare_classes_count_more(tmp_path):
    files = [write_labels(tmp_path / "a.npz", [0] * 8 + [255]), write_labels(tmp_path / "b.npz", [1] * 2)]
    np.testing.assert_allclose(labelled_scans(files, 2).class_weights(0.5), [np.sqrt(2 / 8), 1.0])
    np.testing.assert_allclose(labelled_scans(files, 2).class_weights(1.0), [2 / 8, 1.0])


def test_classes_that_keep_a_rhythm_are_found(tmp_path):
    """Class 0 in every fourth scan, class 1 in all others: every fourth of 400 scans would show class 0 alone."""
    files = [write_labels(tmp_path / "0.npz", [0]), write_labels(tmp_path / "1.npz", [1])]
    weights = labelled_scans([files[int(i % 4 > 0)] for i in range(400)], 2).class_weights(1.0)
    assert weights[0] == 1
    assert weights[1] == pytest.approx(1 / 3, abs=0.15)


def test_a_class_that_the_sample_misses_counts_as_much_as_the_rarest(tmp_path):
    scans = labelled_scans([write_labels(tmp_path / "scan.npz", [0, 0, 0, 1])])
    np.testing.assert_allclose(scans.class_weights(1.0), [1 / 3, 1.0, 1.0], rtol=1e-6)
    unlabelled = labelled_scans([write_labels(tmp_path / "none.npz", [255])])
    np.testing.assert_array_equal(unlabelled.class_weights(0.35), [1, 1, 1])


def test_without_a_power_all_classes_are_alike(tmp_path):
    """Nothing need be read for that."""
    np.testing.assert_array_equal(labelled_scans([tmp_path / "missing.npz"]).class_weights(0.0), [1, 1, 1])


def test_few_scans_are_all_read_and_many_in_part(tmp_path, monkeypatch):
    read = []
    scan = LabelledScan.load(write_labels(tmp_path / "scan.npz", [0]), with_color=False)
    monkeypatch.setattr(LabelledScans, "load", lambda _self, index: (read.append(int(index)), scan)[1])
    labelled_scans([tmp_path] * 199).class_weights(0.35)
    assert read == list(range(199))
    read.clear()
    many = labelled_scans([tmp_path] * 28_130)
    many.class_weights(0.35)
    assert len(set(read)) == 100
    assert min(read) < 282
    assert max(read) > 28_130 - 283
    assert len(set(np.diff(read))) > 50
    first = read.copy()
    read.clear()
    many.class_weights(0.35)
    assert read == first


def make_objective(scans):
    torch.manual_seed(0)
    network = MinkUNet(TINY, len(FEATURES), scans.num_classes)
    return LabelObjective(network, LabelLossConfig(), np.ones(scans.num_classes, np.float32))


def write_points(path: Path, points) -> Path:
    """A scan of class 0 at given places."""
    write_labels(path, [0] * len(points))
    replace(LabelledScan.load(path, with_color=False), points=np.array(points, np.float32).reshape(-1, 3)).save(path)
    return path


def test_confidences_of_zero_count_unless_labels_are_weighed(tmp_path):
    """Masks of others may have scores of 0. Two of three points of every voxel are of class 2."""
    path = write_points(
        tmp_path / "doubted.npz", np.repeat(np.random.default_rng(0).uniform(-9, 9, (40, 3)), 3, axis=0)
    )
    scan = LabelledScan.load(path, with_color=False)
    labels, zeros = np.tile(np.uint8([2, 1, 2]), 40), np.zeros(120, np.float32)
    replace(scan, class_id=labels, confidence=zeros).save(path)
    unchanged = AugmentationConfig(False, False, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    scans = replace(labelled_scans([path]), augmentation=unchanged)
    batch = scans.make_batch([0], 2, np.random.default_rng(0))
    assert set(batch.class_id.tolist()) == {2}
    objective = make_objective(scans)
    assert objective.loss(batch)[0].item() == 0
    alike = LabelObjective(objective.network, LabelLossConfig(trust=False), np.ones(3, np.float32))
    logits = objective.network(batch.features, batch.tables)
    expected = torch.nn.functional.cross_entropy(logits, torch.full((len(logits),), 2))
    torch.testing.assert_close(alike.loss(batch)[1]["cross_entropy"], expected)


@pytest.mark.parametrize(
    "points", [[], [[1, 1, 1]], [[1, 1, 1], [1.6, 1, 1]]], ids=["none", "one", "one at the coarsest"]
)
def test_a_pass_of_one_voxel_costs_nothing(tmp_path, points):
    """Batch norm has no variance there; the terms and gradients are there all the same, for processes to share."""
    files = [write_points(tmp_path / "few.npz", points)]
    files.append(write_points(tmp_path / "many.npz", np.random.default_rng(0).uniform(-9, 9, (50, 3))))
    unchanged = AugmentationConfig(False, False, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    scans = replace(labelled_scans(files), augmentation=unchanged)
    objective = make_objective(scans)
    few, many = (scans.make_batch([i], 2, np.random.default_rng(0)) for i in (0, 1))
    assert few.tables.strides[-1].num_coarse == min(len(points), 1)
    before = {name: value.clone() for name, value in objective.network.named_buffers()}
    loss, terms = objective.loss(few)
    loss.backward()
    assert (loss.item(), {term.item() for term in terms.values()}) == (0, {0})
    assert all(value.grad is not None and not value.grad.any() for value in objective.network.parameters())
    assert all(torch.equal(value, before[name]) for name, value in objective.network.named_buffers())
    assert list(objective.loss(many)[1]) == list(terms)


def test_a_training_goes_on_after_a_scan_of_one_voxel(tmp_path):
    files = [write_points(tmp_path / f"{i}.npz", np.random.default_rng(i).uniform(-9, 9, (50, 3))) for i in range(3)]
    scans = labelled_scans([*files, write_points(tmp_path / "one.npz", [[1, 1, 1]])])
    config = TrainerConfig(steps=2, batch_size=4, scans_per_pass=1)
    trainer = Trainer(config, make_objective(scans), scans, tmp_path / "run")
    trainer.run()
    assert trainer.step == 2


def test_a_frozen_network_learns_its_head_from_one_voxel(tmp_path):
    """Its batch norms keep the statistics they have."""
    scans = labelled_scans([write_points(tmp_path / "one.npz", [[1, 1, 1]])])
    objective = make_objective(scans)
    objective.network.eval()
    assert objective.loss(scans.make_batch([0], 2, np.random.default_rng(0)))[0].item() > 0
