"""Occupied cells as columns: which of 64 cells above each other are occupied, one word per column.

A scan has about two voxels per column, ordered as the voxels are; with a column the row of any of its voxels follows
from one count of bits. What has to be found out per voxel otherwise, neighbours and parents, is found per column.

Three arrays, C columns in lexicographic order of (x, y, z // 64):
    key (C + 1,) uint64: x, y and z // 64 in one number, see ``pack``.
    cells (C + 1,) uint64: bit z % 64 is set where the cell is occupied.
    first (C + 1,) uint64: row of the lowest voxel.
The last entry is a sentinel: the largest key, no cells, the number of voxels. Inside, all numbers are unsigned:
Numba looks at every signed index whether it is negative.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from ov_seg_ros.core.bit_sets import NONE, ONE, halved, lowest_of, size_of

X_SHIFT, Y_SHIFT = np.uint64(42), np.uint64(21)
FIELD = np.uint64((1 << 21) - 1)
LAST = np.uint64(2**64 - 1)
"""Key of the sentinel."""
_BIAS = 1 << 20
_HALF_BIAS = np.uint64((1 << 19 << 42) + (1 << 19 << 21) + (1 << 13))
_EVEN_CELLS, _WORD = np.uint64(0x5555555555555555), np.uint64(63)
_WORD_BITS, _HALF_WORD = np.uint64(6), np.uint64(5)
_PARITIES = 4


@njit(cache=True, nogil=True)
def columns_of(coords):  # type: ignore[no-untyped-def]
    """Columns of cells (V, 3) int32, distinct, in lexicographic order, in -2**20 .. 2**20 - 3.

    Returns:
        key, cells, first, and the first row that does not come after the one before it, V if there is none.
    """
    num_voxels = len(coords)
    key = np.empty(num_voxels + 1, np.uint64)
    cells = np.empty(num_voxels + 1, np.uint64)
    first = np.empty(num_voxels + 1, np.uint64)
    count = NONE
    current, occupied = LAST, NONE
    for row in range(num_voxels):
        z = np.uint64(coords[row, 2] + _BIAS)
        x, y = np.uint64(coords[row, 0] + _BIAS), np.uint64(coords[row, 1] + _BIAS)
        own = (x << X_SHIFT) | (y << Y_SHIFT) | (z >> _WORD_BITS)
        cell = ONE << (z & _WORD)
        if own != current:
            if row > 0 and own < current:
                return key[:1], cells[:1], first[:1], row
            key[count], first[count] = own, np.uint64(row)
            count += ONE
            current, occupied = own, NONE
        elif cell <= occupied:
            return key[:1], cells[:1], first[:1], row
        occupied |= cell
        cells[count - ONE] = occupied
    key[count], cells[count], first[count] = LAST, NONE, np.uint64(num_voxels)
    return key[: count + ONE], cells[: count + ONE], first[: count + ONE], num_voxels


@njit(cache=True, nogil=True)
def coarsen(key, cells, first):  # type: ignore[no-untyped-def]
    """The step to cells twice as large.

    Returns:
        ``Stride.child``, ``parent``, ``starts`` and ``position``, then coords (V_coarse, 3) int32 and the
        three arrays of the coarse columns.
    """
    starts = _corner_starts(key, cells)
    slot, coarse_slot_key, coarse_slot_cells, ends = _by_parity(key, cells)
    slot_column, coarse_key, coarse_cells = _merge(coarse_slot_key, coarse_slot_cells, ends)
    coarse_first, coords = _voxels_of(coarse_key, coarse_cells)
    child, parent, position = _families(key, cells, first, starts, slot, slot_column, coarse_cells, coarse_first)
    return child, parent, starts, position, coords, coarse_key, coarse_cells, coarse_first


@njit(nogil=True)
def _parity(key):  # type: ignore[no-untyped-def]
    """2 * (x & 1) + (y & 1)."""
    return ((key >> X_SHIFT) & ONE) << ONE | ((key >> Y_SHIFT) & ONE)


@njit(nogil=True)
def _corner_starts(key, cells):  # type: ignore[no-untyped-def]
    """``Stride.starts``."""
    starts = np.zeros(2 * _PARITIES + 1, np.int64)
    for i in range(len(key) - 1):
        corner = _parity(key[i]) << ONE
        starts[corner + ONE] += np.int64(size_of(cells[i] & _EVEN_CELLS))
        starts[corner + ONE + ONE] += np.int64(size_of(cells[i] & ~_EVEN_CELLS))
    for corner in range(2 * _PARITIES):
        starts[corner + 1] += starts[corner]
    return starts


@njit(nogil=True)
def _by_parity(key, cells):  # type: ignore[no-untyped-def]
    """Coarse columns of the columns, in four lists by the parity of x and y: each is in order, unlike their whole.

    Returns:
        Slot of every column in the lists, coarse key and cells of every slot, and the slots of the sentinels that
        end the lists.
    """
    num_columns = len(key) - 1
    free = np.zeros(_PARITIES + 1, np.uint64)
    for i in range(num_columns):
        free[_parity(key[i]) + ONE] += ONE
    for parity in range(_PARITIES):
        free[parity + 1] += free[parity] + ONE
    ends = free[1:] - ONE
    slot = np.empty(num_columns, np.uint32)
    coarse_key = np.empty(num_columns + _PARITIES, np.uint64)
    coarse_cells = np.empty(num_columns + _PARITIES, np.uint64)
    for i in range(num_columns):
        own = key[i]
        parity = _parity(own)
        s = free[parity]
        free[parity] = s + ONE
        slot[i] = s
        x, y, word = own >> X_SHIFT, (own >> Y_SHIFT) & FIELD, own & FIELD
        coarse_key[s] = ((x >> ONE) << X_SHIFT | (y >> ONE) << Y_SHIFT | word >> ONE) + _HALF_BIAS
        coarse_cells[s] = halved(cells[i]) << ((own & ONE) << _HALF_WORD)
    for parity in range(_PARITIES):
        coarse_key[ends[parity]], coarse_cells[ends[parity]] = LAST, NONE
    return slot, coarse_key, coarse_cells, ends


@njit(nogil=True)
def _merge(slot_key, slot_cells, ends):  # type: ignore[no-untyped-def]
    """Merges the four lists.

    Returns:
        Column of every slot, key and cells of the columns with their sentinel.
    """
    slot_column = np.empty(len(slot_key), np.uint32)
    key = np.empty(len(slot_key), np.uint64)
    cells = np.empty(len(slot_key), np.uint64)
    a, b, c, d = NONE, ends[0] + ONE, ends[1] + ONE, ends[2] + ONE
    column = NONE
    while True:
        own = min(min(slot_key[a], slot_key[b]), min(slot_key[c], slot_key[d]))
        if own == LAST:
            break
        a, from_a = _take(slot_key, slot_cells, slot_column, a, own, column)
        b, from_b = _take(slot_key, slot_cells, slot_column, b, own, column)
        c, from_c = _take(slot_key, slot_cells, slot_column, c, own, column)
        d, from_d = _take(slot_key, slot_cells, slot_column, d, own, column)
        key[column], cells[column] = own, from_a | from_b | from_c | from_d
        column += ONE
    key[column], cells[column] = LAST, NONE
    return slot_column, key[: column + ONE], cells[: column + ONE]


@njit(nogil=True)
def _take(slot_key, slot_cells, slot_column, slot, own, column):  # type: ignore[no-untyped-def]
    """Gives the slots with this key, one list has up to two, to a column; returns the next slot and their cells."""
    cells = NONE
    while slot_key[slot] == own:
        cells |= slot_cells[slot]
        slot_column[slot] = column
        slot += ONE
    return slot, cells


@njit(nogil=True)
def _voxels_of(key, cells):  # type: ignore[no-untyped-def]
    """``first`` of the columns, and the coords of their voxels."""
    first = np.empty(len(key), np.uint64)
    count = NONE
    for i in range(len(key)):
        first[i] = count
        count += size_of(cells[i])
    coords = np.empty((count, 3), np.int32)
    row = NONE
    for i in range(len(key)):
        x, y = np.int32(key[i] >> X_SHIFT) - _BIAS, np.int32((key[i] >> Y_SHIFT) & FIELD) - _BIAS
        bottom = np.int32((key[i] & FIELD) << _WORD_BITS) - _BIAS
        bits = cells[i]
        while bits:
            coords[row, 0], coords[row, 1], coords[row, 2] = x, y, bottom + np.int32(lowest_of(bits))
            row += ONE
            bits &= bits - ONE
    return first, coords


@njit(nogil=True)
def _families(key, cells, first, starts, slot, slot_column, coarse_cells, coarse_first):  # type: ignore[no-untyped-def]
    """``Stride.child``, ``parent`` and ``position``."""
    num_voxels = first[len(key) - 1]
    child = np.empty(num_voxels, np.int64)
    parent = np.empty(num_voxels, np.int64)
    position = np.empty(num_voxels, np.int64)
    free = starts.astype(np.uint64)
    row = NONE
    for i in range(len(key) - 1):
        column = slot_column[slot[i]]
        coarse, row_above = coarse_cells[column], coarse_first[column]
        half = (key[i] & ONE) << _HALF_WORD
        corner = _parity(key[i]) << ONE
        even, odd = free[corner], free[corner + ONE]
        bits = cells[i]
        while bits:
            z = lowest_of(bits)
            is_odd = z & ONE
            at = odd if is_odd else even
            child[at] = row
            parent[at] = row_above + size_of(coarse & ((ONE << (half + (z >> ONE))) - ONE))
            position[row] = at
            odd += is_odd
            even += ONE - is_odd
            row += ONE
            bits &= bits - ONE
        free[corner], free[corner + ONE] = even, odd
    return child, parent, position
