"""The training loop learns, resumes exactly and refuses what does not fit."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ov_seg_ros.core.errors import InputError
from ov_seg_ros.core.voxels import VoxelGrid
from training.student.augmentation import AugmentationConfig, augment
from training.student.examples import LabelledScan, make_batch, vote
from training.student.trainer import Trainer, TrainerConfig, TrainingSet

GRID = VoxelGrid("cartesian", (0.5, 0.5, 0.5), (-20.0, -20.0, -5.0), (20.0, 20.0, 5.0))
FEATURES = ("height", "intensity", "extent_z")
CONFIG = TrainerConfig(steps=40, batch_size=2, learning_rate=5e-3, average=0.9, checkpoint_every=20)


def make_scan(seed: int, num_points: int = 800) -> LabelledScan:
    """Ground (class 0) and walls (class 1), a third of the points without a label."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(-15, 15, (num_points, 3)).astype(np.float32)
    wall = rng.random(num_points) < 0.4
    points[:, 2] = np.where(wall, rng.uniform(0, 3, num_points), -1.5)
    points[wall, 0] = np.round(points[wall, 0] / 10) * 10
    label = np.where(rng.random(num_points) < 0.33, 255, wall).astype(np.uint8)
    ones = np.ones(num_points, np.float32)
    ring = rng.integers(0, 32, num_points).astype(np.uint16)
    return LabelledScan(points, ones, ring, label, ones, None, np.full(num_points, -1, np.int8))


@pytest.fixture
def data(tmp_path):
    files = [tmp_path / "scans" / f"{i}.npz" for i in range(6)]
    for i, path in enumerate(files):
        make_scan(i).save(path)
    return TrainingSet(files, GRID, FEATURES, 2, with_color=False)


def test_the_student_learns_from_partial_labels(data, tmp_path):
    network = Trainer(CONFIG, AugmentationConfig(), data, tmp_path / "run").run()
    batch = make_batch([make_scan(99)], GRID, FEATURES, 5, 2)
    with torch.no_grad():
        predicted = network(batch.features, batch.tables).argmax(1)
    labelled = batch.class_id != 255
    assert (predicted == batch.class_id)[labelled].float().mean() > 0.95


def test_a_killed_run_continues_exactly(data, tmp_path):
    whole = Trainer(CONFIG, AugmentationConfig(), data, tmp_path / "whole").run()

    class KilledError(Exception):
        pass

    def kill(step, _steps, _losses):
        if step == 27:  # the checkpoint is of step 20
            raise KilledError

    with pytest.raises(KilledError):
        Trainer(CONFIG, AugmentationConfig(), data, tmp_path / "cut").run(kill)
    resumed = Trainer(CONFIG, AugmentationConfig(), data, tmp_path / "cut").run()
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], value, rtol=0, atol=0)


def test_another_config_does_not_continue_a_run(data, tmp_path):
    Trainer(replace(CONFIG, steps=2), AugmentationConfig(), data, tmp_path / "run").run()
    with pytest.raises(InputError, match="other settings"):
        Trainer(CONFIG, AugmentationConfig(), data, tmp_path / "run").run()


def test_no_scans_is_an_error(data, tmp_path):
    with pytest.raises(InputError, match="label stage"):
        Trainer(CONFIG, AugmentationConfig(), replace(data, files=[]), tmp_path)


def test_a_damaged_scan_is_named(tmp_path):
    path = tmp_path / "scan.npz"
    path.write_bytes(b"PK not really")
    with pytest.raises(InputError, match=r"scan\.npz"):
        LabelledScan.load(path, with_color=False)


def test_votes_follow_confidence():
    class_id = np.array([0, 1, 1, 255, 1], np.uint8)
    confidence = np.array([0.9, 0.3, 0.3, 1.0, 0.8], np.float32)
    label, weight = vote(class_id, confidence, np.array([0, 0, 0, 1, -1], np.int32), 3, 2)
    np.testing.assert_array_equal(label, [0, 255, 255])
    np.testing.assert_allclose(weight, [0.3, 0, 0], rtol=1e-6)


def test_augmentation_keeps_labels_on_their_points():
    scan = replace(make_scan(3), intensity=np.arange(1, 801, dtype=np.float32))  # tells the points apart
    config = AugmentationConfig(height=0.0, tilt=0.0, scale=0.0, drop_intensity=0.0, intensity_gamma=0.0)
    changed = augment(scan, config, np.random.default_rng(0))
    assert 0 < len(changed) < len(scan)
    origin = changed.intensity.astype(int) - 1
    np.testing.assert_array_equal(changed.class_id, scan.class_id[origin])
    np.testing.assert_allclose(changed.points[:, 2], scan.points[origin, 2], atol=1e-5)
    radius = np.hypot(*changed.points[:, :2].T)
    np.testing.assert_allclose(radius, np.hypot(*scan.points[origin, :2].T), rtol=1e-5)


def test_augmentation_drops_cameras():
    scan = replace(make_scan(4), color=np.ones((800, 4), np.float32), camera=(np.arange(800) % 3).astype(np.int8))
    shares = [augment(scan, AugmentationConfig(), np.random.default_rng(i)).color[:, 3].mean() for i in range(60)]
    assert min(shares) == 0
    assert max(shares) == 1
    assert any(0.2 < s < 0.8 for s in shares)
