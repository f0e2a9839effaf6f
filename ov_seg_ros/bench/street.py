"""Made-up scans of a street for any number of beams and points, cast ray by ray in NumPy.

They need no data, no ray tracer and no checkout, so everyone measures the same ones. What makes a scan cheap or dear
for a sparse network is how many voxels it fills and how densely they touch; flat ground, facades, cars, trunks, crowns
of loose leaves, noise and lost returns give about what real scans give (test/bench/test_street.py holds the bounds).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.data_types import PointCloud

BEAMS_32, BEAMS_64 = (-30.67, 10.67), (-24.8, 2.0)
"""Lowest and highest beam in degrees, as of an HDL-32E (nuScenes) and an HDL-64E (KITTI)."""
MAX_RANGE = 90.0
_NEAREST = 1.5  # metres; what is nearer is the vehicle itself
_RANGE_NOISE = 0.02
_LEAF_DEPTH = 1.2  # metres that a ray travels through a crown, on average
_TRUNK_HEIGHT, _CROWN_HEIGHT, _CROWN_RADIUS = 6.0, 5.0, 2.2  # metres


@dataclass(frozen=True)
class SpinningLidar:
    """A spinning LiDAR over the ground.

    Attributes:
        beams: how many, evenly spaced.
        columns: azimuth steps per revolution.
        elevation: lowest and highest beam, degrees.
        origin: (x, y) on the street, metres; the ground is ``height`` below.
        height: metres.
    """

    beams: int
    columns: int
    elevation: tuple[float, float] = BEAMS_64
    origin: tuple[float, float] = (0.0, 0.0)
    height: float = 1.8

    def directions(self) -> NDArray[np.float64]:
        """(columns x beams, 3) unit vectors, column by column clockwise from the rear, lowest beam first."""
        azimuth = np.repeat(np.pi - np.arange(self.columns) * (2 * np.pi / self.columns), self.beams)
        elevation = np.radians(np.tile(np.linspace(*self.elevation, self.beams), self.columns))
        flat = np.cos(elevation)
        return np.stack([flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation)], axis=1)


def scan_street(lidar: SpinningLidar, seed: int = 0) -> PointCloud:
    """One revolution in the street of ``seed``.

    Args:
        lidar: where it stands and how it looks.
        seed: draws the street, the noise and what is lost.

    Returns:
        The returns in the order of the rays, x forward along the street, origin in the LiDAR; about 85 % of all rays.
    """
    rng = np.random.default_rng(seed)
    boxes, trees = _boxes(rng), _trees(rng)
    directions = lidar.directions()
    origin = np.array([*lidar.origin, lidar.height])
    distance = _ground(origin, directions, rng)
    for low, high in boxes:
        rays = _rays_towards(lidar, low[:2], high[:2])
        np.minimum(distance[rays], _box(origin, directions[rays], low, high), out=distance[rays])
    for foot, radius in trees:
        rays = _rays_towards(lidar, foot - _CROWN_RADIUS, foot + _CROWN_RADIUS)
        np.minimum(distance[rays], _trunk(origin, directions[rays], foot, radius), out=distance[rays])
        np.minimum(distance[rays], _crown(origin, directions[rays], foot, rng), out=distance[rays])
    distance += np.clip(rng.normal(0, _RANGE_NOISE, len(distance)), -0.1, 0.1)
    seen = (distance > _NEAREST) & (distance < MAX_RANGE) & (rng.random(len(distance)) > _lost(distance))
    points = (directions[seen] * distance[seen, None]).astype(np.float32)
    return PointCloud(points, rng.uniform(0, 255, len(points)).astype(np.float32), frame_id="lidar")


def scan_of_size(points: int, seed: int = 0) -> PointCloud:
    """A scan of exactly ``points`` points: as many beams and columns as a LiDAR of that size would have."""
    beams = int(np.clip(2 ** np.round(np.log2(np.sqrt(points / 16))), 4, 256))
    lidar = SpinningLidar(beams, int(np.ceil(1.6 * points / beams)) + 8)
    cloud = scan_street(lidar, seed)
    chosen = np.sort(np.random.default_rng(seed).permutation(len(cloud))[:points])
    return PointCloud(cloud.points[chosen], cloud.intensity[chosen], frame_id=cloud.frame_id)


def _lost(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Chance that an echo is lost: it grows with distance."""
    return 0.02 + 0.5 * np.clip(distance / MAX_RANGE, 0, 1) ** 2


