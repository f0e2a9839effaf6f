"""How good labels are: confusion matrices over a set of samples, split by what the cameras see."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.data_types import IGNORE_ID, Sample
from ov_seg_ros.core.errors import InputError
from ov_seg_ros.core.label_space import LabelSpace
from ov_seg_ros.core.metrics import ConfusionMatrix
from training.lifting import seen_by_camera

Predict = Callable[[Sample], NDArray[np.uint8]]
"""Labels of a sample's points: (N,) uint8, 255 = unknown. Must not read ``Sample.class_id``."""


@dataclass(frozen=True)
class Evaluation:
    """Scores of one labelling on one set of samples.

    Attributes:
        whole: all points.
        seen: points that at least one camera sees.
        unseen: the others.
        answered: seen points that got a label (scores the labels that exist, not those that are missing).
    """

    label_space: LabelSpace
    whole: ConfusionMatrix
    seen: ConfusionMatrix
    unseen: ConfusionMatrix
    answered: ConfusionMatrix = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """JSON types: per part points, miou, iou per class, confusion."""
        names = self.label_space.class_names
        return {part: getattr(self, part).to_dict(names) for part in ("whole", "seen", "unseen", "answered")}


def evaluate(samples: Iterable[Sample], predict: Predict, label_space: LabelSpace) -> Evaluation:
    """Compares predictions with the ground truth of every sample.

    Args:
        samples: with images (their calibration tells seen from unseen points) and ground truth.
        predict: the labelling under test.
        label_space: of both.

    Raises:
        InputError: a sample has no ground truth.
    """
    matrices = [ConfusionMatrix(len(label_space)) for _ in range(4)]
    for sample in samples:
        if sample.class_id is None:
            raise InputError(f"sample {sample.key} has no ground truth to evaluate against")
        predicted = predict(sample)
        seen = seen_by_camera(sample)
        parts = (np.ones_like(seen), seen, ~seen, seen & (predicted != IGNORE_ID))
        for matrix, part in zip(matrices, parts, strict=True):
            matrix.update(sample.class_id[part], predicted[part])
    return Evaluation(label_space, *matrices)
