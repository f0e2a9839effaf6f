"""Whether scans teach anything: a training on nothing would take as long as any other and end as if it had learned."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.errors import InputError
from ov_seg_ros.core.voxels import VoxelGrid

AXES = {"cartesian": ("x", "y", "z"), "cylindrical": ("rho", "phi", "z")}


@dataclass(frozen=True)
class Lesson:
    """What one scan teaches.

    Attributes:
        points: (N, 3) float32, metres, LiDAR frame.
        teaches: (N,) bool, the points that something is said about.
    """

    points: NDArray[np.float32]
    teaches: NDArray[np.bool_]


def require_something_to_learn(lessons: Iterable[Lesson], grid: VoxelGrid, taught: str, remedy: str) -> None:
    """Looks at scans until one has a point in the grid that something is said about: mostly one, all at worst.

    Args:
        lessons: of all scans, loaded one after the other.
        grid: of the student.
        taught: what makes a point teach something, "labelled".
        remedy: what to do where no point is.

    Raises:
        InputError: there are scans, and nothing in them to learn from; says whether the grid or the labels are why.
    """
    all_points, teaching = _Extent(grid), _Extent(grid)
    scans = 0
    for lesson in lessons:
        inside = grid.voxelize(lesson.points).point_to_voxel >= 0
        if (inside & lesson.teaches).any():
            return
        scans += 1
        all_points.add(lesson.points, inside)
        teaching.add(lesson.points[lesson.teaches], inside[lesson.teaches])
    if not scans:
        return
    if all_points.count and not all_points.inside:
        raise InputError(f"none of the points of {scans} scans lies in the grid: {all_points.compare()}")
    if not teaching.count:
        raise InputError(f"none of the {all_points.count} points of {scans} scans is {taught}: {remedy}")
    raise InputError(
        f"none of the {teaching.count} {taught} points of {scans} scans lies in the grid: {teaching.compare()}"
    )


@dataclass
class _Extent:
    """How far points reach along the axes of a grid.

    Attributes:
        grid: whose.
        count: of finite points.
        inside: how many of them lie in the grid.
        low: (3,) smallest coordinates.
        high: (3,) largest ones.
    """

    grid: VoxelGrid
    count: int = 0
    inside: int = 0
    low: NDArray[np.float64] = field(default_factory=lambda: np.full(3, np.inf))
    high: NDArray[np.float64] = field(default_factory=lambda: np.full(3, -np.inf))

    def add(self, points: NDArray[np.float32], inside: NDArray[np.bool_]) -> None:
        axes = self.grid.axes(points[np.isfinite(points).all(axis=1)])
        self.count += len(axes)
        self.inside += int(inside.sum())
        self.low = np.minimum(self.low, axes.min(axis=0, initial=np.inf))
        self.high = np.maximum(self.high, axes.max(axis=0, initial=-np.inf))

    def compare(self) -> str:
        """Where the points are, where the grid is, and what to do."""
        names, grid = AXES[self.grid.kind], self.grid
        return (
            f"they have {_ranges(names, self.low, self.high)}, the grid holds "
            f"{_ranges(names, grid.range_min, grid.range_max)}; change grid: range_min and range_max of the recipe"
        )


def _ranges(names: Iterable[str], low: Iterable[float], high: Iterable[float]) -> str:
    return ", ".join(f"{name} {a:.4g} to {b:.4g}" for name, a, b in zip(names, low, high, strict=True))
