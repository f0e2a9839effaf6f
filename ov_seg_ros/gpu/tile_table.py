"""A row table cut into tiles: what a program of the convolution kernel needs of it, side by side.

Rows with the same neighbours are neighbours in a tile, so most kernel positions of a tile are taken by all of its
rows or by none, and the latter cost nothing (implicit GEMM on sorted masks, as in spconv 2 and TorchSparse++). All
convolutions of a level share the table; it is made once per scan.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from ov_seg_ros.gpu.device_tables import RowTable


@dataclass(frozen=True)
class TileTable:
    """T = ceil(capacity / block_m) tiles; those beyond the rows that exist are empty.

    Attributes:
        targets: (T, block_m) int32 row of the result, -1 = none.
        sources: (T, K, block_m) int32 row of the source, -1 = none; of a tile only the taken kernel positions, in
            ascending order. What lies behind them is undefined.
        taken: (T,) int32, bit k: some row of the tile has a source at kernel position k.
        steps: (T,) int32 taken kernel positions, -1 = empty tile.
    """

    targets: torch.Tensor
    sources: torch.Tensor
    taken: torch.Tensor
    steps: torch.Tensor

    @property
    def block_m(self) -> int:
        """Rows of a tile."""
        return self.targets.shape[1]


def empty_tile_table(capacity: int, positions: int, block_m: int, device: torch.device) -> TileTable:
    """Room for the tiles of a row table.

    Args:
        capacity: rows of the table.
        positions: K of the table.
        block_m: rows of a tile.
        device: where.
    """
    tiles = triton.cdiv(capacity, block_m)
    shapes = ((tiles, block_m), (tiles, positions, block_m), (tiles,), (tiles,))
    return TileTable(*(torch.empty(shape, dtype=torch.int32, device=device) for shape in shapes))


def fill_tile_table(tiles: TileTable, table: RowTable) -> None:
    """Cuts a row table into tiles: one launch.

    Args:
        tiles: made for the capacity and the K of ``table``.
        table: of any count; a count above its capacity counts as the capacity.
    """
    capacity, positions = table.rows.shape
    _fill[(len(tiles.steps),)](
        table.rows,
        table.order,
        table.count,
        capacity,
        tiles.targets,
        tiles.sources,
        tiles.taken,
        tiles.steps,
        K=positions,
        K_PADDED=triton.next_power_of_2(positions),
        BLOCK_M=tiles.block_m,
        enable_fp_fusion=True,  # Triton warns of a default that will change
    )


@triton.jit
def _fill(
    rows: tl.tensor,
    order: tl.tensor,
    count: tl.tensor,
    capacity: tl.tensor,
    targets: tl.tensor,
    sources: tl.tensor,
    taken: tl.tensor,
    steps: tl.tensor,
    K: tl.constexpr,
    K_PADDED: tl.constexpr,
    BLOCK_M: tl.constexpr,
) -> None:
    tile = tl.program_id(0)
    num_rows = tl.minimum(tl.load(count), capacity)
    if tile * BLOCK_M >= num_rows:
        tl.store(steps + tile, -1)
        return
    lane = tl.arange(0, BLOCK_M)
    exists = tile * BLOCK_M + lane < num_rows
    row = tl.load(order + tile * BLOCK_M + lane, mask=exists, other=-1)
    tl.store(targets + tile * BLOCK_M + lane, row)
    k = tl.arange(0, K_PADDED)
    source = tl.load(rows + row[:, None] * K + k[None, :], mask=exists[:, None] & (k < K)[None, :], other=-1)
    is_taken = (tl.max(source, axis=0) >= 0).to(tl.int32)
    slot = tl.cumsum(is_taken, axis=0) - is_taken
    place = (tile * K + slot[None, :]) * BLOCK_M + lane[:, None]
    tl.store(sources + place, source, mask=(is_taken > 0)[None, :])
    tl.store(taken + tile, tl.sum(is_taken << k, axis=0))
    tl.store(steps + tile, tl.sum(is_taken, axis=0))
