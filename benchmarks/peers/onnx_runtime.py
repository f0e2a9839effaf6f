"""Ours: the exported student on ONNX Runtime's CPU provider, as the node runs it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.case import Case
from ov_seg_ros.runtime.providers import create_session

FEATURES, LOGITS = "features", "logits"


class OnnxRuntime:
    """A session with the options of the node: waiting threads sleep, so they take nothing from the next contender."""

    def __init__(self, case: Case, threads: int) -> None:
        arrays = {FEATURES: case.features(), **case.pyramid().graph_inputs()}
        self._session = create_session(case.model_path.read_bytes(), "cpu", threads).session
        self._inputs = {node.name: arrays[node.name] for node in self._session.get_inputs()}

    def run(self) -> NDArray[np.float32]:
        """One forward pass."""
        (logits,) = self._session.run([LOGITS], self._inputs)
        return logits

    def logits(self, result: NDArray[np.float32]) -> NDArray[np.float32]:
        """They are the result."""
        return result
