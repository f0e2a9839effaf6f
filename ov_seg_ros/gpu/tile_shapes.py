"""How large the pieces are that a program of the convolution kernel works on.

Nothing is tried out at run time: a robot's node must start at once and run the same way every day. The table is
keyed by what decides: widths and storage type. A benchmark passes shapes of its own instead.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ov_seg_ros.core.errors import InputError
from ov_seg_ros.gpu.convolution_terms import ConvolutionWeights

STEP = 16
"""Columns of every buffer and matrix are padded to a multiple of this, the smallest matrix of a tensor core."""
_STAGES = 5
"""Row numbers are fetched two steps before the features, these two steps before they are multiplied."""


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
    """The shape for packed weights."""
    matrices = weights.plain if weights.gathered is None else weights.gathered
    if matrices is None:
        raise InputError("a convolution needs a gathered or a plain term")
    return choose_tile(matrices.shape[-2], len(weights.bias), matrices.dtype == torch.float16)


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
    block_n, tail_n = _split_columns(c_out, 128 if is_half else 64)
    block_k = min(_power_of_two_in(c_in), 64 if is_half else 32)
    num_warps = 8 if block_m > 64 and block_n + tail_n > 64 else 4
    return TileShape(block_m, block_n, tail_n, block_k, num_warps, num_stages=_STAGES if is_half else 2)


def _split_columns(c_out: int, widest: int) -> tuple[int, int]:
    """Two powers of two (or one and 0) whose sum divides ``c_out``: the widest pair not above ``widest``."""
    powers = [size for size in (256, 128, 64, 32, 16) if size <= widest]
    pairs = [(size, tail) for size in powers for tail in (*powers, 0) if tail < size and size + tail <= widest]
    return max((pair for pair in pairs if c_out % sum(pair) == 0), key=sum)


def _power_of_two_in(number: int) -> int:
    """The largest power of two that divides a number."""
    return number & -number
