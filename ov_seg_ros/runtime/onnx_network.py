"""A student's network on an execution provider of ONNX Runtime."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.pyramid import Pyramid
from ov_seg_ros.runtime.model_file import ModelFile
from ov_seg_ros.runtime.providers import create_session


class OnnxNetwork:
    """Runs one network.

    Args:
        model: the student.
        provider: as of ``create_session``.
        num_threads: CPU threads, 0 = one per physical core.

    Attributes:
        provider, note: as of ``runtime.network.Network``.
    """

    def __init__(self, model: ModelFile, provider: str, num_threads: int = 0) -> None:
        created = create_session(model.content, provider, num_threads, where=str(model.path))
        self.provider, self.note = created.provider, f"runs on {created.provider}, as asked"
        self._session = created.session
        self._inputs = tuple(node.name for node in self._session.get_inputs() if node.name != "features")

    def run(self, features: NDArray[np.float32], pyramid: Pyramid) -> NDArray[np.float32]:
        """Voxel features (V, F) to logits (V, C)."""
        index_arrays = pyramid.graph_inputs()
        inputs = {"features": features} | {name: index_arrays[name] for name in self._inputs}
        (logits,) = self._session.run(["logits"], inputs)
        return logits
