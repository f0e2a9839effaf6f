"""The training loop learns, resumes exactly, divides its work without changing it, and refuses what does not fit."""

import csv
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ov_seg_ros.core.errors import ConfigError, InputError
from ov_seg_ros.core.voxels import VoxelGrid
from training.student.augmentation import AugmentationConfig, augment
from training.student.checkpoint import CHECKPOINT, load_checkpoint, save_checkpoint
from training.student.divergence import DivergenceError
from training.student.examples import LabelledScan, make_batch, vote
from training.student.label_objective import LabelledScans, LabelLossConfig, LabelObjective
from training.student.minkunet import NETWORKS, MinkUNet, NetworkConfig
from training.student.optimization import OptimizerConfig
from training.student.process_group import ProcessGroup
from training.student.trainer import Trainer, TrainerConfig

GRID = VoxelGrid("cartesian", (0.5, 0.5, 0.5), (-20.0, -20.0, -5.0), (20.0, 20.0, 5.0))
FEATURES = ("height", "intensity", "extent_z")
CONFIG = TrainerConfig(
    steps=40, batch_size=2, average=0.9, checkpoint_every=20, optimizer=OptimizerConfig(learning_rate=5e-3)
)


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
    return labelled_scans(files)


@pytest.fixture
def few_points(data):
    """The same, so small that a step takes no time."""
    for i, path in enumerate(data.files):
        make_scan(i, 60).save(path)
    return data


def labelled_scans(files):
    return LabelledScans(files, GRID, FEATURES, 2, with_color=False, augmentation=AugmentationConfig())


def make_trainer(config, data, out, group=None, num_classes=2, shape=NETWORKS["small"]):
    torch.manual_seed(config.seed)
    network = MinkUNet(shape, len(FEATURES), num_classes)
    objective = LabelObjective(network, LabelLossConfig(), data.class_weights(0.35))
    return Trainer(config, objective, data, out, group)


def assert_same(one, other, tolerance=0.0):
    """Equal weights and statistics; the counters of passes depend on the number of processes and mean nothing."""
    for name, value in one.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        torch.testing.assert_close(other.state_dict()[name], value, rtol=tolerance, atol=tolerance)


def log_of(folder):
    with (folder / "log.csv").open(newline="") as file:
        return [(row["step"], row["loss"]) for row in csv.DictReader(file)]


def accuracy(network):
    batch = make_batch([make_scan(99)], GRID, FEATURES, 5, 2)
    with torch.no_grad():
        predicted = network(batch.features, batch.tables).argmax(1)
    labelled = batch.class_id != 255
    return (predicted == batch.class_id)[labelled].float().mean()


def test_the_student_learns_from_partial_labels(data, tmp_path):
    assert accuracy(make_trainer(CONFIG, data, tmp_path / "run").run()) > 0.95


def test_mixed_precision_follows_full_precision(data, tmp_path):
    losses = []
    for precision in ("fp32", "bf16"):
        make_trainer(replace(CONFIG, steps=2, precision=precision), data, tmp_path / precision).run()
        losses.append([float(loss) for _, loss in log_of(tmp_path / precision)])
    np.testing.assert_allclose(losses[1], losses[0], rtol=0.02)
    assert losses[0] != losses[1]


def test_a_killed_run_continues_exactly(data, tmp_path):
    whole = make_trainer(CONFIG, data, tmp_path / "whole").run()

    class KilledError(Exception):
        pass

    def kill(step, _steps, _losses):
        if step == 27:  # the checkpoint is of step 20
            raise KilledError

    with pytest.raises(KilledError):
        make_trainer(CONFIG, data, tmp_path / "cut").run(kill)
    resumed = make_trainer(CONFIG, data, tmp_path / "cut").run()
    assert_same(whole, resumed)
    assert log_of(tmp_path / "cut") == log_of(tmp_path / "whole")
    assert len(log_of(tmp_path / "cut")) == CONFIG.steps


SHARED = replace(CONFIG, steps=6, batch_size=4, scans_per_pass=2)

