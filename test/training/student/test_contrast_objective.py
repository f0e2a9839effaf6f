"""The objective of TMP: numbers by hand, gradients into the trunk, batches without pairs, and a whole training."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from ov_seg_ros.core.data_types import SegmentPairs
from ov_seg_ros.core.errors import ConfigError, InputError
from ov_seg_ros.core.voxels import VoxelGrid
from training.student.augmentation import AugmentationConfig
from training.student.contrast import ContrastConfig, ContrastLoss, pool_superpoints
from training.student.contrast_objective import ContrastObjective
from training.student.examples import LabelledScan
from training.student.minkunet import NETWORKS, MinkUNet, NetworkConfig
from training.student.optimization import OptimizerConfig
from training.student.pair_augmentation import PairAugmentationConfig
from training.student.paired_scans import PairedScans, save_pairs
from training.student.trainer import Trainer, TrainerConfig

GRID = VoxelGrid("cartesian", (2.5, 2.5, 1.0), (-10.0, -10.0, -5.0), (10.0, 10.0, 5.0))
FEATURES = ("height", "intensity", "extent_z")
TINY = NetworkConfig(8, (12,), (8,), (1,), (1,))
TEXTS = normalize(torch.randn(6, 16, generator=torch.Generator().manual_seed(0)), dim=1)
GROUPS = torch.tensor([0, 0, 1, 1, 2, 2])
HEIGHTS = (-4.0, -1.5, 0.0, 1.5, 3.0, 4.5)


def write_scene(folder: Path, seed: int, with_pairs: bool = True) -> tuple[Path, Path]:
    """Six layers, one text each; the features of the segments are noisy texts."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(-9, 9, (400, 3)).astype(np.float32)
    layer = rng.integers(0, 6, 400)
    points[:, 2] = np.array(HEIGHTS)[layer] + rng.uniform(-0.2, 0.2, 400)
    ones = np.ones(400, np.float32)
    nothing = np.full(400, 255, np.uint8)
    scan = LabelledScan(points, ones, np.zeros(400, np.uint16), nothing, ones, None, np.full(400, -1, np.int8))
    paired = np.flatnonzero(rng.random(400) < 0.6) if with_pairs else np.zeros(0, int)
    count = len(paired)
    noise = torch.randn(6, 16, generator=torch.Generator().manual_seed(seed)) * 0.05
    pairs = SegmentPairs(
        paired.astype(np.int32),
        np.zeros(count, np.uint8),
        rng.uniform(0, 59, (count, 2)).astype(np.float32),
        layer[paired].astype(np.int32),
        np.arange(6, dtype=np.int32),
        normalize(TEXTS + noise, dim=1).numpy(),
        np.array([[96, 60]], np.int32),
    )
    files = folder / f"{seed}.npz", folder / f"{seed}.pairs.npz"
    scan.save(files[0])
    save_pairs(files[1], pairs)
    return files


def make_examples(folder, *scenes):
    files = [write_scene(folder, *scene) for scene in scenes]
    scans, pairs = zip(*files, strict=True)
    changes = AugmentationConfig(tilt=0.0, height=0.0)
    losses = PairAugmentationConfig(min_pairs=80)
    return PairedScans(scans, pairs, GRID, FEATURES, changes, losses)


def make_objective(shape=TINY, negatives="scan", **settings):
    torch.manual_seed(0)
    network = MinkUNet(shape, len(FEATURES), 16)
    return ContrastObjective(network, ContrastLoss(ContrastConfig(**settings), TEXTS, GROUPS), negatives)


def batch_of(examples, *indices, levels=2):
    return examples.make_batch(indices, levels, np.random.default_rng(0))


def test_the_loss_is_that_of_each_scan_averaged(tmp_path):
    batch = batch_of(make_examples(tmp_path, (0,), (1,)), 0, 1)
    objective = make_objective()
    with torch.no_grad():
        loss, terms = objective.loss(batch)
        whole, _ = make_objective(negatives="pass").loss(batch)
        voxels = normalize(objective.network(batch.features, batch.tables), dim=1)
    points = pool_superpoints(voxels, batch.pair_voxel, batch.pair_segment, 12)
    contrast = ContrastLoss(ContrastConfig(), TEXTS, GROUPS)
    tables = (points, batch.segment_features, batch.segment_text)
    first, second = (contrast(*(table[part] for table in tables))[0] for part in (slice(0, 6), slice(6, 12)))
    torch.testing.assert_close(loss, (first + second) / 2)
    torch.testing.assert_close(whole, contrast(*tables)[0])
    assert not torch.isclose(loss, whole)
    torch.testing.assert_close(loss, 0.5 * terms["image_contrast"] + 0.5 * terms["text_contrast"])
    assert float(terms["superpoints"]) == 12


