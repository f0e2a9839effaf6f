from __future__ import annotations

import numpy as np
import pytest

from ov_seg_ros.core.camera import CameraModel
from ov_seg_ros.core.data_types import CameraImage, PointCloud, Sample, TeacherSegments
from ov_seg_ros.core.errors import InputError
from training.lifting import lift_segments, seen_by_camera

W, H = 64, 48
CAMERA = CameraModel(W, H, 50.0, 50.0, 32.0, 24.0)
FORWARD = np.array([[0.0, -1.0, 0.0, 0.0], [0.0, 0.0, -1.0, 0.0], [1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
BACKWARD = FORWARD @ np.diag([-1.0, -1.0, 1.0, 1.0])
# forward camera: column 32 - 50 y / x, row 24 - 50 z / x
POINTS = np.array([[10, 2, 0], [10, 0, 0], [10, -2, 0], [-10, 0, 0], [10, 40, 0], [np.nan, 0, 0]], np.float32)


def camera(name: str, transform: np.ndarray = FORWARD) -> CameraImage:
    return CameraImage(name, np.zeros((H, W, 3), np.uint8), CAMERA, transform)


def sample(*images: CameraImage, points: np.ndarray = POINTS) -> Sample:
    return Sample("drive/000000", PointCloud(points, np.zeros(len(points), np.float32)), images)


def segments(classes: list[int], confidence: list[float], split: int = 32) -> TeacherSegments:
    """Left of column ``split`` segment 1, then segment 2 up to column 40, void from there."""
    ids = np.zeros((H, W), np.uint16)
    ids[:, :split], ids[:, split:40] = 1, 2
    return TeacherSegments(ids, np.array(classes, np.uint8), np.array(confidence, np.float32), np.full(2, -1, np.int32))


def test_points_get_the_segment_at_their_nearest_pixel() -> None:
    labels = lift_segments(sample(camera("front")), {"front": segments([3, 7], [0.9, 0.4])})
    # columns 22, 32 and 42 (void); behind the camera; beside the image; invalid
    assert labels.class_id.tolist() == [3, 7, 255, 255, 255, 255]
    np.testing.assert_allclose(labels.confidence, [0.9, 0.4, 0, 0, 0, 0])
    assert labels.superpoint_id.tolist() == [0, 1, -1, -1, -1, -1]
    assert (labels.class_id.dtype, labels.confidence.dtype, labels.superpoint_id.dtype) == (
        np.uint8,
        np.float32,
        np.int32,
    )


def test_nearest_pixel_is_rounded_not_cut_off() -> None:
    points = np.array([[10.0, 0.11, 0.0], [10.0, 0.09, 0.0]], np.float32)  # columns 31.45 and 31.55
    labels = lift_segments(sample(camera("front"), points=points), {"front": segments([3, 7], [0.9, 0.9])}, None)
    assert labels.class_id.tolist() == [3, 7]


def test_the_more_confident_camera_wins_and_the_first_on_a_tie() -> None:
    two = sample(camera("a"), camera("b"))
    labels = lift_segments(two, {"a": segments([3, 7], [0.5, 0.5]), "b": segments([1, 2], [0.6, 0.4])})
    assert labels.class_id[:2].tolist() == [1, 7]
    tie = lift_segments(two, {"b": segments([1, 2], [0.5, 0.5]), "a": segments([3, 7], [0.5, 0.5])})
    assert tie.class_id[:2].tolist() == [3, 7]


def test_void_never_wins() -> None:
    two = sample(camera("a"), camera("b"))
    labels = lift_segments(two, {"a": segments([255, 7], [0.99, 0.1]), "b": segments([1, 255], [0.2, 0.99])})
    assert labels.class_id[:3].tolist() == [1, 7, 255]
    np.testing.assert_allclose(labels.confidence[:3], [0.2, 0.1, 0.0])


def test_zero_confidence_still_labels() -> None:
    labels = lift_segments(sample(camera("a")), {"a": segments([3, 7], [0.0, 0.0])})
    assert labels.class_id[:2].tolist() == [3, 7]


def test_superpoints_are_unique_per_camera_and_segment() -> None:
    both = sample(camera("front"), camera("back", BACKWARD))
    found = {"front": segments([3, 3], [0.9, 0.9]), "back": segments([3, 3], [0.9, 0.9])}
    labels = lift_segments(both, found)
    assert labels.superpoint_id.tolist() == [0, 1, -1, 2, -1, -1]


def test_a_camera_without_segments_is_left_out() -> None:
    both = sample(camera("front"), camera("back", BACKWARD))
    assert lift_segments(both, {"back": segments([3, 7], [0.9, 0.4])}).class_id.tolist() == [255] * 3 + [7, 255, 255]


def test_empty_scan_and_no_cameras() -> None:
    nothing = sample(camera("front"), points=np.zeros((0, 3), np.float32))
    assert len(lift_segments(nothing, {"front": segments([3, 7], [1, 1])}).class_id) == 0
    assert lift_segments(sample(), {}).superpoint_id.tolist() == [-1] * len(POINTS)
    assert not seen_by_camera(sample()).any()


def test_seen_by_camera_unites_the_cameras() -> None:
    assert seen_by_camera(sample(camera("front"))).tolist() == [True, True, True, False, False, False]
    assert seen_by_camera(sample(camera("front"), camera("back", BACKWARD))).tolist() == [True] * 4 + [False] * 2


def test_inputs_that_do_not_fit_are_refused_by_name() -> None:
    good = segments([3, 7], [0.9, 0.4])
    with pytest.raises(InputError, match="segments for rear, but its cameras are front"):
        lift_segments(sample(camera("front")), {"rear": good})
    small = TeacherSegments(good.segment_id[:10], good.class_id, good.confidence, good.text_id)
    with pytest.raises(InputError, match=r"'front' have shape \(10, 64\), its image \(48, 64\)"):
        lift_segments(sample(camera("front")), {"front": small})
    short = TeacherSegments(good.segment_id, good.class_id[:1], good.confidence[:1], good.text_id[:1])
    with pytest.raises(InputError, match="goes up to 2, but there are 1 classes"):
        lift_segments(sample(camera("front")), {"front": short})
