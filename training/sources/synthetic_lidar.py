"""Spinning LiDARs: beam tables, detection, range noise and intensity."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from training.sources.synthetic_materials import Material, optics_column
from training.sources.synthetic_raycast import Hits


@dataclass(frozen=True)
class LidarModel:
    """A spinning LiDAR.

    All rays of a revolution are cast at the stamp: the scan is free of motion distortion and every point's time is 0.

    Attributes:
        name: "spinning32" or "spinning64".
        elevation: per beam, lowest first, radians.
        columns: azimuth steps per revolution.
        height: above the ground, metres.
        max_range: metres.
        range_noise: standard deviation, metres.
        full_scale: intensity of a full-scale return: 255 (as nuScenes delivers it) or 1 (as KITTI does).
    """

    name: str
    elevation: tuple[float, ...]
    columns: int
    height: float
    max_range: float
    range_noise: float
    full_scale: float

    @property
    def directions(self) -> NDArray[np.float32]:
        """(columns x beams, 3) unit vectors, column by column clockwise from the rear, lowest beam first."""
        return _directions(self)

    @property
    def ring(self) -> NDArray[np.uint16]:
        """(columns x beams,) beam of each ray, 0 = lowest."""
        return np.tile(np.arange(len(self.elevation), dtype=np.uint16), self.columns)


@lru_cache(maxsize=4)
def _directions(lidar: LidarModel) -> NDArray[np.float32]:
    azimuth = np.pi - np.arange(lidar.columns) * (2 * np.pi / lidar.columns)
    elevation = np.array(lidar.elevation)
    a, e = np.repeat(azimuth, len(elevation)), np.tile(elevation, lidar.columns)
    return np.stack([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)], axis=1).astype(np.float32)


def _radians(*degrees: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(float(v) for v in np.radians(np.concatenate(degrees)))


LIDARS = {
    "spinning32": LidarModel("spinning32", _radians(np.linspace(-30.67, 10.67, 32)), 1084, 1.84, 100.0, 0.02, 255.0),
    "spinning64": LidarModel(
        "spinning64",
        _radians(np.linspace(-24.8, -8.87, 32), np.linspace(-8.33, 2.0, 32)),
        2000,
        1.73,
        80.0,
        0.02,
        1.0,
    ),
}
"""Like the HDL-32E of nuScenes and the HDL-64E of KITTI (two blocks of 32 beams)."""

_DETECTION_GAIN = 12.0  # asphalt is seen at 20 m, half of it at 40 m
_REFERENCE_RANGE = 60.0
_RANDOM_DROPOUT = 0.015
_NEAREST = 1.0


def _brightness(hits: Hits) -> NDArray[np.float32]:
    """Reflectivity of the hit surface: of its material, darker for dark colours."""
    tone = hits.color.astype(np.float32).mean(axis=1) / 255.0
    return optics_column("reflectivity")[hits.material] * (0.35 + 1.1 * tone)


def detected(hits: Hits, rng: np.random.Generator) -> NDArray[np.bool_]:
    """(N,) whether each ray's echo rises above the noise: far, grazing, dark and glossy surfaces are lost first."""
    gloss, reflectivity = optics_column("gloss")[hits.material], _brightness(hits)
    cosine = np.maximum(hits.cosine, 0.02)
    response = reflectivity * ((1 - gloss) * cosine**0.7 + 3 * gloss * cosine**20)
    distance = np.where(np.isfinite(hits.range), hits.range, 1e6)
    echo = response * (_REFERENCE_RANGE / np.maximum(distance, 5.0)) ** 2
    chance = (1 - _RANDOM_DROPOUT) * (1 - np.exp(-_DETECTION_GAIN * echo))
    chance = np.where(hits.material == Material.GLASS, 0.4 * chance, chance)  # most light goes through
    return (rng.random(len(distance)) < chance) & np.isfinite(hits.range) & (hits.range > _NEAREST)


def noisy_range(lidar: LidarModel, hits: Hits, rng: np.random.Generator) -> NDArray[np.float32]:
    """(N,) float32 measured ranges: sensor noise and the roughness of the surface."""
    rough = optics_column("roughness")[hits.material]
    sigma = np.sqrt(lidar.range_noise**2 + rough**2)
    return (hits.range + sigma * np.clip(rng.normal(size=len(sigma)), -4, 4)).astype(np.float32)


def intensity(lidar: LidarModel, hits: Hits, gain: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """(N,) float32 in [0, full_scale]: range-corrected as sensors report it, so mostly material and a little angle.

    ``gain`` is that of the sensor; it differs from drive to drive, as calibrations and weather do.
    """
    gloss = optics_column("gloss")[hits.material]
    response = _brightness(hits) * ((1 - gloss) * (0.4 + 0.6 * np.sqrt(hits.cosine)) + 2 * gloss * hits.cosine**8)
    response *= gain * np.exp(rng.normal(0, 0.4, len(response)))
    if lidar.full_scale > 1:
        return np.rint(np.clip(90.0 * response, 0, 255)).astype(np.float32)
    reading = 0.8 * np.sqrt(response) * (rng.random(len(response)) > 0.06)
    return (np.rint(np.clip(reading, 0, 0.99) * 100) / 100).astype(np.float32)
