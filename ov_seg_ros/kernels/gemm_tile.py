"""The inner loop of every sparse convolution: rows from anywhere times a small matrix, added to rows anywhere.

``multiply_rows`` is written as LLVM vector code, which Numba compiles for the processor at hand: x86 with SSE, AVX2 or
AVX-512, ARM with NEON. It reads each row where it lies and adds to each row where it lies, so no gathered copy and no
scatter exists. A tile of rows x columns of the result stays in registers over the whole inner dimension (Goto and van
de Geijn, "Anatomy of High-Performance Matrix Multiplication", 2008).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import llvmlite.binding
import numba.extending
from llvmlite import ir
from numba import types
from numba.core import cgutils

intrinsic: Any = numba.extending.intrinsic  # its own annotations describe the outer function, not the call

COLUMN_STEP = 8
"""Columns of every matrix are padded to a multiple of this."""
INNER_STEP = 4
"""Rows of every matrix (the inner dimension) are padded to a multiple of this: that many steps are unrolled."""

_FLOAT, _INDEX, _INT32 = ir.FloatType(), ir.IntType(64), ir.IntType(32)


@dataclass(frozen=True)
class TileShape:
    """How results are kept in registers.

    Attributes:
        vector: float32 values per register.
        rows: rows of a tile by the registers its width takes; entry 0 is unused.
    """

    vector: int
    rows: tuple[int, ...]

    @property
    def panel(self) -> int:
        """Widest tile in columns."""
        return self.vector * (len(self.rows) - 1)

    def registers(self, width: int) -> list[int]:
        """Values per register of a tile of ``width`` columns; the last may be half a register."""
        full, rest = divmod(width, self.vector)
        return [self.vector] * full + [rest] * (rest > 0)


AVX512 = TileShape(16, (0, 16, 12, 8, 6))  # 32 registers
AVX2 = TileShape(8, (0, 8, 6))  # 16 registers
NEON = TileShape(4, (0, 8, 8, 8, 6))  # 32 registers
SSE = TileShape(4, (0, 8, 6))  # 16 registers


def tile_shape_of_host() -> TileShape:
    """What suits the processor that Numba compiles for."""
    triple = llvmlite.binding.get_process_triple()
    if triple.startswith(("aarch64", "arm64")):
        return NEON
    features = llvmlite.binding.get_host_cpu_features()
    if features.get("avx512f") and features.get("avx512vl"):
        return AVX512
    return AVX2 if features.get("avx2") and features.get("fma") else SSE


TILE = tile_shape_of_host()


def panel_widths(columns: int, shape: TileShape = TILE) -> list[int]:
    """Splits padded columns into panels of at most ``shape.panel``, each but the last whole registers wide."""
    unit = max(shape.vector, COLUMN_STEP)
    units, rest = divmod(columns, unit)
    count = max(1, -(-columns // shape.panel))
    widths = [unit * (units // count + (i < units % count)) for i in range(count)]
    widths = [width for width in widths if width]
    if rest and widths and widths[-1] + rest <= shape.panel:
        widths[-1] += rest
    elif rest:
        widths.append(rest)
    return widths


def _accumulate(shape: TileShape, width: int) -> Callable[..., Any]:
    """Code generator of ``multiply_rows`` for one width."""

    def codegen(context: Any, builder: ir.IRBuilder, _signature: Any, arguments: Any) -> Any:
        if width > shape.panel:  # never asked for on this processor: no code
            return context.get_dummy_value()
        writer = _TileWriter(builder, shape.registers(width), *arguments[2:])
        position = cgutils.alloca_once_value(builder, writer.begin)
        rows = shape.rows[len(shape.registers(width))]
        while rows:
            writer.sweep(position, rows)
            rows = min(rows // 2, 4) if rows > 4 else rows // 2
        return context.get_dummy_value()

    return codegen


class _TileWriter:
    """Writes the tiles of one panel width into a function."""

    def __init__(self, builder: ir.IRBuilder, registers: list[int], *arguments: Any) -> None:
        self.builder, self.registers = builder, registers
        self.source, self.source_stride, self.source_rows = arguments[:3]
        self.target, self.target_stride, self.target_rows = arguments[3:6]
        self.begin, self.end, self.matrix, self.inner = arguments[6:]
        self.width = sum(registers)

    def sweep(self, position: Any, rows: int) -> None:
        """Tiles of ``rows`` rows from ``position`` on, as long as so many are left; moves ``position``."""
        builder = self.builder
        head, body, after = (builder.append_basic_block(f"rows{rows}.{name}") for name in ("head", "body", "after"))
        builder.branch(head)
        builder.position_at_end(head)
        first = builder.load(position)
        following = builder.add(first, _INDEX(rows))
        builder.cbranch(builder.icmp_signed("<=", following, self.end), body, after)
        builder.position_at_end(body)
        self._tile(first, rows)
        builder.store(following, position)
        builder.branch(head)
        builder.position_at_end(after)

    def _tile(self, first: Any, rows: int) -> None:
        builder = self.builder
        read = [self._row(self.source, self.source_stride, self.source_rows, first, r) for r in range(rows)]
        written = [self._row(self.target, self.target_stride, self.target_rows, first, r) for r in range(rows)]
        sums = [[cgutils.alloca_once_value(builder, value) for value in self._load(row, _INDEX(0))] for row in written]
        matrix = builder.inttoptr(self.matrix, _FLOAT.as_pointer())
        with cgutils.for_range(builder, builder.udiv(self.inner, _INDEX(INNER_STEP))) as loop:
            start = builder.mul(loop.index, _INDEX(INNER_STEP))
            for step in range(INNER_STEP):
                self._multiply_add(sums, read, matrix, builder.add(start, _INDEX(step)))
        for row, values in zip(written, sums, strict=True):
            for pointer, value in zip(self._pointers(row, _INDEX(0)), values, strict=True):
                builder.store(builder.load(value), pointer, align=4)

    def _multiply_add(self, sums: list[list[Any]], read: list[Any], matrix: Any, k: Any) -> None:
        builder = self.builder
        columns = self._load(matrix, builder.mul(k, _INDEX(self.width)))
        for row, values in zip(read, sums, strict=True):
            factor = builder.load(builder.gep(row, [k]))
            for value, column, size in zip(values, columns, self.registers, strict=True):
                product_sum = builder.call(
                    self._fmuladd(size), [self._splat(factor, size), column, builder.load(value)]
                )
                builder.store(product_sum, value)

    def _row(self, base: Any, stride: Any, rows: Any, first: Any, r: int) -> Any:
        """Address of the row that entry ``first + r`` of the index array ``rows`` names."""
        builder = self.builder
        entry = builder.gep(builder.inttoptr(rows, _INDEX.as_pointer()), [builder.add(first, _INDEX(r))])
        offset = builder.mul(builder.mul(builder.load(entry), stride), _INDEX(4))
        return builder.inttoptr(builder.add(base, offset), _FLOAT.as_pointer())

    def _pointers(self, base: Any, offset: Any) -> list[Any]:
        pointers = []
        for i, size in enumerate(self.registers):
            element = self.builder.add(offset, _INDEX(sum(self.registers[:i])))
            pointers.append(self.builder.bitcast(self.builder.gep(base, [element]), _vector(size).as_pointer()))
        return pointers

    def _load(self, base: Any, offset: Any) -> list[Any]:
        return [self.builder.load(pointer, align=4) for pointer in self._pointers(base, offset)]

    def _splat(self, value: Any, size: int) -> Any:
        undefined = ir.Constant(_vector(size), ir.Undefined)
        first = self.builder.insert_element(undefined, value, _INT32(0))
        return self.builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(_INT32, size), [0] * size))

    def _fmuladd(self, size: int) -> Any:
        """One rounding where the processor has fused multiply-add, two where it has not."""
        kind = ir.FunctionType(_vector(size), [_vector(size)] * 3)
        return cgutils.get_or_insert_function(self.builder.module, kind, f"llvm.fmuladd.v{size}f32")


def _vector(size: int) -> ir.VectorType:
    return ir.VectorType(_FLOAT, size)


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
    return signature, _accumulate(SHAPES[shape.literal_value], width.literal_value)


SHAPES = (AVX512, AVX2, NEON, SSE)
HOST_SHAPE = SHAPES.index(TILE)
