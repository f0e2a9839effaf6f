"""Random changes of a scan that keep its labels true: other mountings, other sensors, other headings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.student.examples import LabelledScan
from training.value_ranges import SHARE, ValueRange

_SCALE = ValueRange(0, 1, without_high=True)
_TILT = ValueRange(0, 3.14)
_HEIGHT = ValueRange(0, 100)
_GAMMA = ValueRange(0, 10)


@dataclass(frozen=True)
class AugmentationConfig:
    """Ranges of the random changes; each is drawn once per scan.

    Attributes:
        flip: mirror x and y with probability 0.5 each.
        rotate: turn about z by any angle.
        tilt: standard deviation of roll and pitch, radians.
        scale: sizes change by up to this fraction.
        height: the sensor is mounted up to this much higher or lower, metres.
        thin_rings: probability of keeping only every second LiDAR ring (where rings are known).
        drop_points: up to this share of the points is dropped.
        intensity_gamma: intensities are raised to 2 ** uniform(-g, g).
        drop_intensity: probability of a scan without intensities.
        drop_color: probability that a colour camera's points lose their colours; half of it, that all do.
    """

    flip: bool = True
    rotate: bool = True
    tilt: float = 0.015
    scale: float = 0.05
    height: float = 0.3
    thin_rings: float = 0.35
    drop_points: float = 0.15
    intensity_gamma: float = 0.5
    drop_intensity: float = 0.1
    drop_color: float = 0.4

    def __post_init__(self) -> None:
        SHARE.check(self, "thin_rings", "drop_points", "drop_intensity", "drop_color")
        _SCALE.check(self, "scale")
        _TILT.check(self, "tilt")
        _HEIGHT.check(self, "height")
        _GAMMA.check(self, "intensity_gamma")


def augment(scan: LabelledScan, config: AugmentationConfig, rng: np.random.Generator) -> LabelledScan:
    """A changed copy of ``scan``; fewer points, same labels on those left."""
    return augment_and_trace(scan, config, rng)[0]


def augment_and_trace(
    scan: LabelledScan, config: AugmentationConfig, rng: np.random.Generator
) -> tuple[LabelledScan, NDArray[np.bool_]]:
    """What ``augment`` returns, and (N,) bool which points of ``scan`` are left in it, in their order."""
    keep = _kept_points(scan, config, rng)
    scan = scan.select(keep)
    points = scan.points.astype(np.float64) @ _random_linear_map(config, rng).T
    points[:, 2] += rng.uniform(-config.height, config.height)
    intensity = _changed_intensity(scan.intensity, config, rng)
    return scan.replaced(points.astype(np.float32), intensity, _changed_color(scan, config, rng)), keep


def _kept_points(scan: LabelledScan, config: AugmentationConfig, rng: np.random.Generator) -> NDArray[np.bool_]:
    keep = rng.random(len(scan)) >= rng.uniform(0, config.drop_points)
    if rng.random() < config.thin_rings and scan.ring.max(initial=0) > 0:
        keep &= scan.ring % 2 == rng.integers(2)
    return keep


def _random_linear_map(config: AugmentationConfig, rng: np.random.Generator) -> NDArray[np.float64]:
    """(3, 3): scale, flips, then roll, pitch and yaw."""
    yaw = rng.uniform(-np.pi, np.pi) if config.rotate else 0.0
    roll, pitch = rng.normal(0, config.tilt, 2)
    flips = np.where(rng.random(2) < 0.5, -1.0, 1.0) if config.flip else np.ones(2)
    scale = np.diag([flips[0], flips[1], 1.0]) * rng.uniform(1 - config.scale, 1 + config.scale)
    return _rotation(2, yaw) @ _rotation(1, pitch) @ _rotation(0, roll) @ scale


def _rotation(axis: int, angle: float) -> NDArray[np.float64]:
    matrix = np.eye(3)
    i, j = [(1, 2), (2, 0), (0, 1)][axis]
    matrix[i, i] = matrix[j, j] = np.cos(angle)
    matrix[i, j], matrix[j, i] = -np.sin(angle), np.sin(angle)
    return matrix


def _changed_intensity(
    intensity: NDArray[np.float32], config: AugmentationConfig, rng: np.random.Generator
) -> NDArray[np.float32]:
    gamma = 2.0 ** rng.uniform(-config.intensity_gamma, config.intensity_gamma)
    if rng.random() < config.drop_intensity:
        return np.zeros_like(intensity)
    return (np.maximum(intensity, 0) ** gamma).astype(np.float32)


def _changed_color(
    scan: LabelledScan, config: AugmentationConfig, rng: np.random.Generator
) -> NDArray[np.float32] | None:
    """Cameras dropped at random, and the light changed, so that the student never depends on either."""
    if scan.color is None:
        return None
    color = scan.color.copy()
    color[:, :3] = np.clip(color[:, :3] * rng.uniform(0.7, 1.3) * rng.uniform(0.9, 1.1, 3), 0, 1)
    if rng.random() < config.drop_color / 2:
        color[:] = 0
    dropped = rng.random(int(scan.camera.max(initial=-1)) + 2) < config.drop_color
    color[dropped[scan.camera]] = 0
    return color
