from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from benchmarks.occlusion import FILTERS, kitti_views, measure, nuscenes_views, street_views
from ov_seg_ros.core.beam_columns import sort_into_columns
from ov_seg_ros.core.errors import ConfigError
from ov_seg_ros.core.occlusion import OcclusionTest

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("OV_SEG_SHARED", ROOT.parent / "shared")) / "data"
needs_data = pytest.mark.skipif(
    not (DATA / "kitti_object").is_dir() or not (DATA / "nuscenes").is_dir(),
    reason=f"needs the sample data folders kitti_object and nuscenes in {DATA}",
)
AXES = np.array([[0.0, -1.0, 0.0], [0.0, 0.0, -1.0], [1.0, 0.0, 0.0]])  # camera axes from LiDAR axes
EXACT = OcclusionTest(silhouette=0.0)


def camera_at(x: float, y: float, z: float) -> np.ndarray:
    """camera_from_lidar of a camera at this place in the LiDAR frame that looks along +x."""
    transform = np.eye(4)
    transform[:3, :3] = AXES
    transform[:3, 3] = -AXES @ [x, y, z]
    return transform


def rays(elevation: np.ndarray, azimuth: np.ndarray) -> np.ndarray:
    """(E * A, 3) unit vectors, angles in degrees."""
    el, az = (a.ravel() for a in np.meshgrid(np.radians(elevation), np.radians(azimuth), indexing="ij"))
    return np.stack([np.cos(el) * np.cos(az), np.cos(el) * np.sin(az), np.sin(el)], axis=1)


def pole_and_wall() -> tuple[np.ndarray, np.ndarray]:
    """A wall at x = 20 and a pole at x = 5, |y| < 0.1 in front of it; the second array says which are of the pole."""
    directions = rays(np.arange(-8, 8.1, 0.4), np.arange(-20, 20.1, 0.2))
    on_pole = np.abs(directions[:, 1] / directions[:, 0]) < 0.1 / 5
    return directions * (np.where(on_pole, 5.0, 20.0) / directions[:, 0])[:, None], on_pole


def test_the_wall_behind_a_pole_is_hidden_exactly_where_the_camera_cannot_see_it() -> None:
    points, on_pole = pole_and_wall()
    # camera 1 m to the left: the pole covers y = 1 + (-1.1 .. -0.9) * 4 = -3.4 .. -2.6 on the wall
    visible = EXACT.visible(points, camera_at(0.0, 1.0, 0.0))
    hidden_y = points[~visible, 1]
    assert not on_pole[~visible].any()
    spacing = 20 * np.radians(0.2)
    assert hidden_y.min() == pytest.approx(-3.4, abs=3 * spacing)  # a surfel ends half a beam beside its point
    assert hidden_y.max() == pytest.approx(-2.6, abs=3 * spacing)
    surely = ~on_pole & (points[:, 1] > -3.4 + spacing) & (points[:, 1] < -2.6 - spacing)
    assert surely.sum() > 200
    assert not visible[surely].any()


def test_nothing_is_hidden_from_a_camera_at_the_lidar() -> None:
    points, _ = pole_and_wall()
    assert EXACT.visible(points, camera_at(0.0, 0.0, 0.0)).all()


def test_the_silhouette_widens_the_hidden_part_by_its_angle() -> None:
    points, _ = pole_and_wall()
    hidden = points[~OcclusionTest(silhouette=0.02).visible(points, camera_at(0.0, 1.0, 0.0)), 1]
    assert hidden.min() == pytest.approx(-3.4 - 20 * 0.02, abs=0.2)
    assert hidden.max() == pytest.approx(-2.6 + 20 * 0.02, abs=0.2)


@pytest.mark.parametrize("beam_gap", [0.4, 1.33, 2.0])
@pytest.mark.parametrize("slope", [0.0, 0.03, -0.02])
@pytest.mark.parametrize("test", [EXACT, OcclusionTest()])
def test_a_grazing_plane_never_hides_itself(beam_gap: float, slope: float, test: OcclusionTest) -> None:
    directions = rays(np.arange(-30, -1.2, beam_gap), np.arange(-45, 45, 0.2))
    distance = -1.7 / (directions[:, 2] - slope * directions[:, 0])  # plane z = slope x - 1.7
    distance = np.where((distance > 0) & (distance < 80), distance, np.nan)
    points = (directions * distance[:, None])[np.isfinite(distance)]
    for camera in (camera_at(0.3, 0.0, -0.1), camera_at(0.7, 0.5, -0.4)):
        assert test.visible(points, camera).all()


def test_a_wall_along_the_street_never_hides_itself() -> None:
    directions = rays(np.arange(-10, 5, 0.4), np.arange(4, 40, 0.2))
    points = directions * (4.0 / directions[:, 1])[:, None]  # plane y = 4
    assert EXACT.visible(points, camera_at(0.3, -0.1, -0.1)).all()


def test_margins_decide_how_far_in_front_a_surface_must_stand() -> None:
    directions = rays(np.arange(-8, 8.1, 0.4), np.arange(-20, 20.1, 0.2))
    near = np.abs(directions[:, 1]) < 0.1
    points = directions * (np.where(near, 19.0, 20.0) / directions[:, 0])[:, None]
    camera = camera_at(0.0, 3.0, 0.0)
    assert not OcclusionTest(0.5, 0.02, 0.0).visible(points, camera).all()
    assert OcclusionTest(1.5, 0.02, 0.0).visible(points, camera).all()
    assert OcclusionTest(0.5, 0.08, 0.0).visible(points, camera).all()


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_points_to_hide_anything(count: int) -> None:
    assert OcclusionTest().visible(np.full((count, 3), 5.0), camera_at(0, 0, 0)).tolist() == [True] * count


