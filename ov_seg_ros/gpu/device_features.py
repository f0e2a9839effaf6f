"""Features of voxels on a GPU: those of ``core.point_features``, within rounding.

Points are added up in whatever order the device likes, so sums are integers: a value times a power of two, chosen so
that not even a full scan in one voxel overflows. Integers add up to the same sum in any order, floats do not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ov_seg_ros.core.point_features import (
    COLOR,
    GEOMETRY,
    HEIGHT_SCALE,
    INTENSITY_CAP,
    RANGE_SCALE,
    check_names,
    uses_color,
)
from ov_seg_ros.core.voxels import VoxelGrid
from ov_seg_ros.gpu.device_voxels import DeviceVoxels, check_capacities, check_tensor

_SUM_BITS = 62
"""A sum of all points stays below 2**62."""
_FRACTION_BITS = 36
"""Bits of a value behind the point, at most."""
_SPARE_ROWS = 1024
"""Rows where points without a voxel are added: many, because additions to one row wait for each other."""
_HEIGHT, _RANGE, _EXTENT, _COUNT, _INTENSITY = (
    GEOMETRY.index(name) for name in ("height", "range", "extent_z", "count", "intensity")
)
_RED, _VALID = len(GEOMETRY), len(GEOMETRY) + 3


class FeatureBuilder:
    """Computes the input features of one network for scan after scan.

    Args:
        grid: cells.
        names: F features out of GEOMETRY and COLOR of ``core.point_features``, in the order of the columns.
        capacity: points a scan may have, at least 1.
        device: where scans lie.
        voxel_capacity: voxels there is room for, at least 1; None = as many as points.

    Raises:
        ConfigError: a name is unknown or comes twice, or a capacity is not positive.
    """

    def __init__(
        self,
        grid: VoxelGrid,
        names: Sequence[str],
        capacity: int,
        device: torch.device | str,
        voxel_capacity: int | None = None,
    ) -> None:
        check_names(names)
        self._capacity = capacity
        self._voxel_capacity = check_capacities(capacity, voxel_capacity)
        self._uses_color = uses_color(names)
        self._uses_intensity = "intensity" in names
        columns = GEOMETRY + COLOR if self._uses_color else GEOMETRY
        self._num_columns = len(columns)
        scales = _fixed_point_scales(grid, capacity)[: len(columns)]
        units = [HEIGHT_SCALE if i == _HEIGHT else RANGE_SCALE if i == _RANGE else 1.0 for i in range(len(columns))]
        self._scales = torch.tensor(scales, dtype=torch.float32, device=device)
        self._units = torch.tensor(
            [1 / (unit * scale) for unit, scale in zip(units, scales, strict=True)], dtype=torch.float32, device=device
        )
        chosen = None if tuple(names) == columns else [columns.index(name) for name in names]
        self._chosen = None if chosen is None else torch.tensor(chosen, dtype=torch.int32, device=device)
        self._row = torch.arange(capacity, dtype=torch.int32, device=device)
        self._spare_row = torch.arange(capacity, dtype=torch.int64, device=device) % _SPARE_ROWS
        self._spare_row += self._voxel_capacity
        self._up_and_down = torch.tensor([1.0, -1.0], dtype=torch.float32, device=device)
        self._ranks = torch.tensor([0.95, 1.0], dtype=torch.float64, device=device)
        self._infinity = torch.tensor([math.inf], dtype=torch.float32, device=device)

    def build(
        self, points: Tensor, intensity: Tensor, num_points: Tensor, voxels: DeviceVoxels, color: Tensor | None = None
    ) -> Tensor:
        """Means of the points' features per voxel.

        Args:
            points: (capacity, 3) float32, metres.
            intensity: (capacity,) float32, any scale; NaN and infinite ones count as 0.
            num_points: (1,) int32, points that exist; the rows behind them may hold anything.
            voxels: ``DeviceGrid.voxelize(points, num_points)``.
            color: (capacity, 4) float32 red, green, blue in 0..1 and valid (0 or 1), ``core.point_color.sample_colors``
                and padding; None = no colours at all. Not looked at when no feature wants colours.

        Returns:
            (voxel_capacity, F) float32, rows from the number of voxels on 0.

        Raises:
            InputError: a tensor has another shape or type.
        """
        check_tensor("points", points, (self._capacity, 3), torch.float32)
        check_tensor("intensity", intensity, (self._capacity,), torch.float32)
        check_tensor("num_points", num_points, (1,), torch.int32)
        check_tensor("voxels.coords", voxels.coords, (self._voxel_capacity, 3), torch.int32)
        values = self._values(points, voxels.cells)
        if self._uses_intensity:
            self._normalize(intensity, num_points, out=values[:, _INTENSITY])
        if self._uses_color:
            _write_color(color, values[:, _RED:])
        into = torch.where(voxels.point_to_voxel < 0, self._spare_row, voxels.point_to_voxel)  # (capacity,) int64
        table = self._means(values, into)
        torch.clamp(self._extent(points[:, 2], into), min=0, out=table[:, _EXTENT])  # -inf where there is no voxel
        return table if self._chosen is None else table.index_select(1, self._chosen)

    def _values(self, points: Tensor, cells: Tensor) -> Tensor:
        """(capacity, columns) float32: what is added up of every point; 1 in the column of the count."""
        values = torch.ones((self._capacity, self._num_columns), dtype=torch.float32, device=points.device)
        torch.sub(cells.frac(), 0.5, out=values[:, :_HEIGHT])
        values[:, _HEIGHT].copy_(points[:, 2])
        torch.hypot(points[:, 0], points[:, 1], out=values[:, _RANGE])
        return values

    def _normalize(self, intensity: Tensor, num_points: Tensor, out: Tensor) -> None:
        """``core.point_features.normalized_intensity``; the rank is computed as Python does, in float64."""
        clean = intensity.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
        ordered = torch.sort(torch.where(self._row < num_points, clean, self._infinity)).values
        rank = ((num_points - 1) * self._ranks).to(torch.int64).clamp_(min=0)  # of 95 % and of the largest
        percentile_and_largest = ordered.index_select(0, rank)
        positive = torch.where(percentile_and_largest > 0, percentile_and_largest, self._infinity)
        torch.clamp(clean / positive.amin(dim=0, keepdim=True), 0, INTENSITY_CAP, out=out)  # by infinity: 0

    def _means(self, values: Tensor, into: Tensor) -> Tensor:
        """(voxel_capacity, columns) float32 means of the rows ``into``, and the feature of the count in its column."""
        fixed = (values * self._scales).to(torch.int64)
        size = (self._voxel_capacity + _SPARE_ROWS, self._num_columns)
        sums = torch.zeros(size, dtype=torch.int64, device=values.device).index_add_(0, into, fixed)
        sums = sums[: self._voxel_capacity]
        means = torch.div(sums, sums[:, _COUNT : _COUNT + 1].clamp(min=1)).mul_(self._units)
        if self._uses_color:
            colored = sums[:, _VALID:].clamp(min=1)
            torch.mul(torch.div(sums[:, _RED:_VALID], colored), self._units[_RED:_VALID], out=means[:, _RED:_VALID])
        torch.mul(torch.log1p(sums[:, _COUNT]), 0.25, out=means[:, _COUNT])
        return means

    def _extent(self, z: Tensor, into: Tensor) -> Tensor:
        """(voxel_capacity,) float32 highest minus lowest z of the rows ``into``, -inf of rows without points."""
        ends = z[:, None] * self._up_and_down
        size = (self._voxel_capacity + _SPARE_ROWS, 2)
        highest = torch.full(size, -math.inf, dtype=torch.float32, device=z.device)
        highest.scatter_reduce_(0, into[:, None].expand(-1, 2), ends, "amax")
        return torch.add(highest[: self._voxel_capacity, 0], highest[: self._voxel_capacity, 1])


def _write_color(color: Tensor | None, out: Tensor) -> None:
    """Weighted red, green and blue, and the weight, to (capacity, 4)."""
    if color is None:
        out.zero_()
        return
    check_tensor("color", color, tuple(out.shape), torch.float32)
    out.copy_(color)
    out[:, :3].mul_(color[:, 3:])


def _fixed_point_scales(grid: VoxelGrid, capacity: int) -> list[float]:
    """Powers of two, one per column: as large as sums allow; 1 where what is added is a number of points."""
    reach = [max(abs(low), abs(high)) for low, high in zip(grid.range_min, grid.range_max, strict=True)]
    farthest = reach[0] if grid.kind == "cylindrical" else math.hypot(reach[0], reach[1])
    bounds = {"height": reach[2], "range": farthest, "intensity": INTENSITY_CAP}
    counted = ("extent_z", "count", "color_valid")
    return [1.0 if name in counted else _scale(bounds.get(name, 1.0), capacity) for name in GEOMETRY + COLOR]


def _scale(bound: float, capacity: int) -> float:
    """For values up to ``bound``, of which as many as ``capacity`` are added."""
    bits = _SUM_BITS - math.ceil(math.log2(bound + 1)) - math.ceil(math.log2(capacity))
    return 2.0 ** min(bits, _FRACTION_BITS)
