"""Ours: the exported student on our own kernels, as the node runs it on a CPU."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.case import Case
from ov_seg_ros.runtime.model_file import load_model_file
from ov_seg_ros.runtime.network import load_network


class Compiled:
    """The network of the case's own file; ``provider`` as of ``load_network``."""

    provider = "compiled"

    def __init__(self, case: Case, threads: int) -> None:
        self._network = load_network(load_model_file(case.model_path), self.provider, threads)
        self._features, self._pyramid = case.features(), case.pyramid()

    def run(self) -> NDArray[np.float32]:
        """One forward pass."""
        return self._network.run(self._features, self._pyramid)

    def logits(self, result: NDArray[np.float32]) -> NDArray[np.float32]:
        """They are the result."""
        return result
