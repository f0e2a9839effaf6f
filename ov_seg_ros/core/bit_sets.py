"""Sets of numbers 0..63 as the bits of a uint64, inside Numba functions."""

from __future__ import annotations

from typing import Any

import numba.extending
import numpy as np
from numba import njit, types
from numba.core import cgutils

intrinsic: Any = numba.extending.intrinsic  # its own annotations describe the outer function, not the call

NONE, ONE = np.uint64(0), np.uint64(1)
"""Numbers that meet bits have to be uint64 as well: with an int64, Numba would compute in float64."""

_HALVING = tuple(
    (np.uint64(shift), np.uint64(mask))
    for shift, mask in (
        (0, 0x5555555555555555),
        (1, 0x3333333333333333),
        (2, 0x0F0F0F0F0F0F0F0F),
        (4, 0x00FF00FF00FF00FF),
        (8, 0x0000FFFF0000FFFF),
        (16, 0x00000000FFFFFFFF),
    )
)


@intrinsic
def size_of(_context, bits):  # type: ignore[no-untyped-def]
    """How many numbers are in a set, as uint64; on most processors one instruction."""

    def codegen(_target: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.uint64(types.uint64), codegen


@intrinsic
def lowest_of(_context, bits):  # type: ignore[no-untyped-def]
    """The smallest number of a set that is not empty, as uint64."""

    def codegen(_target: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], cgutils.true_bit)

    return types.uint64(types.uint64), codegen


@njit(nogil=True)
def halved(bits):  # type: ignore[no-untyped-def]
    """The set of n // 2 of the numbers n of a set, in the lower 32 bits."""
    bits |= bits >> ONE
    for shift, mask in _HALVING:
        bits = (bits | (bits >> shift)) & mask
    return bits
