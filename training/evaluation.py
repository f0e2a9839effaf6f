"""How good labels are: confusion matrices over a set of samples, split by what the cameras see and by range."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.data_types import IGNORE_ID, Sample
from ov_seg_ros.core.errors import ConfigError, InputError
from ov_seg_ros.core.label_space import LabelSpace
from ov_seg_ros.core.metrics import ConfusionMatrix
from training.lifting import seen_by_camera

Predict = Callable[[Sample], NDArray[np.uint8]]
"""Labels of a sample's points: (N,) uint8, 255 = unknown. Must not read ``Sample.class_id``."""

Seen = Callable[[Sample], NDArray[np.bool_]]
"""Which points of a sample at least one camera sees: (N,) bool."""

RANGES = (0.0, 10.0, 20.0, 30.0, 50.0, math.inf)
"""Bounds of the range bands, metres of Euclidean distance from the origin of the scan."""

PARTS = ("whole", "seen", "unseen", "answered")


@dataclass(frozen=True)
class RangeBand:
    """Scores of the points in one band of ranges.

    Attributes:
        low, high: low <= range < high, metres; ``high`` may be infinite.
        matrix: of these points.
    """

    low: float
    high: float
    matrix: ConfusionMatrix

    @property
    def name(self) -> str:
        """As in "10-20 m" or "50+ m"."""
        return f"{self.low:g}+ m" if math.isinf(self.high) else f"{self.low:g}-{self.high:g} m"


@dataclass(frozen=True)
class Evaluation:
    """Scores of one labelling on one set of samples.

    Attributes:
        label_space: of truth and prediction.
        whole: all points.
        seen: points that at least one camera sees.
        unseen: the others.
        answered: seen points that got a label (scores the labels that exist, not those that are missing).
        by_range: all points with a finite position, by their distance; may be empty.
        class_ids: the classes that means run over; empty = all.
    """

    label_space: LabelSpace
    whole: ConfusionMatrix
    seen: ConfusionMatrix
    unseen: ConfusionMatrix
    answered: ConfusionMatrix = field(repr=False)
    by_range: tuple[RangeBand, ...] = ()
    class_ids: tuple[int, ...] = ()

    @property
    def evaluated_ids(self) -> tuple[int, ...]:
        """``class_ids``, or all classes."""
        return self.class_ids or tuple(range(len(self.label_space)))

    def __add__(self, other: Evaluation) -> Evaluation:
        """The same labelling on both sets of samples together, as if evaluated at once.

        Raises:
            InputError: label spaces, classes or bands differ.
        """
        bands = [(band.low, band.high) for band in self.by_range]
        if (
            self.label_space.class_names != other.label_space.class_names
            or self.class_ids != other.class_ids
            or bands != [(band.low, band.high) for band in other.by_range]
        ):
            raise InputError("evaluations with different classes or range bands cannot be added")
        whole, seen, unseen, answered = (getattr(self, part) + getattr(other, part) for part in PARTS)
        added = zip(self.by_range, other.by_range, strict=True)
        ranges = tuple(RangeBand(a.low, a.high, a.matrix + b.matrix) for a, b in added)
        return Evaluation(self.label_space, whole, seen, unseen, answered, ranges, self.class_ids)

    def to_dict(self) -> dict[str, Any]:
        """JSON types; what has no value is None.

        Per part (``whole``, ``seen``, ``unseen``, ``answered``): points, miou, miou_fair, miou_afov (see
        ``ConfusionMatrix``), accuracy, iou, precision and recall per class, confusion. ``ranges``: the same per band,
        with its bounds ``from_m`` and ``to_m`` (None = without end). ``evaluated_classes``: names the means run over.
        """
        names = self.label_space.class_names
        return {
            **{part: self._scores(getattr(self, part)) for part in PARTS},
            "ranges": [
                {"from_m": b.low, "to_m": None if math.isinf(b.high) else b.high, **self._scores(b.matrix)}
                for b in self.by_range
            ],
            "evaluated_classes": [names[i] for i in self.evaluated_ids],
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any], label_space: LabelSpace) -> Evaluation:
        """The inverse of ``to_dict``, from the confusion matrices; all scores are computed anew.

        Raises:
            InputError: a part is missing, or the matrices do not fit the label space.
        """
        ids = {name: i for i, name in enumerate(label_space.class_names)}
        try:
            whole, seen, unseen, answered = (_matrix(content[part]["confusion"], len(label_space)) for part in PARTS)
            bands = tuple(
                RangeBand(
                    float(band["from_m"]),
                    math.inf if band["to_m"] is None else float(band["to_m"]),
                    _matrix(band["confusion"], len(label_space)),
                )
                for band in content.get("ranges", ())
            )
            class_ids = tuple(ids[name] for name in content.get("evaluated_classes", ids))
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"this is no evaluation over {label_space.name}: {error!r}") from error
        if len(class_ids) == len(label_space):
            class_ids = ()
        return cls(label_space, whole, seen, unseen, answered, bands, class_ids)

    def _scores(self, matrix: ConfusionMatrix) -> dict[str, Any]:
        names = self.label_space.class_names
        return {
            **matrix.to_dict(names),
            "miou_fair": _number(matrix.miou_fair(self.evaluated_ids)),
            "miou_afov": _number(matrix.miou_afov(self.evaluated_ids)) if matrix.points else None,
            "accuracy": _number(matrix.accuracy()),
            "precision": dict(zip(names, map(_number, matrix.precision()), strict=True)),
            "recall": dict(zip(names, map(_number, matrix.recall()), strict=True)),
        }


