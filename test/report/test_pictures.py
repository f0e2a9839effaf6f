from __future__ import annotations

import numpy as np
from PIL import Image

from ov_seg_ros.core.camera import CameraModel
from ov_seg_ros.core.data_types import IGNORE_ID, CameraImage, Projection
from ov_seg_ros.report import theme
from ov_seg_ros.report.birds_eye import BirdsEye, fitting_radius
from ov_seg_ros.report.camera_views import draw_camera, draw_camera_grid, in_rig_order
from ov_seg_ros.report.pictures import OVERVIEW_WIDTH, colors_of, draw_birds_eyes, draw_legend, draw_overview
from ov_seg_ros.report.scene import Scene, seen_points

RED, GREEN = (255, 0, 0), (0, 255, 0)


def has_color_near(picture: Image.Image, u: float, v: float, color: tuple[int, int, int]) -> bool:
    """Whether a 3 x 3 neighbourhood holds (almost) that colour."""
    patch = np.array(picture)[round(v) - 1 : round(v) + 2, round(u) - 1 : round(u) + 2].astype(int)
    return bool((np.abs(patch - color).sum(axis=2) < 60).any())


def test_birds_eye_puts_forward_up_and_left_left():
    view = BirdsEye(200, 200, radius=20.0)  # 5 px per metre
    points = np.array([[10, 0, 0], [0, 10, 0], [np.nan, 0, 0]], np.float32)
    picture = view.draw(points, np.array([RED, GREEN, GREEN], np.uint8))
    assert has_color_near(picture, 100, 50, RED)
    assert has_color_near(picture, 50, 100, GREEN)
    assert not has_color_near(picture, 150, 100, GREEN)


def test_birds_eye_lets_the_higher_point_cover_the_lower():
    points = np.array([[10, 0, 3], [10, 0, 0]], np.float32)
    picture = BirdsEye(200, 200, 20.0).draw(points, np.array([RED, GREEN], np.uint8))
    assert has_color_near(picture, 100, 50, RED)
    top = BirdsEye(200, 200, 20.0).draw(points, np.array([RED, GREEN], np.uint8), on_top=np.array([False, True]))
    assert has_color_near(top, 100, 50, GREEN)


def test_birds_eye_of_nothing_is_a_picture():
    nothing = np.zeros((0, 3), np.float32)
    assert BirdsEye(120, 90, 10.0).draw(nothing, np.zeros((0, 3), np.uint8)).size == (120, 90)
    assert fitting_radius(nothing) == 10.0


def test_fitting_radius_shows_nine_tenths():
    points = np.zeros((100, 3), np.float32)
    points[:, 0] = np.arange(100) * 0.3  # 90 % within 26.73 m
    assert fitting_radius(points) == 30.0


def test_camera_draws_the_nearer_point_over_the_farther():
    view = CameraImage("front", np.zeros((48, 64, 3), np.uint8), CameraModel(64, 48, 32, 32, 31.5, 23.5), np.eye(4))
    pixels = np.array([[20.0, 10.0], [20.0, 10.0], [50.0, 40.0]], np.float32)
    projection = Projection(np.array([0, 1, 2]), pixels, np.array([30.0, 3.0, 5.0], np.float32))
    picture = draw_camera(view, projection, np.array([RED, GREEN, RED], np.uint8), 128)  # twice the image
    assert picture.size == (128, 96)
    assert has_color_near(picture, 40, 20, GREEN)
    assert has_color_near(picture, 100, 80, RED)


def test_cameras_stand_as_one_looks_around():
    camera = CameraModel(4, 4, 2, 2, 2, 2)

    def looking(name: str, degrees: float) -> CameraImage:
        matrix, a = np.eye(4), np.deg2rad(degrees)
        matrix[2, :3] = (np.cos(a), np.sin(a), 0)  # optical axis in LiDAR axes
        return CameraImage(name, np.zeros((4, 4, 3), np.uint8), camera, matrix)

    views = [looking(n, d) for n, d in dict(br=-110, f=0, bl=110, fr=-55, b=180, fl=55).items()]
    assert [view.name for view in in_rig_order(views)] == ["fl", "f", "fr", "bl", "b", "br"]


def test_overview_with_and_without_truth_and_cameras(make_sample, label_space):
    prediction = np.array([0, 1, 2, 255], np.uint8)
    projections = {
        "front": Projection(np.array([0]), np.array([[31.5, 23.5]], np.float32), np.array([10.0], np.float32))
    }
    full = draw_overview(
        Scene(make_sample(truth=[0, 1, 2, 0]), prediction, projections), label_space, "drive", ["mIoU 50 %"]
    )
    bare = draw_overview(Scene(make_sample(with_camera=False), prediction), label_space, "drive")
    assert full.width == bare.width == OVERVIEW_WIDTH
    assert full.height > bare.height
    assert (
        draw_camera_grid(Scene(make_sample(with_camera=False), prediction), colors_of(prediction, label_space), 99)
        is None
    )


def test_mistakes_are_red_and_unknown_truth_is_no_mistake(make_sample, label_space):
    prediction = np.array([0, 0, 0, 0], np.uint8)
    scene = Scene(make_sample(truth=[0, 1, IGNORE_ID, 0]), prediction)
    titles = [title for title, _ in draw_birds_eyes(scene, label_space, 200, 200)]
    assert titles == ["Student", "Ground truth", "Mistakes"]
    _, mistakes = draw_birds_eyes(scene, label_space, 200, 200)[2]  # radius 10: points at the borders
    reds = (np.abs(np.array(mistakes).astype(int) - theme.WRONG).sum(axis=2) < 60).nonzero()
    assert len(reds[0])
    assert reds[1].max() < 5  # only the point on the left is wrong


def test_dark_classes_are_lightened_and_unknown_is_grey(label_space):
    r, g, b = theme.class_color(label_space, 2)
    assert 0.2126 * r + 0.7152 * g + 0.0722 * b > 65
    assert theme.class_color(label_space, 0) == (0, 200, 190)
    assert theme.class_color(label_space, IGNORE_ID) == theme.UNKNOWN


def test_legend_of_an_empty_scan_and_of_many_classes(label_space):
    assert draw_legend(np.zeros(0, np.uint8), label_space, 300, 200).size == (300, 200)


def test_seen_points_is_the_union_of_cameras():
    def sees(*index: int) -> Projection:
        return Projection(np.array(index), np.zeros((len(index), 2), np.float32), np.zeros(len(index), np.float32))

    assert seen_points(4, {"a": sees(0, 2), "b": sees(2)}).tolist() == [True, False, True, False]
