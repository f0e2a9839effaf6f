"""A segmenter whose labels are refined; it is used like the segmenter itself, by the node and by the command line."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.data_types import CameraImage, PointCloud, SegmentedCloud
from ov_seg_ros.core.errors import ConfigError
from ov_seg_ros.core.label_space import LabelSpace
from ov_seg_ros.core.student_description import StudentDescription

REFINEMENTS = ("none", "afi")
"""What ``refine_segmenter`` knows."""
STAGE = "refinement"
"""Key of its time in ``SegmentedCloud.stage_ms``."""
WARM_UP_POINTS = 512

Refine = Callable[[NDArray[np.float32], NDArray[np.uint8], LabelSpace], NDArray[np.uint8]]
"""(N, 3) points in metres and (N,) class ids to (N,) class ids; labels of points that did not come back stay."""


class SegmenterLike(Protocol):
    """What node and command line need of ``runtime.segmenter.Segmenter``; tests hand in their own."""

    @property
    def description(self) -> StudentDescription:
        """What the student knows about itself."""
        ...

    @property
    def sha256(self) -> str:
        """Hash of the student's file."""
        ...

    @property
    def provider(self) -> str:
        """ONNX Runtime's name of the execution provider."""
        ...

    @property
    def uses_color(self) -> bool:
        """Whether images help."""
        ...

    def warm_up(self) -> Any:
        """Makes the first scan as fast as the others."""
        ...

    def segment(self, cloud: PointCloud, images: Sequence[CameraImage] = ()) -> SegmentedCloud:
        """Labels a scan."""
        ...


def refine_segmenter(segmenter: SegmenterLike, refinement: str) -> SegmenterLike:
    """Adds a refinement to a segmenter.

    Args:
        segmenter: that labels.
        refinement: one of ``REFINEMENTS``; "none" gives the segmenter back as it is.

    Raises:
        ConfigError: there is no such refinement.
    """
    if refinement not in REFINEMENTS:
        raise ConfigError(f"refinement must be one of {', '.join(REFINEMENTS)}, got {refinement!r}")
    return segmenter if refinement == "none" else RefinedSegmenter(segmenter, _afi())


class SegmenterWrapper:
    """A segmenter around another one: what it does not change is that of the other."""

    def __init__(self, segmenter: SegmenterLike) -> None:
        self._segmenter = segmenter

    @property
    def description(self) -> StudentDescription:
        """What the student knows about itself."""
        return self._segmenter.description

    @property
    def sha256(self) -> str:
        """Hash of the student's file."""
        return self._segmenter.sha256

    @property
    def provider(self) -> str:
        """ONNX Runtime's name of the execution provider."""
        return self._segmenter.provider

    @property
    def uses_color(self) -> bool:
        """Whether images help the student."""
        return self._segmenter.uses_color

    def warm_up(self) -> None:
        """Makes the first scan as fast as the others."""
        self._segmenter.warm_up()


class RefinedSegmenter(SegmenterWrapper):
    """Labels scans with a segmenter and refines the labels, in the thread of the caller.

    What becomes of a point:

    * The refinement keeps its class: nothing changes.
    * It gets another class: ``probability`` becomes min(p, 1 - p) with p of the student's own class, the most that the
      student can have given to the new one; with two classes exactly what it gave.
    * It had no class (255, outside of the student's range) and gets one: ``probability`` and ``entropy`` stay 0, for
      the student had no opinion.
    * It is not finite, or lies at (0, 0, 0), where drivers put beams that did not come back: its label stays and it
      takes no part.

    ``entropy`` is always that of the student.
    """

    def __init__(self, segmenter: SegmenterLike, refine: Refine) -> None:
        super().__init__(segmenter)
        self._refine = refine

    def warm_up(self) -> None:
        """Compiles the student and the refinement, so that the first real scan is not slow."""
        super().warm_up()
        points = np.random.default_rng(0).uniform(-10, 10, (WARM_UP_POINTS, 3)).astype(np.float32)
        self._refine(points, np.zeros(WARM_UP_POINTS, np.uint8), self.description.label_space)

    def segment(self, cloud: PointCloud, images: Sequence[CameraImage] = ()) -> SegmentedCloud:
        """Labels a scan and refines the labels.

        Args:
            cloud: any number of points, none included, in the LiDAR frame.
            images: cameras paired with the scan, for the student.

        Returns:
            One answer per point, in the order of the scan; ``stage_ms`` has the key ``STAGE`` and counts it in "total".

        Raises:
            ModelError: the student fails.
        """
        segmented = self._segmenter.segment(cloud, images)
        start_ns = time.perf_counter_ns()
        class_id = self._refine(cloud.points, segmented.class_id, self.description.label_space)
        probability = _probability(segmented, class_id)
        elapsed_ms = (time.perf_counter_ns() - start_ns) * 1e-6
        total_ms = segmented.stage_ms["total"] + elapsed_ms
        stage_ms = {**segmented.stage_ms, STAGE: elapsed_ms, "total": total_ms}
        return SegmentedCloud(class_id, probability, segmented.entropy, stage_ms)


def _probability(segmented: SegmentedCloud, class_id: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(N,) float32, see ``RefinedSegmenter``."""
    student = segmented.probability
    return np.where(class_id == segmented.class_id, student, np.minimum(student, 1 - student))


def _afi() -> Refine:
    """AFI with the settings to use; imported here, for it loads SciPy."""
    from ov_seg_ros.refinement.afi import refine_afi
    from ov_seg_ros.refinement.afi_config import AfiConfig

    config = AfiConfig.default()

    def refine(points: NDArray[np.float32], class_id: NDArray[np.uint8], label_space: LabelSpace) -> NDArray[np.uint8]:
        return refine_afi(points, class_id, label_space, config)

    return refine
