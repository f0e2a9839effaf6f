"""One sparse convolution and its gradients on NumPy arrays: what a training needs; inference runs whole programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.kernels.gradient import UNIT_FIELDS, run_gradient
from ov_seg_ros.kernels.program import PANEL_FIELDS, STEP_FIELDS, TERM_FIELDS, new_counters, rows_per_unit, run_program
from ov_seg_ros.kernels.thread_team import ThreadTeam
from ov_seg_ros.kernels.tile_shapes import COLUMN_STEP, INNER_STEP, panel_widths

_GRADIENT_CHANNELS = 32
"""Rows of a weight's gradient that one unit of work computes."""


@dataclass(frozen=True)
class PairList:
    """Pairs of one kernel position.

    Attributes:
        into: (P,) int64 rows written, ascending and distinct.
        read: (P,) int64 rows read, distinct.
        position: kernel position, index into the weights.
    """

    into: NDArray[np.int64]
    read: NDArray[np.int64]
    position: int


def convolve(
    source: NDArray[np.float32],
    weight: NDArray[np.float32],
    pairs: Sequence[PairList],
    num_rows: int,
    team: ThreadTeam,
) -> NDArray[np.float32]:
    """``out[into] += source[read] @ weight[position]`` over all pairs.

    Args:
        source: (V_in, C_in) float32, contiguous.
        weight: (positions, C_in, C_out) float32.
        pairs: at most one list per position.
        num_rows: V_out.
        team: of threads; results do not depend on their number.

    Returns:
        (V_out, C_out) float32.
    """
    source, weight = _padded_inner(source, weight)
    columns = weight.shape[2]
    padded = -(-columns // COLUMN_STEP) * COLUMN_STEP
    panels = _panels(padded)
    matrices = _pack(np.pad(weight, ((0, 0), (0, 0), (0, padded - columns))), panels)
    out = np.empty((num_rows, padded), np.float32)
    bias = np.zeros(padded, np.float32)
    step = np.zeros(1, STEP_FIELDS)
    step["rows"], step["columns"] = num_rows, padded
    step["unit_rows"] = rows_per_unit(step["rows"], step["columns"], team.num_threads)
    step["target"], step["target_stride"] = out.ctypes.data, padded
    step["bias"], step["term_end"], step["panel_end"] = bias.ctypes.data, len(pairs), len(panels)
    terms = np.zeros(len(pairs), TERM_FIELDS)
    terms["source"], terms["source_stride"], terms["inner"] = source.ctypes.data, source.shape[1], source.shape[1]
    terms["matrix"] = [matrices[p.position].ctypes.data for p in pairs]
    terms["source_rows"] = [p.read.ctypes.data for p in pairs]
    terms["target_rows"] = [p.into.ctypes.data for p in pairs]
    terms["end"] = [len(p.into) for p in pairs]
    team.run(partial(run_program, step, terms, panels, np.empty(0, np.int64), new_counters(1)))
    return out if padded == columns else np.ascontiguousarray(out[:, :columns])


def weight_gradient(
    source: NDArray[np.float32],
    gradient: NDArray[np.float32],
    pairs: Sequence[PairList],
    num_positions: int,
    team: ThreadTeam,
) -> NDArray[np.float32]:
    """``out[position] = source[read].T @ gradient[into]``: how ``convolve`` changes with its weight.

    Args:
        source: (V_in, C_in) float32, contiguous.
        gradient: (V_out, C_out) float32 of what ``convolve`` returned.
        pairs: as of ``convolve``.
        num_positions: of the weight.
        team: of threads.

    Returns:
        (num_positions, C_in, C_out) float32, zero where a position has no pairs.
    """
    channels, columns = source.shape[1], gradient.shape[1]
    padded = -(-columns // COLUMN_STEP) * COLUMN_STEP
    if padded != columns:
        gradient = np.pad(gradient, ((0, 0), (0, padded - columns)))
    gradient = np.ascontiguousarray(gradient)
    out = np.zeros((num_positions, channels, padded), np.float32)
    units = np.array(
        [
            (
                source.ctypes.data + 4 * first,
                p.read.ctypes.data,
                p.into.ctypes.data,
                0,
                len(p.into),
                out[p.position, first:].ctypes.data,
                min(_GRADIENT_CHANNELS, channels - first),
            )
            for p in sorted(pairs, key=lambda p: -len(p.into))
            for first in range(0, channels, _GRADIENT_CHANNELS)
        ],
        UNIT_FIELDS,
    )
    right = gradient.ctypes.data
    work = partial(run_gradient, units, channels, right, padded, _panels(padded), padded, new_counters(1))
    team.run(work)
    return out if padded == columns else np.ascontiguousarray(out[:, :, :columns])


def _panels(columns: int) -> NDArray:
    widths = panel_widths(columns)
    return np.array([(sum(widths[:i]), width) for i, width in enumerate(widths)], PANEL_FIELDS)


def _pack(weight: NDArray[np.float32], panels: NDArray) -> NDArray[np.float32]:
    """(positions, C_in * C_out): panel after panel."""
    parts = [weight[:, :, p["first"] : p["first"] + p["width"]].reshape(len(weight), -1) for p in panels]
    return np.concatenate(parts, axis=1)


def _padded_inner(
    source: NDArray[np.float32], weight: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Both with C_in as a multiple of ``INNER_STEP``."""
    missing = -source.shape[1] % INNER_STEP
    if missing:
        source, weight = np.pad(source, ((0, 0), (0, missing))), np.pad(weight, ((0, 0), (0, missing), (0, 0)))
    return np.ascontiguousarray(source), weight