MEMBER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_trainer import SHARED, labelled_scans, make_trainer
from training.student.process_group import ProcessGroup
files = sorted(Path(sys.argv[2]).glob("*.npz"))
make_trainer(SHARED, labelled_scans(files), Path(sys.argv[3]), ProcessGroup.join("cpu")).run()
"""


def test_two_processes_of_torchrun_train_as_one(data, tmp_path):
    alone = make_trainer(SHARED, data, tmp_path / "alone").run()
    script = tmp_path / "member.py"
    script.write_text(MEMBER)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    arguments = [script, Path(__file__).parent, data.files[0].parent, tmp_path / "two"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3]), "OMP_NUM_THREADS": "1"}
    subprocess.run([*launch, *arguments], check=True, env=environment, timeout=120)
    resumed = make_trainer(SHARED, data, tmp_path / "two")
    assert_same(alone, resumed.run(), tolerance=2e-5)
    losses = [np.array([float(loss) for _, loss in log_of(tmp_path / name)]) for name in ("alone", "two")]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)
    assert len(losses[1]) == SHARED.steps


def test_gradients_of_passes_are_averaged(data, tmp_path):
    """One batch of equal scans is one pass of any of them."""
    unchanged = AugmentationConfig(False, False, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    same = replace(data, files=[data.files[0]] * 4, augmentation=unchanged)
    sgd = OptimizerConfig(kind="sgd", learning_rate=0.1, momentum=0.0, weight_decay=0.0, gradient_clip=0.0)
    one = replace(CONFIG, steps=1, batch_size=1, average=0.0, optimizer=sgd)
    four = replace(one, batch_size=4, scans_per_pass=1)
    assert_same(
        make_trainer(one, same, tmp_path / "one").run(), make_trainer(four, same, tmp_path / "four").run(), 1e-6
    )


TINY = NetworkConfig(8, (12,), (8,), (1,), (1,))


def test_steps_are_those_of_a_plain_loop(few_points, tmp_path):
    """AFOV's optimiser, two passes a step; 3 epochs of 6 scans in batches of 4 end within the fifth step."""
    sgd = OptimizerConfig("sgd", 0.1, 0.3, "cosine_per_epoch", 0.0, 1e-3, True, 0.9, 0.1, 0.0)
    config = replace(SHARED, steps=0, epochs=3, average=0.0, optimizer=sgd)
    trained = make_trainer(config, few_points, tmp_path / "run", shape=TINY).run()
    objective = make_trainer(config, few_points, tmp_path / "plain", shape=TINY).objective
    network = objective.network.train()
    order = np.concatenate([np.random.default_rng([0, 7, epoch]).permutation(6) for epoch in range(4)])
    norms = [value for value in network.buffers() if value.dtype.is_floating_point]
    momentum: dict[str, torch.Tensor] = {}
    for step, epoch in enumerate((0, 0, 1, 2, 2)):
        before, seen = [value.clone() for value in norms], []
        network.zero_grad()
        for number in range(2):
            for value, old in zip(norms, before, strict=True):
                value.copy_(old)
            chosen = order[4 * step + 2 * number :][:2]
            batch = few_points.make_batch(chosen, 2, np.random.default_rng([0, step, number]))
            (objective.loss(batch)[0] / 2).backward()
            seen.append([value.clone() for value in norms])
        for value, first, second in zip(norms, *seen, strict=True):
            value.copy_((first + second) / 2)
        for name, value in network.named_parameters():
            gradient = value.grad + 1e-3 * value.detach()
            momentum[name] = 0.9 * momentum[name] + 0.9 * gradient if step else gradient  # 1 - dampening
            rate = (0.3 if name.startswith("head.") else 0.1) * (1 + np.cos(np.pi * epoch * 1.5 / 5)) / 2
            value.data -= rate * momentum[name]
    assert_same(network, trained, 1e-5)


def test_loss_scaling_continues_exactly(few_points, tmp_path):
    """A scale that overflows shrinks and leaves steps out; the checkpoint knows where it was."""
    config = replace(SHARED, steps=6, checkpoint_every=1, precision="fp16")

    def make(out):
        trainer = make_trainer(config, few_points, tmp_path / out, shape=TINY)
        trainer.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40, growth_interval=2)
        return trainer

    whole = make("whole")
    whole.run()
    assert whole.scaler.get_scale() < 2.0**40

    class KilledError(Exception):
        pass

    for last in range(2, 7):  # resumed once per step

        def kill(step, _steps, _losses, last=last):
            if step == last:
                raise KilledError

        with pytest.raises(KilledError):
            make("cut").run(kill)
    resumed = make("cut")
    resumed.run()
    assert_same(whole.network, resumed.network)
    assert resumed.scaler.state_dict() == whole.scaler.state_dict()


def test_passes_must_fit_the_processes(data, tmp_path):
    with pytest.raises(ConfigError, match="2 passes, which 3 processes cannot share"):
        make_trainer(SHARED, data, tmp_path, ProcessGroup(0, 3))
    with pytest.raises(ConfigError, match="batch_size 4 must be a multiple of scans_per_pass 3"):
        replace(SHARED, scans_per_pass=3)


def test_epochs_count_the_data(data, tmp_path):
    config = replace(CONFIG, steps=0, epochs=2, batch_size=4)
    trainer = make_trainer(config, data, tmp_path / "run")
    assert trainer.steps == 3
    trainer.run()
    chosen = [i for step in range(3) for i in trainer._chosen(step, 0)]
    assert sorted(chosen) == sorted(list(range(6)) * 2)
    with pytest.raises(ConfigError, match="either steps or epochs"):
        replace(CONFIG, epochs=2)


def test_only_the_head_is_trained_when_probing(data, tmp_path):
    trainer = make_trainer(replace(CONFIG, steps=4, only_head=True), data, tmp_path / "run")
    before = {name: value.clone() for name, value in trainer.network.state_dict().items()}
    trainer.run()
    changed = {name for name, value in trainer.network.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"head.weight", "head.bias"}
    # The rest has no gradients: they would enter the clipping and slow the head down.
    assert {name for name, value in trainer.network.named_parameters() if value.grad is not None} == changed


