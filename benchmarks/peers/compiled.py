"""Ours: the exported student on the compiled engine of ``ov_seg_ros.kernels``."""

from __future__ import annotations

import importlib.util

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.case import Case
from ov_seg_ros.core.errors import ConfigError


class Compiled:
    """The engine on the case's own file and maps."""

    def __init__(self, case: Case, threads: int) -> None:
        if importlib.util.find_spec("ov_seg_ros.kernels.engine") is None:
            raise ConfigError("this version has no compiled engine (ov_seg_ros/kernels/engine.py)")
        from ov_seg_ros.kernels.engine import Engine

        self._engine = Engine(case.model_path.read_bytes(), threads)
        self._features, self._pyramid = case.features(), case.pyramid()

    def run(self) -> NDArray[np.float32]:
        """One forward pass."""
        return self._engine.run(self._features, self._pyramid)

    def logits(self, result: NDArray[np.float32]) -> NDArray[np.float32]:
        """They are the result."""
        return result
