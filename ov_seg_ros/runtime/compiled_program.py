"""A plan as the records and packed weights that ``ov_seg_ros.kernels.program`` runs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.pyramid import Pyramid
from ov_seg_ros.kernels.program import PANEL_FIELDS, STEP_FIELDS, TERM_FIELDS, rows_per_unit
from ov_seg_ros.kernels.tile_shapes import COLUMN_STEP, panel_widths
from ov_seg_ros.runtime.buffer_plan import BufferPlan, padded
from ov_seg_ros.runtime.network_plan import RowList, Step, Term

ALIGNMENT = 16
"""float32 values: buffers and matrices begin at a cache line."""
_EVERY_ROW = RowList("", "", 0)


class CompiledProgram:
    """The records of a program but for what changes from scan to scan: sizes and addresses.

    Args:
        steps: of the plan.
        layout: where their results lie.

    Attributes:
        panels: records of ``PANEL_FIELDS``, final.
    """

    def __init__(self, steps: Sequence[Step], layout: BufferPlan) -> None:
        self._layout = layout
        self._packed: list[NDArray[np.float32]] = []
        self._packed_size = 0
        self._lists: list[RowList] = []
        panels: list[tuple[int, int]] = []
        step_rows: list[tuple[int, ...]] = []
        term_rows: list[tuple[int, ...]] = []
        for step in steps:
            widths = panel_widths(padded(step.columns, COLUMN_STEP))
            terms = [self._term(term, widths) for term in step.terms]
            spans = (len(term_rows), len(term_rows) + len(terms), len(panels), len(panels) + len(widths))
            step_rows.append((*self._step(step, sum(widths)), *spans))
            term_rows += terms
            panels += [(sum(widths[:i]), width) for i, width in enumerate(widths)]
        self.panels = np.array(panels, PANEL_FIELDS)
        self._steps = np.array(step_rows, np.int64)
        self._terms = np.array(term_rows, np.int64)
        self._weights = aligned_empty(self._packed_size)
        np.concatenate(self._packed, out=self._weights)
        self._packed.clear()

    def bind(self, pyramid: Pyramid, buffers: NDArray[np.int64], num_threads: int) -> tuple[NDArray, NDArray]:
        """Records of the steps and terms for one scan.

        Args:
            pyramid: its arrays must live as long as the records are in use.
            buffers: (B,) address of each buffer.
            num_threads: that will share the work.
        """
        return self._bind_steps(pyramid, buffers, num_threads), self._bind_terms(pyramid, buffers)

    def _bind_steps(self, pyramid: Pyramid, buffers: NDArray[np.int64], num_threads: int) -> NDArray:
        level, buffer, first, columns, bias, residual, residual_first, relu, *spans = self._steps.T
        widths = np.array([b.width for b in self._layout.buffers])
        steps = np.zeros(len(self._steps), STEP_FIELDS)
        steps["rows"] = np.array([len(v) for v in pyramid.levels])[level]
        steps["unit_rows"] = rows_per_unit(steps["rows"], columns, num_threads)
        steps["target"] = buffers[buffer] + 4 * first
        steps["target_stride"] = widths[buffer]
        steps["columns"], steps["relu"] = columns, relu
        steps["bias"] = self._weights.ctypes.data + 4 * bias
        steps["residual"] = np.where(residual < 0, 0, buffers[residual] + 4 * residual_first)
        steps["residual_stride"] = widths[residual]
        for name, span in zip(("term_begin", "term_end", "panel_begin", "panel_end"), spans, strict=True):
            steps[name] = span
        return steps

    def _bind_terms(self, pyramid: Pyramid, buffers: NDArray[np.int64]) -> NDArray:
        buffer, first, inner, matrix, into, read = self._terms.T
        arrays = pyramid.graph_inputs()
        address = np.array([arrays[v.array].ctypes.data if v.array else 0 for v in self._lists])
        bounds = np.array([arrays[v.starts][v.k : v.k + 2] if v.array else (0, 0) for v in self._lists])
        terms = np.zeros(len(self._terms), TERM_FIELDS)
        terms["source"] = buffers[buffer] + 4 * first
        terms["source_stride"] = np.array([b.width for b in self._layout.buffers])[buffer]
        terms["inner"] = inner
        terms["matrix"] = self._weights.ctypes.data + 4 * matrix
        terms["source_rows"], terms["target_rows"] = address[read], address[into]
        terms["begin"], terms["end"] = bounds[into].T
        return terms

    def _step(self, step: Step, columns: int) -> tuple[int, ...]:
        place = self._layout.of(step)
        bias = np.zeros(columns, np.float32)
        bias[: step.columns] = step.bias
        residual, residual_first = -1, 0
        if step.residual is not None:
            beside = self._layout.of(step.residual)
            residual, residual_first = beside.buffer, beside.first
        where = (step.level, place.buffer, place.first, columns, self._pack(bias))
        return (*where, residual, residual_first, int(step.relu))

    def _term(self, term: Term, widths: Sequence[int]) -> tuple[int, ...]:
        place = self._layout.of(term.source)
        inner = padded(int(place.columns[-1]) + 1, COLUMN_STEP)
        matrix = np.zeros((inner, sum(widths)), np.float32)
        matrix[place.columns, : term.weight.shape[1]] = term.weight
        panels = np.split(matrix, np.cumsum(widths)[:-1], axis=1)
        packed = self._pack(np.concatenate([panel.ravel() for panel in panels]))
        into, read = (self._list(rows or _EVERY_ROW) for rows in (term.into, term.read))
        return place.buffer, place.first, inner, packed, into, read

    def _pack(self, values: NDArray[np.float32]) -> int:
        """Offset of ``values`` among the packed weights."""
        offset = self._packed_size
        room = np.zeros(padded(len(values), ALIGNMENT), np.float32)
        room[: len(values)] = values
        self._packed.append(room)
        self._packed_size += len(room)
        return offset

    def _list(self, rows: RowList) -> int:
        if rows not in self._lists:
            self._lists.append(rows)
        return self._lists.index(rows)


def aligned_empty(size: int) -> NDArray[np.float32]:
    """(size,) float32 beginning at a cache line."""
    room = np.empty(size + ALIGNMENT, np.float32)
    skip = -room.ctypes.data // 4 % ALIGNMENT
    return room[skip : skip + size]
