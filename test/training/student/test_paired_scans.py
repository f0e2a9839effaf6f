"""Pairs survive the disk, and arrive in a batch at the voxels of their points, whatever was augmented away."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from ov_seg_ros.core.data_types import SegmentPairs
from ov_seg_ros.core.errors import InputError
from ov_seg_ros.core.voxels import VoxelGrid
from training.student.augmentation import AugmentationConfig
from training.student.examples import LabelledScan, make_batch
from training.student.pair_augmentation import PairAugmentationConfig
from training.student.paired_scans import PairedScans, load_pairs, save_pairs

GRID = VoxelGrid("cartesian", (1.0, 1.0, 1.0), (0.0, -8.0, -8.0), (16.0, 8.0, 8.0))
FEATURES = ("offset_x", "height", "intensity")
UNCHANGED = AugmentationConfig(False, False, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
ALL = PairAugmentationConfig(drop_cuboid=0.0, crop_images=False)
SIZE = np.array([[100, 60]], np.int32)


def make_scan(points):
    points = np.asarray(points, np.float32)
    count = len(points)
    ones = np.ones(count, np.float32)
    return LabelledScan(
        points, ones, np.zeros(count, np.uint16), np.zeros(count, np.uint8), ones, None, np.full(count, -1, np.int8)
    )


def make_pairs(point, segment, text_id, features):
    camera, pixel = np.zeros(len(point), np.uint8), np.full((len(point), 2), 5.25, np.float32)
    of_segments = np.array(text_id, np.int32), np.array(features, np.float32)
    return SegmentPairs(np.array(point, np.int32), camera, pixel, np.array(segment, np.int32), *of_segments, SIZE)


SCAN = make_scan([[0.2, 0, 0], [0.4, 0, 0], [3.5, 0, 0], [99, 0, 0], [5.5, 0, 0]])
# Points 0 and 1 share a voxel; point 3 lies outside the grid, and is all that segment 1 has.
PAIRS = make_pairs([0, 1, 2, 3, 1], [0, 0, 0, 1, 2], [7, 8, 9], [[1, 0], [0, 1], [0.6, 0.8]])
OTHER = make_pairs([4, 2], [0, 1], [3, 7], [[0, 1], [1, 0]])
NONE = make_pairs([], [], [], np.zeros((0, 0)))


def write(folder, *pairs, scan=SCAN, augmentation=UNCHANGED, pair_augmentation=ALL):
    files = [(folder / f"{i}.npz", folder / f"{i}.pairs.npz") for i in range(len(pairs))]
    for (scan_file, pair_file), own in zip(files, pairs, strict=True):
        scan.save(scan_file)
        save_pairs(pair_file, own)
    return PairedScans(*map(list, zip(*files, strict=True)), GRID, FEATURES, augmentation, pair_augmentation)


def batch_of(examples, *indices, seed=0):
    return examples.make_batch(indices, 2, np.random.default_rng(seed))


def test_pairs_survive_the_disk(tmp_path):
    features = np.random.default_rng(0).normal(size=(3, 8)).astype(np.float32)
    save_pairs(tmp_path / "a" / "0.npz", replace(PAIRS, features=features))
    read = load_pairs(tmp_path / "a" / "0.npz")
    for field in fields(read):
        if field.name != "features":
            np.testing.assert_array_equal(getattr(read, field.name), getattr(PAIRS, field.name))
            assert getattr(read, field.name).dtype == getattr(PAIRS, field.name).dtype
    assert read.features.dtype == np.float16
    np.testing.assert_allclose(read.features, features, rtol=1e-3)
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["0.npz"]


def test_damaged_files_are_named(tmp_path):
    path = tmp_path / "0.npz"
    save_pairs(path, PAIRS)
    whole = path.read_bytes()
    for content in (b"", b"PK not really", whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"0\.npz holds no pairs .* delete it and lift again"):
            load_pairs(path)
        with pytest.raises(InputError, match=r"0\.npz is no labelled scan"):
            LabelledScan.load(path, with_color=False)
    with pytest.raises(InputError, match="missing"):
        load_pairs(tmp_path / "missing.npz")
    SCAN.save(path)
    with pytest.raises(InputError, match="holds no pairs"):
        load_pairs(path)
    save_pairs(path, replace(PAIRS, text_id=PAIRS.text_id[:1]))
    with pytest.raises(InputError, match="do not belong together"):
        load_pairs(path)


def test_a_batch_by_hand(tmp_path):
    batch = batch_of(write(tmp_path, PAIRS, NONE, OTHER), 0, 1, 2)
    # Each scan has voxels x = 0, 3 and 5, in this order.
    assert batch.features.shape == (9, 3)
    assert batch.pair_voxel.tolist() == [0, 0, 1, 0, 8, 7]
    assert batch.pair_segment.tolist() == [0, 0, 0, 1, 2, 3]
    assert batch.segment_text.tolist() == [7, 9, 3, 7]
    assert batch.scan_of_segment.tolist() == [0, 0, 2, 2]
    torch.testing.assert_close(
        batch.segment_features, torch.tensor([[1, 0], [0.6, 0.8], [0, 1], [1, 0]]), atol=1e-3, rtol=0
    )
    types = {name: getattr(batch, name).dtype for name in ("pair_voxel", "pair_segment", "segment_text")}
    assert set(types.values()) == {torch.int64}


def test_voxels_are_those_of_label_training(tmp_path):
    batch = batch_of(write(tmp_path, PAIRS, OTHER), 0, 1)
    labelled = make_batch([SCAN, SCAN], GRID, FEATURES, 2, 4)
    torch.testing.assert_close(batch.features, labelled.features, rtol=0, atol=0)
    for own, other in zip(batch.tables.levels, labelled.tables.levels, strict=True):
        torch.testing.assert_close(own.centre, other.centre)
        torch.testing.assert_close(own.neighbor, other.neighbor)


def test_a_batch_without_any_pair(tmp_path):
    batch = batch_of(write(tmp_path, NONE, NONE), 0, 1)
    assert (len(batch.pair_voxel), len(batch.scan_of_segment), len(batch.segment_features)) == (0, 0, 0)


@pytest.mark.parametrize("seed", range(4))
def test_pairs_stay_on_their_points_through_all_augmentation(tmp_path, seed):
    """Segments are slices of height, which turns, flips, drops, cuboids and crops all keep."""
    rng = np.random.default_rng(seed)
    points = rng.uniform([-8, -8, -8], [8, 8, 8], (6000, 3))
    height = np.floor(points[:, 2] + 8).astype(int)
    pairs = make_pairs(np.arange(6000), height, np.arange(16), np.eye(16))
    pairs = replace(pairs, pixel=rng.uniform(0, 59, (6000, 2)).astype(np.float32))
    config = replace(AugmentationConfig(), tilt=0.0, scale=0.0, height=0.0)
    grid = VoxelGrid("cartesian", (1.0, 1.0, 1.0), (-16.0, -16.0, -8.0), (16.0, 16.0, 8.0))
    examples = write(
        tmp_path, pairs, scan=make_scan(points), augmentation=config, pair_augmentation=PairAugmentationConfig()
    )
    batch = batch_of(replace(examples, grid=grid), 0, seed=seed)
    assert 1024 < len(batch.pair_voxel) < 5500
    assert (batch.pair_segment.diff() >= 0).all()  # points come in any order
    height_feature = batch.features[batch.pair_voxel, 1] * 4  # mean z of the voxel, which lies in one slice
    expected = batch.segment_text[batch.pair_segment]
    np.testing.assert_array_equal(torch.floor(height_feature + 8).clamp(0, 15).long(), expected)


def test_files_that_do_not_belong_together_are_refused(tmp_path):
    examples = write(tmp_path, make_pairs([0, 5], [0, 0], [1], [[1, 0]]), replace(OTHER, features=np.eye(3)[:2]), PAIRS)
    with pytest.raises(InputError, match=r"0\.pairs\.npz pairs point 5, but .*0\.npz has only 5"):
        examples.load(0)
    with pytest.raises(InputError, match="features of 3, 2 numbers: lift all with one teacher"):
        batch_of(examples, 1, 2)
    with pytest.raises(InputError, match="got 3 files of scans and 1 of pairs"):
        replace(examples, pair_files=examples.pair_files[:1])


def test_a_batch_moves_to_another_device(tmp_path):
    moved = batch_of(write(tmp_path, PAIRS), 0).to(torch.device("meta"))
    assert {getattr(moved, f.name).device.type for f in fields(moved) if f.name != "tables"} == {"meta"}
    assert moved.tables.levels[0].centre.device.type == "meta"
    assert moved.to(torch.device("meta")) is moved
