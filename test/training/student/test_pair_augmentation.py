"""Pairs follow their points, and lose what AFOV's cuboids and crops cut off, within AFOV's limits."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ov_seg_ros.core.data_types import SegmentPairs
from ov_seg_ros.core.errors import ConfigError
from training.student.augmentation import AugmentationConfig, augment, augment_and_trace
from training.student.examples import LabelledScan
from training.student.pair_augmentation import (
    PairAugmentationConfig,
    _random_crop,
    crop_images,
    drop_cuboid,
    drop_empty_segments,
    follow_points,
)

CONFIG = PairAugmentationConfig()
WIDTH, HEIGHT = 1600, 900


def make_scan(points):
    """Intensities tell the points apart."""
    count = len(points)
    number = np.arange(count, dtype=np.float32)
    zeros = np.zeros(count, np.uint16)
    return LabelledScan(
        points, number, zeros, zeros.astype(np.uint8), np.ones(count, np.float32), None, np.full(count, -1, np.int8)
    )


def make_pairs(point, camera, num_cameras=2, seed=0):
    """A pair per point, at random pixels, in as many segments as cameras."""
    rng = np.random.default_rng(seed)
    pixel = rng.uniform(0, [WIDTH - 1, HEIGHT - 1], (len(point), 2)).astype(np.float32)
    camera = np.asarray(camera, np.uint8)
    size = np.tile(np.array([WIDTH, HEIGHT], np.int32), (num_cameras, 1))
    text_id = np.arange(num_cameras, dtype=np.int32)
    features = np.eye(num_cameras, dtype=np.float32)
    return SegmentPairs(np.asarray(point, np.int32), camera, pixel, camera.astype(np.int32), text_id, features, size)


def cloud(count, seed=0):
    return np.random.default_rng(seed).uniform(-20, 20, (count, 3)).astype(np.float32)


def test_pairs_follow_points_by_hand():
    pairs = make_pairs([3, 0, 2, 3], [0, 0, 1, 1])
    left = follow_points(pairs, np.array([False, True, True, True]))
    assert left.point.tolist() == [2, 1, 2]
    assert left.camera.tolist() == [0, 1, 1]
    np.testing.assert_array_equal(left.pixel, pairs.pixel[[0, 2, 3]])


def test_empty_segments_are_left_out_and_the_rest_renumbered():
    pairs = replace(make_pairs([0, 1, 1], [1, 3, 1], num_cameras=4))
    filled = drop_empty_segments(pairs)
    assert filled.segment.tolist() == [0, 1, 0]
    assert filled.text_id.tolist() == [1, 3]
    np.testing.assert_array_equal(filled.features, np.eye(4)[[1, 3]])


@pytest.mark.parametrize("seed", range(5))
def test_augmented_pairs_stay_on_their_points(seed):
    """Turned, mirrored and thinned: heights and radii still tell the points apart."""
    scan = replace(make_scan(cloud(2000, seed)), ring=(np.arange(2000) % 32).astype(np.uint16))
    pairs = make_pairs(np.arange(0, 2000, 3), np.zeros(667))
    config = AugmentationConfig(tilt=0.0, scale=0.0, height=0.0, thin_rings=1.0)
    changed, kept = augment_and_trace(scan, config, np.random.default_rng(seed))
    left = follow_points(pairs, kept)
    before = scan.points[pairs.point[kept[pairs.point]]]
    after = changed.points[left.point]
    assert 100 < len(left) < 600
    np.testing.assert_allclose(after[:, 2], before[:, 2], atol=1e-5)
    np.testing.assert_allclose(np.hypot(*after[:, :2].T), np.hypot(*before[:, :2].T), rtol=1e-5)
    assert not np.allclose(after, before)


def test_tracing_does_not_change_the_augmentation():
    """The shipped student was trained on these random numbers: they must stay."""
    scan, config = make_scan(cloud(1000)), AugmentationConfig()
    changed, kept = augment_and_trace(scan, config, np.random.default_rng(5))
    again = augment(scan, config, np.random.default_rng(5))
    np.testing.assert_array_equal(again.points, changed.points)
    assert kept.sum() == len(changed) == 858
    np.testing.assert_allclose(changed.points[0], PINNED, rtol=1e-5)


PINNED = (-6.336884, 8.255989, -18.198748)


@pytest.mark.parametrize("seed", range(20))
def test_a_cuboid_takes_points_and_pairs(seed):
    points = cloud(20000, seed)
    points[7] = np.nan
    scan, pairs = make_scan(points), make_pairs(np.arange(20000), np.arange(20000) % 2)
    smaller, left = drop_cuboid(scan, pairs, CONFIG, np.random.default_rng(seed))
    gone = np.setdiff1d(np.arange(20000), smaller.intensity.astype(int))
    assert 0 < len(gone) < 0.02 * 20000  # 0.2 cubed is 0.008 of the volume
    assert (np.ptp(points[gone], axis=0) <= 0.2 * np.nanmax(np.ptp(cloud(20000, seed), axis=0))).all()
    low, high = points[gone].min(axis=0), points[gone].max(axis=0)
    inside = ((points > low) & (points < high)).all(axis=1)
    assert set(np.flatnonzero(inside)) <= set(gone)
    np.testing.assert_array_equal(smaller.intensity[left.point], np.setdiff1d(pairs.point, gone))
    assert np.isnan(smaller.points).any()


def test_a_cuboid_that_costs_a_camera_too_much_is_put_back():
    points = cloud(3000)
    scan, pairs = make_scan(points), make_pairs(np.arange(1024), np.zeros(1024))
    near = PairAugmentationConfig(drop_cuboid=1.0)
    sizes = set()
    for seed in range(30):
        smaller, left = drop_cuboid(scan, pairs, near, np.random.default_rng(seed))
        sizes.add(len(smaller) < 3000)
        assert len(left) == 1024
    assert sizes == {False, True}  # taken where it misses all the pairs, put back where it does not
    few = make_pairs(np.arange(100), np.zeros(100))
    assert drop_cuboid(scan, few, CONFIG, np.random.default_rng(0)) == (scan, few)
    alone = replace(CONFIG, min_pairs=0)
    assert len(drop_cuboid(scan, few, alone, np.random.default_rng(0))[0]) < 3000


def test_scans_without_points_or_pairs_are_left_alone():
    nothing, none = make_scan(cloud(0)), make_pairs([], [])
    assert drop_cuboid(nothing, none, CONFIG, np.random.default_rng(0))[0] is nothing
    assert len(crop_images(none, CONFIG, np.random.default_rng(0))) == 0
    # Cameras without pairs have no say: the cuboid is taken.
    scan = make_scan(cloud(3000))
    assert len(drop_cuboid(scan, none, CONFIG, np.random.default_rng(0))[0]) < 3000


@given(st.integers(0, 2**32 - 1), st.integers(200, 2000), st.integers(200, 2000))
def test_crops_keep_their_area_aspect_and_place(seed, width, height):
    low, high = _random_crop(width, height, CONFIG, np.random.default_rng(seed))
    size = high - low
    assert (low >= -0.5 - 1e-9).all()
    assert (high <= np.array([width, height]) - 0.5 + 1e-9).all()
    assert 14 / 9 - 1e-9 <= size[0] / size[1] <= 17 / 9 + 1e-9
    if (np.array([width, height]) * 0.999 > size).all():  # neither side touched: not the fallback
        assert 0.3 - 1e-9 <= size.prod() / (width * height) <= 1


def test_crops_keep_enough_pairs():
    camera = np.repeat([0, 1], [4000, 300])
    pairs = make_pairs(np.arange(4300), camera)
    shares = []
    for seed in range(50):
        left = crop_images(pairs, CONFIG, np.random.default_rng(seed))
        counts = np.bincount(left.camera, minlength=2)
        assert counts[0] > 1024
        assert counts[1] > 0.75 * 300
        shares.append(counts[0] / 4000)
        first = left.pixel[left.camera == 0]
        low, high = first.min(axis=0), first.max(axis=0)
        all_first = pairs.pixel[pairs.camera == 0]
        assert ((all_first >= low) & (all_first <= high)).all(axis=1).sum() == counts[0]
    assert min(shares) < 0.45
    assert max(shares) > 0.85


def test_an_image_that_no_crop_suits_stays_whole():
    pairs = make_pairs(np.arange(4), np.zeros(4))
    corners = np.array([[0, 0], [WIDTH - 1, 0], [0, HEIGHT - 1], [WIDTH - 1, HEIGHT - 1]], np.float32)
    pairs = replace(pairs, pixel=corners)
    assert len(crop_images(pairs, replace(CONFIG, crop_area=(0.3, 0.9)), np.random.default_rng(0))) == 4


def test_everything_can_be_turned_off():
    off = PairAugmentationConfig(drop_cuboid=0.0, crop_images=False)
    scan, pairs = make_scan(cloud(5000)), make_pairs(np.arange(5000), np.zeros(5000))
    assert drop_cuboid(scan, pairs, off, np.random.default_rng(0)) == (scan, pairs)
    assert crop_images(pairs, off, np.random.default_rng(0)) is pairs


@pytest.mark.parametrize("wrong", [{"drop_cuboid": 1.5}, {"crop_area": (0.9, 0.3)}, {"crop_aspect": (0.0, 1.0)}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        PairAugmentationConfig(**wrong)
