"""The flat ground around the vehicle, where a LiDAR draws rings that votes must not travel along."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.refinement.afi_config import AfiConfig


def find_near_ground(points: NDArray[np.float64], config: AfiConfig, seed: int = 0) -> NDArray[np.bool_]:
    """Fits a plane z = ax + by + c to the low points around the vehicle (RANSAC).

    Args:
        points: (N, 3) float64, metres, LiDAR frame with z up, finite.
        config: radii, height, tolerance and number of trials.
        seed: of the trials.

    Returns:
        (N,) the points on the plane that most of them agree on; none if there are fewer than ``ransac_samples``.
    """
    distance = np.hypot(points[:, 0], points[:, 1])
    low = points[:, 2] < config.ground_clearance - config.sensor_height
    candidates = np.flatnonzero((distance > config.ego_radius) & (distance < config.ground_radius) & low)
    on_plane = np.zeros(len(points), bool)
    if len(candidates) < config.ransac_samples:
        return on_plane
    equations = np.column_stack([points[candidates, :2], np.ones(len(candidates))])
    heights = points[candidates, 2]
    rng = np.random.default_rng([seed, 0])
    best = on_plane[:0]
    for _ in range(config.ransac_trials):
        drawn = rng.choice(len(candidates), config.ransac_samples, replace=False)
        plane = np.linalg.lstsq(equations[drawn], heights[drawn], rcond=None)[0]
        agrees = np.abs(equations @ plane - heights) <= config.ground_tolerance
        if best.sum() < agrees.sum():
            best = agrees
    on_plane[candidates[best]] = True
    return on_plane