def _ground(
    origin: NDArray[np.float64], directions: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.float64]:
    """The road, slightly rough."""
    down = np.minimum(directions[:, 2], -1e-9)
    rough = rng.normal(0, 0.015, len(down))
    return np.where(directions[:, 2] < -1e-3, -(origin[2] + rough) / down, np.inf)


def _boxes(rng: np.random.Generator) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Corners of buildings on both sides and of cars along the kerbs."""
    boxes = []
    for side in (-1, 1):
        x = -90.0
        while x < 90:
            length, setback = rng.uniform(10, 25), rng.uniform(9, 16)
            near, far = side * setback, side * (setback + 12)
            low, high = np.array([x, min(near, far), 0]), np.array([x + length, max(near, far), rng.uniform(6, 20)])
            boxes.append((low, high))
            x += length + rng.uniform(0, 8)
        for x in np.arange(-60, 60, 9) + rng.uniform(-2, 2, 14):
            if rng.random() < 0.7:
                y = side * rng.uniform(4.5, 5.5)
                boxes.append((np.array([x, y - 0.9, 0.2]), np.array([x + 4.4, y + 0.9, rng.uniform(1.4, 2.2)])))
    return boxes


def _trees(rng: np.random.Generator) -> list[tuple[NDArray[np.float64], float]]:
    """Foot and radius of the trunks of trees."""
    return [
        (np.array([x + rng.uniform(-3, 3), side * rng.uniform(6.5, 8)]), rng.uniform(0.1, 0.3))
        for side in (-1, 1)
        for x in np.arange(-70, 70, 12.0)
    ]


def _box(
    origin: NDArray[np.float64], directions: NDArray[np.float64], low: NDArray[np.float64], high: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Distance to an axis-aligned box, the slab test; infinite where the ray misses it."""
    with np.errstate(divide="ignore", invalid="ignore"):
        a, b = (low - origin) / directions, (high - origin) / directions
    enter, leave = np.minimum(a, b).max(axis=1), np.maximum(a, b).min(axis=1)
    return np.where((enter > 0) & (enter <= leave), enter, np.inf)


def _trunk(
    origin: NDArray[np.float64], directions: NDArray[np.float64], foot: NDArray[np.float64], radius: float
) -> NDArray[np.float64]:
    """Distance to an upright cylinder on the ground."""
    flat, offset = directions[:, :2], origin[:2] - foot
    a, b = (flat**2).sum(axis=1), flat @ offset
    root = b**2 - a * (offset @ offset - radius**2)
    distance = (-b - np.sqrt(np.maximum(root, 0))) / a
    height = origin[2] + distance * directions[:, 2]
    return np.where((root > 0) & (distance > 0) & (height > 0) & (height < _TRUNK_HEIGHT), distance, np.inf)


def _crown(
    origin: NDArray[np.float64], directions: NDArray[np.float64], foot: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Distance to a leaf in a ball of leaves; some rays pass through."""
    offset = origin - np.array([*foot, _CROWN_HEIGHT])
    b = directions @ offset
    root = b**2 - (offset @ offset - _CROWN_RADIUS**2)
    half = np.sqrt(np.maximum(root, 0))
    hit = -b - half + rng.exponential(_LEAF_DEPTH, len(b))
    return np.where((root > 0) & (hit > 0) & (hit < half - b), hit, np.inf)


def _rays_towards(lidar: SpinningLidar, low: NDArray[np.float64], high: NDArray[np.float64]) -> slice:
    """The rays in whose columns a rectangle (x, y) can lie; all of them if it lies around or right behind the LiDAR."""
    x, y = np.array([(x, y) for x in (low[0], high[0]) for y in (low[1], high[1])]).T
    azimuth = np.arctan2(y - lidar.origin[1], x - lidar.origin[0])
    if np.ptp(azimuth) > np.pi:
        return slice(None)
    first, last = ((np.pi - np.array([azimuth.max(), azimuth.min()])) / (2 * np.pi) * lidar.columns).astype(int)
    return slice(max(first - 1, 0) * lidar.beams, (last + 2) * lidar.beams)
