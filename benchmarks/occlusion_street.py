"""A street of boxes, seen by a LiDAR and a camera, for which it is known exactly what is hidden from the camera."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.camera import CameraModel

GROUND = -1
"""Value of ``Street.surface`` for the ground plane."""

_FORWARD = np.array([[0.0, -1.0, 0.0], [0.0, 0.0, -1.0], [1.0, 0.0, 0.0]])  # camera axes from LiDAR axes


@dataclass(frozen=True)
class Street:
    """One scan of the street and the truth about it.

    Attributes:
        points: (N, 3) float32 metres, LiDAR frame; the part of the scan inside the image.
        surface: (N,) int64 box that was hit, ``GROUND`` = the ground.
        hidden: (N,) bool, a box stands between the camera and the point.
        camera: pinhole without distortion.
        camera_from_lidar: (4, 4).
    """

    points: NDArray[np.float32]
    surface: NDArray[np.int64]
    hidden: NDArray[np.bool_]
    camera: CameraModel
    camera_from_lidar: NDArray[np.float64]


def make_street(beams: int, seed: int, noise: float = 0.02) -> Street:
    """Builds and scans a street.

    Args:
        beams: 64 (0.4 degrees apart, camera 0.27 m ahead as on KITTI's car) or 32 (1.33 degrees apart, camera 0.7 m
            ahead and 0.3 m below as on nuScenes' car).
        seed: of the places of cars, poles and walls.
        noise: standard deviation of the ranges, metres.
    """
    generator = np.random.default_rng(seed)
    height = 1.75
    low, high = _boxes(generator, height)
    elevation, step = (np.linspace(2.0, -24.8, 64), 0.17) if beams == 64 else (np.linspace(10.7, -30.7, 32), 0.33)
    azimuth = np.arange(-42.0, 42.0, step)
    az, el = (np.radians(a).ravel() for a in np.meshgrid(azimuth, elevation))
    rays = np.stack([np.cos(el) * np.cos(az), np.cos(el) * np.sin(az), np.sin(el)], axis=1)
    distance, surface = _cast(np.zeros(3), rays, low, high, height)
    hit = distance < 100.0
    exact = rays[hit] * distance[hit, None]
    center = np.array([0.27, 0.06, -0.08]) if beams == 64 else np.array([0.7, 0.0, -0.3])
    to_point = exact - center
    length = np.linalg.norm(to_point, axis=1)
    nearest, _ = _cast(center, to_point / length[:, None], low, high, height)
    noisy = rays[hit] * (distance[hit] + generator.normal(0.0, noise, hit.sum()))[:, None]
    camera, transform = _camera(beams, center)
    in_camera = noisy @ transform[:3, :3].T + transform[:3, 3]
    _, inside = camera.project(in_camera)
    inside &= in_camera[:, 2] >= 1.0
    hidden = nearest < length - 0.05
    return Street(noisy[inside].astype(np.float32), surface[hit][inside], hidden[inside], camera, transform)


def _camera(beams: int, center: NDArray[np.float64]) -> tuple[CameraModel, NDArray[np.float64]]:
    transform = np.eye(4)
    transform[:3, :3] = _FORWARD
    transform[:3, 3] = -_FORWARD @ center
    if beams == 64:
        return CameraModel(1242, 375, 721.5, 721.5, 609.6, 172.9), transform
    return CameraModel(1600, 900, 1266.4, 1266.4, 816.3, 491.5), transform


def _boxes(generator: np.random.Generator, height: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(B, 3) lower and upper corners: house walls, parked and driving cars, poles, bushes of small boxes."""
    low, high = [], []

    def put(x: float, y: float, z: float, dx: float, dy: float, dz: float) -> None:
        low.append([x - dx / 2, y - dy / 2, z - height])
        high.append([x + dx / 2, y + dy / 2, z + dz - height])

    for side in (-1, 1):
        for x in np.arange(5.0, 90.0, 14.0):
            put(x, side * generator.uniform(10, 14), 0.0, generator.uniform(8, 14), 4.0, generator.uniform(4, 12))
        for x in np.arange(6.0, 60.0, 7.0):
            if generator.random() < 0.6:
                put(x + generator.uniform(-1, 1), side * generator.uniform(4.5, 5.5), 0.25, 4.2, 1.8, 1.2)
            put(x + generator.uniform(-3, 3), side * generator.uniform(6.5, 8), 0.0, 0.15, 0.15, 5.0)
        for _ in range(80):
            x, y = generator.uniform(10, 40), side * generator.uniform(7, 9)
            put(x, y, generator.uniform(0, 3), *generator.uniform(0.05, 0.5, 3))
    for _ in range(3):
        put(generator.uniform(8, 50), generator.uniform(-2.5, 2.5), 0.25, 4.2, 1.8, 1.2)
    return np.array(low), np.array(high)


def _cast(
    origin: NDArray[np.float64],
    rays: NDArray[np.float64],
    low: NDArray[np.float64],
    high: NDArray[np.float64],
    height: float,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Distance along unit rays to the first surface (inf = none), and which box it is; slab method."""
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = 1.0 / rays
        distance = np.where(rays[:, 2] < 0, (-height - origin[2]) * inverse[:, 2], np.inf)
        surface = np.full(len(rays), GROUND)
        for index in range(len(low)):
            a, b = (low[index] - origin) * inverse, (high[index] - origin) * inverse
            near, far = np.minimum(a, b).max(axis=1), np.maximum(a, b).min(axis=1)
            hit = (near <= far) & (near > 0) & (near < distance)
            distance[hit], surface[hit] = near[hit], index
    return distance, surface
