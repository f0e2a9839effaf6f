"""How large the pieces are that a program of the convolution kernel works on.

Nothing is tried out at run time: a robot's node must start at once and run the same way every day. The table is
keyed by what decides: widths and storage type. A benchmark passes shapes of its own instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import torch

from ov_seg_ros.core.errors import InputError
from ov_seg_ros.gpu.convolution_terms import ConvolutionWeights

STEP = 16
"""Columns of every buffer and matrix are padded to a multiple of this, the smallest matrix of a tensor core."""
_STAGES = 5
"""Row numbers are fetched two steps before the features, these two steps before they are multiplied."""
_SHARED_MEMORY = 113 * 1024
"""Bytes, half of what a multiprocessor of an H100 has."""
_SUMS_OF_FOUR_WARPS = 64 * 128
"""More sums than that take eight warps, or they would fill more than 64 registers of each thread."""


@dataclass(frozen=True)
class TileShape:
    """Sizes of one launch.

    Attributes:
        block_m: rows of a tile, a power of two.
        block_n: columns of a tile, a power of two.
        tail_n: more columns of the same tile, a power of two or 0: 96 columns are 64 + 32, so that each source row is
            fetched once and no product is wasted.
        block_k: input channels per step, a power of two that divides all input channels.
        num_warps: threads of a program / 32.
        num_stages: steps whose loads are on their way at the same time.
    """

    block_m: int
    block_n: int
    tail_n: int
    block_k: int
    num_warps: int
    num_stages: int

    @property
    def columns(self) -> int:
        """Columns that one program makes."""
        return self.block_n + self.tail_n


def tile_shape_of(weights: ConvolutionWeights) -> TileShape:
    """The shape for packed weights.

    Raises:
        InputError: there is nothing to multiply.
    """
    return choose_tile(*_widths(weights))


def choose_tile(c_in: int, c_out: int, is_half: bool, block_m: int = 64) -> TileShape:
    """The shape for a convolution.

    64 rows are what a warp group of Hopper multiplies at once; with 128, a program fetches half the weights per row,
    but more of its products are with rows that are not there. Float32 is for comparisons, not for speed.

    Args:
        c_in: input channels of the gathered term (of the plain one if there is no other), a multiple of ``STEP``.
        c_out: output channels, a multiple of ``STEP``.
        is_half: storage is float16.
        block_m: rows of a tile.
    """
    block_n, tail_n = max(_column_splits(c_out, 128 if is_half else 64), key=sum)
    block_k = min(c_in & -c_in, 64 if is_half else 32)  # the power of two in the channels
    num_warps = 8 if block_m * (block_n + tail_n) > _SUMS_OF_FOUR_WARPS else 4
    return TileShape(block_m, block_n, tail_n, block_k, num_warps, num_stages=_STAGES if is_half else 2)


def shapes_to_try(weights: ConvolutionWeights) -> Iterator[TileShape]:
    """Shapes for a benchmark, at most 36: those that leave room for two programs per multiprocessor of an H100.

    Raises:
        InputError: there is nothing to multiply.
    """
    c_in, c_out, is_half = _widths(weights)
    steps = [step for step in (16, 32, 64, 128) if c_in % step == 0][-2:]
    splits = sorted(_column_splits(c_out, 256), key=sum)[-3:]
    for rows, (block_n, tail_n), step, stages in product((32, 64, 128), splits, steps, (3, _STAGES)):
        columns = block_n + tail_n
        num_warps = 8 if rows * columns > _SUMS_OF_FOUR_WARPS else 4
        if (stages // 2 + 1) * (rows + columns) * step * (2 if is_half else 4) <= _SHARED_MEMORY:
            yield TileShape(rows, block_n, tail_n, step, num_warps, stages)


def _widths(weights: ConvolutionWeights) -> tuple[int, int, bool]:
    """Input channels of the first term, output channels, whether storage is float16."""
    matrices = weights.plain if weights.gathered is None else weights.gathered
    if matrices is None:
        raise InputError("a convolution needs a gathered or a plain term")
    return matrices.shape[-2], len(weights.bias), matrices.dtype == torch.float16


def _column_splits(c_out: int, widest: int) -> list[tuple[int, int]]:
    """Two powers of two, or one and 0, whose sum divides ``c_out`` and is not above ``widest``."""
    powers = [size for size in (16, 32, 64, 128, 256) if size <= widest]
    pairs = [(size, tail) for size in powers for tail in (0, *powers) if tail < size and size + tail <= widest]
    return [pair for pair in pairs if c_out % sum(pair) == 0]
