"""Farthest-point sampling against the plain algorithm."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from ov_seg_ros.refinement.farthest_points import sample_farthest


def plain(points, count):
    squared, chosen = np.full(len(points), np.inf), [0]
    while len(chosen) < count:
        squared = np.minimum(squared, ((points - points[chosen[-1]]) ** 2).sum(axis=1))
        squared[chosen] = -1
        chosen.append(int(squared.argmax()))
    return chosen


def test_corners_of_a_line_by_hand():
    points = np.array([[0, 0, 0], [1, 0, 0], [4, 0, 0], [10, 0, 0]], float)
    assert sample_farthest(points, cKDTree(points), 4).tolist() == [0, 3, 2, 1]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), on_grid=st.booleans())
def test_equals_the_plain_algorithm(seed, on_grid):
    """On a grid, many points are equally far and some coincide: the first of them wins."""
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(int(rng.integers(1, 700)), 3)) * (30, 30, 1)
    if on_grid:
        points = np.round(points / 5)
    count = int(rng.integers(1, len(points) + 1))
    assert sample_farthest(points, cKDTree(points), count).tolist() == plain(points, count)
