import json
import math

import numpy as np
import pytest

from ov_seg_ros.core.camera import CameraModel
from ov_seg_ros.core.data_types import CameraImage, PointCloud, Sample
from ov_seg_ros.core.errors import ConfigError, InputError
from ov_seg_ros.core.label_space import LabelSpace
from training.evaluation import Evaluation, evaluate, evaluate_all

TRUTH = np.array([0, 0, 1, 1], np.uint8)
SPACE = LabelSpace("two", ("a", "b"), ((0, 0, 0), (1, 1, 1)))
CAMERA = CameraModel(100, 100, 50.0, 50.0, 49.5, 49.5)
CAMERA_FROM_LIDAR = np.array([[0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]], np.float64)


def sample(class_id):
    points = np.array([[5, 0, 0], [6, 1, 0], [7, -1, 0], [-5, 0, 0]], np.float32)  # three ahead, one behind
    image = CameraImage("front", np.zeros((100, 100, 3), np.uint8), CAMERA, CAMERA_FROM_LIDAR)
    return Sample("x/0", PointCloud(points, np.zeros(4, np.float32)), (image,), class_id)


def test_parts_by_hand():
    truth = np.array([0, 0, 1, 1], np.uint8)
    predicted = np.array([0, 1, 255, 1], np.uint8)
    result = evaluate([sample(truth)], lambda s: predicted, SPACE)
    np.testing.assert_array_equal(result.whole.counts, [[1, 1, 0], [0, 1, 1]])
    np.testing.assert_array_equal(result.seen.counts, [[1, 1, 0], [0, 0, 1]])
    np.testing.assert_array_equal(result.unseen.counts, [[0, 0, 0], [0, 1, 0]])
    np.testing.assert_array_equal(result.answered.counts, [[1, 1, 0], [0, 0, 0]])
    assert result.to_dict()["whole"]["miou"] == pytest.approx((1 / 2 + 1 / 3) / 2)


def test_samples_without_truth_are_refused():
    with pytest.raises(InputError, match="no ground truth"):
        evaluate([sample(None)], lambda s: np.zeros(4, np.uint8), SPACE)


def test_new_scores_stand_beside_the_old_ones():
    predicted = np.array([0, 1, 255, 1], np.uint8)
    entry = json.loads(json.dumps(evaluate([sample(TRUTH)], lambda s: predicted, SPACE).to_dict(), allow_nan=False))
    assert set(entry) == {"whole", "seen", "unseen", "answered", "ranges", "evaluated_classes"}
    whole = entry["whole"]
    assert whole["points"] == 4
    assert whole["miou_fair"] == whole["miou_afov"] == pytest.approx((1 / 2 + 1 / 3) / 2)
    assert whole["precision"] == {"a": 1, "b": 0.5}
    assert whole["recall"] == {"a": 0.5, "b": 0.5}
    assert whole["accuracy"] == 0.5
    assert entry["unseen"]["miou_fair"] == 1  # holds class b alone
    assert entry["evaluated_classes"] == ["a", "b"]


def test_range_bands_by_hand():
    """Distances 5, sqrt(37) = 6.08, sqrt(50) = 7.07 and 5 m."""
    predicted = np.array([0, 1, 255, 1], np.uint8)
    result = evaluate([sample(TRUTH)], lambda s: predicted, SPACE, ranges=(5, 6, 7, math.inf))
    assert [band.name for band in result.by_range] == ["5-6 m", "6-7 m", "7+ m"]
    assert [band.matrix.counts.tolist() for band in result.by_range] == [
        [[1, 0, 0], [0, 1, 0]], [[0, 1, 0], [0, 0, 0]], [[0, 0, 0], [0, 0, 1]]
    ]  # fmt: skip
    bounds = [(band["from_m"], band["to_m"]) for band in result.to_dict()["ranges"]]
    assert bounds == [(5, 6), (6, 7), (7, None)]
    nearest = evaluate([sample(TRUTH)], lambda s: predicted, SPACE, ranges=(6, 7)).by_range[0].matrix
    assert nearest.points == 1


def test_default_bands_hold_every_valid_point():
    result = evaluate([sample(TRUTH)], lambda s: TRUTH, SPACE)
    assert [band.name for band in result.by_range] == ["0-10 m", "10-20 m", "20-30 m", "30-50 m", "50+ m"]
    assert sum(band.matrix.points for band in result.by_range) == result.whole.points


def test_classes_the_truth_cannot_hold_are_left_out():
    predicted = np.array([0, 1, 0, 0], np.uint8)
    truth = np.zeros(4, np.uint8)
    result = evaluate([sample(truth)], lambda s: predicted, SPACE, class_ids=(0,)).to_dict()
    assert result["whole"]["miou_fair"] == 3 / 4
    assert result["evaluated_classes"] == ["a"]
    assert evaluate([sample(truth)], lambda s: predicted, SPACE).to_dict()["whole"]["miou_fair"] == 3 / 8


def test_what_counts_as_seen_can_be_chosen():
    nothing = evaluate([sample(TRUTH)], lambda s: TRUTH, SPACE, seen=lambda s: np.zeros(4, np.bool_))
    assert (nothing.seen.points, nothing.unseen.points) == (0, 4)
    assert nothing.to_dict()["seen"]["miou_afov"] is None  # not 1 for an empty set


def test_several_labellings_load_every_sample_once():
    loaded = []

    def samples():
        for _ in range(2):
            loaded.append(1)
            yield sample(TRUTH)

    rows = evaluate_all(samples(), {"right": lambda s: TRUTH, "wrong": lambda s: 1 - TRUTH}, SPACE)
    assert list(rows) == ["right", "wrong"]
    assert (rows["right"].whole.miou(), rows["wrong"].whole.miou()) == (1, 0)
    assert (len(loaded), rows["wrong"].whole.points) == (2, 8)


def test_parts_of_a_split_add_up_and_survive_json():
    predictions = [np.array(p, np.uint8) for p in ([0, 1, 255, 1], [1, 1, 1, 0])]
    both = iter(predictions)
    whole = evaluate([sample(TRUTH)] * 2, lambda s: next(both), SPACE)
    one, two = (evaluate([sample(TRUTH)], lambda s, p=p: p, SPACE) for p in predictions)
    assert (one + two).to_dict() == whole.to_dict()
    assert Evaluation.from_dict(json.loads(json.dumps(whole.to_dict())), SPACE).to_dict() == whole.to_dict()
    with pytest.raises(InputError, match="cannot be added"):
        one + evaluate([sample(TRUTH)], lambda s: TRUTH, SPACE, ranges=())
    with pytest.raises(InputError, match="no evaluation over two"):
        Evaluation.from_dict({}, SPACE)
    broken = whole.to_dict()
    broken["seen"]["confusion"] = [[1, 2], [3, 4]]
    with pytest.raises(InputError, match=r"confusion must be \(2, 3\) counts"):
        Evaluation.from_dict(broken, SPACE)


def test_bad_input_is_refused():
    with pytest.raises(InputError, match=r"x/0 has 4 points, but the prediction has shape \(3,\)"):
        evaluate([sample(TRUTH)], lambda s: np.zeros(3, np.uint8), SPACE)
    for ranges in ((10, 0), (0, 0), (-1, 3)):
        with pytest.raises(ConfigError, match="ranges must ascend"):
            evaluate([], lambda s: TRUTH, SPACE, ranges=ranges)
    for class_ids in ((2,), (0, 0), (-1,)):
        with pytest.raises(ConfigError, match="class_ids must be different classes of two"):
            evaluate([], lambda s: TRUTH, SPACE, class_ids=class_ids)
