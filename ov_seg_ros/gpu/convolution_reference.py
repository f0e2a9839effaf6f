"""Sparse convolution in plain torch: the reference of the Triton kernel, and what runs where there is no Triton.

Computes every kernel position for every row of the capacity, so it does several times the work, but like the kernel
it never waits for the GPU.
"""

from __future__ import annotations

import torch

from ov_seg_ros.gpu.convolution_terms import ConvolutionWeights, Operands
from ov_seg_ros.gpu.device_tables import RowTable


def convolve_by_torch(weights: ConvolutionWeights, operands: Operands, table: RowTable) -> None:
    """Computes one convolution.

    Args:
        weights: packed.
        operands: of these widths.
        table: of the target's level; without a gathered term any table of that level.
    """
    capacity = len(table.rows)
    row = torch.arange(capacity, dtype=torch.int32, device=table.rows.device)
    row = torch.where(row < table.count, row, -1)
    sums = weights.bias.expand(capacity, -1)
    if weights.gathered is not None and operands.gathered is not None:
        for k, matrix in enumerate(weights.gathered):
            source = torch.where(row >= 0, table.rows[:, k], -1)
            sums = sums + _fetch(operands.gathered, source) @ matrix.float()
    if weights.plain is not None and operands.plain is not None:
        sums = sums + _fetch(operands.plain, row) @ weights.plain.float()
    if operands.residual is not None:
        sums = sums + _fetch(operands.residual, row)
    sums = sums.relu() if weights.relu else sums
    operands.target.copy_(torch.where((row >= 0)[:, None], sums.to(operands.target.dtype), operands.target))


def _fetch(features: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """(N, C) float32 rows of the features, zeros where the row is -1."""
    found = features[rows.clamp(0, len(features) - 1).long()].float()
    return torch.where((rows >= 0)[:, None], found, 0.0)
