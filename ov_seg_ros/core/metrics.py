"""Intersection over union from a confusion matrix that counts refusals as misses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.data_types import IGNORE_ID
from ov_seg_ros.core.errors import InputError


class ConfusionMatrix:
    """Counts of (truth, prediction) pairs: rows truth, columns prediction, last column "unknown".

    Points whose truth is ``IGNORE_ID`` are left out. A prediction of ``IGNORE_ID`` falls into the extra
    column: refusing to answer is a miss (a false negative) of the true class, and nobody's false positive.

    Two conventions for a class that the truth never holds are in use: score it 0 as soon as one point is
    predicted so, or leave it out. Here it is left out of ``iou`` and ``miou`` (as the benchmarks do whose
    validation set holds every class); its wrong predictions still cost the classes they were taken from.

    Args:
        num_classes: C, 1 to 255.

    Attributes:
        counts: (C, C + 1) int64.
    """

    def __init__(self, num_classes: int) -> None:
        if not 1 <= num_classes <= IGNORE_ID:
            raise InputError(f"num_classes must be 1 to {IGNORE_ID}, got {num_classes}")
        self.counts: NDArray[np.int64] = np.zeros((num_classes, num_classes + 1), np.int64)

    @property
    def num_classes(self) -> int:
        """Number of classes C, without "unknown"."""
        return len(self.counts)

    @property
    def points(self) -> int:
        """Number of points with a truth so far."""
        return int(self.counts.sum())

    def update(self, truth: NDArray[np.uint8], prediction: NDArray[np.uint8]) -> None:
        """Adds one scan.

        Args:
            truth: (N,) uint8 class ids, ``IGNORE_ID`` = not counted.
            prediction: (N,) uint8 class ids in the same order, ``IGNORE_ID`` = unknown.

        Raises:
            InputError: the lengths differ, or an id is neither a class nor ``IGNORE_ID``.
        """
        truth, prediction = np.asarray(truth), np.asarray(prediction)
        if truth.shape != prediction.shape or truth.ndim != 1:
            raise InputError(
                f"truth and prediction must be (N,) of one length, got {truth.shape} and {prediction.shape}"
            )
        counted = truth != IGNORE_ID
        rows, columns = truth[counted].astype(np.int64), prediction[counted].astype(np.int64)
        unknown = columns == IGNORE_ID
        self._refuse_foreign_ids(rows, "truth")
        self._refuse_foreign_ids(columns[~unknown], "prediction")
        columns[unknown] = self.num_classes
        width = self.num_classes + 1
        self.counts += np.bincount(rows * width + columns, minlength=self.counts.size).reshape(self.counts.shape)

    def __add__(self, other: ConfusionMatrix) -> ConfusionMatrix:
        if other.num_classes != self.num_classes:
            raise InputError(
                f"confusion matrices of {self.num_classes} and {other.num_classes} classes cannot be added"
            )
        total = ConfusionMatrix(self.num_classes)
        total.counts = self.counts + other.counts
        return total

    def iou(self) -> NDArray[np.float64]:
        """Intersection over union per class: (C,) in [0, 1], NaN for classes that the truth does not hold."""
        hits = np.diagonal(self.counts).astype(np.float64)
        truth = self.counts.sum(axis=1)
        union = truth + self.counts[:, : self.num_classes].sum(axis=0) - hits
        return np.divide(hits, union, out=np.full(self.num_classes, np.nan), where=truth > 0)

    def miou(self) -> float:
        """Mean of ``iou`` over the classes that the truth holds, in [0, 1]; NaN without any truth."""
        present = self.counts.sum(axis=1) > 0
        return float(self.iou()[present].mean()) if present.any() else float("nan")

    def to_dict(self, class_names: Sequence[str]) -> dict[str, Any]:
        """``{points, miou, iou: {name: value}, confusion}`` of JSON types; what has no value is None.

        Args:
            class_names: C names in the order of the ids.

        Raises:
            InputError: the number of names is not C.
        """
        if len(class_names) != self.num_classes:
            raise InputError(f"the matrix has {self.num_classes} classes, got {len(class_names)} names")
        values = [None if np.isnan(v) else float(v) for v in self.iou()]
        return {
            "points": self.points,
            "miou": None if self.points == 0 else self.miou(),
            "iou": dict(zip(class_names, values, strict=True)),
            "confusion": self.counts.tolist(),
        }

    def _refuse_foreign_ids(self, ids: NDArray[np.int64], what: str) -> None:
        if len(ids) and ids.max() >= self.num_classes:
            raise InputError(
                f"{what} holds class id {ids.max()}, expected 0 to {self.num_classes - 1} or {IGNORE_ID}: "
                "bring both into one label space first"
            )
