"""AFI: worked by hand, against the literal version, and at its edges."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refinement.literal_afi import literal_votes

from ov_seg_ros.core.errors import ConfigError, InputError
from ov_seg_ros.core.label_space import LabelSpace
from ov_seg_ros.refinement.afi import assist_probability, refine_afi
from ov_seg_ros.refinement.afi_config import AfiConfig
from ov_seg_ros.refinement.afi_decoder import decode
from ov_seg_ros.refinement.afi_encoder import along_line, encode, fibonacci_sphere

SPACE = LabelSpace("four", ("car", "road", "building", "person"), ((0, 0, 0),) * 4)
CAR, ROAD, BUILDING, PERSON, NONE = 0, 1, 2, 3, 255
ANYWHERE = AfiConfig(near_ground=False, ego_radius=0.0)


def plane(count=30, spacing=0.5, z=0.0):
    """A slightly uneven grid beside the vehicle: (count^2, 3)."""
    x, y = np.meshgrid(np.arange(count) * spacing + 10, np.arange(count) * spacing)
    jitter = np.random.default_rng(0).uniform(-0.1, 0.1, (count * count, 2)) * spacing
    return np.column_stack([x.ravel() + jitter[:, 0], y.ravel() + jitter[:, 1], np.full(count * count, z)])


def labels(count, value):
    return np.full(count, value, np.uint8)


def test_three_points_on_a_line_worked_by_hand():
    """One stage, the two poles as directions; points at y = 0, 1, 3 with classes 0, 1, 1.

    Pooled votes (own vote 0.1): (13, 20) / 33, (20, 13) / 33 and (15, 18) / 33. On the way down every point sees the
    two others on its line with share 1 each, S = 2 everywhere, and adds 0.01 * 2 of its own vote.
    """
    points = np.array([[0, 0, 0], [0, 1, 0], [0, 3, 0]], float)
    votes = np.array([[1, 0], [0, 1], [0, 1]], float)
    config = AfiConfig(base_count=9, num_stages=1, num_directions=2)
    expected = np.array([[35 / 33 + 0.02, 31 / 33], [28 / 33, 38 / 33 + 0.02], [1, 1.02]]) / 2.02
    np.testing.assert_allclose(decode(encode(points, votes, config), config), expected, atol=5e-6)


@pytest.mark.parametrize("seed", range(12))
def test_equals_the_literal_version(seed):
    rng = np.random.default_rng(seed)
    count, classes = int(rng.integers(1, 500)), int(rng.integers(1, 20))
    flatness = (1, 0.001)[seed % 2]
    points = rng.normal(size=(count, 3)) * (10, 10, flatness)
    votes = np.eye(classes + 1, classes)[rng.integers(0, classes + 1, count)]
    config = AfiConfig(
        base_count=(4096, 300, 243, 90)[seed % 4],
        min_count=seed % 3,
        min_cosine=(0.995, 0.8)[seed % 2],
        weighted_votes=seed % 5 == 0,
    )
    literal = literal_votes(points, votes, config)
    fast = decode(encode(points, votes, config), config)
    np.testing.assert_allclose(fast, literal, atol=1e-5)
    np.testing.assert_array_equal(fast.argmax(axis=1), literal.argmax(axis=1))


@pytest.mark.parametrize("config", [ANYWHERE, AfiConfig.default()])
def test_one_wrong_label_on_a_plane_heals(config):
    points, given_labels = plane(), labels(900, ROAD)
    given_labels[465] = PERSON
    assert (refine_afi(points, given_labels, SPACE, config) == ROAD).all()


def test_a_point_with_nothing_on_its_lines_keeps_its_label():
    points = np.vstack([plane(), [(17.3, 7.1, 6.0)]])
    given_labels = np.append(labels(900, ROAD), np.uint8(PERSON))
    refined = refine_afi(points, given_labels, SPACE, ANYWHERE)
    assert refined[900] == PERSON
    assert (refined[:900] == ROAD).all()


def test_a_wide_gate_loses_that_point():
    """The same point among 900, but structure up to 87 degrees off the line counts: now the plane outvotes it."""
    points = np.vstack([plane(), [(17.3, 7.1, 6.0)]])
    given_labels = np.append(labels(900, ROAD), np.uint8(PERSON))
    config = AfiConfig(near_ground=False, ego_radius=0.0, min_cosine=0.05)
    assert refine_afi(points, given_labels, SPACE, config)[900] == ROAD


@pytest.mark.parametrize(("degrees", "share"), [(5.7, 1.0), (5.8, 0.25), (180 - 5.7, 1.0), (180 - 5.8, 0.25)])
def test_the_gate_opens_at_5_73_degrees_on_either_side(degrees, share):
    """Two directions: one turned out of x, one exactly along -y."""
    angle = np.deg2rad(degrees)
    direction = np.array([[np.cos(angle), 0, np.sin(angle)], [0, -1, 0]])
    weight, length = np.array([0.75, 0.25]), np.array([2.0, 3.0])
    gate = AfiConfig.released().min_cosine
    on_x = along_line(np.array([1.0, 0, 0]), weight, direction, length, gate)
    on_y = along_line(np.array([0, 1.0, 0]), weight, direction, length, gate)
    assert on_x[0] + on_y[0] == pytest.approx(share)
    assert on_y == (0.25, 0, 3.0)  # against the line
    if share == 1:
        assert on_x[1:] == ((2.0, 0) if degrees < 90 else (0, 2.0))


def test_directions_are_unit_vectors_from_pole_to_pole():
    sphere = fibonacci_sphere(20)
    np.testing.assert_allclose(np.linalg.norm(sphere, axis=1), 1)
    np.testing.assert_allclose(sphere[[0, -1]], [(0, 1, 0), (0, -1, 0)], atol=1e-12)
    nearest = np.sort(sphere @ sphere.T, axis=1)[:, -2]
    assert nearest.max() < np.cos(np.deg2rad(25))


@pytest.mark.parametrize("count", [0, 1, 2, 6, 19, 40])
def test_few_points(count):
    points = plane()[:count]
    refined = refine_afi(points, labels(count, BUILDING), SPACE, ANYWHERE)
    assert refined.dtype == np.uint8
    np.testing.assert_array_equal(refined, labels(count, BUILDING))


@pytest.mark.parametrize("count", [3, 30])
def test_points_in_one_place_keep_their_labels(count):
    given_labels = (np.arange(count) % 4).astype(np.uint8)
    points = np.full((count, 3), 7.0)
    np.testing.assert_array_equal(refine_afi(points, given_labels, SPACE, ANYWHERE), given_labels)


def test_invalid_points_are_left_alone_and_change_nothing():
    points, given_labels = plane().astype(np.float32), labels(900, ROAD)
    given_labels[465] = PERSON
    broken = np.insert(points, [0, 300, 900], [(np.nan, 0, 0), (np.inf, 1, 1), (0, 0, -np.inf)], axis=0)
    with_broken = np.insert(given_labels, [0, 300, 900], [PERSON, NONE, CAR])
    refined = refine_afi(broken, with_broken, SPACE, ANYWHERE)
    invalid = ~np.isfinite(broken).all(axis=1)
    np.testing.assert_array_equal(refined[invalid], [PERSON, NONE, CAR])
    np.testing.assert_array_equal(refined[~invalid], refine_afi(points, given_labels, SPACE, ANYWHERE))


def test_a_point_without_a_label_receives_one_and_gives_none():
    given_labels = labels(900, ROAD)
    given_labels[465] = NONE
    assert (refine_afi(plane(), given_labels, SPACE, ANYWHERE) == ROAD).all()


def test_without_any_label_there_is_no_vote():
    assert (refine_afi(plane(), labels(900, NONE), SPACE, ANYWHERE) == NONE).all()


def test_same_labels_every_time_and_the_input_stays():
    rng = np.random.default_rng(3)
    points, given_labels = plane(), rng.integers(0, 4, 900).astype(np.uint8)
    before = given_labels.copy()
    first = refine_afi(points, given_labels, SPACE, ANYWHERE)
    np.testing.assert_array_equal(first, refine_afi(points, given_labels, SPACE, ANYWHERE))
    np.testing.assert_array_equal(given_labels, before)
    assert (first != given_labels).any()


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_classes_have_no_order(seed):
    """Other ids for the same classes: the same labels under their other ids, ties aside."""
    rng = np.random.default_rng(seed)
    points, given_labels = rng.normal(size=(150, 3)) * 5, rng.integers(0, 4, 150).astype(np.uint8)
    other_id = rng.permutation(4).astype(np.uint8)
    votes = decode(encode(points, np.eye(4)[given_labels], ANYWHERE), ANYWHERE)
    ranked = np.sort(votes, axis=1)
    clear = ranked[:, -1] - ranked[:, -2] > 1e-5
    straight = refine_afi(points, given_labels, SPACE, ANYWHERE)
    renamed = refine_afi(points, other_id[given_labels], SPACE, ANYWHERE)
    np.testing.assert_array_equal(other_id[straight][clear], renamed[clear])
    assert set(np.unique(straight)) <= set(np.unique(given_labels))


def test_probabilities_divide_a_vote():
    given_labels = labels(900, ROAD)
    given_labels[465] = PERSON
    whole = np.eye(4, dtype=np.float32)[given_labels]
    as_labels = refine_afi(plane(), given_labels, SPACE, ANYWHERE)
    np.testing.assert_array_equal(
        refine_afi(plane(), given_labels, SPACE, ANYWHERE, probabilities=whole * 3), as_labels
    )
    doubtful = np.tile(np.float32((0.4, 0.35, 0.25, 0)), (900, 1))
    assert (refine_afi(plane(), given_labels, SPACE, ANYWHERE, probabilities=doubtful) == CAR).all()


def test_ground_beside_the_vehicle_can_only_become_ground():
    """Low, flat, 2 to 5 m away, called car throughout: road votes reach it from farther out."""
    points = plane(40, 0.5, z=-1.84) - (20, 10, 0)
    given_labels = labels(1600, ROAD)
    distance = np.hypot(points[:, 0], points[:, 1])
    given_labels[distance < 4] = CAR
    refined = refine_afi(points, given_labels, SPACE, AfiConfig.released())
    beside = (distance > 2) & (distance < 5)
    assert (refined[beside & (given_labels == ROAD)] == ROAD).all()
    assert (refined[beside] == ROAD).mean() > 0.9
    kept = refine_afi(points, given_labels, SPACE, AfiConfig(near_ground=False))
    assert (kept[beside & (given_labels == CAR)] == CAR).mean() > 0.5


def test_without_ground_votes_the_near_ground_keeps_its_label():
    points = plane(40, 0.5, z=-1.84) - (20, 10, 0)
    refined = refine_afi(points, labels(1600, CAR), SPACE, AfiConfig.released())
    assert (refined == CAR).all()


@pytest.mark.parametrize(("distance", "expected"), [(0, 0.8), (10, 2 / 3), (20, 0.5), (40, 0.2)])
def test_images_are_believed_less_far_away(distance, expected):
    place = np.array([[0.6 * distance, 0.8 * distance, 5.0]])
    assert assist_probability(place, AfiConfig.released()) == pytest.approx([expected])


def test_images_give_objects_only_and_as_often_as_they_are_believed():
    """Own votes that outweigh all others, so that the draw shows."""
    rng = np.random.default_rng(0)
    points = rng.normal(size=(4000, 3))
    points[:, :2] *= 20 / np.hypot(points[:, 0], points[:, 1])[:, None]  # at 20 m: one half
    config = AfiConfig(near_ground=False, skip_weight_inexact=1000)
    image_labels = np.tile(np.uint8((CAR, PERSON, ROAD, NONE)), 1000)
    refined = refine_afi(points, labels(4000, BUILDING), SPACE, config, image_labels=image_labels, seed=1)
    assert (refined[image_labels == CAR] == CAR).mean() == pytest.approx(0.5, abs=0.05)
    assert (refined[image_labels == PERSON] == PERSON).mean() == pytest.approx(0.5, abs=0.05)
    assert not (refined == ROAD).any()
    again = refine_afi(points, labels(4000, BUILDING), SPACE, config, image_labels=image_labels, seed=1)
    other = refine_afi(points, labels(4000, BUILDING), SPACE, config, image_labels=image_labels, seed=2)
    np.testing.assert_array_equal(refined, again)
    assert (refined != other).any()


def test_beams_that_did_not_come_back_take_no_part_and_keep_their_labels():
    points = plane().astype(np.float32)
    given = labels(len(points), ROAD)
    given[::7] = CAR
    lost = np.array([[0, 0, 0], [0, -0.0, 0], [np.nan, 0, 0]] * 400, np.float32)
    both = np.asfortranarray(np.concatenate([points, lost]))  # kernels are compiled for C order
    refined = refine_afi(both, np.concatenate([given, labels(len(lost), PERSON)]), SPACE, ANYWHERE)
    np.testing.assert_array_equal(refined[: len(points)], refine_afi(points, given, SPACE, ANYWHERE))
    assert (refined[len(points) :] == PERSON).all()


def test_refuses_what_does_not_fit():
    points, good = plane()[:4], labels(4, CAR)
    with pytest.raises(InputError, match=r"points must have shape \(N, 3\), got \(4, 2\)"):
        refine_afi(points[:, :2], good, SPACE, ANYWHERE)
    with pytest.raises(InputError, match=r"class_id must be \(4,\) uint8, got \(3,\) uint8"):
        refine_afi(points, good[:3], SPACE, ANYWHERE)
    with pytest.raises(InputError, match=r"class_id must be \(4,\) uint8, got \(4,\) int64"):
        refine_afi(points, good.astype(np.int64), SPACE, ANYWHERE)
    with pytest.raises(InputError, match="class_id holds 4, but label space 'four' has the classes 0 to 3"):
        refine_afi(points, good + np.uint8(4), SPACE, ANYWHERE)
    with pytest.raises(InputError, match="image_labels holds 9"):
        refine_afi(points, good, SPACE, ANYWHERE, image_labels=labels(4, 9))
    with pytest.raises(InputError, match=r"probabilities must have shape \(4, 4\), got \(4, 3\)"):
        refine_afi(points, good, SPACE, ANYWHERE, probabilities=np.ones((4, 3), np.float32))
    with pytest.raises(InputError, match="negative or NaN"):
        refine_afi(points, good, SPACE, ANYWHERE, probabilities=np.full((4, 4), np.nan, np.float32))
    indoors = LabelSpace("indoors", ("chair", "lamp"), ((0, 0, 0),) * 2)
    with pytest.raises(ConfigError, match="'indoors' has no class that is known as ground"):
        refine_afi(points, good, indoors, AfiConfig.released())
