"""Renders one camera image and its truth from ray scenes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.camera import CameraModel
from training.sources.protocol import ImageTruth
from training.sources.synthetic_raycast import Hits, RayScene, trace
from training.sources.synthetic_shading import Weather, shade

VIEW_RANGE = 250.0
"""Cameras see this far, metres; beyond is sky."""

_SENSOR_NOISE = 2.0  # standard deviation, grey levels


@lru_cache(maxsize=8)
def _pixel_rays(camera: CameraModel) -> NDArray[np.float32]:
    """(H x W, 3) float32 unit vectors in camera axes, row by row."""
    u, v = np.meshgrid(np.arange(camera.width), np.arange(camera.height))
    return camera.unproject(np.stack([u.ravel(), v.ravel()], axis=1).astype(np.float64)).astype(np.float32)


def render(
    scenes: Sequence[RayScene],
    camera: CameraModel,
    world_from_camera: NDArray[np.float64],
    weather: Weather,
    rng: np.random.Generator,
) -> tuple[NDArray[np.uint8], ImageTruth]:
    """One ray per pixel, one shadow ray per sunlit hit.

    Returns:
        (H, W, 3) uint8 RGB image and the truth behind each pixel.
    """
    shape, rays = (camera.height, camera.width), _pixel_rays(camera)
    directions = rays @ world_from_camera[:3, :3].T.astype(np.float32)
    eye = world_from_camera[:3, 3].astype(np.float32)
    hits = trace(scenes, np.broadcast_to(eye, rays.shape).copy(), directions, VIEW_RANGE)
    rows = np.flatnonzero(np.isfinite(hits.range))
    seen = Hits(*(getattr(hits, f.name)[rows] for f in fields(Hits)))
    points = eye + directions[rows] * seen.range[:, None]
    lit = _sunlit(scenes, points, seen, weather)

    color = np.empty((len(rays), 3), np.float32)
    color[rows] = shade(seen, points, directions[rows], lit, weather, 1.0 / camera.fx)
    empty = np.flatnonzero(~np.isfinite(hits.range))
    color[empty] = weather.sky(directions[empty])
    color += _SENSOR_NOISE * rng.standard_normal(color.shape, dtype=np.float32)
    truth = ImageTruth(
        hits.class_id.reshape(shape),
        hits.instance_id.reshape(shape),
        (hits.range * rays[:, 2]).reshape(shape),
    )
    return np.clip(color, 0, 255).astype(np.uint8).reshape(*shape, 3), truth


def _sunlit(scenes: Sequence[RayScene], points: NDArray[np.float32], seen: Hits, weather: Weather) -> NDArray[np.bool_]:
    """(N,) whether the sun reaches each hit."""
    lit = seen.normal @ weather.sun > 0
    rows = np.flatnonzero(lit)
    origins = points[rows] + 0.02 * seen.normal[rows]
    towards = np.broadcast_to(weather.sun, origins.shape).astype(np.float32).copy()
    for scene in scenes:
        clear = ~scene.blocked(origins, towards)
        lit[rows[~clear]] = False
        rows, origins, towards = rows[clear], origins[clear], towards[clear]
        if not len(rows):
            break
    return lit
