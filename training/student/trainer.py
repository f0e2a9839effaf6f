"""The training loop: labelled scans in, a checkpoint out. Any interrupted run continues exactly."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ov_seg_ros.core.data_types import IGNORE_ID
from ov_seg_ros.core.errors import InputError
from ov_seg_ros.core.voxels import VoxelGrid
from training.student.augmentation import AugmentationConfig, augment
from training.student.examples import Batch, LabelledScan, make_batch
from training.student.losses import lovasz_softmax, weighted_cross_entropy
from training.student.minkunet import NETWORKS, MinkUNet


@dataclass(frozen=True)
class TrainerConfig:
    """Settings of one training.

    Attributes:
        network: a name of ``NETWORKS``.
        steps: optimiser steps.
        batch_size: scans per step.
        learning_rate: peak of a one-cycle schedule (AdamW).
        warm_up: share of the steps in which the rate rises.
        weight_decay: of AdamW, on weights with two or more axes.
        lovasz: weight of the Lovász-softmax term beside the cross-entropy.
        lovasz_voxels: at most so many random labelled voxels enter that term.
        rare_class_power: class weights are frequency ** -power, frequencies taken from the pseudo labels.
        average: decay of the moving average of the weights, which is what is exported.
        checkpoint_every: steps between checkpoints.
        seed: of everything random.
    """

    network: str = "small"
    steps: int = 3000
    batch_size: int = 2
    learning_rate: float = 4e-3
    warm_up: float = 0.1
    weight_decay: float = 0.01
    lovasz: float = 1.0
    lovasz_voxels: int = 16384
    rare_class_power: float = 0.35
    average: float = 0.998
    checkpoint_every: int = 250
    seed: int = 0


@dataclass(frozen=True)
class TrainingSet:
    """Files of labelled scans and how they become voxels."""

    files: Sequence[Path]
    grid: VoxelGrid
    point_features: tuple[str, ...]
    num_classes: int
    with_color: bool

    def load(self, index: int) -> LabelledScan:
        """Reads one labelled scan."""
        return LabelledScan.load(self.files[index], self.with_color)


class Trainer:
    """Trains one student; ``run`` starts or continues, ``network`` holds the averaged weights afterwards."""

    def __init__(self, config: TrainerConfig, augmentation: AugmentationConfig, data: TrainingSet, out: Path) -> None:
        if not data.files:
            raise InputError("there are no labelled scans to train on: run the label stage first")
        self.config, self.augmentation, self.data, self.out = config, augmentation, data, out
        torch.manual_seed(config.seed)
        shape = NETWORKS[config.network]
        self.network = MinkUNet(shape, len(data.point_features), data.num_classes)
        self.average = MinkUNet(shape, len(data.point_features), data.num_classes)
        self.average.load_state_dict(self.network.state_dict())
        self.optimizer = torch.optim.AdamW(_parameter_groups(self.network, config.weight_decay), lr=1.0)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, self._learning_rate)
        self.class_weight = torch.from_numpy(self._class_weights())
        self.step = 0

    def run(self, progress: Callable[[int, int, dict[str, float]], None] | None = None) -> MinkUNet:
        """Trains to the last step and returns the averaged network in evaluation mode.

        Args:
            progress: called after every step with (step, steps, losses).
        """
        self.out.mkdir(parents=True, exist_ok=True)
        self._resume()
        with (self.out / "log.csv").open("a", newline="") as log:
            rows = csv.writer(log)
            for batch in self._batches():
                losses = self._train_step(batch)
                rows.writerow([self.step, self.optimizer.param_groups[0]["lr"], *losses.values()])
                if progress is not None:
                    progress(self.step, self.config.steps, losses)
                if self.step % self.config.checkpoint_every == 0 or self.step == self.config.steps:
                    log.flush()
                    self._save()
        return self.average.eval()

    def _train_step(self, batch: Batch) -> dict[str, float]:
        self.network.train()
        logits = self.network(batch.features, batch.tables)
        labelled = torch.nonzero((batch.class_id != IGNORE_ID) & (batch.weight > 0)).squeeze(1)
        target = batch.class_id[labelled]
        logits = logits.index_select(0, labelled)
        entropy = weighted_cross_entropy(logits, target, batch.weight[labelled], self.class_weight)
        some = torch.randperm(len(target))[: self.config.lovasz_voxels]
        overlap = lovasz_softmax(logits[some].softmax(dim=1), target[some])
        loss = entropy + self.config.lovasz * overlap
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
        self.optimizer.step()
        self.schedule.step()
        self.step += 1
        self._update_average()
        return {
            "loss": float(loss.detach()),
            "cross_entropy": float(entropy.detach()),
            "lovasz": float(overlap.detach()),
        }

    @torch.no_grad()
    def _update_average(self) -> None:
        decay = min(self.config.average, self.step / (self.step + 10))
        for mean, value in zip(self.average.state_dict().values(), self.network.state_dict().values(), strict=True):
            if mean.dtype.is_floating_point:
                mean.lerp_(value, 1 - decay)
            else:
                mean.copy_(value)

    def _batches(self) -> Iterator[Batch]:
        """Batches of the remaining steps; the next one is made while the current one is used."""
        with ThreadPoolExecutor(max_workers=1) as pool:
            future = pool.submit(self._make_batch, self.step)
            for step in range(self.step, self.config.steps):
                torch.manual_seed(self.config.seed * 1_000_003 + step)
                batch = future.result()
                if step + 1 < self.config.steps:
                    future = pool.submit(self._make_batch, step + 1)
                yield batch

    def _make_batch(self, step: int) -> Batch:
        """The batch of a step, a function of the seed and the step alone: that makes resuming exact."""
        rng = np.random.default_rng([self.config.seed, step])
        scans = [augment(self.data.load(i), self.augmentation, rng) for i in self._chosen(step)]
        num_levels = NETWORKS[self.config.network].num_levels
        return make_batch(scans, self.data.grid, self.data.point_features, num_levels, self.data.num_classes)

    def _chosen(self, step: int) -> list[int]:
        """Scans of a step: a new permutation every epoch."""
        size, count = self.config.batch_size, len(self.data.files)
        positions = range(step * size, (step + 1) * size)
        orders = {p // count: np.random.default_rng([self.config.seed, 7, p // count]) for p in positions}
        permutations = {epoch: rng.permutation(count) for epoch, rng in orders.items()}
        return [int(permutations[p // count][p % count]) for p in positions]

    def _class_weights(self) -> np.ndarray:
        counts = np.zeros(self.data.num_classes)
        for index in range(0, len(self.data.files), max(1, len(self.data.files) // 100)):
            scan = self.data.load(index)
            counts += np.bincount(scan.class_id, minlength=256)[: self.data.num_classes]
        frequency = np.maximum(counts, 1) / counts.sum().clip(min=1)
        weight = np.where(counts > 0, frequency**-self.config.rare_class_power, 0)
        return (weight / weight.max().clip(min=1e-9)).astype(np.float32)

    def _learning_rate(self, step: int) -> float:
        rise = self.config.warm_up * self.config.steps
        if step < rise:
            return self.config.learning_rate * (step + 1) / (rise + 1)
        progress = (step - rise) / max(1.0, self.config.steps - rise)
        return self.config.learning_rate * max(1e-3, 0.5 * (1 + math.cos(math.pi * progress)))

    def _state(self) -> dict[str, Any]:
        return {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "step": self.step,
            "config": asdict(self.config),
        }

    def _save(self) -> None:
        partial = self.out / "checkpoint.part"
        torch.save(self._state(), partial)
        partial.replace(self.out / "checkpoint.pt")

    def _resume(self) -> None:
        path = self.out / "checkpoint.pt"
        if not path.exists():
            return
        state = torch.load(path, weights_only=True)
        if state["config"] != asdict(self.config):
            raise InputError(f"{path} was trained with other settings: choose another output folder or delete it")
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.step = state["step"]


def _parameter_groups(network: MinkUNet, weight_decay: float) -> list[dict[str, Any]]:
    """Weights decay, norms and biases do not."""
    decayed: list[Tensor] = [p for p in network.parameters() if p.ndim >= 2]
    free: list[Tensor] = [p for p in network.parameters() if p.ndim < 2]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": free, "weight_decay": 0.0}]
