"""Counters that several threads may change at once, and a polite way to wait for them, inside Numba functions."""

from __future__ import annotations

from typing import Any

import llvmlite.binding
import numba.extending
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils

intrinsic: Any = numba.extending.intrinsic  # its own annotations describe the outer function, not the call

_INDEX = ir.IntType(64)
_SPINS = 4000
"""Looks before a waiting thread offers its core to others: some tens of microseconds."""
_sched_yield = types.ExternalFunction("sched_yield", types.int32())


@intrinsic
def fetch_add(_context, address, increment):  # type: ignore[no-untyped-def]
    """Adds to the int64 at an address in one step; returns what was there before. All threads see it in one order."""

    def codegen(_target: Any, builder: ir.IRBuilder, _signature: Any, arguments: Any) -> Any:
        pointer = builder.inttoptr(arguments[0], _INDEX.as_pointer())
        return builder.atomic_rmw("add", pointer, arguments[1], "seq_cst")

    return types.int64(types.int64, types.int64), codegen


@intrinsic
def load_acquire(_context, address):  # type: ignore[no-untyped-def]
    """The int64 at an address; what other threads wrote before they changed it is visible afterwards."""

    def codegen(_target: Any, builder: ir.IRBuilder, _signature: Any, arguments: Any) -> Any:
        pointer = builder.inttoptr(arguments[0], _INDEX.as_pointer())
        return builder.load_atomic(pointer, "acquire", 8)

    return types.int64(types.int64), codegen


@intrinsic
def _pause(_context):  # type: ignore[no-untyped-def]
    """Tells an x86 processor that this is a waiting loop; nothing elsewhere."""

    def codegen(target: Any, builder: ir.IRBuilder, _signature: Any, _arguments: Any) -> Any:
        if llvmlite.binding.get_process_triple().startswith(("x86_64", "i686", "amd64")):
            kind = ir.FunctionType(ir.VoidType(), [])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse2.pause"), [])
        return target.get_dummy_value()

    return types.void(), codegen


@njit(cache=True, nogil=True)
def wait_until(address, value):  # type: ignore[no-untyped-def]
    """Returns when the counter at ``address`` has reached ``value``."""
    spins = 0
    while load_acquire(address) < value:
        _pause()
        spins += 1
        if spins > _SPINS:
            _sched_yield()
