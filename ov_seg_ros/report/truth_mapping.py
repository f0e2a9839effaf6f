"""From the classes of a ground truth to those of a student, by name."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.data_types import IGNORE_ID
from ov_seg_ros.core.label_space import LabelSpace


def truth_table(truth_names: Sequence[str] | None, label_space: LabelSpace) -> NDArray[np.uint8]:
    """Look-up table (256,) uint8 from ids of the ground truth to ids of the student.

    Args:
        truth_names: classes of the ground truth by id; None = they are those of the student.
        label_space: of the student. A class that it does not know becomes 255: such points are not counted.
    """
    table = np.full(IGNORE_ID + 1, IGNORE_ID, np.uint8)
    if truth_names is None:
        table[:] = np.arange(IGNORE_ID + 1)
        return table
    known = {name: class_id for class_id, name in enumerate(label_space.class_names)}
    for truth_id, name in enumerate(truth_names):
        table[truth_id] = known.get(name, IGNORE_ID)
    return table


def foreign_classes(truth_names: Sequence[str] | None, label_space: LabelSpace) -> list[str]:
    """Classes of the ground truth that the student does not know."""
    return [name for name in truth_names or () if name not in label_space.class_names]
