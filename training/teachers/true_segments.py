"""The true segments of a rendered image, which a simulated teacher then gets wrong."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.data_types import IGNORE_ID
from training.sources.protocol import ImageTruth
from training.teachers.mask_noise import smooth_noise


@dataclass(frozen=True)
class TrueSegments:
    """True segments of one image: an object each, or a patch of one class of stuff.

    Attributes:
        index: (H, W) int32 segment of each pixel, 0 = sky.
        class_id: (R + 1,) uint8, 255 for the sky.
        instance: (R + 1,) int64, 0 = stuff.
        area: (R + 1,) pixels.
        depth: (R + 1,) mean depth, metres.
    """

    index: NDArray[np.int32]
    class_id: NDArray[np.uint8]
    instance: NDArray[np.int64]
    area: NDArray[np.float64]
    depth: NDArray[np.float64]


def split_truth(truth: ImageTruth, patch_pixels: int, generator: np.random.Generator) -> TrueSegments:
    """Splits an image into objects and patches of stuff.

    Args:
        truth: what stands behind each pixel.
        patch_pixels: stuff is cut into wavy patches of about this size.
        generator: draws where the patches lie.
    """
    patch = _draw_patches(truth.class_id.shape, patch_pixels, generator)
    thing = truth.instance_id > 0
    part = np.where(thing, truth.instance_id.astype(np.int64) + int(patch.max()), patch)
    key = np.where(truth.class_id == IGNORE_ID, 0, 1 + part * (IGNORE_ID + 1) + truth.class_id)
    present, index = _compress(key)
    area = np.bincount(index.ravel(), minlength=len(present)).astype(np.float64)
    depth = np.where(np.isfinite(truth.depth), truth.depth, 0.0)
    mean_depth = np.bincount(index.ravel(), depth.ravel(), len(present)) / np.maximum(area, 1.0)
    class_id = ((present - 1) % (IGNORE_ID + 1)).astype(np.uint8)
    instance = np.maximum((present - 1) // (IGNORE_ID + 1) - int(patch.max()), 0)
    class_id[0], instance[0] = IGNORE_ID, 0
    return TrueSegments(index, class_id, instance, area, mean_depth)


def _draw_patches(shape: tuple[int, int], patch_pixels: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """(H, W) number of the patch of each pixel: a grid at a random place with wavy borders."""
    wave, offset = 0.25 * patch_pixels, generator.uniform(0, patch_pixels, 2)
    row = np.arange(shape[0])[:, None] + offset[0] + wave * smooth_noise(shape, patch_pixels, generator)
    column = np.arange(shape[1])[None, :] + offset[1] + wave * smooth_noise(shape, patch_pixels, generator)
    row_patch = np.maximum(row / patch_pixels + 2, 0).astype(np.int64)
    column_patch = np.maximum(column / patch_pixels + 2, 0).astype(np.int64)
    return row_patch * (int(column_patch.max()) + 1) + column_patch


def _compress(key: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Keys that occur, ascending, with 0 always among them, and the position of each pixel's key."""
    present_mask = np.zeros(int(key.max()) + 1, np.bool_)
    present_mask[key.ravel()] = True
    present_mask[0] = True
    position = np.cumsum(present_mask, dtype=np.int32) - 1
    return np.flatnonzero(present_mask), position[key]


def touching_pairs(index: NDArray[np.int32], area: NDArray[np.float64]) -> NDArray[np.int64]:
    """(P, 2) pairs (smaller, larger) of segments with a common border, each once, in a fixed order."""
    count = len(area)
    right = index[:, :-1] != index[:, 1:]
    below = index[:-1] != index[1:]
    a = np.concatenate([index[:, :-1][right], index[:-1][below]]).astype(np.int64)
    b = np.concatenate([index[:, 1:][right], index[1:][below]]).astype(np.int64)
    a_smaller = (area[a] < area[b]) | ((area[a] == area[b]) & (a < b))
    pair = np.unique(np.where(a_smaller, a * count + b, b * count + a))
    return np.stack([pair // count, pair % count], axis=1)
