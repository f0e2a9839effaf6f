"""Runs a whole network of sparse convolutions in one call per thread.

A program is a list of steps. A step computes rows of float32 sums: a bias, an optional residual, and terms, each a
matrix product of source rows along a list of (row written, row read) pairs, or of all rows with themselves. Rows are
cut into units that threads take from a counter. A step starts when all units of the one before are done, whoever did
them; a thread that comes late, or never, delays nobody.
"""

from __future__ import annotations

import numpy as np
from numba import carray, njit
from numpy.typing import NDArray

from ov_seg_ros.kernels.addresses import float32_at, int64_at
from ov_seg_ros.kernels.atomics import fetch_add, load_acquire, wait_until
from ov_seg_ros.kernels.gemm_tile import multiply_rows
from ov_seg_ros.kernels.tile_shapes import HOST_SHAPE

STEP_FIELDS = np.dtype(
    [
        ("rows", np.int64),  # of the result
        ("unit_rows", np.int64),
        ("target", np.int64),  # address of the first row of the result
        ("target_stride", np.int64),  # float32 values, as all strides
        ("columns", np.int64),  # padded
        ("bias", np.int64),  # address of ``columns`` values
        ("residual", np.int64),  # address of the first row, 0 = none
        ("residual_stride", np.int64),
        ("relu", np.int64),  # 0 or 1
        ("term_begin", np.int64),
        ("term_end", np.int64),
        ("panel_begin", np.int64),
        ("panel_end", np.int64),
    ]
)
TERM_FIELDS = np.dtype(
    [
        ("source", np.int64),  # address of the first row read
        ("source_stride", np.int64),
        ("inner", np.int64),  # padded
        ("matrix", np.int64),  # address; panels follow each other
        ("source_rows", np.int64),  # address of int64
        ("target_rows", np.int64),  # address of int64, ascending in [begin, end); 0 = every row, then end = 0
        ("begin", np.int64),
        ("end", np.int64),
    ]
)
PANEL_FIELDS = np.dtype([("first", np.int64), ("width", np.int64)])
_UNIT_VALUES, _UNIT_ROWS = 1 << 16, (64, 1024)
"""Results a thread computes at a time, so that they and their sources stay in its cache; bounds in rows."""
_UNITS_PER_THREAD = 3
"""At least, so that threads finish a step together; fewer where units would get smaller than the bound."""
COUNTER_STRIDE = 16
"""int64 values between two counters, two cache lines: threads must not fight over one."""


