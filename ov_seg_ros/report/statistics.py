"""Gathers the figures of a run scan by scan and closes the books with a ``RunReport``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.data_types import IGNORE_ID
from ov_seg_ros.core.errors import InputError
from ov_seg_ros.core.label_space import LabelSpace
from ov_seg_ros.core.metrics import ConfusionMatrix
from ov_seg_ros.report.run_report import UNKNOWN, Accuracy, Latency, Percentiles


@dataclass(frozen=True)
class ScanRecord:
    """What is kept of one labelled scan.

    Attributes:
        stamp_ns: of the scan.
        histogram: (C + 1,) int64 points per class, last "unknown".
        latency_ms: of this scan, None if it was not measured.
        stage_ms: per stage, may be empty.
    """

    stamp_ns: int
    histogram: NDArray[np.int64]
    latency_ms: float | None = None
    stage_ms: Mapping[str, float] = field(default_factory=dict)


class RunStatistics:
    """Sums over labelled scans.

    Args:
        label_space: classes of the student (and of the ground truth).
    """

    def __init__(self, label_space: LabelSpace) -> None:
        self.label_space = label_space
        self.scans: list[ScanRecord] = []
        self._whole = ConfusionMatrix(len(label_space))
        self._seen = ConfusionMatrix(len(label_space))
        self._unseen = ConfusionMatrix(len(label_space))
        self._has_truth = False
        self._has_cameras = False

    def add(
        self,
        stamp_ns: int,
        class_id: NDArray[np.uint8],
        latency_ms: float | None = None,
        stage_ms: Mapping[str, float] | None = None,
    ) -> None:
        """Adds one labelled scan.

        Args:
            stamp_ns: of the scan.
            class_id: (N,) uint8 prediction, 255 = unknown.
            latency_ms: how long this scan took.
            stage_ms: the same per stage.

        Raises:
            InputError: an id is neither a class nor 255.
        """
        counts = np.bincount(class_id, minlength=IGNORE_ID + 1)
        num_classes = len(self.label_space)
        if counts[num_classes:IGNORE_ID].any():
            foreign = num_classes + int(np.flatnonzero(counts[num_classes:IGNORE_ID])[0])
            raise InputError(f"scan at {stamp_ns} ns holds class id {foreign}, the model has {num_classes} classes")
        histogram = np.append(counts[:num_classes], counts[IGNORE_ID]).astype(np.int64)
        self.scans.append(ScanRecord(stamp_ns, histogram, latency_ms, dict(stage_ms or {})))

    def compare(
        self, truth: NDArray[np.uint8], class_id: NDArray[np.uint8], seen: NDArray[np.bool_] | None = None
    ) -> None:
        """Compares one scan with its ground truth.

        Args:
            truth: (N,) uint8, 255 = not counted.
            class_id: (N,) uint8 prediction, same order.
            seen: (N,) bool, whether any camera sees the point; None without calibrated cameras.

        Raises:
            InputError: lengths differ or ids are foreign.
        """
        self._has_truth = True
        self._whole.update(truth, class_id)
        if seen is not None:
            self._has_cameras = True
            self._seen.update(truth[seen], class_id[seen])
            self._unseen.update(truth[~seen], class_id[~seen])

    @property
    def points(self) -> int:
        """Points in all labelled scans."""
        return int(sum(int(scan.histogram.sum()) for scan in self.scans))

    @property
    def latencies_ms(self) -> list[float]:
        """Latency of every scan that has one, in order."""
        return [scan.latency_ms for scan in self.scans if scan.latency_ms is not None]

    def latency(self, measured: str) -> Latency:
        """Percentiles over all scans.

        Args:
            measured: between which two moments ``latency_ms`` runs, in words.
        """
        stages: dict[str, list[float]] = {}
        for scan in self.scans:
            for name, value in scan.stage_ms.items():
                stages.setdefault(name, []).append(value)
        summary = {name: Percentiles.of(values) for name, values in stages.items()}
        return Latency(Percentiles.of(self.latencies_ms), {k: v for k, v in summary.items() if v}, measured)

    def label_histogram(self) -> dict[str, int]:
        """Points per class name and "unknown", in the order of the ids."""
        total = sum((scan.histogram for scan in self.scans), np.zeros(len(self.label_space) + 1, np.int64))
        return dict(zip([*self.label_space.class_names, UNKNOWN], total.tolist(), strict=True))

    def accuracy(self) -> Accuracy | None:
        """Confusion matrices, None if no scan was compared."""
        if not self._has_truth:
            return None
        if not self._has_cameras:
            return Accuracy(self._whole)
        return Accuracy(self._whole, self._seen, self._unseen)
