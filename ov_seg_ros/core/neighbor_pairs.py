"""Pairs of neighbouring voxels, found column by column.

The 13 kernel offsets that come before the centre are three cells each of four neighbouring columns, and the cell
below. A table over y, of the column seen last there, finds neighbouring columns without a search; whether cells of two
columns are neighbours is one operation on the words of both, 64 cells at a time. Nearly all of what is left are
branches that no processor predicts, so columns without neighbours, and words without pairs, are dropped by
writing them where the next one goes.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from ov_seg_ros.core.bit_sets import NONE, ONE, size_of
from ov_seg_ros.core.voxel_columns import FIELD, Y_SHIFT

_TOP, _SHIFT_32, _LOW_32 = np.uint64(63), np.uint64(32), np.uint64(2**32 - 1)
_COLUMN_SHIFTS = np.array([(1 << 42) + (1 << 21), 1 << 42, (1 << 42) - (1 << 21), 1 << 21], np.uint64)
"""What the key of the column at (dx, dy) = (-1, -1), (-1, 0), (-1, 1), (0, -1) is smaller by."""


@njit(cache=True, nogil=True)
def neighbor_pairs(key, cells, first):  # type: ignore[no-untyped-def]
    """``Level.pair_centre``, ``pair_neighbor`` and ``pair_starts`` of columns, see ``voxel_columns``."""
    num_columns = len(key) - 1
    beside, num_beside = _columns_beside(key)
    most = max(max(num_beside[0], num_beside[1]), max(num_beside[2], num_beside[3]))
    pair = np.empty((12, most + ONE), np.uint64)
    bits = np.empty((12, most + ONE), np.uint64)
    starts = np.zeros(14, np.int64)
    num_words = np.zeros(12, np.uint64)
    for d in range(4):
        found = beside[d][: num_beside[d]]
        words, pairs = _words_beside(key, cells, found, _COLUMN_SHIFTS[d], pair[3 * d :], bits[3 * d :])
        for side in range(3):
            num_words[3 * d + side], starts[3 * d + side + 1] = words[side], pairs[side]
    pair_below = np.empty(num_columns + 1, np.uint64)
    bits_below = np.empty(num_columns + 1, np.uint64)
    num_below, starts[13] = _words_below(key, cells, pair_below, bits_below)
    for k in range(13):
        starts[k + 1] += starts[k]
    centre = np.empty(starts[13], np.int64)
    neighbor = np.empty(starts[13], np.int64)
    for k in range(12):
        at, num = np.uint64(starts[k]), num_words[k]
        if k % 3 == 2:
            _write_above(key, cells, first, pair[k][:num], bits[k][:num], centre[at:], neighbor[at:])
        else:
            _write(cells, first, pair[k][:num], bits[k][:num], ONE - np.uint64(k % 3), centre[at:], neighbor[at:])
    at = np.uint64(starts[12])
    _write(cells, first, pair_below[:num_below], bits_below[:num_below], ONE, centre[at:], neighbor[at:])
    return centre, neighbor, starts


@njit(nogil=True)
def _columns_beside(key):  # type: ignore[no-untyped-def]
    """Per direction, centre << 32 | neighbour of the columns that have one: (4, C + 1) of which the first (4,) count.

    The neighbour is the lowest column at its x and y.
    """
    num_columns = len(key) - 1
    y_low, y_high = FIELD, NONE
    for i in range(num_columns):
        y = (key[i] >> Y_SHIFT) & FIELD
        y_low, y_high = min(y_low, y), max(y_high, y)
    width = y_high - y_low + np.uint64(3) if num_columns else ONE
    latest = np.zeros(2 * width, np.uint32)  # column seen last at y, for even and odd x; stale ones have another key
    found = np.empty((4, num_columns + 1), np.uint64)
    left, same, right, before = found[0], found[1], found[2], found[3]
    a, b, c, d = NONE, NONE, NONE, NONE
    previous = NONE
    for n in range(num_columns):
        i = np.uint64(n)
        xy = key[i] >> Y_SHIFT
        y = (xy & FIELD) - y_low + ONE
        odd = (xy >> Y_SHIFT) & ONE
        here, there = y + odd * width, y + (ONE - odd) * width
        wanted = xy - (ONE << Y_SHIFT)
        a = _append_if(left, a, i, latest[there - ONE], key, wanted - ONE)
        b = _append_if(same, b, i, latest[there], key, wanted)
        c = _append_if(right, c, i, latest[there + ONE], key, wanted + ONE)
        d = _append_if(before, d, i, latest[here - ONE], key, xy - ONE)
        if xy != previous:
            latest[here] = i
        previous = xy
    return found, np.array([a, b, c, d], np.uint64)


@njit(nogil=True)
def _append_if(found, count, i, j, key, wanted):  # type: ignore[no-untyped-def]
    """Writes the pair (i, j), and counts it if column j is at the wanted x and y."""
    found[count] = (i << _SHIFT_32) | np.uint64(j)
    return count + np.uint64((key[np.uint64(j)] >> Y_SHIFT) == wanted)


@njit(nogil=True)
def _words_beside(key, cells, beside, shift, pair, bits):  # type: ignore[no-untyped-def]
    """Cells of column i with a neighbour in the column beside: one lower, level, one higher.

    Fills:
        pair, bits: (at least 3, .) columns i << 32 | j and these cells, where there are any; j is the first column
        not below the one beside i.

    Returns:
        Numbers of words and of pairs, (3,) each.
    """
    a, b, c = NONE, NONE, NONE
    num_lower, num_level, num_higher = NONE, NONE, NONE
    for e in range(len(beside)):
        i, j = beside[e] >> _SHIFT_32, beside[e] & _LOW_32
        own, wanted = cells[i], key[i] - shift
        while key[j] < wanted:
            j += ONE
        at_level = np.uint64(key[j] == wanted)
        level = cells[j] * at_level
        lower, higher = level << ONE, level >> ONE
        if own & ONE and j > NONE and key[j - ONE] == wanted - ONE:
            lower |= cells[j - ONE] >> _TOP
        if own >> _TOP and key[j + at_level] == wanted + ONE:
            higher |= cells[j + at_level] << _TOP
        a, num_lower = _keep_if_any(pair[0], bits[0], a, i, j, own & lower, num_lower)
        b, num_level = _keep_if_any(pair[1], bits[1], b, i, j, own & level, num_level)
        c, num_higher = _keep_if_any(pair[2], bits[2], c, i, j, own & higher, num_higher)
    return (a, b, c), (num_lower, num_level, num_higher)


@njit(nogil=True)
def _words_below(key, cells, pair, bits):  # type: ignore[no-untyped-def]
    """Cells of each column with an occupied cell below; as ``_words_beside``."""
    count, total = NONE, NONE
    for n in range(len(key) - 1):
        i = np.uint64(n)
        own = cells[i]
        below = own << ONE
        if own & ONE and i > NONE and key[i - ONE] == key[i] - ONE:
            below |= cells[i - ONE] >> _TOP
        count, total = _keep_if_any(pair, bits, count, i, i, own & below, total)
    return count, total


@njit(nogil=True)
def _keep_if_any(pair, bits, count, i, j, found, total):  # type: ignore[no-untyped-def]
    pair[count], bits[count] = (i << _SHIFT_32) | j, found
    return count + np.uint64(found != NONE), total + size_of(found)


@njit(nogil=True)
def _write(cells, first, pair, bits, back, centre, neighbor):  # type: ignore[no-untyped-def]
    """Rows of the pairs; the neighbour is ``back`` rows before the first cell of column j not below the centre."""
    p = NONE
    for e in range(len(pair)):
        i, j = pair[e] >> _SHIFT_32, pair[e] & _LOW_32
        own, other, left = cells[i], cells[j], bits[e]
        while left:
            below = (left - ONE) & ~left
            centre[p] = first[i] + size_of(own & below)
            neighbor[p] = first[j] + size_of(other & below) - back
            p += ONE
            left &= left - ONE


@njit(nogil=True)
def _write_above(key, cells, first, pair, bits, centre, neighbor):  # type: ignore[no-untyped-def]
    """Rows of the pairs whose neighbour is one cell higher: in column j, or the lowest of it where j is higher."""
    p = NONE
    for e in range(len(pair)):
        i, j = pair[e] >> _SHIFT_32, pair[e] & _LOW_32
        own, left = cells[i], bits[e]
        other = cells[j] if ((key[i] ^ key[j]) & FIELD) == NONE else NONE
        while left:
            below = (left - ONE) & ~left
            centre[p] = first[i] + size_of(own & below)
            neighbor[p] = first[j] + size_of(other & (below << ONE | ONE))
            p += ONE
            left &= left - ONE
