"""Labelled scans on disk and batches of voxels in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ov_seg_ros.core.data_types import IGNORE_ID, PointCloud
from ov_seg_ros.core.errors import InputError
from ov_seg_ros.core.point_features import voxel_features
from ov_seg_ros.core.pyramid import build_pyramid
from ov_seg_ros.core.voxels import VoxelGrid, Voxels
from training.atomic_files import atomic_path
from training.student.sparse_layers import Tables

UNREADABLE = (OSError, EOFError, ValueError, KeyError, BadZipFile)
"""What NumPy raises on .npz files that are missing, cut off, or of another kind."""


@dataclass(frozen=True)
class LabelledScan:
    """One scan with the labels a student learns from.

    Attributes:
        points: (N, 3) float32, metres, LiDAR frame.
        intensity: (N,) float32.
        ring: (N,) uint16 laser, zeros if unknown.
        class_id: (N,) uint8, 255 = no label.
        confidence: (N,) float32 in [0, 1].
        color: (N, 4) float32 red, green, blue, valid; None where no camera was used.
        camera: (N,) int8 index of the camera that gave the colour, -1 = none.
    """

    points: NDArray[np.float32]
    intensity: NDArray[np.float32]
    ring: NDArray[np.uint16]
    class_id: NDArray[np.uint8]
    confidence: NDArray[np.float32]
    color: NDArray[np.float32] | None
    camera: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.points)

    def select(self, keep: NDArray[np.bool_]) -> LabelledScan:
        """The points where ``keep`` (N,) is true."""
        kept = {name: getattr(self, name)[keep] for name in _ARRAYS}
        return LabelledScan(**kept, color=None if self.color is None else self.color[keep])

    def replaced(
        self, points: NDArray[np.float32], intensity: NDArray[np.float32], color: NDArray[np.float32] | None
    ) -> LabelledScan:
        """The same labels on changed measurements."""
        return replace(self, points=points, intensity=intensity, color=color)

    def save(self, path: Path) -> None:
        """Writes an .npz; a half-written file never carries the final name."""
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        if self.color is not None:
            arrays["color"] = np.round(self.color * 255).astype(np.uint8)
        with atomic_path(path) as partial, partial.open("wb") as file:
            np.savez(file, **arrays)

    @classmethod
    def load(cls, path: Path, with_color: bool) -> LabelledScan:
        """Reads what ``save`` wrote.

        Raises:
            InputError: the file is damaged, or colours are asked for and it has none.
        """
        try:
            with np.load(path) as stored:
                if with_color and "color" not in stored:
                    raise InputError(f"{path} holds no colours: label the drives again with a colour recipe")
                color = stored["color"].astype(np.float32) / 255 if with_color else None
                return cls(**{name: stored[name] for name in _ARRAYS}, color=color)
        except UNREADABLE as error:
            raise InputError(f"{path} is no labelled scan ({error}): delete it and label again") from error


_ARRAYS = ("points", "intensity", "ring", "class_id", "confidence", "camera")


@dataclass(frozen=True)
class Batch:
    """Voxels of several scans, as the network takes them.

    Attributes:
        features: (V, F) float32.
        tables: index tables over all V voxels; voxels of different scans are never neighbours.
        class_id: (V,) int64, 255 = no label.
        weight: (V,) float32 trust in the label, 0 where there is no label.
    """

    features: Tensor
    tables: Tables
    class_id: Tensor
    weight: Tensor

    def to(self, device: torch.device) -> Batch:
        """The same batch on a device."""
        if self.features.device == device:
            return self
        return Batch(self.features.to(device), self.tables.to(device), self.class_id.to(device), self.weight.to(device))


def make_batch(
    scans: Sequence[LabelledScan], grid: VoxelGrid, point_features: Sequence[str], num_levels: int, num_classes: int
) -> Batch:
    """Voxelises scans side by side and gives every voxel a label."""
    features, tables, voxels = voxelize_scans(scans, grid, point_features, num_levels)
    votes = [
        vote(scan.class_id, scan.confidence, own.point_to_voxel, len(own), num_classes)
        for scan, own in zip(scans, voxels, strict=True)
    ]
    labels, weights = zip(*votes, strict=True)
    return Batch(features, tables, torch.from_numpy(np.concatenate(labels)), torch.from_numpy(np.concatenate(weights)))


def voxelize_scans(
    scans: Sequence[LabelledScan], grid: VoxelGrid, point_features: Sequence[str], num_levels: int
) -> tuple[Tensor, Tables, list[Voxels]]:
    """Voxelises scans side by side in one large grid, a multiple of the coarsest cell apart.

    Returns:
        (V, F) float32 features of the voxels of all scans, one scan after the other; their tables, in which voxels
        of different scans are never neighbours; the voxels of each scan alone.
    """
    coarsest = 2 ** (num_levels - 1)
    step = (grid.shape[0] // coarsest + 2) * coarsest
    coords, features, voxels = [], [], []
    for i, scan in enumerate(scans):
        own = grid.voxelize(scan.points)
        cloud = PointCloud(scan.points, scan.intensity)
        features.append(voxel_features(cloud, own, grid, point_features, scan.color))
        coords.append(own.coords + np.array([i * step, 0, 0], np.int32))
        voxels.append(own)
    pyramid = build_pyramid(np.concatenate(coords), num_levels)
    return torch.from_numpy(np.concatenate(features)), Tables.from_pyramid(pyramid), voxels


def vote(
    class_id: NDArray[np.uint8],
    confidence: NDArray[np.float32],
    point_to_voxel: NDArray[np.int32],
    num_voxels: int,
    num_classes: int,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Label of each voxel: the class with the largest sum of confidences among its labelled points.

    Where all of them have confidence 0, the class of most points.

    Returns:
        (V,) int64 class ids, 255 where no point has a label, and (V,) float32 the winner's share of the
        confidences times their mean (1 = all points agree with full confidence), 0 where there is no label.
    """
    labelled = (class_id != IGNORE_ID) & (point_to_voxel >= 0)
    row = point_to_voxel[labelled].astype(np.int64)
    ballot, size = row * num_classes + class_id[labelled], num_voxels * num_classes
    votes = np.bincount(ballot, confidence[labelled].astype(np.float64), size).reshape(num_voxels, num_classes)
    count = np.bincount(row, minlength=num_voxels)
    winner = votes.argmax(axis=1)
    weight = votes[np.arange(num_voxels), winner] / np.maximum(count, 1)
    doubted = (count > 0) & (weight == 0)
    if doubted.any():
        points = np.bincount(ballot, minlength=size).reshape(num_voxels, num_classes)
        winner[doubted] = points[doubted].argmax(axis=1)
    return np.where(count > 0, winner, IGNORE_ID), weight.astype(np.float32)
