"""A simulated 2D open-vocabulary teacher for rendered images.

Honest by construction: it reads the ground truth of a rendered image ONLY because it stands in for a 2D network that
would look at the pixels. It makes the mistakes such networks make - wrong classes, borders that bleed, missed and
merged objects, void areas, a calibration that is slightly off - and whatever comes after it sees ``TeacherSegments``
and perturbed extrinsics, never the truth.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from ov_seg_ros.core.data_types import IGNORE_ID, CameraImage, TeacherSegments
from ov_seg_ros.core.errors import ConfigError, InputError
from ov_seg_ros.core.label_space import LabelSpace
from training.sources.protocol import ImageTruth
from training.teachers.confusions import confusion_rows, error_rates, similar_classes
from training.teachers.mask_noise import absorb, grow, warp
from training.teachers.simulated_features import SegmentTruth, SimulatedFeatures
from training.teachers.true_segments import TrueSegments, split_truth, touching_pairs


@dataclass(frozen=True)
class TeacherErrorConfig:
    """How wrong the simulated teacher is; pixels are those of the rendered image (480 x 270).

    Attributes:
        severity: scales everything below that is marked (s), and the odds of a wrong class; 0 = ground truth,
            1 = labels lifted onto the points of synthetic drives score 45 to 50 % mIoU.
        persistence: share of an object's class error that stays with it through a drive, 0 = drawn anew in every
            image, 1 = always the same.
        small_area: at this area in pixels the error rate of a segment is well above that of large ones.
        small_gain: (s) how much: the odds of an error grow by up to this factor for tiny segments.
        far_depth: distance at which the odds of an error have doubled, metres.
        miss_rate: (s) probability that a tiny object is taken for its background; falls off with ``small_area``.
        merge_rate: (s) probability that two touching segments of similar classes get one label.
        void_rate: (s) probability that a segment gets no label.
        warp_pixels: (s) standard deviation of the wavy displacement of all borders.
        warp_wavelength: length of the waves, pixels.
        growth_pixels: (s) by how much masks of objects are too large on average.
        growth_spread: (s) standard deviation of that; negative draws let the background bleed over the object.
        patch_pixels: ground, buildings and plants err in patches of about this size.
        confidence_gap: how far confidence lies apart, in log odds, between right and wrong segments.
        confidence_noise: standard deviation of confidence, log odds.
        rotation_sigma: (s) calibration error per axis, radians.
        translation_sigma: (s) calibration error per axis, metres.
        stamp_sigma: (s) error of the image stamps, seconds.
    """

    severity: float = 1.0
    persistence: float = 0.5
    small_area: float = 150.0
    small_gain: float = 3.0
    far_depth: float = 40.0
    miss_rate: float = 0.4
    merge_rate: float = 0.12
    void_rate: float = 0.03
    warp_pixels: float = 1.0
    warp_wavelength: int = 16
    growth_pixels: float = 0.5
    growth_spread: float = 0.8
    patch_pixels: int = 60
    confidence_gap: float = 1.5
    confidence_noise: float = 1.0
    rotation_sigma: float = 0.0025
    translation_sigma: float = 0.02
    stamp_sigma: float = 0.01

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not 0.0 <= value < float("inf"):
                raise ConfigError(f"teacher errors: {field.name} must be a number >= 0, got {value}")
        for name in ("small_area", "far_depth", "warp_wavelength", "patch_pixels"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"teacher errors: {name} must be > 0, got {getattr(self, name)}")
        for name in ("persistence", "miss_rate", "merge_rate", "void_rate"):
            if getattr(self, name) > 1.0:
                raise ConfigError(f"teacher errors: {name} must be at most 1, got {getattr(self, name)}")


class SimulatedTeacher:
    """Turns the truth of a rendered image into what a fallible 2D network would say about it.

    Attributes:
        config: its errors.
        label_space: the classes of its answers.
        features: gives its segments texts and features, or None: then the class is the text. Classes, outlines and
            confidences do not depend on it.
    """

    def __init__(
        self, config: TeacherErrorConfig, label_space: LabelSpace, features: SimulatedFeatures | None = None
    ) -> None:
        """Prepares the tables of errors.

        Raises:
            ConfigError: the dictionary of ``features`` is for another label space.
        """
        if features is not None and features.space.dictionary.label_space.class_names != label_space.class_names:
            raise ConfigError(
                f"dictionary {features.space.dictionary.name} is for label space "
                f"{features.space.dictionary.label_space.name!r}, the simulated teacher answers in {label_space.name!r}"
            )
        self.config = config
        self.label_space = label_space
        self.features = features
        self._rates = error_rates(label_space.class_names)
        self._confusions = np.cumsum(confusion_rows(label_space.class_names), axis=1)
        self._similar = similar_classes(label_space.class_names)

    def segment(self, image: CameraImage, truth: ImageTruth, seed: int) -> TeacherSegments:
        """Segments one image.

        Args:
            image: its name and stamp tell the images of a drive apart; the pixels are not used.
            truth: what stands behind each pixel.
            seed: of the drive. Errors that stick to an object follow from it and the instance id; all others from
                it, the camera's name and the stamp. The same arguments give the same segments.

        Raises:
            InputError: the truth does not fit the image or the label space.
        """
        self._check(image, truth)
        generator = np.random.default_rng([seed, zlib.crc32(image.name.encode()), image.stamp_ns])
        true = split_truth(truth, self.config.patch_pixels, generator)
        class_id, wrong_odds = self._draw_classes(true, seed, generator)
        outline = self._draw_outlines(true, generator)
        wrong = class_id != true.class_id
        merged_into = self._draw_merges(outline, class_id, true.area, generator)
        class_id = class_id[merged_into]
        confidence = self._draw_confidence(wrong_odds, wrong | (class_id != true.class_id), generator)[merged_into]
        class_id[generator.random(len(class_id)) < self.config.void_rate * self.config.severity] = IGNORE_ID
        segments, kept = _number(merged_into[outline], class_id, confidence)
        if self.features is None:
            return segments
        known = SegmentTruth(segments.class_id, true.class_id[kept], true.instance[kept])
        text_id, features = self.features.make(known, image, seed)
        return replace(segments, text_id=text_id, features=features)

    def _draw_classes(
        self, true: TrueSegments, seed: int, generator: np.random.Generator
    ) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
        """(R + 1,) classes, some of them wrong, and the log odds with which each was going to be wrong."""
        count, config = len(true.class_id), self.config
        sky = true.class_id == IGNORE_ID
        known = np.where(sky, 0, true.class_id)
        rate = np.where(sky, 0.0, self._rates[known])
        odds = rate / (1.0 - rate) * config.severity
        odds *= 1.0 + config.small_gain * np.exp(-true.area / config.small_area)
        odds *= 1.0 + true.depth / config.far_depth
        fresh, sticky = generator.standard_normal(count), self._sticky(true, seed)
        share = np.where(true.instance > 0, config.persistence, 0.0)
        level = ndtr(np.sqrt(share) * sticky[:, 0] + np.sqrt(1.0 - share) * fresh)
        pick = np.where(true.instance > 0, ndtr(sticky[:, 1]), generator.random(count))
        wrong = level < odds / (1.0 + odds)
        other = (self._confusions[known] < pick[:, None]).sum(axis=1).clip(max=len(self._rates) - 1)
        possible = wrong & (self._confusions[known, -1] > 0)
        class_id = np.where(possible, other, true.class_id).astype(np.uint8)
        return class_id, np.log(np.maximum(odds, 1e-12))

    @staticmethod
    def _sticky(true: TrueSegments, seed: int) -> NDArray[np.float64]:
        """(R + 1, 2) normal draws that follow from the drive and the instance alone; 0 for stuff."""
        draws = np.zeros((len(true.instance), 2))
        for i in np.flatnonzero(true.instance):
            draws[i] = np.random.default_rng([seed, int(true.instance[i])]).standard_normal(2)
        return draws

    def _draw_outlines(self, true: TrueSegments, generator: np.random.Generator) -> NDArray[np.int32]:
        """(H, W) segment of each pixel after missing small objects and misplacing borders."""
        config = self.config
        thing = true.instance > 0
        miss = config.miss_rate * config.severity * np.exp(-true.area / config.small_area)
        missed = thing & (generator.random(len(thing)) < miss)
        spread = generator.normal(config.growth_pixels, config.growth_spread, len(thing)) * config.severity
        growth = np.where(thing, np.rint(spread), 0).astype(np.int64)
        amplitude = config.warp_pixels * config.severity
        outline = absorb(true.index, missed)
        outline = grow(outline, growth)
        return warp(outline, amplitude, config.warp_wavelength, generator) if amplitude > 0 else outline

    def _draw_merges(
        self,
        index: NDArray[np.int32],
        class_id: NDArray[np.uint8],
        area: NDArray[np.float64],
        generator: np.random.Generator,
    ) -> NDArray[np.int64]:
        """(R + 1,) the segment whose label each segment bears: its own, or a larger similar neighbour's."""
        bears = np.arange(len(class_id))
        known = np.where(class_id == IGNORE_ID, 0, class_id)
        similar = self._similar[known[:, None], known[None, :]] & (class_id != IGNORE_ID)[:, None]
        similar &= (class_id != IGNORE_ID)[None, :] & (class_id[:, None] != class_id[None, :])
        for small, large in touching_pairs(index, area):
            chance = generator.random()
            if similar[small, large] and chance < self.config.merge_rate * self.config.severity:
                bears[small] = bears[large]
        return bears

    def _draw_confidence(
        self, wrong_odds: NDArray[np.float64], wrong: NDArray[np.bool_], generator: np.random.Generator
    ) -> NDArray[np.float32]:
        config = self.config
        side = np.where(wrong, -0.5, 0.5) * config.confidence_gap
        noise = generator.normal(0.0, config.confidence_noise, len(wrong))
        log_odds = -wrong_odds + np.where(wrong_odds > -27.0, side + noise, 0.0)
        return (1.0 / (1.0 + np.exp(-log_odds))).astype(np.float32)

    def _check(self, image: CameraImage, truth: ImageTruth) -> None:
        expected = (image.camera.height, image.camera.width)
        for name in ("class_id", "instance_id", "depth"):
            shape = getattr(truth, name).shape
            if shape != expected:
                raise InputError(f"truth of camera {image.name!r}: {name} has shape {shape}, the image {expected}")
        known = truth.class_id[truth.class_id != IGNORE_ID]
        if known.max(initial=0) >= len(self.label_space):
            raise InputError(
                f"truth of camera {image.name!r}: class {known.max()} is not in label space "
                f"{self.label_space.name!r} of {len(self.label_space)} classes"
            )


