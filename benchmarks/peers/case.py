"""What all contenders compute: one network on one scan, as files that a process needs no torch to read."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.pyramid import Pyramid, build_pyramid

MODEL, STATE, WEIGHTS, SCAN, REFERENCE, ABOUT = (
    "student.onnx",
    "state.pt",
    "weights.npz",
    "scan.npz",
    "reference.npy",
    "about.json",
)


@dataclass(frozen=True)
class Case:
    """A folder that ``case_maker.make_case`` wrote; every part is read when asked for.

    Attributes:
        folder: holds the files named above.
    """

    folder: Path

    @property
    def about(self) -> dict[str, Any]:
        """What ``make_case`` was told, with the keys ``network``, ``config``, ``in_channels``, ``num_classes`` ..."""
        return json.loads((self.folder / ABOUT).read_text())

    @property
    def model_path(self) -> Path:
        """The exported student; its graph has the batch norms folded into the convolutions."""
        return self.folder / MODEL

    @property
    def state_path(self) -> Path:
        """The weights as they are trained, for ``torch.load``: the ``state_dict`` of a ``MinkUNet``."""
        return self.folder / STATE

    def coords(self) -> NDArray[np.int32]:
        """(V, 3) int32 occupied cells in lexicographic order."""
        with np.load(self.folder / SCAN) as scan:
            return scan["coords"]

    def features(self) -> NDArray[np.float32]:
        """(V, F) float32, the network's input."""
        with np.load(self.folder / SCAN) as scan:
            return scan["features"]

    def pyramid(self) -> Pyramid:
        """The kernel maps of all levels, built anew."""
        return build_pyramid(self.coords(), self.about["num_levels"])

    def weights(self) -> dict[str, NDArray[np.float32]]:
        """Per layer, (positions, C_in, C_out) float32 with its batch norm folded in; 27, 8 or 1 positions.

        Layers are called as the modules of ``MinkUNet``: "stem", "down.0", "encoder.0.0.first", "head" ...
        """
        return self._layers("weight")

    def biases(self) -> dict[str, NDArray[np.float32]]:
        """Per layer, (C_out,) float32."""
        return self._layers("bias")

    def reference(self) -> NDArray[np.float64]:
        """(V, C) float64, the right logits, computed in double precision."""
        return np.load(self.folder / REFERENCE)

    def _layers(self, part: str) -> dict[str, NDArray[np.float32]]:
        with np.load(self.folder / WEIGHTS) as arrays:
            return {name.removesuffix(f":{part}"): arrays[name] for name in arrays.files if name.endswith(f":{part}")}
