"""Voxelisation: points to the integer cells of a Cartesian or cylindrical grid."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.cell_sorting import WordLayout, sort_into_cells
from ov_seg_ros.core.errors import ConfigError

KINDS = ("cartesian", "cylindrical")
COORD_BITS = 20
"""Cells per axis are fewer than 2**20 - 2, so that a cell and its neighbours pack into one int64 key."""

HALF_TURN = np.float32(np.pi)


@dataclass(frozen=True)
class Voxels:
    """The occupied cells of one scan.

    Attributes:
        coords: (V, 3) int32, distinct, in lexicographic order, each >= 0.
        point_to_voxel: (N,) int32 index into ``coords``, -1 = invalid point or outside the grid.
        axes: (N, 3) float32 ``VoxelGrid.axes`` of the points, kept for whoever needs them next; None = not kept.
    """

    coords: NDArray[np.int32]
    point_to_voxel: NDArray[np.int32]
    axes: NDArray[np.float32] | None = field(default=None, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.coords)


@dataclass(frozen=True)
class VoxelGrid:
    """A regular grid; what a student was trained on, so it travels inside the model file.

    Attributes:
        kind: "cartesian" (axes x, y, z) or "cylindrical" (axes rho, phi, z; phi in [-pi, pi),
            cells on both sides of the cut at the back are not neighbours, as in AFOV and SLidR).
        voxel_size: cell edge per axis, metres (phi: radians).
        range_min: lower corner per axis, same units.
        range_max: upper corner per axis, exclusive.
    """

    kind: str
    voxel_size: tuple[float, float, float]
    range_min: tuple[float, float, float]
    range_max: tuple[float, float, float]

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ConfigError(f"voxel grid kind must be one of {', '.join(KINDS)}, got {self.kind!r}")
        if not np.isfinite((self.voxel_size, self.range_min, self.range_max)).all():
            raise ConfigError(
                f"voxel_size, range_min and range_max must be finite, got {self.voxel_size}, {self.range_min} and "
                f"{self.range_max}"
            )
        if min(self.voxel_size) <= 0:
            raise ConfigError(f"voxel_size must be > 0 per axis, got {self.voxel_size}")
        if any(low >= high for low, high in zip(self.range_min, self.range_max, strict=True)):
            raise ConfigError(f"range_min {self.range_min} must lie below range_max {self.range_max} on every axis")
        if max(self.shape) >= 2**COORD_BITS - 2:
            raise ConfigError(f"voxel grid of {self.shape} cells is too fine, at most {2**COORD_BITS - 3} per axis")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Cells per axis."""
        span = zip(self.range_min, self.range_max, self.voxel_size, strict=True)
        nx, ny, nz = (int(np.ceil((high - low) / size - 1e-6)) for low, high, size in span)
        return nx, ny, nz

    def axes(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """Points (N, 3) in metres to grid axes (N, 3): the same for cartesian, (rho, phi, z) for cylindrical."""
        if self.kind == "cartesian":
            return points
        axes = np.empty((len(points), 3), np.float32)
        np.hypot(points[:, 0], points[:, 1], out=axes[:, 0], dtype=np.float32)
        np.arctan2(points[:, 1], points[:, 0], out=axes[:, 1], dtype=np.float32)
        axes[axes[:, 1] >= HALF_TURN, 1] = -HALF_TURN  # straight behind is in the first cell, not beyond the last one
        axes[:, 2] = points[:, 2]
        return axes

    def voxelize(self, points: NDArray[np.float32]) -> Voxels:
        """Finds the occupied cells.

        Args:
            points: (N, 3) float32, metres; NaN and infinite points belong to no cell.
        """
        axes = np.ascontiguousarray(self.axes(points), dtype=np.float32)
        low, size = np.asarray(self.range_min, np.float32), np.asarray(self.voxel_size, np.float32)
        shape = np.asarray(self.shape, np.float32)
        layout = WordLayout.of(self.shape, len(points))
        if layout.fits():
            words = np.array(layout, np.uint64)
            coords, point_to_voxel = sort_into_cells(axes.reshape(-1), low, size, shape, words)
        else:
            coords, point_to_voxel = _find_cells(axes, low, size, shape)
        return Voxels(coords, point_to_voxel, axes)

    def to_dict(self) -> dict[str, Any]:
        """JSON form, the inverse of ``from_dict``."""
        return {
            "kind": self.kind,
            "voxel_size": list(self.voxel_size),
            "range_min": list(self.range_min),
            "range_max": list(self.range_max),
        }

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> VoxelGrid:
        """Reads the JSON form.

        Raises:
            ConfigError: a key is missing, unknown or malformed.
        """
        try:
            triples = {k: tuple(float(v) for v in content[k]) for k in ("voxel_size", "range_min", "range_max")}
            if set(content) - {"kind", *triples} or any(len(t) != 3 for t in triples.values()):
                raise ValueError("unknown keys or not three numbers per axis")
            return cls(kind=content["kind"], **triples)  # type: ignore[arg-type]
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"voxel grid: expected kind, voxel_size, range_min, range_max, got {content}") from error


def pack_coords(coords: NDArray[np.integer]) -> NDArray[np.int64]:
    """Cells (V, 3) to int64 keys (V,) whose order is the lexicographic order of the cells.

    Every coordinate is stored plus one, so that adding a neighbour offset of -1..1 never borrows.
    """
    shifted = coords.astype(np.int64) + 1
    return (shifted[:, 0] << (2 * COORD_BITS)) | (shifted[:, 1] << COORD_BITS) | shifted[:, 2]


def unpack_keys(keys: NDArray[np.int64]) -> NDArray[np.int32]:
    """The inverse of ``pack_coords``: (V,) int64 to (V, 3) int32."""
    mask = (1 << COORD_BITS) - 1
    columns = [keys >> (2 * COORD_BITS), (keys >> COORD_BITS) & mask, keys & mask]
    return np.stack(columns, axis=1).astype(np.int32) - np.int32(1)


def _find_cells(
    axes: NDArray[np.float32], low: NDArray[np.float32], size: NDArray[np.float32], shape: NDArray[np.float32]
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """``sort_into_cells`` for any grid and number of points, four times slower."""
    with np.errstate(over="ignore", invalid="ignore"):
        cells = np.floor((axes - low) / size)
    inside = ((cells >= 0) & (cells < shape)).all(axis=1)
    keys, row = np.unique(pack_coords(cells[inside].astype(np.int32)), return_inverse=True)
    point_to_voxel = np.full(len(axes), -1, np.int32)
    point_to_voxel[inside] = row
    return unpack_keys(keys), point_to_voxel
