from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from ov_seg_ros.core.camera import CameraModel
from ov_seg_ros.core.data_types import CameraImage, PointCloud, Sample, TeacherSegments
from ov_seg_ros.core.errors import InputError
from training.lifting import lift_both, lift_segments, pair_points, seen_by_camera

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


def featured(classes: list[int], text_id: list[int], split: int = 32) -> TeacherSegments:
    """``segments`` with a text each, and features (1, 0, 0) and (0, 1, 0)."""
    found = segments(classes, [0.5, 0.5], split)
    return replace(found, text_id=np.array(text_id, np.int32), features=np.eye(3, dtype=np.float32)[:2])


def test_pairs_by_hand() -> None:
    both = sample(camera("front"), camera("back", BACKWARD))
    pairs = pair_points(both, {"front": featured([3, 255], [4, 6]), "back": featured([3, 7], [4, 5])})
    # front: columns 22 and 32, then 42 (void); back: column 32, so its segment 2 alone
    assert pairs.point.tolist() == [0, 1, 3]
    assert pairs.camera.tolist() == [0, 0, 1]
    assert pairs.segment.tolist() == [0, 1, 2]
    assert pairs.text_id.tolist() == [4, 6, 5]
    np.testing.assert_allclose(pairs.pixel, [[22, 24], [32, 24], [32, 24]], atol=1e-4)
    np.testing.assert_array_equal(pairs.features, [[1, 0, 0], [0, 1, 0], [0, 1, 0]])
    assert pairs.image_size.tolist() == [[W, H], [W, H]]
    names = ("point", "camera", "pixel", "segment", "text_id", "features", "image_size")
    types = (np.int32, np.uint8, np.float32, np.int32, np.int32, np.float32, np.int32)
    assert tuple(getattr(pairs, name).dtype for name in names) == types


def test_a_point_that_two_cameras_see_has_two_pairs() -> None:
    pairs = pair_points(sample(camera("a"), camera("b")), {name: featured([3, 7], [0, 1]) for name in "ab"})
    assert pairs.point.tolist() == [0, 1, 0, 1]
    assert pairs.segment.tolist() == [0, 1, 2, 3]


def test_segments_without_text_or_feature_are_left_out() -> None:
    two = sample(camera("a"), camera("b"))
    blind = featured([3, 7], [0, 1])
    blind.features[1] = 0  # type: ignore[index]
    pairs = pair_points(two, {"a": blind, "b": featured([3, 7], [-1, 1])})
    assert (pairs.point.tolist(), pairs.segment.tolist(), pairs.text_id.tolist()) == ([0, 1], [0, 1], [0, 1])
    np.testing.assert_array_equal(pairs.features, [[1, 0, 0], [0, 1, 0]])


@pytest.mark.parametrize("seed", range(3))
def test_pairs_equal_a_plain_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = rng.uniform(-12, 12, (1500, 3)).astype(np.float32)
    rig = sample(
        camera("a"), camera("b", FORWARD @ np.diag([1.0, 1.0, -1.0, 1.0])), camera("c", BACKWARD), points=points
    )
    found = {}
    for name in "abc":
        ids = np.kron(rng.integers(0, 10, (6, 8)), np.ones((8, 8))).astype(np.uint16)
        features = rng.normal(size=(9, 5)).astype(np.float32)
        features[4] = 0
        text_id = rng.integers(-1, 20, 9).astype(np.int32)
        found[name] = TeacherSegments(ids, np.zeros(9, np.uint8), np.ones(9, np.float32), text_id, features)
    expected = []
    for image in rig.images:
        for index, point in enumerate(points.astype(float)):
            x, y, z = (image.camera_from_lidar @ [*point, 1])[:3]
            if z < 2.5:
                continue
            u, v = 50 * x / z + 32, 50 * y / z + 24
            row, column = round(v), round(u)
            if not (0 <= row < H and 0 <= column < W):
                continue
            of_image = found[image.name]
            segment = int(of_image.segment_id[row, column]) - 1
            if segment >= 0 and of_image.text_id[segment] >= 0 and of_image.features[segment].any():  # type: ignore[index]
                expected.append((index, image.name, segment))
    pairs = pair_points(rig, found, occlusion=None, min_depth=2.5)
    assert len(expected) > 50
    assert [(p, "abc"[c]) for p, c in zip(pairs.point.tolist(), pairs.camera.tolist(), strict=True)] == [
        (index, name) for index, name, _ in expected
    ]
    order = sorted({(name, segment) for _, name, segment in expected})
    assert pairs.segment.tolist() == [order.index((name, segment)) for _, name, segment in expected]
    assert pairs.text_id.tolist() == [found[name].text_id[segment] for name, segment in order]
    np.testing.assert_array_equal(pairs.features, [found[name].features[segment] for name, segment in order])


