from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ov_seg_ros.core.camera import CameraModel
from ov_seg_ros.core.data_types import CameraImage, TeacherSegments
from ov_seg_ros.core.errors import ConfigError, InputError
from ov_seg_ros.core.label_space import LabelSpace
from training.sources.protocol import ImageTruth
from training.teachers.confusions import ERROR_RATES
from training.teachers.simulated import SimulatedTeacher, TeacherErrorConfig, perturb_extrinsics

SPACE = LabelSpace.load(Path(__file__).resolve().parents[3] / "config/label_spaces/nuscenes16.yaml")
ID = {name: i for i, name in enumerate(SPACE.class_names)}
H, W = 270, 480
ONLY_CLASSES = TeacherErrorConfig(
    miss_rate=0.0, merge_rate=0.0, void_rate=0.0, warp_pixels=0.0, growth_pixels=0.0, growth_spread=0.0
)
ONLY_BORDERS = replace(ONLY_CLASSES, severity=1.0)


def image(name: str = "front", stamp_ns: int = 0, shape: tuple[int, int] = (H, W)) -> CameraImage:
    camera = CameraModel(shape[1], shape[0], 340.0, 340.0, shape[1] / 2, shape[0] / 2)
    return CameraImage(name, np.zeros((*shape, 3), np.uint8), camera, np.eye(4), stamp_ns)


def blocks(class_name: str, size: int = 20, gap: int = 10, background: str = "driveable_surface") -> ImageTruth:
    """Square objects on a grid, each an instance of its own, all 10 m away."""
    class_id = np.full((H, W), ID[background], np.uint8)
    instance_id = np.zeros((H, W), np.int32)
    corners = [(v, u) for v in range(gap, H - size, size + gap) for u in range(gap, W - size, size + gap)]
    for k, (v, u) in enumerate(corners):
        class_id[v : v + size, u : u + size] = ID[class_name]
        instance_id[v : v + size, u : u + size] = k + 1
    return ImageTruth(class_id, instance_id, np.full((H, W), 10.0, np.float32))


def street() -> ImageTruth:
    truth = blocks("car", 24, 30)
    truth.class_id[:40] = 255
    truth.instance_id[:40] = 0
    truth.depth[:40] = np.inf
    stuff = truth.instance_id == 0
    truth.class_id[40:120][stuff[40:120]] = ID["manmade"]
    truth.class_id[120:, :100][stuff[120:, :100]] = ID["sidewalk"]
    return truth


def class_map(segments: TeacherSegments) -> np.ndarray:
    return np.append(np.uint8(255), segments.class_id)[segments.segment_id]


def instance_classes(segments: TeacherSegments, truth: ImageTruth) -> np.ndarray:
    """Class the teacher gives to the centre pixel of each instance."""
    found = class_map(segments)
    centers = [
        np.argwhere(truth.instance_id == k).mean(axis=0).astype(int) for k in range(1, truth.instance_id.max() + 1)
    ]
    return np.array([found[v, u] for v, u in centers])


def test_severity_zero_is_the_ground_truth() -> None:
    truth = street()
    segments = SimulatedTeacher(TeacherErrorConfig(severity=0.0), SPACE).segment(image(), truth, seed=1)
    np.testing.assert_array_equal(class_map(segments), truth.class_id)
    assert segments.confidence.min() > 0.999
    pose = np.eye(4)
    np.testing.assert_array_equal(perturb_extrinsics(pose, TeacherErrorConfig(severity=0.0), 1), pose)


