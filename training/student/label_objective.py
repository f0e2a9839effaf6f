"""Learning from labels: cross-entropy and Lovász-softmax on the labelled voxels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ov_seg_ros.core.data_types import IGNORE_ID
from ov_seg_ros.core.voxels import VoxelGrid
from training.student.augmentation import AugmentationConfig, augment
from training.student.examples import Batch, LabelledScan, make_batch
from training.student.losses import lovasz_softmax, weighted_cross_entropy
from training.student.minkunet import MinkUNet
from training.student.something_to_learn import Lesson, require_something_to_learn
from training.value_ranges import NOT_NEGATIVE, SHARE

SAMPLED_SCANS = 100
"""So many scans tell how rare each class is."""


@dataclass(frozen=True)
class LabelLossConfig:
    """Settings of the loss on labelled voxels.

    Attributes:
        lovasz: weight of the Lovász-softmax term beside the cross-entropy.
        lovasz_voxels: at most so many random labelled voxels enter that term, 0 = all.
        rare_class_power: class weights are frequency ** -power, frequencies taken from the labels trained on;
            0 = all alike, 1 = the rarest as much as the most frequent.
        trust: weigh each voxel by the confidence and agreement of its labels (0 teaches nothing); otherwise all count
            the same.
    """

    lovasz: float = 1.0
    lovasz_voxels: int = 16384
    rare_class_power: float = 0.35
    trust: bool = True

    def __post_init__(self) -> None:
        NOT_NEGATIVE.check(self, "lovasz", "lovasz_voxels")
        SHARE.check(self, "rare_class_power")


@dataclass(frozen=True)
class LabelledScans:
    """Files of labelled scans and how they become voxels."""

    files: Sequence[Path]
    grid: VoxelGrid
    point_features: tuple[str, ...]
    num_classes: int
    with_color: bool
    augmentation: AugmentationConfig

    def __len__(self) -> int:
        return len(self.files)

    def load(self, index: int) -> LabelledScan:
        """Reads one labelled scan."""
        return LabelledScan.load(self.files[index], self.with_color)

    def require_something_to_learn(self, trust: bool) -> None:
        """Refuses scans without a labelled point in the grid.

        Args:
            trust: ``LabelLossConfig.trust``; then labels of confidence 0 teach nothing.

        Raises:
            InputError: that is all there is, or a file is damaged.
        """
        lessons = (_lesson(self.load(index), trust) for index in range(len(self)))
        remedy = "look at what the teacher said, and at the calibration of the cameras (ov-seg convert)"
        require_something_to_learn(lessons, self.grid, "labelled", remedy)

    def make_batch(self, indices: Sequence[int], num_levels: int, rng: np.random.Generator) -> Batch:
        """The scans at ``indices``, augmented and voxelised side by side."""
        scans = [augment(self.load(i), self.augmentation, rng) for i in indices]
        return make_batch(scans, self.grid, self.point_features, num_levels, self.num_classes)

    def class_weights(self, rare_class_power: float) -> NDArray[np.float32]:
        """(C,) frequency ** -power of the labels in about a hundred scans, largest 1.

        A class that these scans lack is rarer than all of theirs: it has weight 1. With power 0 all classes have.
        """
        if rare_class_power == 0:
            return np.ones(self.num_classes, np.float32)
        counts = np.zeros(self.num_classes)
        for index in _spread_sample(len(self)):
            counts += np.bincount(self.load(index).class_id, minlength=256)[: self.num_classes]
        seen = counts > 0
        weight = np.ones(self.num_classes)
        if seen.any():
            weight[seen] = (counts[seen] / counts.sum()) ** -rare_class_power
            weight[seen] /= weight[seen].max()
        return weight.astype(np.float32)


def _lesson(scan: LabelledScan, trust: bool) -> Lesson:
    labelled = scan.class_id != IGNORE_ID
    return Lesson(scan.points, labelled & (scan.confidence > 0) if trust else labelled)


def _spread_sample(count: int) -> NDArray[np.int64]:
    """Ascending numbers below ``count``: all of fewer than 200, else one at random in every hundredth of them.

    Numbers in equal steps would always hit the same part of drives of equal length. The seed is fixed, so that a
    training that continues has the weights it began with.
    """
    if count < 2 * SAMPLED_SCANS:
        return np.arange(count)
    edges = np.linspace(0, count, SAMPLED_SCANS + 1).astype(np.int64)
    return np.random.default_rng(0).integers(edges[:-1], edges[1:])


class LabelObjective:
    """Cross-entropy plus Lovász-softmax (AFOV, Sec. 3.3) of a network's logits."""

    def __init__(self, network: MinkUNet, config: LabelLossConfig, class_weight: NDArray[np.float32]) -> None:
        """Binds the loss to a network.

        Args:
            network: voxel features to (V, C) logits.
            config: settings of the loss.
            class_weight: (C,), see ``LabelledScans.class_weights``.
        """
        self.network, self.config = network, config
        self._class_weight = torch.from_numpy(class_weight)

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Scalar loss of a batch, and its terms: always the same ones, so that processes can share them.

        Of a batch that the network cannot learn from, all are 0 and gradients are zeros.
        """
        if not self.network.can_learn_from(batch.tables):
            zero = self.network.zero_loss()
            return zero, {"cross_entropy": zero, "lovasz": zero}
        logits = self.network(batch.features, batch.tables).float()
        weight = batch.weight if self.config.trust else torch.ones_like(batch.weight)
        labelled = torch.nonzero((batch.class_id != IGNORE_ID) & (weight > 0)).squeeze(1)
        logits, target, weight = logits.index_select(0, labelled), batch.class_id[labelled], weight[labelled]
        entropy = weighted_cross_entropy(logits, target, weight, self._class_weight.to(logits.device))
        if self.config.lovasz_voxels and len(target) > self.config.lovasz_voxels:
            # Drawn on the CPU, so that a run on a GPU sees the same voxels.
            some = torch.randperm(len(target))[: self.config.lovasz_voxels].to(logits.device)
            logits, target = logits[some], target[some]
        overlap = lovasz_softmax(logits.softmax(dim=1), target)
        return entropy + self.config.lovasz * overlap, {"cross_entropy": entropy, "lovasz": overlap}
