from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ov_seg_ros.core.data_types import IGNORE_ID
from ov_seg_ros.core.errors import InputError
from ov_seg_ros.core.metrics import ConfusionMatrix


def filled(truth: list[int], prediction: list[int], num_classes: int = 3) -> ConfusionMatrix:
    matrix = ConfusionMatrix(num_classes)
    matrix.update(np.array(truth, np.uint8), np.array(prediction, np.uint8))
    return matrix


def test_counts_by_hand():
    matrix = filled([0, 0, 0, 1, 1, 255, 1], [0, 1, 255, 1, 1, 2, 2])
    assert matrix.counts.tolist() == [[1, 1, 0, 1], [0, 2, 1, 0], [0, 0, 0, 0]]
    assert matrix.points == 6


def test_iou_by_hand_counts_unknown_as_a_miss_and_leaves_absent_classes_out():
    matrix = filled([0, 0, 0, 1, 1, 255, 1], [0, 1, 255, 1, 1, 2, 2])
    iou = matrix.iou()
    assert iou[0] == pytest.approx(1 / 3)  # 1 hit, 2 missed (one of them unknown), 0 wrong
    assert iou[1] == pytest.approx(2 / 4)  # 2 hits, 1 missed, 1 wrong
    assert np.isnan(iou[2])  # predicted once, never true
    assert matrix.miou() == pytest.approx((1 / 3 + 1 / 2) / 2)


def test_an_unknown_prediction_is_no_false_positive():
    assert filled([0, 1, 1], [0, 255, 1]).iou()[:2].tolist() == [1.0, 0.5]


def test_perfect_and_hopeless():
    assert filled([0, 1, 2], [0, 1, 2]).miou() == 1.0
    assert filled([0, 1, 2], [1, 2, 0]).miou() == 0.0
    assert filled([0, 1, 2], [255, 255, 255]).miou() == 0.0


def test_without_truth_there_is_no_value():
    matrix = filled([255, 255], [0, 1])
    assert np.isnan(matrix.miou())
    entry = matrix.to_dict(["a", "b", "c"])
    assert entry["miou"] is None
    assert entry["iou"] == {"a": None, "b": None, "c": None}


def test_to_dict_is_json_with_names():
    entry = json.loads(json.dumps(filled([0, 1], [0, 0]).to_dict(["road", "car", "tree"]), allow_nan=False))
    assert entry["iou"] == {"road": 0.5, "car": 0.0, "tree": None}
    assert entry["confusion"][1] == [1, 0, 0, 0]
    assert entry["points"] == 2
    assert entry["miou"] == 0.25


def test_bad_input_is_refused_with_what_came():
    with pytest.raises(InputError, match=r"\(2,\) and \(1,\)"):
        filled([0, 1], [0])
    with pytest.raises(InputError, match="truth holds class id 7"):
        filled([7], [0])
    with pytest.raises(InputError, match="prediction holds class id 4"):
        filled([0], [4])
    with pytest.raises(InputError, match="got 0"):
        ConfusionMatrix(0)
    with pytest.raises(InputError, match="3 classes, got 1 names"):
        filled([0], [0]).to_dict(["one"])


def test_a_prediction_equal_to_num_classes_is_foreign_not_unknown():
    with pytest.raises(InputError, match="prediction holds class id 3"):
        filled([0], [3])


ids = st.sampled_from([0, 1, 2, 3, IGNORE_ID])


@given(st.lists(st.tuples(ids, ids), max_size=60), st.integers(0, 60))
def test_matches_counting_by_sets_and_adds_up(pairs: list[tuple[int, int]], cut: int):
    whole = filled([t for t, _ in pairs], [p for _, p in pairs], 4)
    parts = filled([t for t, _ in pairs[:cut]], [p for _, p in pairs[:cut]], 4)
    parts += filled([t for t, _ in pairs[cut:]], [p for _, p in pairs[cut:]], 4)
    assert (whole.counts == parts.counts).all()
    for class_id, value in enumerate(whole.iou()):
        truth = {i for i, (t, _) in enumerate(pairs) if t == class_id}
        predicted = {i for i, (t, p) in enumerate(pairs) if p == class_id and t != IGNORE_ID}
        if truth:
            assert value == pytest.approx(len(truth & predicted) / len(truth | predicted))
        else:
            assert np.isnan(value)


