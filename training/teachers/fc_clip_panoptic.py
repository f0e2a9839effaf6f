"""Masks with classes to segments that do not overlap: the panoptic inference of MaskFormer (Cheng et al., 2021)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ov_seg_ros.core.errors import ConfigError


@dataclass(frozen=True)
class PanopticRules:
    """Which masks count.

    Attributes:
        object_mask_threshold: a mask whose best probability is not above this is dropped.
        overlap_threshold: a mask that keeps less than this share of itself after the others took theirs is dropped.
        masks_at_once: how many masks are at full resolution at the same time; memory only, never the result.
    """

    object_mask_threshold: float = 0.0
    overlap_threshold: float = 0.8
    masks_at_once: int = 25

    def __post_init__(self) -> None:
        for name in ("object_mask_threshold", "overlap_threshold"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ConfigError(f"panoptic rules: {name} must be within [0, 1], got {getattr(self, name)}")
        if self.masks_at_once < 1:
            raise ConfigError(f"panoptic rules: masks_at_once must be at least 1, got {self.masks_at_once}")


@dataclass(frozen=True)
class PanopticSegments:
    """Segments of one image.

    Attributes:
        segment_id: (H, W) int64, 0 = void, 1..R.
        label: (R,) int64 class of each segment.
        pixels: (R, Q) int64 pixels that each mask gave to each segment; rows of things have one entry.
    """

    segment_id: Tensor
    label: Tensor
    pixels: Tensor


def merge_panoptic(
    probabilities: Tensor, mask_logits: Tensor, thing: Tensor, resize: Callable[[Tensor], Tensor], rules: PanopticRules
) -> PanopticSegments:
    """Gives every pixel to the mask with the largest ``probability * sigmoid(logit)`` and joins stuff of one class.

    A mask keeps the pixels it won where its own sigmoid is at least 0.5, unless what it won is less than
    ``overlap_threshold`` of the pixels where its sigmoid is.

    Args:
        probabilities: (Q, K + 1), void last; a mask whose best is void is dropped.
        mask_logits: (Q, h, w).
        thing: (K,) bool, classes of which each mask is a segment of its own.
        resize: brings (n, h, w) logits to the size of the image, (n, H, W).
        rules: thresholds.
    """
    score, label = probabilities.max(dim=1)
    kept = (label < len(thing)) & (score > rules.object_mask_threshold)
    winner, inside, full_area = _compete(score, mask_logits, kept, resize, rules.masks_at_once)
    won = torch.bincount(winner.flatten(), minlength=len(score))
    given = torch.bincount(winner[inside], minlength=len(score))
    whole = won.double() / full_area.double() >= rules.overlap_threshold  # 0 / 0 is NaN, hence False
    segment, labels = _number(kept & (given > 0) & whole, label, thing)
    pixels = torch.zeros(len(labels), len(score), dtype=torch.int64, device=score.device)
    used = segment.nonzero()[:, 0]
    pixels[segment[used] - 1, used] = given[used]
    segment_id = torch.where(inside, segment[winner], 0)
    return PanopticSegments(segment_id, torch.tensor(labels, dtype=torch.int64, device=score.device), pixels)


def _compete(
    score: Tensor, mask_logits: Tensor, kept: Tensor, resize: Callable[[Tensor], Tensor], at_once: int
) -> tuple[Tensor, Tensor, Tensor]:
    """(H, W) int64 mask that wins each pixel, (H, W) bool is its sigmoid at least 0.5, (Q,) pixels where each one's is.

    Masks pass in small batches: all 250 of them would take 1.4 GB at 900 x 1600 pixels, and as much again for the
    products. Of equal masks the first wins.
    """
    size = resize(mask_logits[:1]).shape[1:]
    best = score.new_full(size, -1.0)
    winner = torch.zeros(size, dtype=torch.int64, device=score.device)
    inside = torch.zeros_like(winner, dtype=torch.bool)
    full_area = torch.zeros_like(score, dtype=torch.int64)
    candidates = kept.nonzero()[:, 0]
    for start in range(0, len(candidates), at_once):
        batch = candidates[start : start + at_once]
        mask = resize(mask_logits[batch]).sigmoid()
        full_area[batch] = (mask >= 0.5).flatten(1).sum(1)
        value, first = (score[batch, None, None] * mask).max(dim=0)
        sure = mask.gather(0, first[None])[0] >= 0.5
        better = value > best
        best = torch.where(better, value, best)
        winner = torch.where(better, batch[first], winner)
        inside = torch.where(better, sure, inside)
    return winner, inside, full_area


def _number(counts: Tensor, label: Tensor, thing: Tensor) -> tuple[Tensor, list[int]]:
    """(Q,) int64 segment of each mask, from 1, 0 = none, and the label of each segment; in the order of the masks."""
    labels: list[int] = []
    stuff: dict[int, int] = {}
    segment = torch.zeros_like(label)
    for mask in counts.nonzero()[:, 0].tolist():
        name = int(label[mask])
        if bool(thing[name]) or name not in stuff:
            labels.append(name)
            stuff.setdefault(name, len(labels))
            segment[mask] = len(labels)
        else:
            segment[mask] = stuff[name]
    return segment, labels
