"""A student's network on the CPU, compiled for the processor it runs on (``ov_seg_ros.kernels``)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.pyramid import Pyramid
from ov_seg_ros.kernels.program import new_counters, run_program
from ov_seg_ros.kernels.thread_team import ThreadTeam
from ov_seg_ros.kernels.tile_shapes import COLUMN_STEP
from ov_seg_ros.runtime.buffer_plan import Placement, padded, plan_buffers
from ov_seg_ros.runtime.compiled_program import ALIGNMENT, CompiledProgram, aligned_empty
from ov_seg_ros.runtime.network import COMPILED
from ov_seg_ros.runtime.network_plan import Features, plan_network
from ov_seg_ros.runtime.onnx_graph import OnnxGraph


class CompiledNetwork:
    """Runs one network. Not for several threads at once.

    Args:
        graph: of a student.
        num_features: columns of its input.
        num_threads: 0 = one per physical core.

    Attributes:
        provider, note: as of ``runtime.network.Network``.

    Raises:
        NotPlannableError: the graph holds something else than sparse convolutions.
    """

    provider = COMPILED

    def __init__(self, graph: OnnxGraph, num_features: int, num_threads: int = 0) -> None:
        features = Features(num_features)
        steps = plan_network(graph, features)
        self.note = ""
        self._num_classes = steps[-1].columns
        self._layout = plan_buffers(steps, features, COLUMN_STEP)
        self._input, self._output = self._layout.of(features), self._layout.of(steps[-1])
        self._program = CompiledProgram(steps, self._layout)
        self._team = ThreadTeam(num_threads)
        self._arena = aligned_empty(0)
        self._every_row = np.empty(0, np.int64)

    @property
    def num_threads(self) -> int:
        """Threads that share the work."""
        return self._team.num_threads

    def run(self, features: NDArray[np.float32], pyramid: Pyramid) -> NDArray[np.float32]:
        """Logits.

        Args:
            features: (V, F) float32.
            pyramid: tables of the same V voxels, with as many levels as the network.

        Returns:
            (V, C) float32.
        """
        rows = [len(level) for level in pyramid.levels]
        if rows[0] == 0:
            return np.zeros((0, self._num_classes), np.float32)
        offsets = self._make_room(rows)
        entrance = self._view(offsets, self._input, rows[0])
        entrance[:, : features.shape[1]] = features
        entrance[:, features.shape[1] :] = 0
        steps, terms = self._program.bind(pyramid, self._arena.ctypes.data + 4 * offsets, self.num_threads)
        counters = new_counters(len(steps))
        self._team.run(partial(run_program, steps, terms, self._program.panels, self._every_row, counters))
        return self._view(offsets, self._output, rows[0])[:, : self._num_classes].copy()

    def _make_room(self, rows: Sequence[int]) -> NDArray[np.int64]:
        """Offset of each buffer in the arena, which grows with the largest scan and never shrinks."""
        sizes = [padded(rows[buffer.level] * buffer.width, ALIGNMENT) for buffer in self._layout.buffers]
        if sum(sizes) > len(self._arena):
            self._arena = aligned_empty(0)  # given back before the larger one is taken
            self._arena = aligned_empty(sum(sizes))
        if max(rows) > len(self._every_row):
            self._every_row = np.arange(max(rows))
        return np.cumsum([0, *sizes[:-1]])

    def _view(self, offsets: NDArray[np.int64], place: Placement, num_rows: int) -> NDArray[np.float32]:
        """(num_rows, padded columns) of a value in the arena."""
        width = self._layout.buffers[place.buffer].width
        begin = int(offsets[place.buffer])
        buffer = self._arena[begin : begin + num_rows * width].reshape(num_rows, width)
        return buffer[:, place.first : place.first + padded(int(place.columns[-1]) + 1, COLUMN_STEP)]
