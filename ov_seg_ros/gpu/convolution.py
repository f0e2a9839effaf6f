"""Sparse convolution in Triton: implicit GEMM over the tiles of a row table.

A program makes some columns of the rows of one tile. It walks through the kernel positions that the tile has, fetches
the rows of the source from where they lie and multiplies them with the matrix of the position; sums stay in registers
as float32. A second source may be multiplied row by row (the 1 x 1 projection beside a residual block): its products
go into the same sums, which saves a launch and a trip of the result through memory. Each row of the result is written
once by one program, the order of its additions is fixed: results are the same bit by bit in every run.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from ov_seg_ros.core.errors import InputError
from ov_seg_ros.gpu.convolution_terms import ConvolutionWeights, Operands
from ov_seg_ros.gpu.tile_shapes import TileShape
from ov_seg_ros.gpu.tile_table import TileTable


def convolve(weights: ConvolutionWeights, operands: Operands, tiles: TileTable, shape: TileShape) -> None:
    """Computes one convolution: one launch, no allocation, no waiting.

    Args:
        weights: packed.
        operands: their widths are those of the weights; the target is none of the sources that are gathered from.
        tiles: of the row table of the target's level; without a gathered term any table of that level.
        shape: for tiles of as many rows.

    Raises:
        InputError: operands, weights, tiles and shape do not fit each other.
    """
    _check(weights, operands, tiles, shape)
    target, bias = operands.target, weights.bias
    gathered, gathered_weight = _or_stand_in(operands.gathered, weights.gathered, target)
    plain, plain_weight = _or_stand_in(operands.plain, weights.plain, target)
    residual = target if operands.residual is None else operands.residual
    c_out = len(bias)
    c_plain = 0 if weights.plain is None else plain_weight.shape[0]
    _convolve[(len(tiles.steps) * (c_out // shape.columns),)](
        target,
        target.stride(0),
        tiles.targets,
        tiles.sources,
        tiles.taken,
        tiles.steps,
        gathered,
        gathered.stride(0),
        gathered_weight,
        plain,
        plain.stride(0),
        plain_weight,
        residual,
        residual.stride(0),
        bias,
        K=tiles.sources.shape[1],
        C_IN=0 if weights.gathered is None else gathered_weight.shape[1],
        C_PLAIN=c_plain,
        C_OUT=c_out,
        HAS_RESIDUAL=operands.residual is not None,
        RELU=weights.relu,
        BLOCK_M=shape.block_m,
        BLOCK_N=shape.block_n,
        TAIL_N=shape.tail_n,
        BLOCK_K=shape.block_k,
        PLAIN_K=min(c_plain & -c_plain, shape.block_k),
        PLAIN_STAGES=min(shape.num_stages, 3),
        num_warps=shape.num_warps,
        num_stages=shape.num_stages,
        enable_fp_fusion=True,  # Triton warns of a default that will change
    )


def _or_stand_in(
    source: torch.Tensor | None, weight: torch.Tensor | None, stand_in: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """A term's tensors, or ones that the kernel never reads."""
    return (stand_in, stand_in) if source is None or weight is None else (source, weight)


def _check(weights: ConvolutionWeights, operands: Operands, tiles: TileTable, shape: TileShape) -> None:
    if shape.block_m != tiles.block_m:
        raise InputError(f"a shape for tiles of {shape.block_m} rows, but the tiles have {tiles.block_m}")
    c_out = len(weights.bias)
    if c_out % shape.columns:
        raise InputError(f"{c_out} output channels are no multiple of the {shape.columns} columns of a tile")
    for name, expected in (("target", c_out), ("residual", c_out), ("gathered", 0), ("plain", 0)):
        features, matrix = getattr(operands, name), getattr(weights, name, None)
        if not expected and (features is None) != (matrix is None):
            raise InputError(f"the {name} term needs both features and weights")
        columns = expected or (0 if matrix is None else matrix.shape[-2])
        if features is not None and (features.shape[1] != columns or features.stride(1) != 1):
            raise InputError(f"{name} must have {columns} columns side by side, got shape {tuple(features.shape)}")
    if weights.gathered is not None:
        positions, c_in, _ = weights.gathered.shape
        if positions != tiles.sources.shape[1] or c_in % shape.block_k:
            raise InputError(
                f"{positions} matrices of {c_in} rows do not fit tiles of {tiles.sources.shape[1]} positions and steps"
                f" of {shape.block_k} channels"
            )


