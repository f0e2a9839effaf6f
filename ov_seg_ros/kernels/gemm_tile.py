"""The inner loop of every sparse convolution: rows from anywhere times a small matrix, added to rows anywhere.

``multiply_rows`` is written as LLVM vector code, which Numba compiles for the processor at hand: x86 with SSE, AVX2 or
AVX-512, ARM with NEON. It reads each row where it lies and adds to each row where it lies, so no gathered copy and no
scatter exists. A tile of rows x columns of the result stays in registers over the whole inner dimension (Goto and van
de Geijn, "Anatomy of High-Performance Matrix Multiplication", 2008).
"""

from __future__ import annotations

from typing import Any

import numba.extending
from numba import types
from numba.core import cgutils

from ov_seg_ros.kernels.tile_shapes import INNER_STEP, TileShape
from ov_seg_ros.kernels.vector_code import FLOAT, INDEX, VectorWriter, panel_code

intrinsic: Any = numba.extending.intrinsic  # its own annotations describe the outer function, not the call


@intrinsic(prefer_literal=True)
def multiply_rows(  # type: ignore[no-untyped-def]
    _context,
    shape,
    width,
    source,
    source_stride,
    source_rows,
    target,
    target_stride,
    target_rows,
    begin,
    end,
    matrix,
    inner,
):
    """``target[target_rows[p], :width] += source[source_rows[p], :inner] @ matrix`` for p in [begin, end).

    Only inside functions compiled by Numba. All addresses are those of float32 or int64 elements; nothing is checked.
    No row may be named twice in ``target_rows[begin:end]``.

    Args:
        shape: literal index into ``SHAPES``.
        width: literal, columns of this panel, at most the panel of the shape and a multiple of ``COLUMN_STEP``.
        source: address of the first row read.
        source_stride: float32 values from a row to the next.
        source_rows: address of an int64 index array.
        target: address of the first row written, at the panel's first column.
        target_stride: as ``source_stride``.
        target_rows: address of an int64 index array.
        begin: first entry of the index arrays.
        end: behind the last one.
        matrix: address of the panel (inner, width), contiguous.
        inner: a multiple of ``INNER_STEP``.
    """
    numbers = (source, source_stride, source_rows, target, target_stride, target_rows, begin, end, matrix, inner)
    signature = types.void(shape, width, *(types.int64 for _ in numbers))
    return signature, panel_code(shape, width, _write)


def _write(writer: VectorWriter, shape: TileShape, *numbers: Any) -> None:
    """The code, of the intrinsic's arguments behind ``width``."""
    source, source_stride, source_rows, target, target_stride, target_rows, *rest = numbers
    begin, end, matrix, inner = rest
    builder = writer.builder
    panel = builder.inttoptr(matrix, FLOAT.as_pointer())

    def tile(first: Any, count: int) -> None:
        entries = [builder.add(first, INDEX(r)) for r in range(count)]
        read = [writer.row(source, source_stride, source_rows, entry) for entry in entries]
        written = [writer.row(target, target_stride, target_rows, entry) for entry in entries]
        sums = [writer.variables(row) for row in written]
        with cgutils.for_range(builder, builder.udiv(inner, INDEX(INNER_STEP))) as loop:
            start = builder.mul(loop.index, INDEX(INNER_STEP))
            for step in range(INNER_STEP):
                k = builder.add(start, INDEX(step))
                columns = writer.load(panel, builder.mul(k, INDEX(writer.width)))
                for row, values in zip(read, sums, strict=True):
                    writer.multiply_add(values, builder.load(builder.gep(row, [k])), columns)
        for row, values in zip(written, sums, strict=True):
            writer.store(row, values)

    writer.sweep_all(begin, end, shape, tile)
