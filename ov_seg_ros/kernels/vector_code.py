"""Pieces of LLVM vector code that tiles are made of.

Numba's cache on disk looks at the file of the compiled function alone: after a change here or in a tile, touch
``program.py`` and ``gradient.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils

from ov_seg_ros.kernels.tile_shapes import SHAPES, TileShape

FLOAT, INDEX, INT32 = ir.FloatType(), ir.IntType(64), ir.IntType(32)


class VectorWriter:
    """Writes code for rows of float32 values that are held in several registers.

    Args:
        builder: at the end of the block to write to.
        registers: values per register.
    """

    def __init__(self, builder: ir.IRBuilder, registers: list[int]) -> None:
        self.builder, self.registers = builder, registers
        self.width = sum(registers)

    def sweep(self, position: Any, end: Any, count: int, tile: Callable[[Any, int], None]) -> None:
        """``tile(first, count)`` as long as ``count`` are left from the variable ``position``, which moves, on."""
        builder = self.builder
        head, body, after = (builder.append_basic_block(f"tile{count}.{name}") for name in ("head", "body", "after"))
        builder.branch(head)
        builder.position_at_end(head)
        first = builder.load(position)
        following = builder.add(first, INDEX(count))
        builder.cbranch(builder.icmp_signed("<=", following, end), body, after)
        builder.position_at_end(body)
        tile(first, count)
        builder.store(following, position)
        builder.branch(head)
        builder.position_at_end(after)

    def sweep_all(self, begin: Any, end: Any, shape: TileShape, tile: Callable[[Any, int], None]) -> None:
        """All of [begin, end) in the largest tiles of ``shape`` and, for the rest, smaller ones."""
        position = cgutils.alloca_once_value(self.builder, begin)
        count = shape.rows[len(self.registers)]
        while count:
            self.sweep(position, end, count, tile)
            count = min(count // 2, 4) if count > 4 else count // 2

    def variables(self, row: Any) -> list[Any]:
        """The registers as variables that hold what lies at ``row``."""
        return [cgutils.alloca_once_value(self.builder, value) for value in self.load(row, INDEX(0))]

    def store(self, row: Any, variables: list[Any]) -> None:
        """Writes variables back to ``row``."""
        for pointer, value in zip(self._pointers(row, INDEX(0)), variables, strict=True):
            self.builder.store(self.builder.load(value), pointer, align=4)

    def multiply_add(self, variables: list[Any], factor: Any, columns: list[Any]) -> None:
        """``variables += factor * columns``: one rounding where the processor has fused multiply-add, else two."""
        for value, column, size in zip(variables, columns, self.registers, strict=True):
            sums = [self._splat(factor, size), column, self.builder.load(value)]
            self.builder.store(self.builder.call(self._fmuladd(size), sums), value)

    def row(self, base: Any, stride: Any, rows: Any, entry: Any) -> Any:
        """Pointer to the row that an entry of the index array at ``rows`` names."""
        builder = self.builder
        index = builder.load(builder.gep(builder.inttoptr(rows, INDEX.as_pointer()), [entry]))
        offset = builder.mul(builder.mul(index, stride), INDEX(4))
        return builder.inttoptr(builder.add(base, offset), FLOAT.as_pointer())

    def load(self, base: Any, offset: Any) -> list[Any]:
        """Registers filled from ``offset`` values behind ``base``."""
        return [self.builder.load(pointer, align=4) for pointer in self._pointers(base, offset)]

    def _pointers(self, base: Any, offset: Any) -> list[Any]:
        pointers = []
        for i, size in enumerate(self.registers):
            element = self.builder.add(offset, INDEX(sum(self.registers[:i])))
            pointers.append(self.builder.bitcast(self.builder.gep(base, [element]), _vector(size).as_pointer()))
        return pointers

    def _splat(self, value: Any, size: int) -> Any:
        undefined = ir.Constant(_vector(size), ir.Undefined)
        first = self.builder.insert_element(undefined, value, INT32(0))
        return self.builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(INT32, size), [0] * size))

    def _fmuladd(self, size: int) -> Any:
        kind = ir.FunctionType(_vector(size), [_vector(size)] * 3)
        return cgutils.get_or_insert_function(self.builder.module, kind, f"llvm.fmuladd.v{size}f32")


def panel_code(shape: Any, width: Any, write: Callable[..., None]) -> Callable[..., Any]:
    """Code generator of an intrinsic whose first arguments are the literals ``shape`` and ``width``.

    Args:
        shape: Numba's literal type of an index into ``SHAPES``.
        width: Numba's literal type of the columns of a panel.
        write: called as ``write(writer, tile_shape, *other arguments)``.
    """
    tile_shape, columns = SHAPES[shape.literal_value], width.literal_value

    def codegen(context: Any, builder: ir.IRBuilder, _signature: Any, arguments: Any) -> Any:
        if columns <= tile_shape.panel:  # wider panels are never asked for with this shape: no code
            write(VectorWriter(builder, tile_shape.registers(columns)), tile_shape, *arguments[2:])
        return context.get_dummy_value()

    return codegen


def _vector(size: int) -> ir.VectorType:
    return ir.VectorType(FLOAT, size)
