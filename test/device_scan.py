"""Scans in buffers that are larger than they are, as a recorded CUDA graph reads them."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray


@dataclass(frozen=True)
class DeviceScan:
    """What the modules of ``ov_seg_ros.gpu`` take; behind the points that exist, points of an earlier scan."""

    points: torch.Tensor
    intensity: torch.Tensor
    num_points: torch.Tensor
    color: torch.Tensor

    @property
    def capacity(self) -> int:
        return len(self.points)


def scan_on_device(
    points: NDArray[np.float32],
    intensity: NDArray[np.float32] | None = None,
    color: NDArray[np.float32] | None = None,
    padding: int = 3,
) -> DeviceScan:
    """A scan in buffers with room for ``padding`` more points, at least one in all."""
    capacity = max(len(points) + padding, 1)
    random = np.random.default_rng(capacity)
    stale = random.uniform(-8, 8, (capacity, 3)).astype(np.float32)
    stale[::4] = np.nan
    arrays = [stale, random.gamma(2, 1000, capacity).astype(np.float32), np.ones((capacity, 4), np.float32)]
    for buffer, scan in zip(arrays, (points, intensity, color), strict=True):
        if scan is not None:
            buffer[: len(scan)] = scan
    buffers = [torch.from_numpy(buffer) for buffer in arrays]
    return DeviceScan(buffers[0], buffers[1], torch.tensor([len(points)], dtype=torch.int32), buffers[2])