def evaluate(
    samples: Iterable[Sample],
    predict: Predict,
    label_space: LabelSpace,
    ranges: Sequence[float] = RANGES,
    class_ids: Sequence[int] = (),
    seen: Seen = seen_by_camera,
) -> Evaluation:
    """Compares predictions with the ground truth of every sample.

    Args:
        samples: with images (their calibration tells seen from unseen points) and ground truth.
        predict: the labelling under test.
        label_space: of both.
        ranges: bounds of the range bands, metres, ascending; points nearer than the first are in no band.
        class_ids: the classes to average over, for a truth that cannot hold all of them; () = all.
        seen: which points a camera sees; by default those in an image, be they hidden behind a nearer surface or not.

    Raises:
        InputError: a sample has no ground truth, or a prediction is not one label per point.
        ConfigError: ``ranges`` do not ascend, or ``class_ids`` are no classes.
    """
    return evaluate_all(samples, {"": predict}, label_space, ranges, class_ids, seen)[""]


def evaluate_all(
    samples: Iterable[Sample],
    predictors: Mapping[str, Predict],
    label_space: LabelSpace,
    ranges: Sequence[float] = RANGES,
    class_ids: Sequence[int] = (),
    seen: Seen = seen_by_camera,
) -> dict[str, Evaluation]:
    """``evaluate`` for several labellings at once, loading every sample only once.

    Args:
        samples: see ``evaluate``, as all further arguments.
        predictors: labellings under test by name.
        label_space: of truth and predictions.
        ranges: bounds of the range bands, metres.
        class_ids: the classes to average over.
        seen: which points a camera sees.

    Returns:
        Evaluations by name, in the order of ``predictors``; what ``evaluation_report.write_evaluation`` takes.

    Raises:
        InputError: a sample has no ground truth, or a prediction is not one label per point.
        ConfigError: ``ranges`` do not ascend, or ``class_ids`` are no classes.
    """
    _check_settings(ranges, class_ids, label_space)
    results = {name: _empty(label_space, ranges, class_ids) for name in predictors}
    for sample in samples:
        if sample.class_id is None:
            raise InputError(f"sample {sample.key} has no ground truth to evaluate against")
        visible = seen(sample)
        distance = np.linalg.norm(sample.cloud.points.astype(np.float64), axis=1)
        for name, predict in predictors.items():
            _count(results[name], sample.class_id, _checked(predict(sample), sample), visible, distance)
    return results


def _empty(label_space: LabelSpace, ranges: Sequence[float], class_ids: Sequence[int]) -> Evaluation:
    whole, seen, unseen, answered = (ConfusionMatrix(len(label_space)) for _ in PARTS)
    bands = tuple(RangeBand(low, high, ConfusionMatrix(len(label_space))) for low, high in pairwise(ranges))
    return Evaluation(label_space, whole, seen, unseen, answered, bands, tuple(int(i) for i in class_ids))


def _count(
    result: Evaluation,
    truth: NDArray[np.uint8],
    predicted: NDArray[np.uint8],
    seen: NDArray[np.bool_],
    distance: NDArray[np.float64],
) -> None:
    """Adds one sample to the matrices of ``result``."""
    result.whole.update(truth, predicted)
    result.seen.update(truth[seen], predicted[seen])
    result.unseen.update(truth[~seen], predicted[~seen])
    answered = seen & (predicted != IGNORE_ID)
    result.answered.update(truth[answered], predicted[answered])
    for band in result.by_range:
        inside = (distance >= band.low) & (distance < band.high)
        band.matrix.update(truth[inside], predicted[inside])


def _checked(predicted: NDArray[np.uint8], sample: Sample) -> NDArray[np.uint8]:
    if predicted.shape != (len(sample.cloud),):
        raise InputError(
            f"sample {sample.key} has {len(sample.cloud)} points, but the prediction has shape {predicted.shape}"
        )
    return predicted


def _check_settings(ranges: Sequence[float], class_ids: Sequence[int], label_space: LabelSpace) -> None:
    if any(not low < high for low, high in pairwise(ranges)) or (ranges and ranges[0] < 0):
        raise ConfigError(f"ranges must ascend from >= 0 m, got {list(ranges)}")
    foreign = [i for i in class_ids if not 0 <= i < len(label_space)]
    if foreign or len(set(class_ids)) != len(class_ids):
        raise ConfigError(
            f"class_ids must be different classes of {label_space.name}, 0 to {len(label_space) - 1}, "
            f"got {list(class_ids)}"
        )


def _matrix(counts: Any, num_classes: int) -> ConfusionMatrix:
    matrix = ConfusionMatrix(num_classes)
    values = np.array(counts, np.int64)
    if values.shape != matrix.counts.shape or values.min() < 0:
        raise ValueError(f"confusion must be {matrix.counts.shape} counts, got {values.shape}")
    matrix.counts = values
    return matrix


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