def test_three_conventions_by_hand():
    """Class 0: 1 of 3; class 1: 2 of 4; class 2: predicted once, never true; class 3: neither."""
    matrix = filled([0, 0, 0, 1, 1, 255, 1], [0, 1, 255, 1, 1, 2, 2], 4)
    assert matrix.miou() == pytest.approx((1 / 3 + 1 / 2) / 2)
    assert matrix.miou_fair() == pytest.approx((1 / 3 + 1 / 2 + 0) / 3)
    assert matrix.miou_afov() == pytest.approx((1 / 3 + 1 / 2 + 0 + 1) / 4)
    np.testing.assert_allclose(matrix.iou_fair(), [1 / 3, 1 / 2, 0, np.nan])


def test_precision_recall_accuracy_by_hand():
    matrix = filled([0, 0, 0, 1, 1, 255, 1], [0, 1, 255, 1, 1, 2, 2], 4)
    np.testing.assert_allclose(matrix.precision(), [1, 2 / 3, 0, np.nan])
    np.testing.assert_allclose(matrix.recall(), [1 / 3, 2 / 3, np.nan, np.nan])
    assert matrix.accuracy() == pytest.approx(3 / 6)
    rows = matrix.normalized_rows()
    np.testing.assert_allclose(rows[:2], [[1 / 3, 1 / 3, 0, 0, 1 / 3], [0, 2 / 3, 1 / 3, 0, 0]])
    assert np.isnan(rows[2:]).all()


def test_means_over_some_classes():
    matrix = filled([0, 0, 1], [0, 2, 1])
    assert matrix.miou_fair() == pytest.approx((1 / 2 + 1 + 0) / 3)
    assert matrix.miou_fair([0, 1]) == pytest.approx(3 / 4)  # class 2 cannot be true: inventing it costs class 0 alone
    assert matrix.miou_afov([1]) == 1
    with pytest.raises(InputError, match=r"class_ids must be some of 0 to 2, got \[3\]"):
        matrix.miou_fair([3])
    with pytest.raises(InputError, match=r"got \[\]"):
        matrix.miou_afov([])


def test_scores_of_nothing():
    matrix = ConfusionMatrix(2)
    assert np.isnan([matrix.miou_fair(), matrix.accuracy(), *matrix.precision(), *matrix.recall()]).all()
    assert matrix.miou_afov() == 1  # the gift to empty sets


@given(st.lists(st.tuples(ids, ids), max_size=60))
def test_afov_formula_on_shifted_ids(pairs: list[tuple[int, int]]):
    """As released: ids shifted by one, 0 = ignore; its row zeroed; union 0 counts as 1; mean without class 0."""
    counts = np.zeros((5, 5))
    for truth, prediction in pairs:
        counts[0 if truth == IGNORE_ID else truth + 1, 0 if prediction == IGNORE_ID else prediction + 1] += 1
    counts[0] = 0
    union = counts.sum(1) + counts.sum(0) - np.diag(counts)
    iou = np.array([hit / u if u else 1.0 for hit, u in zip(np.diag(counts), union, strict=True)])
    matrix = filled([t for t, _ in pairs], [p for _, p in pairs], 4)
    assert matrix.miou_afov() == pytest.approx(iou[1:].mean())
    if len({t for t, _ in pairs} - {IGNORE_ID}) == 4:
        assert matrix.miou_afov() == pytest.approx(matrix.miou()) == pytest.approx(matrix.miou_fair())
