"""The inner loop of the gradient of the weights: a sum of outer products of rows from anywhere."""

from __future__ import annotations

from typing import Any

import numba.extending
from numba import types
from numba.core import cgutils

from ov_seg_ros.kernels.tile_shapes import TileShape
from ov_seg_ros.kernels.vector_code import FLOAT, INDEX, VectorWriter, panel_code

intrinsic: Any = numba.extending.intrinsic  # its own annotations describe the outer function, not the call


@intrinsic(prefer_literal=True)
def add_outer_products(  # type: ignore[no-untyped-def]
    _context,
    shape,
    width,
    left,
    left_stride,
    left_rows,
    right,
    right_stride,
    right_rows,
    begin,
    end,
    target,
    target_stride,
    channels,
):
    """``target[c, :width] += left[left_rows[p], c] * right[right_rows[p], :width]``, c < channels, begin <= p < end.

    Only inside functions compiled by Numba. All addresses are those of float32 or int64 elements; nothing is checked.

    Args:
        shape: literal index into ``SHAPES``.
        width: literal, columns of this panel, at most the panel of the shape and a multiple of ``COLUMN_STEP``.
        left: address of the first row, at the first channel.
        left_stride: float32 values from a row to the next.
        left_rows: address of an int64 index array.
        right: address of the first row, at the panel's first column.
        right_stride: as ``left_stride``.
        right_rows: address of an int64 index array.
        begin: first entry of the index arrays.
        end: behind the last one.
        target: address of the result's first row, at the panel's first column.
        target_stride: as ``left_stride``.
        channels: rows of the result.
    """
    numbers = (
        left,
        left_stride,
        left_rows,
        right,
        right_stride,
        right_rows,
        begin,
        end,
        target,
        target_stride,
        channels,
    )
    signature = types.void(shape, width, *(types.int64 for _ in numbers))
    return signature, panel_code(shape, width, _write)


def _write(writer: VectorWriter, shape: TileShape, *numbers: Any) -> None:
    """The code, of the intrinsic's arguments behind ``width``."""
    left, left_stride, left_rows, right, right_stride, right_rows, *rest = numbers
    begin, end, target, target_stride, channels = rest
    builder = writer.builder
    result = builder.inttoptr(target, FLOAT.as_pointer())

    def tile(first: Any, count: int) -> None:
        channel = [builder.add(first, INDEX(r)) for r in range(count)]
        written = [builder.gep(result, [builder.mul(c, target_stride)]) for c in channel]
        sums = [writer.variables(row) for row in written]
        with cgutils.for_range(builder, builder.sub(end, begin)) as loop:
            entry = builder.add(begin, loop.index)
            factors = writer.row(left, left_stride, left_rows, entry)
            columns = writer.load(writer.row(right, right_stride, right_rows, entry), INDEX(0))
            for c, values in zip(channel, sums, strict=True):
                writer.multiply_add(values, builder.load(builder.gep(factors, [c])), columns)
        for row, values in zip(written, sums, strict=True):
            writer.store(row, values)

    writer.sweep_all(INDEX(0), channels, shape, tile)