@triton.jit
def _convolve(
    target: tl.tensor,
    target_stride: tl.tensor,
    targets: tl.tensor,
    sources: tl.tensor,
    taken: tl.tensor,
    steps: tl.tensor,
    gathered: tl.tensor,
    gathered_stride: tl.tensor,
    gathered_weight: tl.tensor,
    plain: tl.tensor,
    plain_stride: tl.tensor,
    plain_weight: tl.tensor,
    residual: tl.tensor,
    residual_stride: tl.tensor,
    bias: tl.tensor,
    K: tl.constexpr,
    C_IN: tl.constexpr,
    C_PLAIN: tl.constexpr,
    C_OUT: tl.constexpr,
    HAS_RESIDUAL: tl.constexpr,
    RELU: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    TAIL_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    PLAIN_K: tl.constexpr,
    PLAIN_STAGES: tl.constexpr,
) -> None:
    parts: tl.constexpr = C_OUT // (BLOCK_N + TAIL_N)
    tile = tl.program_id(0) // parts
    tile_steps = tl.load(steps + tile)
    if tile_steps < 0:
        return
    first = tl.program_id(0) % parts * (BLOCK_N + TAIL_N)
    column = first + tl.arange(0, BLOCK_N)
    sums = tl.zeros((BLOCK_M, BLOCK_N), tl.float32) + tl.load(bias + column)[None, :]
    tail_column, tail_sums = column, sums  # without a tail nothing is done with them
    if TAIL_N > 0:
        tail_column = first + BLOCK_N + tl.arange(0, TAIL_N)
        tail_sums = tl.zeros((BLOCK_M, TAIL_N), tl.float32) + tl.load(bias + tail_column)[None, :]

    if C_IN > 0:
        own = sources + tile * (K * BLOCK_M) + tl.arange(0, BLOCK_M)
        left = tl.load(taken + tile)
        source = (own, left, tile_steps, gathered, gathered_stride, gathered_weight)
        sums, tail_sums = _add_gathered(
            sums, tail_sums, *source, column, tail_column, C_IN, C_OUT, BLOCK_M, BLOCK_K, TAIL_N
        )
    row = tl.load(targets + tile * BLOCK_M + tl.arange(0, BLOCK_M))
    if C_PLAIN > 0:
        plain_channel = tl.arange(0, PLAIN_K)
        for block in tl.range(0, C_PLAIN // PLAIN_K, num_stages=PLAIN_STAGES):
            features = _fetch(plain, row, plain_stride, block * PLAIN_K + plain_channel)
            matrix = plain_weight + (block * PLAIN_K + plain_channel)[:, None] * C_OUT
            sums, tail_sums = _add_product(sums, tail_sums, features, matrix, column, tail_column, TAIL_N)

    beside, into = residual + row[:, None] * residual_stride, target + row[:, None] * target_stride
    _finish(sums, beside, into, row, column, HAS_RESIDUAL, RELU)
    if TAIL_N > 0:
        _finish(tail_sums, beside, into, row, tail_column, HAS_RESIDUAL, RELU)


@triton.jit
def _add_gathered(
    sums: tl.tensor,
    tail_sums: tl.tensor,
    sources: tl.tensor,
    left: tl.tensor,
    steps: tl.tensor,
    gathered: tl.tensor,
    stride: tl.tensor,
    weight: tl.tensor,
    column: tl.tensor,
    tail_column: tl.tensor,
    C_IN: tl.constexpr,
    C_OUT: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_K: tl.constexpr,
    TAIL_N: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor]:
    """The products of all positions in the mask ``left``, one loop over positions and channels so that it is long."""
    blocks: tl.constexpr = C_IN // BLOCK_K
    for i in range(steps * blocks):
        block = i % blocks
        channel = block * BLOCK_K + tl.arange(0, BLOCK_K)
        # The lowest bit that is set: its exponent as a float32 is its number.
        k = ((left & -left).to(tl.float32).to(tl.int32, bitcast=True) >> 23) - 127
        features = _fetch(gathered, tl.load(sources + i // blocks * BLOCK_M), stride, channel)
        matrix = weight + (k * C_IN + channel)[:, None] * C_OUT
        sums, tail_sums = _add_product(sums, tail_sums, features, matrix, column, tail_column, TAIL_N)
        left = tl.where(block == blocks - 1, left & (left - 1), left)
    return sums, tail_sums


@triton.jit
def _fetch(features: tl.tensor, row: tl.tensor, stride: tl.tensor, channel: tl.tensor) -> tl.tensor:
    """Channels of rows, zeros where a row is -1."""
    return tl.load(features + row[:, None] * stride + channel[None, :], mask=(row >= 0)[:, None], other=0.0)


@triton.jit
def _add_product(
    sums: tl.tensor,
    tail_sums: tl.tensor,
    features: tl.tensor,
    matrix: tl.tensor,
    column: tl.tensor,
    tail_column: tl.tensor,
    TAIL_N: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor]:
    """Features times the columns of a matrix whose rows ``matrix`` points to."""
    sums = tl.dot(features, tl.load(matrix + column[None, :]), sums, input_precision="ieee")
    if TAIL_N > 0:
        tail_sums = tl.dot(features, tl.load(matrix + tail_column[None, :]), tail_sums, input_precision="ieee")
    return sums, tail_sums


@triton.jit
def _finish(
    sums: tl.tensor,
    beside: tl.tensor,
    into: tl.tensor,
    row: tl.tensor,
    column: tl.tensor,
    HAS_RESIDUAL: tl.constexpr,
    RELU: tl.constexpr,
) -> None:
    """What follows a convolution, and its only way into memory."""
    exists = (row >= 0)[:, None]
    if HAS_RESIDUAL:
        sums += tl.load(beside + column[None, :], mask=exists, other=0.0).to(tl.float32)
    if RELU:
        sums = tl.where(sums < 0, 0.0, sums)  # NaN stays NaN: it tells of wrong input
    tl.store(into + column[None, :], sums.to(into.dtype.element_ty), mask=exists)
