"""Random losses of pairs for TMP: cuboids cut out of the cloud, and crops of the images (SLidR, AFOV).

AFOV also resizes the crops and flips them. It does so to images and segments alike, and a point keeps its pixel's
segment, so for pairs of points and whole segments only what a crop cuts off matters; the flips change nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.data_types import SegmentPairs
from ov_seg_ros.core.errors import ConfigError
from training.student.examples import LabelledScan
from training.value_ranges import NOT_NEGATIVE, POSITIVE, SHARE

MAX_CROPS = 100
"""So many crops are tried for an image before it is left whole; AFOV tries for ever."""
MAX_SHAPES = 10
"""So many sizes are drawn for a crop that fits into the image, as torchvision does."""


@dataclass(frozen=True)
class PairAugmentationConfig:
    """What may be lost; the defaults are AFOV's.

    Attributes:
        drop_cuboid: longest edge of the cuboid, as a share of the cloud's extent on each axis; 0 = no cuboid.
        crop_images: cut the pairs down to a random crop of every image.
        crop_area: smallest and largest share of the image's area.
        crop_aspect: smallest and largest width divided by height.
        min_pairs: a cuboid that leaves any camera fewer pairs is put back; a crop must leave more.
        min_share: or it must leave more than this share of the image's pairs.
    """

    drop_cuboid: float = 0.2
    crop_images: bool = True
    crop_area: tuple[float, float] = (0.3, 1.0)
    crop_aspect: tuple[float, float] = (14 / 9, 17 / 9)
    min_pairs: int = 1024
    min_share: float = 0.75

    def __post_init__(self) -> None:
        SHARE.check(self, "drop_cuboid", "min_share")
        NOT_NEGATIVE.check(self, "min_pairs")
        POSITIVE.check(self, "crop_aspect")
        if not 0 < self.crop_area[0] <= self.crop_area[1] <= 1:
            raise ConfigError(f"crop_area must be two rising shares in (0, 1], got {self.crop_area}")
        if self.crop_aspect[0] > self.crop_aspect[1]:
            raise ConfigError(f"crop_aspect must be two rising ratios > 0, got {self.crop_aspect}")


def select_pairs(pairs: SegmentPairs, keep: NDArray[np.bool_]) -> SegmentPairs:
    """The pairs where ``keep`` (P,) is true; segments stay, even those that lost all pairs."""
    kept = {name: getattr(pairs, name)[keep] for name in ("point", "camera", "pixel", "segment")}
    return replace(pairs, **kept)


def follow_points(pairs: SegmentPairs, kept: NDArray[np.bool_]) -> SegmentPairs:
    """The pairs of the points that are left, with their new indices.

    Args:
        pairs: of a scan with N points.
        kept: (N,) bool, the points that are left, in their order.
    """
    place = np.cumsum(kept, dtype=np.int32) - np.int32(1)
    pairs = select_pairs(pairs, kept[pairs.point])
    return replace(pairs, point=place[pairs.point])


def drop_empty_segments(pairs: SegmentPairs) -> SegmentPairs:
    """Renumbers the segments without gaps, leaving out those without pairs."""
    present, number = np.unique(pairs.segment, return_inverse=True)
    return replace(
        pairs,
        segment=number.astype(np.int32),
        text_id=pairs.text_id[present],
        features=pairs.features[present],
    )


def drop_cuboid(
    scan: LabelledScan, pairs: SegmentPairs, config: PairAugmentationConfig, rng: np.random.Generator
) -> tuple[LabelledScan, SegmentPairs]:
    """Takes a random cuboid with its points out of a scan, unless a camera would lose too many pairs.

    Its axes are those of the points, its centre is one of them, and its edges are the same random share of the
    cloud's extent. Cameras without any pairs have no say.
    """
    finite = np.flatnonzero(np.isfinite(scan.points).all(axis=1))
    if not config.drop_cuboid or not len(finite):
        return scan, pairs
    points = scan.points[finite]
    half = np.ptp(points, axis=0) * (rng.uniform(0, config.drop_cuboid) / 2)
    centre = points[rng.integers(len(points))]
    kept = np.ones(len(scan), np.bool_)
    kept[finite] = (np.abs(points - centre) >= half).any(axis=1)
    left = select_pairs(pairs, kept[pairs.point])
    remaining = np.bincount(left.camera, minlength=len(pairs.image_size))
    if (remaining[np.unique(pairs.camera)] < config.min_pairs).any():
        return scan, pairs
    return scan.select(kept), follow_points(pairs, kept)


def crop_images(pairs: SegmentPairs, config: PairAugmentationConfig, rng: np.random.Generator) -> SegmentPairs:
    """Leaves the pairs whose pixels lie in a random crop of each image.

    A crop that leaves too few pairs is drawn anew, up to ``MAX_CROPS`` times; then the image stays whole.
    """
    if not config.crop_images:
        return pairs
    keep = np.ones(len(pairs), np.bool_)
    for camera in np.unique(pairs.camera):
        own = np.flatnonzero(pairs.camera == camera)
        width, height = pairs.image_size[camera].tolist()
        for _ in range(MAX_CROPS):
            low, high = _random_crop(width, height, config, rng)
            inside = ((pairs.pixel[own] >= low) & (pairs.pixel[own] < high)).all(axis=1)
            count = np.count_nonzero(inside)
            if count > config.min_pairs or count > config.min_share * len(own):
                keep[own] = inside
                break
    return select_pairs(pairs, keep)


def _random_crop(
    width: int, height: int, config: PairAugmentationConfig, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lower and upper (u, v) of a crop; where no size fits, the largest one in the middle (torchvision's rule)."""
    image = np.array([width, height], np.float64)
    for _ in range(MAX_SHAPES):
        area = width * height * rng.uniform(*config.crop_area)
        aspect = np.exp(rng.uniform(*np.log(config.crop_aspect)))
        size = np.sqrt([area * aspect, area / aspect])
        if (size <= image).all():
            low = rng.uniform(0, image - size) - 0.5  # the outer edge of pixel 0 lies at -0.5
            return low, low + size
    aspect = np.clip(width / height, *config.crop_aspect)
    size = np.minimum(image, [height * aspect, width / aspect])
    low = (image - size) / 2 - 0.5
    return low, low + size