def _number(
    index: NDArray[np.int64], class_id: NDArray[np.uint8], confidence: NDArray[np.float32]
) -> tuple[TeacherSegments, NDArray[np.bool_]]:
    """Numbers the segments that still have pixels and a label from 1; the others become void. Also which were kept."""
    used = np.bincount(index.ravel(), minlength=len(class_id)) > 0
    used &= class_id != IGNORE_ID
    number = np.where(used, np.cumsum(used), 0).astype(np.uint16)
    kept = class_id[used]
    return TeacherSegments(number[index], kept, confidence[used], kept.astype(np.int32)), used


def perturb_extrinsics(
    camera_from_lidar: NDArray[np.float64],
    config: TeacherErrorConfig,
    seed: int,
    camera_name: str = "",
    lidar_velocity: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Adds the calibration and stamp error of one camera in one drive.

    Args:
        camera_from_lidar: (4, 4), p_camera = camera_from_lidar @ p_lidar.
        config: its sigmas, scaled by its severity.
        seed: of the drive; one drive has one error per camera.
        camera_name: tells the cameras of a rig apart.
        lidar_velocity: (3,) m/s of the LiDAR in its own axes, which turns the stamp error into a shift.

    Returns:
        (4, 4) what a user's calibration would say.
    """
    generator = np.random.default_rng([seed, zlib.crc32(b"extrinsics:" + camera_name.encode())])
    angles = generator.normal(0.0, config.rotation_sigma, 3) * config.severity
    shift = generator.normal(0.0, config.translation_sigma, 3) * config.severity
    delay = generator.normal(0.0, config.stamp_sigma) * config.severity
    error = np.eye(4)
    error[:3, :3] = _rotation(angles)
    error[:3, 3] = shift
    motion = np.eye(4)
    if lidar_velocity is not None:
        motion[:3, 3] = -delay * np.asarray(lidar_velocity)
    return error @ camera_from_lidar @ motion


def _rotation(angles: NDArray[np.float64]) -> NDArray[np.float64]:
    """(3, 3) rotation by a rotation vector (Rodrigues)."""
    angle = float(np.linalg.norm(angles))
    if angle == 0.0:
        return np.eye(3)
    x, y, z = angles / angle
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return np.eye(3) + np.sin(angle) * cross + (1.0 - np.cos(angle)) * (cross @ cross)