def rows_per_unit(rows: NDArray[np.int64], columns: NDArray[np.int64], num_threads: int) -> NDArray[np.int64]:
    """How finely the work of steps is divided; results do not depend on it.

    Args:
        rows: (S,) of the results.
        columns: (S,) of the results.
        num_threads: that share the work.
    """
    fair = -(-rows // (_UNITS_PER_THREAD * num_threads))
    return np.clip(np.minimum(_UNIT_VALUES // columns, fair), *_UNIT_ROWS)


def new_counters(num_steps: int) -> NDArray[np.int64]:
    """Counters of one run: (num_steps, 2, COUNTER_STRIDE) int64 zeros, units taken and units done."""
    return np.zeros((num_steps, 2, COUNTER_STRIDE), np.int64)


@njit(cache=True, nogil=True)
def run_program(steps, terms, panels, every_row, counters):  # type: ignore[no-untyped-def]
    """Works on a program until it is done; called by every thread with the same arguments.

    Args:
        steps: (S,) records of ``STEP_FIELDS``.
        terms: (T,) records of ``TERM_FIELDS``.
        panels: (P,) records of ``PANEL_FIELDS``.
        every_row: (N,) int64 0..N - 1, N at least the rows of any step.
        counters: ``new_counters``, zero at the start.
    """
    base = counters.ctypes.data
    for i in range(len(steps)):
        step = steps[i]
        taken = base + 8 * 2 * COUNTER_STRIDE * i
        done = taken + 8 * COUNTER_STRIDE
        num_units = (step.rows + step.unit_rows - 1) // step.unit_rows
        while load_acquire(taken) < num_units:
            unit = fetch_add(taken, 1)
            if unit >= num_units:
                break
            begin = unit * step.unit_rows
            _compute_rows(step, terms, panels, every_row, begin, min(begin + step.unit_rows, step.rows))
            fetch_add(done, 1)
        wait_until(done, num_units)


@njit(cache=True, nogil=True)
def _compute_rows(step, terms, panels, every_row, begin, end):  # type: ignore[no-untyped-def]
    """Rows [begin, end) of a step."""
    _start_rows(step, begin, end)
    for t in range(step.term_begin, step.term_end):
        term = terms[t]
        if term.target_rows == 0:
            source_rows = every_row.ctypes.data
            target_rows = source_rows
            first, last = begin, end
        else:
            source_rows, target_rows = term.source_rows, term.target_rows
            first = _lower_bound(target_rows, term.begin, term.end, begin)
            last = _lower_bound(target_rows, first, term.end, end)
        if first == last:
            continue
        for p in range(step.panel_begin, step.panel_end):
            panel = panels[p]
            _multiply_panel(
                panel.width,
                term.source,
                term.source_stride,
                source_rows,
                step.target + 4 * panel.first,
                step.target_stride,
                target_rows,
                first,
                last,
                term.matrix + 4 * panel.first * term.inner,
                term.inner,
            )
    if step.relu:
        _rectify_rows(step, begin, end)


@njit(cache=True, nogil=True)
def _start_rows(step, begin, end):  # type: ignore[no-untyped-def]
    """Bias, and the residual where there is one."""
    bias = carray(float32_at(step.bias), step.columns)
    for row in range(begin, end):
        target = carray(float32_at(step.target + 4 * row * step.target_stride), step.columns)
        if step.residual == 0:
            for c in range(step.columns):
                target[c] = bias[c]
        else:
            residual = carray(float32_at(step.residual + 4 * row * step.residual_stride), step.columns)
            for c in range(step.columns):
                target[c] = bias[c] + residual[c]


@njit(cache=True, nogil=True)
def _rectify_rows(step, begin, end):  # type: ignore[no-untyped-def]
    """Negative values to zero; NaN stays."""
    for row in range(begin, end):
        target = carray(float32_at(step.target + 4 * row * step.target_stride), step.columns)
        for c in range(step.columns):
            value = target[c]
            target[c] = np.float32(0) if value < 0 else value


@njit(cache=True, nogil=True)
def _lower_bound(address, begin, end, value):  # type: ignore[no-untyped-def]
    """First entry of [begin, end) that is at least ``value``, in an ascending int64 array."""
    array = carray(int64_at(address), end)
    while begin < end:
        middle = (begin + end) >> 1
        if array[middle] < value:
            begin = middle + 1
        else:
            end = middle
    return begin


@njit(cache=True, nogil=True)
def _multiply_panel(width, a, a_stride, a_rows, c, c_stride, c_rows, begin, end, matrix, inner):  # type: ignore[no-untyped-def]
    """``multiply_rows`` for a width that is known only now."""
    if width == 64:
        multiply_rows(HOST_SHAPE, 64, a, a_stride, a_rows, c, c_stride, c_rows, begin, end, matrix, inner)
    elif width == 56:
        multiply_rows(HOST_SHAPE, 56, a, a_stride, a_rows, c, c_stride, c_rows, begin, end, matrix, inner)
    elif width == 48:
        multiply_rows(HOST_SHAPE, 48, a, a_stride, a_rows, c, c_stride, c_rows, begin, end, matrix, inner)
    elif width == 40:
        multiply_rows(HOST_SHAPE, 40, a, a_stride, a_rows, c, c_stride, c_rows, begin, end, matrix, inner)
    elif width == 32:
        multiply_rows(HOST_SHAPE, 32, a, a_stride, a_rows, c, c_stride, c_rows, begin, end, matrix, inner)
    elif width == 24:
        multiply_rows(HOST_SHAPE, 24, a, a_stride, a_rows, c, c_stride, c_rows, begin, end, matrix, inner)
    elif width == 16:
        multiply_rows(HOST_SHAPE, 16, a, a_stride, a_rows, c, c_stride, c_rows, begin, end, matrix, inner)
    else:
        multiply_rows(HOST_SHAPE, 8, a, a_stride, a_rows, c, c_stride, c_rows, begin, end, matrix, inner)