def test_gradients_reach_the_trunk(tmp_path):
    objective = make_objective()
    objective.loss(batch_of(make_examples(tmp_path, (0,)), 0))[0].backward()
    largest = {name: float(value.grad.abs().max()) for name, value in objective.network.named_parameters()}
    assert min(largest.values()) > 0


@pytest.mark.parametrize("negatives", ["scan", "pass"])
@pytest.mark.parametrize("settings", [{}, {"text_weight": 0.0}])
def test_a_batch_without_pairs_costs_nothing(tmp_path, negatives, settings):
    """Terms stay the same ones: processes sum them position by position."""
    examples = make_examples(tmp_path, (0,), (1, False))
    objective = make_objective(negatives=negatives, **settings)
    loss, terms = objective.loss(batch_of(examples, 1))
    loss.backward()
    assert loss.item() == 0
    assert all(not value.grad.any() for value in objective.network.parameters())
    full = objective.loss(batch_of(examples, 0))[1]
    assert list(terms) == list(full) == ["image_contrast", "text_contrast", "superpoints"]
    assert (float(terms["superpoints"]), float(full["superpoints"])) == (0, 6)
    # Beside a scan with pairs it does not dilute the average.
    both = objective.loss(batch_of(examples, 0, 1))[0]
    assert both.item() > 0.9 * objective.loss(batch_of(examples, 0))[0].item()


@pytest.mark.parametrize(("place", "voxels"), [(1.0, 1), (1000.0, 0)])
def test_a_batch_of_one_voxel_costs_nothing(tmp_path, place, voxels):
    """Batch norm has no variance there; the terms and gradients are there all the same."""
    examples = make_examples(tmp_path, (0,))
    scan = examples.load(0)[0]
    replace(scan, points=np.full_like(scan.points, place)).save(examples.scan_files[0])
    objective = make_objective()
    batch = batch_of(examples, 0)
    assert len(batch.features) == voxels
    loss, terms = objective.loss(batch)
    loss.backward()
    assert (loss.item(), {term.item() for term in terms.values()}) == (0, {0})
    assert list(terms) == ["image_contrast", "text_contrast", "superpoints"]
    assert all(value.grad is not None and not value.grad.any() for value in objective.network.parameters())


def test_only_the_network_runs_in_half_precision(tmp_path):
    batch = batch_of(make_examples(tmp_path, (0,)), 0)
    objective = make_objective()
    with torch.autocast("cpu", torch.bfloat16):
        loss = objective.loss(batch)[0]
        embeddings = objective.network(batch.features, batch.tables)
    assert embeddings.dtype == torch.bfloat16
    points = pool_superpoints(normalize(embeddings.float(), dim=1), batch.pair_voxel, batch.pair_segment, 6)
    expected = ContrastLoss(ContrastConfig(), TEXTS, GROUPS)(points, batch.segment_features, batch.segment_text)[0]
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=0)
    loss.backward()
    assert all(torch.isfinite(value.grad).all() for value in objective.network.parameters())


def test_the_trainer_learns_the_texts(tmp_path):
    """Passes of two scans, one of the files without pairs; afterwards voxels find their texts."""
    examples = make_examples(tmp_path, (0,), (1,), (2, False))
    optimizer = OptimizerConfig(learning_rate=3e-2)
    config = TrainerConfig(steps=30, batch_size=2, scans_per_pass=2, average=0.0, optimizer=optimizer)
    losses = []
    trainer = Trainer(config, make_objective(), examples, tmp_path / "run")
    network = trainer.run(lambda _step, _steps, terms: losses.append(terms))
    assert losses[-1]["loss"] < 0.1 * losses[0]["loss"]
    assert {terms["superpoints"] for terms in losses} == {6, 12}
    unseen = batch_of(make_examples(tmp_path, (99,)), 0)
    with torch.no_grad():
        voxels = network(unseen.features, unseen.tables)
    found = (normalize(voxels, dim=1) @ TEXTS.T).argmax(dim=1)[unseen.pair_voxel]
    assert (found == unseen.segment_text[unseen.pair_segment]).float().mean() > 0.6  # guessing finds one in six


def test_what_does_not_fit_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="negatives must be one of scan, pass, got 'all'"):
        make_objective(negatives="all")
    loss = ContrastLoss(ContrastConfig(), TEXTS, GROUPS)
    with pytest.raises(ConfigError, match="embeds in 7 dimensions, the texts of the teacher have 16"):
        ContrastObjective(MinkUNet(NETWORKS["small"], 3, 7), loss)
    batch = batch_of(make_examples(tmp_path, (0,)), 0)
    with pytest.raises(InputError, match="features of 5 numbers, the texts 16"):
        make_objective().loss(replace(batch, segment_features=batch.segment_features[:, :5]))