class BrokenObjective(LabelObjective):
    """Its loss is not a number from the ``first``-th pass on."""

    first, passes = 3, 0

    def loss(self, batch):
        self.passes += 1
        loss, terms = super().loss(batch)
        return (loss * float("nan"), terms) if self.passes >= self.first else (loss, terms)


def break_objective(trainer):
    old = trainer.objective
    trainer.objective = BrokenObjective(old.network, old.config, np.ones(2, np.float32))


def test_a_training_that_diverges_fails_and_keeps_its_last_checkpoint(data, tmp_path):
    trainer = make_trainer(replace(CONFIG, steps=6, checkpoint_every=2), data, tmp_path / "run")
    break_objective(trainer)
    told = []
    message = r"run: the training diverged, at step 3 it has loss nan, cross_entropy .*: delete this folder and train "
    message += r"again with a smaller learning_rate \(now 0.005\), or with a smaller gradient_clip \(now 5\)$"
    with pytest.raises(DivergenceError, match=message):
        trainer.run(lambda step, _steps, _losses: told.append(step))
    assert told == [1, 2]
    state = load_checkpoint(tmp_path / "run" / CHECKPOINT)
    assert state["step"] == 2
    assert all(torch.isfinite(value).all() for value in state["average"].values())
    assert log_of(tmp_path / "run")[-1] == ("3", "nan")


def test_weights_that_are_no_numbers_are_neither_saved_nor_continued(few_points, tmp_path):
    """The loss of a step is that of the weights before it."""
    config = replace(CONFIG, steps=4, checkpoint_every=2, precision="fp16")
    trainer = make_trainer(config, few_points, tmp_path / "run", shape=TINY)

    def spoil(step, _steps, _losses):
        if step == 4:
            trainer.network.head.weight.data.fill_(np.inf)

    message = r"at step 4 its weights are NaN or infinite: .*, or with precision bf16 \(now fp16\)$"
    with pytest.raises(DivergenceError, match=message):
        trainer.run(spoil)
    path = tmp_path / "run" / CHECKPOINT
    state = load_checkpoint(path)
    assert state["step"] == 2
    state["average"]["head.bias"][0] = np.nan
    save_checkpoint(path, state)
    with pytest.raises(DivergenceError, match="at step 2 its weights are NaN or infinite"):
        make_trainer(config, few_points, tmp_path / "run", shape=TINY).run()


def test_another_config_does_not_continue_a_run(data, tmp_path):
    make_trainer(replace(CONFIG, steps=2), data, tmp_path / "run").run()
    with pytest.raises(InputError, match="other settings"):
        make_trainer(CONFIG, data, tmp_path / "run").run()


def test_a_checkpoint_that_does_not_fit_is_named(data, tmp_path):
    """Its settings may be equal all the same: the number of classes is none of them."""
    config = replace(CONFIG, steps=2)
    make_trainer(config, data, tmp_path / "run").run()
    path = tmp_path / "run" / CHECKPOINT
    message = r"checkpoint\.pt is of another network .*: head.weight is \(2, 24\) there and \(3, 24\) here; was it"
    with pytest.raises(InputError, match=message):
        make_trainer(config, data, tmp_path / "run", num_classes=3).run()
    whole = load_checkpoint(path)
    save_checkpoint(path, {**whole, "average": {**whole["average"], "more": torch.zeros(1)}})
    with pytest.raises(InputError, match=r"checkpoint\.pt is .*: more is \(1,\) there and missing here"):
        make_trainer(config, data, tmp_path / "run").run()
    save_checkpoint(path, {name: value for name, value in whole.items() if name != "schedule"})
    with pytest.raises(InputError, match=r"checkpoint\.pt cannot be continued \('schedule'\): delete it"):
        make_trainer(config, data, tmp_path / "run").run()


def test_no_scans_is_an_error(data, tmp_path):
    with pytest.raises(InputError, match="label stage"):
        make_trainer(CONFIG, replace(data, files=[]), tmp_path)


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


@pytest.mark.parametrize("seed", range(5))
def test_votes_equal_a_plain_loop(seed):
    rng = np.random.default_rng(seed)
    class_id = np.where(rng.random(60) < 0.3, 255, rng.integers(0, 4, 60)).astype(np.uint8)
    confidence = (rng.integers(0, 3, 60) / 2).astype(np.float32)
    voxel = rng.integers(-1, 30, 60).astype(np.int32)
    label, weight = vote(class_id, confidence, voxel, 30, 4)
    for v in range(30):
        own = (voxel == v) & (class_id != 255)
        sums = [(float(confidence[own & (class_id == c)].sum()), np.sum(own & (class_id == c))) for c in range(4)]
        best = max(range(4), key=lambda c: (sums[c][0], sums[c][1] if not any(s for s, _ in sums) else 0, -c))
        assert label[v] == (best if own.any() else 255)
        assert weight[v] == pytest.approx(sums[best][0] / own.sum() if own.any() else 0)


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
