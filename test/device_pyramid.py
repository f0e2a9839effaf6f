"""Tables of a pyramid as a GPU holds them, made by NumPy: padded to a capacity, with nonsense where nothing is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from ov_seg_ros.core.pyramid import Pyramid
from ov_seg_ros.gpu.device_tables import DevicePyramid, RowTable

NONSENSE = 2**30
"""A row that is nowhere: whoever reads it, fails."""


def to_device(pyramid: Pyramid, capacities: Sequence[int], device: str = "cpu") -> DevicePyramid:
    neighbors, down, up = [], [], []
    for level, capacity in zip(pyramid.levels, capacities, strict=True):
        rows = level.neighbor_table()
        neighbors.append(row_table(np.where(rows == len(level), -1, rows), capacity, device))
    for i, stride in enumerate(pyramid.strides):
        corner = np.repeat(np.arange(8), np.diff(stride.starts))
        children = np.full((len(pyramid.levels[i + 1]), 8), -1)
        children[stride.parent, corner] = stride.child
        parents = np.full((len(pyramid.levels[i]), 8), -1)
        parents[stride.child, corner] = stride.parent
        down.append(row_table(children, capacities[i + 1], device))
        up.append(row_table(parents, capacities[i], device))
    counts = tuple(table.count for table in neighbors)
    overflowed = torch.zeros(1, dtype=torch.bool, device=device)
    return DevicePyramid(counts, tuple(neighbors), tuple(down), tuple(up), overflowed)


def row_table(rows: NDArray, capacity: int, device: str = "cpu") -> RowTable:
    """``rows`` (V, K), sorted by the positions that are taken."""
    count, positions = rows.shape
    padded = np.full((capacity, positions), NONSENSE, np.int32)
    padded[:count] = rows
    order = np.full(capacity, NONSENSE, np.int32)
    order[:count] = np.argsort((rows >= 0) @ (1 << np.arange(positions)), kind="stable")
    return RowTable(*(torch.from_numpy(a).to(device) for a in (padded, order, np.array([count], np.int32))))
