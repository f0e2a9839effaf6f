"""Losses of label training: cross-entropy and Lovász-softmax."""

from __future__ import annotations

import torch
from torch import Tensor


def lovasz_softmax(probabilities: Tensor, target: Tensor) -> Tensor:
    """Lovász-softmax over the classes present in ``target`` (Berman et al., CVPR 2018, Eq. 9-11).

    Args:
        probabilities: (V, C) float32, rows sum to 1.
        target: (V,) int64 in 0..C-1.

    Returns:
        Scalar, 0 for an empty target.
    """
    present = torch.unique(target)
    if len(present) == 0:
        return probabilities.sum() * 0
    foreground = (target[None] == present[:, None]).float()  # (P, V)
    errors = (foreground - probabilities.T[present]).abs()
    errors, order = torch.sort(errors, dim=1, descending=True)
    return (errors * _jaccard_gradient(foreground.gather(1, order))).sum(dim=1).mean()


def _jaccard_gradient(sorted_foreground: Tensor) -> Tensor:
    """(P, V) gradient of the Lovász extension of the Jaccard loss, errors sorted descending."""
    total = sorted_foreground.sum(dim=1, keepdim=True)
    covered = sorted_foreground.cumsum(dim=1)
    missed = (1 - sorted_foreground).cumsum(dim=1)
    jaccard = 1 - (total - covered) / (total + missed)
    return torch.cat([jaccard[:, :1], jaccard[:, 1:] - jaccard[:, :-1]], dim=1)


def weighted_cross_entropy(logits: Tensor, target: Tensor, weight: Tensor, class_weight: Tensor) -> Tensor:
    """Cross-entropy with a weight per voxel and per class, normalised by the sum of the weights.

    Args:
        logits: (V, C) float32.
        target: (V,) int64.
        weight: (V,) float32 >= 0, trust in each voxel's label.
        class_weight: (C,) float32 >= 0.
    """
    per_voxel = torch.nn.functional.cross_entropy(logits, target, reduction="none")
    trust = weight * class_weight[target]
    return (per_voxel * trust).sum() / trust.sum().clamp(min=1e-6)
