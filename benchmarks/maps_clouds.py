"""Clouds on which the fast constructions have to equal the plain ones: every kind that has ever been thought of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.voxels import VoxelGrid

CARTESIAN = VoxelGrid("cartesian", (0.1, 0.1, 0.1), (-51.2, -51.2, -5.0), (51.2, 51.2, 3.0))
CYLINDRICAL = VoxelGrid("cylindrical", (0.1, np.pi / 180, 0.1), (0.0, -np.pi, -5.0), (51.2, np.pi + 1e-6, 3.0))
FLAT = VoxelGrid("cartesian", (0.5, 0.5, 100.0), (-40.0, -40.0, -50.0), (40.0, 40.0, 50.0))
TALL = VoxelGrid("cartesian", (1.0, 1.0, 0.001), (-4.0, -4.0, -200.0), (4.0, 4.0, 200.0))
VAST = VoxelGrid("cartesian", (0.1, 0.1, 0.1), (-52000.0, -52000.0, -52000.0), (52000.0, 52000.0, 52000.0))
"""So fine that cell and point do not fit one word, see ``cell_sorting.WordLayout``."""


class Cloud(NamedTuple):
    """A grid, and points (N, 3) float32 to sort into it."""

    name: str
    grid: VoxelGrid
    points: NDArray[np.float32]


def hard_clouds(seed: int = 0) -> Iterator[Cloud]:
    """Small clouds of up to some thousand points."""
    rng = np.random.default_rng(seed)
    street = (rng.normal(0, (15, 15, 1.2), (4000, 3)) - (0, 0, 1)).astype(np.float32)
    dense = rng.uniform(-1.5, 1.5, (4000, 3)).astype(np.float32)
    yield Cloud("no point", CARTESIAN, street[:0])
    yield Cloud("one point", CARTESIAN, street[:1])
    yield Cloud("two points", CARTESIAN, street[:2])
    yield Cloud("all in one voxel", CARTESIAN, np.full((500, 3), 0.01, np.float32))
    yield Cloud("all outside", CARTESIAN, street + np.float32(1000))
    yield Cloud("all NaN", CARTESIAN, np.full((70, 3), np.nan, np.float32))
    yield Cloud("street", CARTESIAN, street)
    yield Cloud("every point twice", CARTESIAN, np.concatenate([street, street[::-1]]))
    yield Cloud("dense block", CARTESIAN, dense)
    yield Cloud("some invalid", CARTESIAN, _with_invalid(street, rng))
    yield Cloud("negative side", CARTESIAN, -np.abs(street))
    yield Cloud("grid borders", CARTESIAN, _borders(CARTESIAN))
    yield Cloud("cylindrical", CYLINDRICAL, _with_invalid(street, rng))
    yield Cloud("cylindrical cut", CYLINDRICAL, dense - np.float32((5, 0, 0)))
    yield Cloud("one layer", FLAT, street)
    yield Cloud("400,000 layers", TALL, rng.uniform(-3, 3, (3000, 3)).astype(np.float32) * np.float32((1, 1, 0.02)))
    yield Cloud("million cells per axis", VAST, (rng.uniform(-1, 1, (3000, 3)) * 51000).astype(np.float32))
    yield Cloud("corner of a vast grid", VAST, dense + np.float32(51990))


def large_cloud(num_points: int = 2_000_000, seed: int = 0) -> Cloud:
    """Points on the ground around the sensor: many in every voxel."""
    rng = np.random.default_rng(seed)
    points = rng.standard_normal((num_points, 3), np.float32) * np.float32((4, 4, 0.2)) - np.float32((0, 0, 1.7))
    return Cloud(f"{num_points:,} points", CARTESIAN, points)


def _with_invalid(points: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    spoiled = points.copy()
    for value in (np.nan, np.inf, -np.inf, 3e38):
        spoiled[rng.random(len(points)) < 0.05, rng.integers(3)] = value
    return spoiled


def _borders(grid: VoxelGrid) -> NDArray[np.float32]:
    """Corners and edges of the grid, and the float32 next to them on both sides."""
    axes = []
    for ends in zip(grid.range_min, grid.range_max, strict=True):
        beside = [np.nextafter(np.float32(end), np.float32(side)) for end in ends for side in (-1e9, 1e9)]
        axes.append([*beside, *ends, 0.0, -0.0])
    return np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 3).astype(np.float32)
