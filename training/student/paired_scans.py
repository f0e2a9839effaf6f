"""Scans beside the teacher segments their points lie in, on disk and as batches: what TMP learns from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ov_seg_ros.core.data_types import SegmentPairs
from ov_seg_ros.core.errors import InputError
from ov_seg_ros.core.point_features import uses_color
from ov_seg_ros.core.voxels import VoxelGrid, Voxels
from training.atomic_files import atomic_path
from training.student.augmentation import AugmentationConfig, augment_and_trace
from training.student.examples import UNREADABLE, LabelledScan, voxelize_scans
from training.student.pair_augmentation import (
    PairAugmentationConfig,
    crop_images,
    drop_cuboid,
    drop_empty_segments,
    follow_points,
    select_pairs,
)
from training.student.something_to_learn import Lesson, require_something_to_learn
from training.student.sparse_layers import Tables


def save_pairs(path: Path, pairs: SegmentPairs) -> None:
    """Writes an .npz, whole or not at all; features become float16."""
    arrays = {field.name: getattr(pairs, field.name) for field in fields(pairs)}
    arrays["features"] = pairs.features.astype(np.float16)
    with atomic_path(path) as partial, partial.open("wb") as file:
        np.savez(file, **arrays)


def load_pairs(path: Path) -> SegmentPairs:
    """Reads what ``save_pairs`` wrote; features are float16.

    Raises:
        InputError: the file is missing or damaged.
    """
    try:
        with np.load(path) as stored:
            pairs = SegmentPairs(**{field.name: stored[field.name] for field in fields(SegmentPairs)})
        if pairs.segment.max(initial=-1) >= len(pairs.text_id) or len(pairs.text_id) != len(pairs.features):
            raise ValueError("its segments and their features do not belong together")
    except UNREADABLE as error:
        raise InputError(f"{path} holds no pairs of points and segments ({error}): delete it and lift again") from error
    return pairs


@dataclass(frozen=True)
class ContrastBatch:
    """Voxels of several scans and the segments they lie in, as ``ContrastObjective`` takes them.

    Attributes:
        features: (V, F) float32.
        tables: index tables over all V voxels; voxels of different scans are never neighbours.
        pair_voxel: (P,) int64 index of a voxel; every pair of a point counts.
        pair_segment: (P,) int64 in [0, S), ascending; every segment has a pair.
        segment_text: (S,) int64 index into the teacher's texts.
        segment_features: (S, D) float32 unit vectors.
        scan_of_segment: (S,) int64 number of the scan in the batch, ascending.
    """

    features: Tensor
    tables: Tables
    pair_voxel: Tensor
    pair_segment: Tensor
    segment_text: Tensor
    segment_features: Tensor
    scan_of_segment: Tensor

    def to(self, device: torch.device) -> ContrastBatch:
        """The same batch on a device."""
        if self.features.device == device:
            return self
        return ContrastBatch(**{field.name: getattr(self, field.name).to(device) for field in fields(self)})


@dataclass(frozen=True)
class PairedScans:
    """Files of scans and of their pairs, in the same order, and how they become voxels. Labels are not used."""

    scan_files: Sequence[Path]
    pair_files: Sequence[Path]
    grid: VoxelGrid
    point_features: tuple[str, ...]
    augmentation: AugmentationConfig
    pair_augmentation: PairAugmentationConfig

    def __post_init__(self) -> None:
        if len(self.scan_files) != len(self.pair_files):
            raise InputError(
                f"every scan needs its pairs, got {len(self.scan_files)} files of scans and {len(self.pair_files)} of "
                "pairs: lift again with a teacher that has features"
            )

    def __len__(self) -> int:
        return len(self.scan_files)

    def load(self, index: int) -> tuple[LabelledScan, SegmentPairs]:
        """Reads one scan and its pairs.

        Raises:
            InputError: a file is damaged, or the two do not belong together.
        """
        scan = LabelledScan.load(self.scan_files[index], uses_color(self.point_features))
        pairs = load_pairs(self.pair_files[index])
        if pairs.point.max(initial=-1) >= len(scan):
            raise InputError(
                f"{self.pair_files[index]} pairs point {pairs.point.max()}, but {self.scan_files[index]} has only "
                f"{len(scan)}: delete both and lift again"
            )
        return scan, pairs

    def require_something_to_learn(self) -> None:
        """Refuses scans without a point in the grid that lies in a segment of the teacher.

        Raises:
            InputError: that is all there is, or a file is damaged.
        """
        lessons = (_lesson(*self.load(index)) for index in range(len(self)))
        remedy = "look at what the teacher said, and at the calibration of the cameras (ov-seg convert)"
        require_something_to_learn(lessons, self.grid, "paired", remedy)

    def make_batch(self, indices: Sequence[int], num_levels: int, rng: np.random.Generator) -> ContrastBatch:
        """The scans at ``indices``, augmented and voxelised side by side, with the pairs that are left."""
        scans, pairs = zip(*(self._changed(i, rng) for i in indices), strict=True)
        features, tables, voxels = voxelize_scans(scans, self.grid, self.point_features, num_levels)
        return _joined_batch(features, tables, voxels, pairs)

    def _changed(self, index: int, rng: np.random.Generator) -> tuple[LabelledScan, SegmentPairs]:
        """AFOV's order: the cloud as a whole, then a cuboid out of it, then the images."""
        scan, pairs = self.load(index)
        scan, kept = augment_and_trace(scan, self.augmentation, rng)
        scan, pairs = drop_cuboid(scan, follow_points(pairs, kept), self.pair_augmentation, rng)
        return scan, crop_images(pairs, self.pair_augmentation, rng)


def _lesson(scan: LabelledScan, pairs: SegmentPairs) -> Lesson:
    paired = np.zeros(len(scan), np.bool_)
    paired[pairs.point] = True
    return Lesson(scan.points, paired)


def _joined_batch(
    features: Tensor, tables: Tables, voxels: Sequence[Voxels], pairs: Sequence[SegmentPairs]
) -> ContrastBatch:
    """Numbers voxels and segments of all scans consecutively; pairs outside the grid are left out."""
    pair_voxel, pair_segment, first_voxel, first_segment = [], [], 0, 0
    filled = []
    for own, found in zip(voxels, pairs, strict=True):
        inside = drop_empty_segments(select_pairs(found, own.point_to_voxel[found.point] >= 0))
        order = np.argsort(inside.segment, kind="stable")
        pair_voxel.append(own.point_to_voxel[inside.point[order]].astype(np.int64) + first_voxel)
        pair_segment.append(inside.segment[order].astype(np.int64) + first_segment)
        first_voxel += len(own)
        first_segment += len(inside.text_id)
        filled.append(inside)
    return ContrastBatch(
        features,
        tables,
        torch.from_numpy(np.concatenate(pair_voxel)),
        torch.from_numpy(np.concatenate(pair_segment)),
        torch.from_numpy(np.concatenate([found.text_id for found in filled]).astype(np.int64)),
        _joined_features(filled),
        torch.from_numpy(np.repeat(np.arange(len(filled)), [len(found.text_id) for found in filled])),
    )


def _joined_features(pairs: Sequence[SegmentPairs]) -> Tensor:
    """(S, D) float32 of all segments; a scan without segments need not know D."""
    tables = [found.features for found in pairs if len(found.features)] or [pairs[0].features]
    if len({table.shape[1] for table in tables}) != 1:
        widths = ", ".join(str(table.shape[1]) for table in tables)
        raise InputError(f"segments of different scans have features of {widths} numbers: lift all with one teacher")
    return torch.from_numpy(np.concatenate(tables).astype(np.float32))
