"""Arrays at raw addresses, inside Numba functions."""

from __future__ import annotations

from typing import Any

import numba.extending
from llvmlite import ir
from numba import types

intrinsic: Any = numba.extending.intrinsic  # its own annotations describe the outer function, not the call


@intrinsic
def float32_at(_context, address):  # type: ignore[no-untyped-def]
    """A pointer to the float32 at an address, for ``numba.carray``."""
    return types.CPointer(types.float32)(types.int64), _pointer_to(ir.FloatType())


@intrinsic
def int64_at(_context, address):  # type: ignore[no-untyped-def]
    """A pointer to the int64 at an address, for ``numba.carray``."""
    return types.CPointer(types.int64)(types.int64), _pointer_to(ir.IntType(64))


def _pointer_to(element: Any) -> Any:
    def codegen(_target: Any, builder: ir.IRBuilder, _signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], element.as_pointer())

    return codegen