@pytest.mark.parametrize("seed", range(3))
def test_labels_equal_a_plain_loop(seed: int) -> None:
    """Points that no camera, one or two see, some of them twice or nowhere; sinks, void, equal confidences."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(-12, 12, (800, 3)).astype(np.float32)
    points[::50], points[1::70] = np.nan, points[2]
    rig = sample(
        camera("a"), camera("b", FORWARD @ np.diag([1.0, 1.0, -1.0, 1.0])), camera("c", BACKWARD), points=points
    )
    found = {}
    for name in "abc":
        ids = np.kron(rng.integers(0, 10, (6, 8)), np.ones((8, 8))).astype(np.uint16)
        classes = np.where(rng.random(9) < 0.3, 255, rng.integers(0, 4, 9)).astype(np.uint8)
        confidence = (rng.integers(0, 4, 9) / 4).astype(np.float32)
        found[name] = TeacherSegments(ids, classes, confidence, np.zeros(9, np.int32))
    best: list[tuple[float, int, tuple[str, int]] | None] = [None] * len(points)
    for image in rig.images:
        of_image = found[image.name]
        for index in np.flatnonzero(np.isfinite(points).all(axis=1)):
            x, y, z = (image.camera_from_lidar @ [*points[index].astype(float), 1])[:3]
            if z < 2.5:
                continue
            row, column = round(50 * y / z + 24), round(50 * x / z + 32)
            if not (0 <= row < H and 0 <= column < W):
                continue
            segment = int(of_image.segment_id[row, column]) - 1
            if segment < 0 or of_image.class_id[segment] == 255:
                continue
            own = (float(of_image.confidence[segment]), int(of_image.class_id[segment]), (image.name, segment))
            before = best[index]
            if before is None or own[0] > before[0]:
                best[index] = own
    labels = lift_segments(rig, found, occlusion=None, min_depth=2.5)
    assert labels.class_id.tolist() == [255 if b is None else b[1] for b in best]
    assert labels.confidence.tolist() == [0 if b is None else b[0] for b in best]
    order = sorted({b[2] for b in best if b is not None})
    assert len(order) > 10
    assert labels.superpoint_id.tolist() == [-1 if b is None else order.index(b[2]) for b in best]


def test_both_at_once_are_the_same() -> None:
    both = sample(camera("front"), camera("back", BACKWARD))
    found = {"front": featured([3, 255], [4, 6]), "back": featured([3, 7], [4, 5])}
    labels, pairs = lift_both(both, found)
    for together, alone in ((labels, lift_segments(both, found)), (pairs, pair_points(both, found))):
        for field in fields(together):
            np.testing.assert_array_equal(getattr(together, field.name), getattr(alone, field.name))


def test_pairs_of_nothing() -> None:
    nothing = TeacherSegments(np.zeros((H, W), np.uint16), *(np.zeros(0, t) for t in (np.uint8, np.float32, np.int32)))
    empty = sample(camera("front"), points=np.zeros((0, 3), np.float32))
    assert len(pair_points(sample(), {})) == len(pair_points(sample(camera("front")), {"front": nothing})) == 0
    pairs = pair_points(empty, {"front": featured([3, 7], [0, 1])})
    assert (len(pairs), pairs.features.shape) == (0, (0, 3))


def test_pairs_need_features() -> None:
    with pytest.raises(
        InputError, match=r"drive/000000: the segments of camera 'front' have no features.*ClipFeatures"
    ):
        pair_points(sample(camera("front")), {"front": segments([3, 7], [0.9, 0.4])})
    spoilt = featured([3, 7], [0, 1])
    spoilt.features[0, 0] = np.nan  # type: ignore[index]
    with pytest.raises(InputError, match=r"2 texts and features \(2, 3\) with 1 values"):
        pair_points(sample(camera("front")), {"front": spoilt})
    short = replace(spoilt, features=np.ones((1, 3), np.float32))
    with pytest.raises(InputError, match=r"the 2 segments of camera 'front' need .* features \(1, 3\)"):
        pair_points(sample(camera("front")), {"front": short})
