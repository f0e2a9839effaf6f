"""Learning from segments: the voxel embeddings of a network against the teacher's segments and texts (TMP)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from ov_seg_ros.core.errors import ConfigError, InputError
from training.student.contrast import ContrastLoss, pool_superpoints
from training.student.minkunet import MinkUNet
from training.student.paired_scans import ContrastBatch

NEGATIVES = ("scan", "pass")
TERMS = ("image_contrast", "text_contrast")


class ContrastObjective:
    """The tri-modal contrastive loss of AFOV (Sec. 3.2) on the superpoints of a batch."""

    def __init__(self, network: MinkUNet, loss: ContrastLoss, negatives: str = "scan") -> None:
        """Binds the loss to a network.

        Args:
            network: voxel features to (V, D) embeddings in the teacher's text space: its head has D outputs.
            loss: both terms, for the texts of the teacher.
            negatives: "scan" tells a superpoint from those of its own scan, and averages over the scans of a pass
                (AFOV: one scan per pass); "pass" tells it from those of all scans of the pass.

        Raises:
            ConfigError: ``negatives`` is unknown, or the head does not fit the texts.
        """
        if negatives not in NEGATIVES:
            raise ConfigError(f"negatives must be one of {', '.join(NEGATIVES)}, got {negatives!r}")
        if network.head.out_features != loss.texts.shape[1]:
            raise ConfigError(
                f"the network embeds in {network.head.out_features} dimensions, the texts of the teacher have "
                f"{loss.texts.shape[1]}: give the network as many outputs"
            )
        self.network, self.negatives = network, negatives
        self._loss = loss

    def loss(self, batch: ContrastBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Scalar loss of a batch, and its terms: always the same ones, so that processes can share them.

        "superpoints" counts those of the batch. Without any, and of a batch that the network cannot learn from, the
        loss is 0 and gradients are zeros.

        Raises:
            InputError: the segments' features do not fit the texts.
        """
        if not self.network.can_learn_from(batch.tables):
            zero = self.network.zero_loss()
            return zero, dict.fromkeys((*TERMS, "superpoints"), zero)
        # The head is wide, as wide as the teacher's features: only voxels that lie in segments get there.
        seen, seen_number = torch.unique(batch.pair_voxel, return_inverse=True)
        embeddings = self.network.head(self.network.embed(batch.features, batch.tables).index_select(0, seen))
        # Similarities are divided by a small temperature: half precision is not enough for them.
        with torch.autocast(embeddings.device.type, enabled=False):
            superpoints = self._superpoints(embeddings.float(), seen_number, batch)
            groups = self._groups(superpoints, batch)
            results = [self._loss(points, images, text) for points, images, text in groups]
            zero = superpoints.sum() * 0
            total = torch.stack([value for value, _ in results]).mean() if results else zero
            terms = {
                name: torch.stack([parts.get(name, zero) for _, parts in results]).mean() if results else zero
                for name in TERMS
            }
        return total, {**terms, "superpoints": total.new_tensor(float(len(superpoints)))}

    def _superpoints(self, embeddings: Tensor, pair_row: Tensor, batch: ContrastBatch) -> Tensor:
        """(S, D) means of unit voxel embeddings, whose rows ``pair_row`` (P,) belong to the pairs."""
        count, width = batch.segment_features.shape
        if count and width != embeddings.shape[1]:
            raise InputError(
                f"the segments have features of {width} numbers, the texts {embeddings.shape[1]}: lift again with the "
                "teacher whose texts are used, or use the texts of the teacher that made the segments"
            )
        return pool_superpoints(normalize(embeddings, dim=1), pair_row, batch.pair_segment, count)

    def _groups(self, superpoints: Tensor, batch: ContrastBatch) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Superpoints, features and texts of those that are each other's negatives; no group is empty."""
        if not len(superpoints):
            return []
        sizes = [len(superpoints)]
        if self.negatives == "scan":
            sizes = torch.unique_consecutive(batch.scan_of_segment, return_counts=True)[1].tolist()
        tables = (superpoints, batch.segment_features, batch.segment_text)
        return list(zip(*(table.split(sizes) for table in tables), strict=True))
