"""One labelled scan with everything a picture of it needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.data_types import PointCloud, Projection, Sample
from ov_seg_ros.core.errors import InputError


@dataclass(frozen=True)
class Scene:
    """A sample and what the student said about it.

    Attributes:
        sample: scan, images and, if known, ground truth.
        class_id: (N,) uint8 prediction, 255 = unknown.
        projections: what each camera sees, by camera name.
    """

    sample: Sample
    class_id: NDArray[np.uint8]
    projections: Mapping[str, Projection] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.class_id.shape != (len(self.sample.cloud),):
            raise InputError(
                f"{self.sample.key}: {len(self.sample.cloud)} points but labels of shape {self.class_id.shape}"
            )

    @property
    def cloud(self) -> PointCloud:
        """The scan."""
        return self.sample.cloud


def seen_points(num_points: int, projections: Mapping[str, Projection]) -> NDArray[np.bool_]:
    """Which points at least one camera sees: (N,) bool."""
    seen = np.zeros(num_points, np.bool_)
    for projection in projections.values():
        seen[projection.point_index] = True
    return seen
