"""Logits of voxels to class, probability and entropy of points, as ``core.class_distribution`` does on the CPU."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ov_seg_ros.core.data_types import IGNORE_ID


@dataclass(frozen=True)
class DeviceLabels:
    """Answers for all rows of a cloud, padding included.

    Attributes:
        class_id: (capacity,) uint8; 255 for a point without a voxel.
        probability: (capacity,) float32 of that class; 0 without a voxel.
        entropy: (capacity,) float32, natural units; 0 without a voxel.
        voxels: (1,) int32, how many there are.
        broken: (1,) int32, voxels whose logits hold a NaN.
        overflowed: (1,) bool, whether the scan did not fit; then the answers mean nothing.
    """

    class_id: torch.Tensor
    probability: torch.Tensor
    entropy: torch.Tensor
    voxels: torch.Tensor
    broken: torch.Tensor
    overflowed: torch.Tensor


def label_points(
    logits: torch.Tensor, count: torch.Tensor, point_to_voxel: torch.Tensor, overflowed: torch.Tensor
) -> DeviceLabels:
    """The most probable class of every point's voxel, the first one of equals.

    Args:
        logits: (voxel capacity, C) float32; rows from ``count`` on may hold anything.
        count: (1,) int32, voxels that exist.
        point_to_voxel: (capacity,) int32, -1 = none.
        overflowed: (1,) bool, handed on.
    """
    best, class_id = logits.amax(1, keepdim=True), logits.argmax(1)
    difference = logits - best
    weight = difference.exp()
    total = weight.sum(1)
    weighted = (weight * difference).nan_to_num(nan=0.0).sum(1)  # 0 * -inf, of a class that is impossible
    entropy = (total.log() - weighted / total).clamp_min(0)
    exists = torch.arange(len(logits), device=logits.device, dtype=torch.int32) < count
    broken = (total.isnan() & exists).sum(dtype=torch.int32).reshape(1)
    row, has_voxel = point_to_voxel.clamp_min(0), point_to_voxel >= 0
    return DeviceLabels(
        torch.where(has_voxel, class_id.to(torch.uint8)[row], IGNORE_ID),
        torch.where(has_voxel, total.reciprocal()[row], 0.0),
        torch.where(has_voxel, entropy[row], 0.0),
        count,
        broken,
        overflowed,
    )