@pytest.mark.parametrize(
    "points",
    [
        np.tile([[10.0, 1.0, 0.0]], (50, 1)),
        np.array([[10.0, 0.0, 0.0], [10.0, 0.0, 5.0]]),
        np.array([[0.0, 0.0, 0.0], [10.0, 0.0, 0.0], [20.0, 0.0, 0.0]]),
        np.array([[0.0, 0.0, 30.0], [0.0, 0.0, -30.0]]),
    ],
    ids=["all the same", "far apart", "at the origin", "at the poles"],
)
def test_degenerate_clouds_are_no_trouble(points: np.ndarray) -> None:
    with np.errstate(all="raise"):
        assert OcclusionTest().visible(points, camera_at(0.1, 0.0, 0.0)).shape == (len(points),)


def test_the_order_of_the_points_and_their_type_play_no_part() -> None:
    points, _ = pole_and_wall()
    noisy = (points * np.random.default_rng(0).normal(1.0, 0.001, (len(points), 1))).astype(np.float32)
    camera = camera_at(0.0, 1.0, 0.0)
    expected = OcclusionTest().visible(noisy, camera)
    shuffle = np.random.default_rng(1).permutation(len(points))
    assert np.mean(OcclusionTest().visible(noisy[shuffle], camera) != expected[shuffle]) < 0.002
    np.testing.assert_array_equal(OcclusionTest().visible(noisy.astype(np.float64), camera), expected)
    np.testing.assert_array_equal(OcclusionTest().visible(noisy, camera), expected)


@pytest.mark.parametrize("yaw", [60.0, 180.0, -110.0])
def test_the_direction_of_the_camera_plays_no_part(yaw: float) -> None:
    points, _ = pole_and_wall()
    angle = np.radians(yaw)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    expected = EXACT.visible(points, camera_at(0.0, 1.0, 0.0))
    turned = EXACT.visible(points @ turn[:3, :3].T, camera_at(0.0, 1.0, 0.0) @ turn.T)
    assert np.mean(turned != expected) < 0.002  # rounding moves points across cell borders


@pytest.mark.parametrize(("azimuth", "elevation"), [(0.2, 0.4), (0.33, 1.33), (0.1, 2.0)])
def test_beam_spacing_is_found_from_the_points(azimuth: float, elevation: float) -> None:
    directions = rays(np.arange(-16, 5, elevation), np.arange(-40, 40, azimuth))
    keep = np.random.default_rng(0).random(len(directions)) > 0.1
    x, y, z = directions[keep].T
    _, columns, spacing = sort_into_columns(np.arctan2(y, x), np.arcsin(z))
    assert np.degrees(spacing.azimuth) == pytest.approx(azimuth, rel=0.1)
    assert np.degrees(spacing.elevation) == pytest.approx(elevation, rel=0.05)
    assert (np.diff(columns.column) >= 0).all()
    assert columns.start[-1] == keep.sum()


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"silhouette must be a number >= 0, got -0\.1"):
        OcclusionTest(silhouette=-0.1)
    with pytest.raises(ConfigError, match="margin"):
        OcclusionTest(margin=float("nan"))


@pytest.mark.parametrize(("beams", "hidden_left", "visible_left"), [(64, 10.0, 93.0), (32, 30.0, 95.0)])
def test_against_the_exact_truth_of_a_street(beams: int, hidden_left: float, visible_left: float) -> None:
    views = street_views(beams, seeds=range(2))
    ours, plain = measure(views, FILTERS["surfels"]), measure(views, FILTERS["plain 8 px"])
    assert ours["hidden_kept"] < min(hidden_left, plain["hidden_kept"])
    assert ours["visible_kept"] > visible_left
    assert ours["ground_kept"] > 97.0


@needs_data
def test_on_kitti_bleeding_falls_below_the_plain_test_at_far_fewer_lost_points() -> None:
    views = kitti_views(DATA)
    none, plain, ours = (measure(views, FILTERS[name]) for name in ("none", "plain 8 px", "surfels"))
    assert ours["vehicle_outside"] < plain["vehicle_outside"] < none["vehicle_outside"]
    assert 100 - ours["points_kept"] < 0.8 * (100 - plain["points_kept"])
    assert 100 - ours["ground_kept"] < 0.4 * (100 - plain["ground_kept"])
    assert ours["vehicle_in_boxes"] > none["vehicle_in_boxes"] - 0.5


@needs_data
def test_on_nuscenes_bleeding_falls_where_the_plain_test_does_nothing() -> None:
    views = nuscenes_views(DATA)
    none, plain, ours = (measure(views, FILTERS[name]) for name in ("none", "plain 8 px", "surfels"))
    assert none["vehicle_outside"] - ours["vehicle_outside"] > 3 * (none["vehicle_outside"] - plain["vehicle_outside"])
    assert ours["points_kept"] > 94.0
    assert ours["ground_kept"] > 96.0
