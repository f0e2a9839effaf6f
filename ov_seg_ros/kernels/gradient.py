"""Gradients of the weights of a sparse convolution, in one call per thread."""

from __future__ import annotations

import numpy as np
from numba import njit

from ov_seg_ros.kernels.atomics import fetch_add, load_acquire, wait_until
from ov_seg_ros.kernels.outer_tile import add_outer_products
from ov_seg_ros.kernels.tile_shapes import HOST_SHAPE

UNIT_FIELDS = np.dtype(
    [
        ("left", np.int64),  # address of the first row, at the unit's first channel
        ("left_rows", np.int64),  # address of int64
        ("right_rows", np.int64),
        ("begin", np.int64),
        ("end", np.int64),
        ("target", np.int64),  # address of the result's first row
        ("channels", np.int64),
    ]
)
_PAIRS = 128
"""Pairs at a time, so that their rows stay in the first-level cache while all tiles of the result pass over them."""


@njit(cache=True, nogil=True)
def run_gradient(units, left_stride, right, right_stride, panels, target_stride, counters):  # type: ignore[no-untyped-def]
    """Works on all units until they are done; called by every thread with the same arguments.

    Args:
        units: (U,) records of ``UNIT_FIELDS``; no two write the same rows.
        left_stride: float32 values from a row to the next, as all strides.
        right: address of the other side's first row.
        right_stride: of the other side.
        panels: (P,) records of ``program.PANEL_FIELDS``.
        target_stride: of the result.
        counters: ``program.new_counters(1)``.
    """
    taken = counters[0, 0].ctypes.data
    done = counters[0, 1].ctypes.data
    while load_acquire(taken) < len(units):
        u = fetch_add(taken, 1)
        if u >= len(units):
            break
        unit = units[u]
        for begin in range(unit.begin, unit.end, _PAIRS):
            end = min(begin + _PAIRS, unit.end)
            for p in range(len(panels)):
                _add_panel(
                    panels[p].width,
                    unit.left,
                    left_stride,
                    unit.left_rows,
                    right + 4 * panels[p].first,
                    right_stride,
                    unit.right_rows,
                    begin,
                    end,
                    unit.target + 4 * panels[p].first,
                    target_stride,
                    unit.channels,
                )
        fetch_add(done, 1)
    wait_until(done, len(units))


@njit(cache=True, nogil=True)
def _add_panel(width, a, a_stride, a_rows, b, b_stride, b_rows, begin, end, c, c_stride, channels):  # type: ignore[no-untyped-def]
    """``add_outer_products`` for a width that is known only now."""
    if width == 64:
        add_outer_products(HOST_SHAPE, 64, a, a_stride, a_rows, b, b_stride, b_rows, begin, end, c, c_stride, channels)
    elif width == 56:
        add_outer_products(HOST_SHAPE, 56, a, a_stride, a_rows, b, b_stride, b_rows, begin, end, c, c_stride, channels)
    elif width == 48:
        add_outer_products(HOST_SHAPE, 48, a, a_stride, a_rows, b, b_stride, b_rows, begin, end, c, c_stride, channels)
    elif width == 40:
        add_outer_products(HOST_SHAPE, 40, a, a_stride, a_rows, b, b_stride, b_rows, begin, end, c, c_stride, channels)
    elif width == 32:
        add_outer_products(HOST_SHAPE, 32, a, a_stride, a_rows, b, b_stride, b_rows, begin, end, c, c_stride, channels)
    elif width == 24:
        add_outer_products(HOST_SHAPE, 24, a, a_stride, a_rows, b, b_stride, b_rows, begin, end, c, c_stride, channels)
    elif width == 16:
        add_outer_products(HOST_SHAPE, 16, a, a_stride, a_rows, b, b_stride, b_rows, begin, end, c, c_stride, channels)
    else:
        add_outer_products(HOST_SHAPE, 8, a, a_stride, a_rows, b, b_stride, b_rows, begin, end, c, c_stride, channels)