def test_same_seed_same_segments_and_nothing_else_is() -> None:
    teacher, truth = SimulatedTeacher(TeacherErrorConfig(), SPACE), street()
    first, again = (teacher.segment(image(), truth, 5) for _ in range(2))
    for name in ("segment_id", "class_id", "confidence", "text_id"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
    for other in (
        teacher.segment(image(), truth, 6),
        teacher.segment(image("rear"), truth, 5),
        teacher.segment(image(stamp_ns=100), truth, 5),
    ):
        assert not np.array_equal(class_map(first), class_map(other))


def test_segments_are_numbered_without_gaps_and_typed() -> None:
    segments = SimulatedTeacher(TeacherErrorConfig(), SPACE).segment(image(), street(), 5)
    used = np.unique(segments.segment_id)
    assert used.tolist() == list(range(len(segments.class_id) + 1))
    assert segments.segment_id.dtype == np.uint16
    assert segments.class_id.max() < len(SPACE)
    assert ((segments.confidence >= 0) & (segments.confidence <= 1)).all()


@pytest.mark.parametrize("class_name", ["car", "trailer"])
def test_error_rate_of_large_near_objects_is_the_one_in_the_table(class_name: str) -> None:
    rate = ERROR_RATES[class_name]
    config = replace(ONLY_CLASSES, persistence=0.0, small_gain=0.0, far_depth=1e9)
    teacher, truth = SimulatedTeacher(config, SPACE), blocks(class_name)
    wrong = [instance_classes(teacher.segment(image(stamp_ns=t), truth, 1), truth) != ID[class_name] for t in range(20)]
    spread = np.sqrt(rate * (1 - rate) / np.size(wrong))
    assert abs(np.mean(wrong) - rate) < 4 * spread


def test_small_and_far_objects_fail_more_often() -> None:
    teacher = SimulatedTeacher(replace(ONLY_CLASSES, persistence=0.0), SPACE)

    def wrong_share(truth: ImageTruth) -> float:
        found = [instance_classes(teacher.segment(image(stamp_ns=t), truth, 1), truth) for t in range(10)]
        return float(np.mean(np.array(found) != ID["pedestrian"]))

    near_large, small = blocks("pedestrian", 40), blocks("pedestrian", 4)
    far_large = ImageTruth(near_large.class_id, near_large.instance_id, near_large.depth * 8)
    assert wrong_share(small) > 1.5 * wrong_share(near_large)
    assert wrong_share(far_large) > 1.5 * wrong_share(near_large)


def test_wrong_classes_are_plausible_ones() -> None:
    teacher, truth = SimulatedTeacher(replace(ONLY_CLASSES, persistence=0.0), SPACE), blocks("bicycle")
    found = np.concatenate([instance_classes(teacher.segment(image(stamp_ns=t), truth, 1), truth) for t in range(10)])
    counts = np.bincount(found, minlength=len(SPACE))
    plausible = [ID[n] for n in ("bicycle", "motorcycle", "pedestrian", "manmade", "vegetation")]
    assert counts.sum() == counts[plausible].sum()
    assert counts[ID["motorcycle"]] > counts[ID["manmade"]] > 0


def test_persistence_decides_whether_an_object_fails_the_same_way_in_every_image() -> None:
    truth = blocks("truck")

    def agreement(persistence: float) -> float:
        teacher = SimulatedTeacher(replace(ONLY_CLASSES, persistence=persistence), SPACE)
        a, b = (instance_classes(teacher.segment(image(stamp_ns=t), truth, 1), truth) for t in (0, 1))
        return float(np.mean(a == b))

    assert agreement(1.0) == 1.0
    assert agreement(0.0) < agreement(0.7) < 1.0


def test_masks_grow_by_the_pixels_asked_for() -> None:
    config = replace(ONLY_BORDERS, growth_pixels=3.0)
    truth = blocks("car", 30, 30)
    teacher = SimulatedTeacher(config, SPACE)
    teacher._rates[:] = 0.0
    found = class_map(teacher.segment(image(), truth, 1)) == ID["car"]
    row = found[30 + 15]  # through the middle of the first row of blocks: columns 30..59 become 27..62
    assert np.flatnonzero(row)[[0, 35]].tolist() == [27, 62]
    assert np.flatnonzero(found[:, 45])[[0, 35]].tolist() == [27, 62]


def test_background_bleeds_over_objects_when_growth_is_negative() -> None:
    truth = blocks("car", 30, 30)
    teacher = SimulatedTeacher(replace(ONLY_BORDERS, growth_spread=2.0), SPACE)
    teacher._rates[:] = 0.0
    found = class_map(teacher.segment(image(), truth, 1)) == ID["car"]
    car = truth.class_id == ID["car"]
    assert (found & ~car).sum() > 200
    assert (car & ~found).sum() > 200


def test_wavy_borders_stay_within_a_few_pixels() -> None:
    from scipy.ndimage import distance_transform_edt

    truth = blocks("car", 60, 60)
    teacher = SimulatedTeacher(replace(ONLY_BORDERS, warp_pixels=2.0), SPACE)
    teacher._rates[:] = 0.0
    found = class_map(teacher.segment(image(), truth, 1)) == ID["car"]
    car = truth.class_id == ID["car"]
    to_border = np.where(car, distance_transform_edt(car), distance_transform_edt(~car))
    moved = to_border[found != car]
    assert len(moved) > 500
    assert moved.max() < 4.5 * 2.0
    assert 0.8 < moved.mean() < 3.0


def test_small_objects_are_missed_and_large_ones_are_not() -> None:
    config = replace(ONLY_CLASSES, miss_rate=1.0)
    for size, low, high in ((3, 0.85, 1.0), (30, 0.0, 0.02)):
        teacher, truth = SimulatedTeacher(config, SPACE), blocks("car", size)
        teacher._rates[:] = 0.0
        found = instance_classes(teacher.segment(image(), truth, 1), truth)
        assert set(found) <= {ID["car"], ID["driveable_surface"]}
        assert low <= np.mean(found == ID["driveable_surface"]) <= high


def test_touching_similar_objects_merge_under_the_larger_ones_label() -> None:
    truth = blocks("truck", 60, 60)
    for k in range(1, truth.instance_id.max() + 1):  # a trailer at the right third of each truck
        v, u = np.argwhere(truth.instance_id == k).max(axis=0)
        truth.class_id[v - 59 : v + 1, u - 19 : u + 1] = ID["trailer"]
        truth.instance_id[v - 59 : v + 1, u - 19 : u + 1] = 100 + k
    teacher = SimulatedTeacher(replace(ONLY_CLASSES, merge_rate=1.0), SPACE)
    teacher._rates[:] = 0.0
    segments = teacher.segment(image(), truth, 1)
    merged = class_map(segments)
    assert not (merged == ID["trailer"]).any()
    one = np.argwhere(truth.instance_id == 101)[0]
    assert segments.segment_id[tuple(one)] == segments.segment_id[tuple(np.argwhere(truth.instance_id == 1)[0])]


def test_void_rate_is_the_configured_one() -> None:
    teacher, truth = SimulatedTeacher(replace(ONLY_CLASSES, void_rate=0.3), SPACE), blocks("car")
    found = np.concatenate([instance_classes(teacher.segment(image(stamp_ns=t), truth, 1), truth) for t in range(10)])
    assert abs(np.mean(found == 255) - 0.3) < 0.04


def test_confidence_is_lower_where_the_teacher_is_wrong_but_does_not_give_it_away() -> None:
    teacher, truth = SimulatedTeacher(ONLY_CLASSES, SPACE), blocks("truck")
    right, wrong = [], []
    for t in range(20):
        segments = teacher.segment(image(stamp_ns=t), truth, t)
        thing = np.unique(segments.segment_id[truth.instance_id > 0]) - 1
        good = segments.class_id[thing] == ID["truck"]
        right.extend(segments.confidence[thing][good])
        wrong.extend(segments.confidence[thing][~good])
    assert np.mean(right) > np.mean(wrong) + 0.1
    area_under_curve = np.mean(np.asarray(right)[:, None] > np.asarray(wrong)[None, :])
    assert 0.7 < area_under_curve < 0.95


def test_extrinsics_error_has_the_configured_size_and_belongs_to_drive_and_camera() -> None:
    config = TeacherErrorConfig()
    pose = np.eye(4)
    errors = [perturb_extrinsics(pose, config, seed, "front") for seed in range(400)]
    angle = [np.arccos(np.clip((np.trace(e[:3, :3]) - 1) / 2, -1, 1)) for e in errors]
    np.testing.assert_allclose(np.sqrt(np.mean(np.square(angle)) / 3), config.rotation_sigma, rtol=0.15)
    np.testing.assert_allclose(np.std([e[:3, 3] for e in errors]), config.translation_sigma, rtol=0.15)
    np.testing.assert_allclose(errors[0][:3, :3] @ errors[0][:3, :3].T, np.eye(3), atol=1e-12)
    np.testing.assert_array_equal(errors[3], perturb_extrinsics(pose, config, 3, "front"))
    assert not np.allclose(errors[3], perturb_extrinsics(pose, config, 3, "rear"))


def test_stamp_error_moves_the_cloud_along_the_motion() -> None:
    config = TeacherErrorConfig(rotation_sigma=0.0, translation_sigma=0.0, stamp_sigma=0.05)
    shifts = [
        perturb_extrinsics(np.eye(4), config, s, lidar_velocity=np.array([10.0, 0, 0]))[:3, 3] for s in range(400)
    ]
    np.testing.assert_allclose(np.std(shifts, axis=0), [0.5, 0, 0], rtol=0.15)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"severity": -1.0}, "severity"), ({"far_depth": 0.0}, "far_depth"), ({"void_rate": 1.5}, "void_rate")],
)
def test_impossible_settings_are_refused(change: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TeacherErrorConfig(**change)


def test_truth_that_does_not_fit_is_refused() -> None:
    teacher = SimulatedTeacher(TeacherErrorConfig(), SPACE)
    with pytest.raises(InputError, match=r"class_id has shape \(270, 480\), the image \(100, 100\)"):
        teacher.segment(image(shape=(100, 100)), street(), 0)
    truth = street()
    truth.class_id[200, 200] = 16
    with pytest.raises(InputError, match="class 16 is not in label space 'nuscenes16'"):
        teacher.segment(image(), truth, 0)


def test_nothing_but_sky_gives_no_segments() -> None:
    sky = ImageTruth(np.full((H, W), 255, np.uint8), np.zeros((H, W), np.int32), np.full((H, W), np.inf, np.float32))
    segments = SimulatedTeacher(TeacherErrorConfig(), SPACE).segment(image(), sky, 0)
    assert len(segments.class_id) == 0
    assert not segments.segment_id.any()
