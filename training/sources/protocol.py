"""What every source of samples offers, and the per-pixel truth that only synthetic sources have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.data_types import Sample
from ov_seg_ros.core.label_space import LabelSpace


class Source(Protocol):
    """A recording or data set, read one sample at a time.

    Attributes:
        name: short name, usable as a folder name; the first part of every ``Sample.key``.
        label_space: of ``Sample.class_id``, or None if the source has no ground truth.
    """

    @property
    def name(self) -> str:
        """Short name."""
        ...

    @property
    def label_space(self) -> LabelSpace | None:
        """Of the ground truth, None without one."""
        ...

    def __len__(self) -> int: ...

    def load_sample(self, index: int) -> Sample:
        """Loads sample ``index`` in [0, len).

        Raises:
            InputError: the index is out of range, or the sample cannot be read.
        """
        ...

    def describe(self) -> dict[str, Any]:
        """What tells its samples from those of any other source of this name and length, JSON types.

        The stages keep it with their results and refuse to go on with another source. So it holds what decides a
        sample - files, tokens, calibration, options, see ``training.fingerprint`` - and neither places nor times of
        files: a data set may be moved. No sample is loaded for it but the first. What concerns the ground truth alone
        stands under "truth".
        """
        ...


@dataclass(frozen=True)
class ImageTruth:
    """What stands behind each pixel of one image.

    Attributes:
        class_id: (H, W) uint8, 255 = sky or nothing.
        instance_id: (H, W) int32, 0 = stuff (ground, buildings, plants) or nothing.
        depth: (H, W) float32 metres along the optical axis, inf = sky.
    """

    class_id: NDArray[np.uint8]
    instance_id: NDArray[np.int32]
    depth: NDArray[np.float32]
