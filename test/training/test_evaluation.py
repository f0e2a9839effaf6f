import numpy as np
import pytest

from ov_seg_ros.core.camera import CameraModel
from ov_seg_ros.core.data_types import CameraImage, PointCloud, Sample
from ov_seg_ros.core.errors import InputError
from ov_seg_ros.core.label_space import LabelSpace
from training.evaluation import evaluate

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
