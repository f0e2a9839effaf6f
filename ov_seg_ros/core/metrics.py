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

    Three conventions for a class that the truth never holds are in use; its wrong predictions cost the classes they
    were taken from in all of them:

    * ``miou`` leaves it out, as the benchmarks do whose validation set holds every class;
    * ``miou_fair`` scores it 0 as soon as one point is predicted so, and leaves it out otherwise;
    * ``miou_afov`` scores it 0 as soon as one point is predicted so, and 1 otherwise.

    Where the truth holds every class, all three are the same number.

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
        hits, union = self._hits_and_union(None)
        return np.divide(hits, union, out=np.full(self.num_classes, np.nan), where=self.counts.sum(axis=1) > 0)

    def miou(self) -> float:
        """Mean of ``iou`` over the classes that the truth holds, in [0, 1]; NaN without any truth."""
        present = self.counts.sum(axis=1) > 0
        return float(self.iou()[present].mean()) if present.any() else float("nan")

    def iou_fair(self) -> NDArray[np.float64]:
        """The terms of ``miou_fair``: (C,) in [0, 1], 0 for classes predicted but never true, NaN for those neither."""
        hits, union = self._hits_and_union(None)
        return np.divide(hits, union, out=np.full(self.num_classes, np.nan), where=union > 0)

    def miou_fair(self, class_ids: Sequence[int] | None = None) -> float:
        """Mean IoU over the classes that the truth or the prediction holds, in [0, 1]; NaN if there are none.

        A class that is predicted but never true scores 0: inventing classes costs. Unknown predictions are misses.

        Args:
            class_ids: the classes to average over; None = all. For a truth that cannot hold every class of the
                label space (``LabelMapping.shared_class_ids``), where inventing one is no fault of the method.

        Raises:
            InputError: an id is no class.
        """
        hits, union = self._hits_and_union(class_ids)
        present = union > 0
        return float((hits[present] / union[present]).mean()) if present.any() else float("nan")

    def miou_afov(self, class_ids: Sequence[int] | None = None) -> float:
        """Mean IoU as the released code of AFOV and of SLidR prints it, in [0, 1]; for comparison with their tables.

        Points whose truth is ignored are left out, a predicted "ignore" is a miss, the mean runs over all classes, and
        a class that neither the truth nor the prediction holds counts as 1: on a small set that is a gift.

        Args:
            class_ids: the classes to average over; None = all.

        Raises:
            InputError: an id is no class.
        """
        hits, union = self._hits_and_union(class_ids)
        return float(np.divide(hits, union, out=np.ones(len(hits)), where=union > 0).mean())

    def precision(self) -> NDArray[np.float64]:
        """Share of the points predicted as a class that are of it: (C,) in [0, 1], NaN where none was predicted so."""
        return self._share_of_hits(self.counts[:, : self.num_classes].sum(axis=0))

    def recall(self) -> NDArray[np.float64]:
        """Share of the points of a class that were found: (C,) in [0, 1], NaN for classes the truth does not hold."""
        return self._share_of_hits(self.counts.sum(axis=1))

    def accuracy(self) -> float:
        """Share of all points that were predicted right, in [0, 1]; NaN without any truth."""
        return float(np.diagonal(self.counts).sum() / self.points) if self.points else float("nan")

    def normalized_rows(self) -> NDArray[np.float64]:
        """What became of each true class: (C, C + 1) shares that sum to 1 per row; NaN rows without truth."""
        truth = self.counts.sum(axis=1, keepdims=True)
        shares = np.full(self.counts.shape, np.nan)
        return np.divide(self.counts, truth, out=shares, where=truth > 0)

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

    def _hits_and_union(self, class_ids: Sequence[int] | None) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Intersection and union of the given classes, all of them for None."""
        hits = np.diagonal(self.counts).astype(np.float64)
        union = self.counts.sum(axis=1) + self.counts[:, : self.num_classes].sum(axis=0) - hits
        if class_ids is None:
            return hits, union
        chosen = np.asarray(class_ids, np.int64)
        if not len(chosen) or chosen.min() < 0 or chosen.max() >= self.num_classes:
            raise InputError(f"class_ids must be some of 0 to {self.num_classes - 1}, got {chosen.tolist()}")
        return hits[chosen], union[chosen]

    def _share_of_hits(self, total: NDArray[np.int64]) -> NDArray[np.float64]:
        hits = np.diagonal(self.counts).astype(np.float64)
        return np.divide(hits, total, out=np.full(self.num_classes, np.nan), where=total > 0)

    def _refuse_foreign_ids(self, ids: NDArray[np.int64], what: str) -> None:
        if len(ids) and ids.max() >= self.num_classes:
            raise InputError(
                f"{what} holds class id {ids.max()}, expected 0 to {self.num_classes - 1} or {IGNORE_ID}: "
                "bring both into one label space first"
            )
