"""What 2D open-vocabulary models take for what: error rates and confusions of the simulated teacher.

The numbers are round ones, set by hand after what label-free results on nuScenes have in common: cars, roads and
buildings are found, trailers and construction vehicles become trucks, flat ground becomes road, bicycles become
motorcycles.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

DEFAULT_ERROR_RATE = 0.3
"""Of classes that ``ERROR_RATES`` does not know."""

ERROR_RATES: Mapping[str, float] = {
    "barrier": 0.28,
    "bicycle": 0.30,
    "bus": 0.18,
    "car": 0.04,
    "construction_vehicle": 0.48,
    "motorcycle": 0.22,
    "pedestrian": 0.09,
    "traffic_cone": 0.26,
    "trailer": 0.48,
    "truck": 0.22,
    "driveable_surface": 0.02,
    "other_flat": 0.55,
    "sidewalk": 0.14,
    "terrain": 0.22,
    "manmade": 0.03,
    "vegetation": 0.05,
}
"""Share of large, near segments of a class that get a wrong class at severity 1."""

CONFUSIONS: Mapping[str, Mapping[str, float]] = {
    "barrier": {"manmade": 0.8, "traffic_cone": 0.1, "vegetation": 0.1},
    "bicycle": {"motorcycle": 0.5, "pedestrian": 0.3, "manmade": 0.1, "vegetation": 0.1},
    "bus": {"truck": 0.5, "car": 0.2, "trailer": 0.1, "manmade": 0.2},
    "car": {"truck": 0.6, "bus": 0.05, "construction_vehicle": 0.1, "manmade": 0.25},
    "construction_vehicle": {"truck": 0.7, "car": 0.1, "trailer": 0.1, "manmade": 0.1},
    "motorcycle": {"bicycle": 0.6, "pedestrian": 0.2, "car": 0.2},
    "pedestrian": {"bicycle": 0.2, "motorcycle": 0.2, "manmade": 0.4, "vegetation": 0.2},
    "traffic_cone": {"barrier": 0.4, "manmade": 0.5, "pedestrian": 0.1},
    "trailer": {"truck": 0.7, "bus": 0.1, "manmade": 0.2},
    "truck": {"car": 0.4, "bus": 0.1, "trailer": 0.15, "construction_vehicle": 0.15, "manmade": 0.2},
    "driveable_surface": {"sidewalk": 0.4, "other_flat": 0.3, "terrain": 0.3},
    "other_flat": {"driveable_surface": 0.7, "sidewalk": 0.2, "terrain": 0.1},
    "sidewalk": {"driveable_surface": 0.8, "terrain": 0.1, "other_flat": 0.1},
    "terrain": {"vegetation": 0.5, "sidewalk": 0.2, "driveable_surface": 0.3},
    "manmade": {"vegetation": 0.5, "barrier": 0.3, "truck": 0.1, "trailer": 0.05, "bus": 0.05},
    "vegetation": {"manmade": 0.6, "terrain": 0.4},
}
"""For a wrong segment of a class, what it is called instead; any positive weights."""


def error_rates(class_names: Sequence[str]) -> NDArray[np.float64]:
    """(C,) share of wrong segments per class at severity 1."""
    return np.array([ERROR_RATES.get(name, DEFAULT_ERROR_RATE) for name in class_names])


def confusion_rows(class_names: Sequence[str]) -> NDArray[np.float64]:
    """(C, C) probability of each wrong class given the true one; rows sum to 1, the diagonal is 0.

    Classes that ``CONFUSIONS`` does not know, or none of whose confusions are in the label space, are taken for all
    others alike. With a single class there is nothing to confuse and the matrix is 0.
    """
    count = len(class_names)
    rows = np.zeros((count, count))
    index = {name: i for i, name in enumerate(class_names)}
    for i, name in enumerate(class_names):
        for other, weight in CONFUSIONS.get(name, {}).items():
            if other in index:
                rows[i, index[other]] = weight
        if not rows[i].any() and count > 1:
            rows[i] = 1.0
            rows[i, i] = 0.0
    total = rows.sum(axis=1, keepdims=True)
    return np.divide(rows, total, out=rows, where=total > 0)


def similar_classes(class_names: Sequence[str]) -> NDArray[np.bool_]:
    """(C, C) symmetric: classes of which one is taken for the other at least half of the time, or the same class."""
    rows = confusion_rows(class_names)
    likely = rows >= 0.5
    similar: NDArray[np.bool_] = likely | likely.T | np.eye(len(class_names), dtype=bool)
    return similar
