"""SemanticKITTI as a whole: splits, 1 %, label spaces, files around the scans, and the real scans in 19 classes."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ov_seg_ros.core.errors import ConfigError, InputError
from training.sources.kitti_odometry import OdometrySequence
from training.sources.label_mapping import LabelMapping
from training.sources.semantickitti import SemanticKitti
from training.sources.semantickitti_dataset import (
    SemanticKittiDataset,
    SemanticKittiSelection,
    is_semantickitti_root,
    only_sequence,
    sequences_of_split,
)

SHARED = Path(os.environ.get("OV_SEG_SHARED", Path(__file__).resolve().parents[4] / "shared"))
REAL = SHARED / "data" / "semantickitti"

CALIBRATION = "P2: 10 0 9.5 5 0 10 4.5 0 0 0 1 0\nTr: 0 -1 0 0 0 0 -1 0 1 0 0 -0.5\n"


def write_sequence(folder, scans, labelled=True):
    """Scan n of sequence s has one point, (s, n, 0), of class n % 2: road or car."""
    for part in ("velodyne", "labels") if labelled else ("velodyne",):
        (folder / part).mkdir(parents=True)
    for number in range(scans):
        np.array([[int(folder.name), number, 0, 0.5]], "<f4").tofile(folder / "velodyne" / f"{number:06d}.bin")
        if labelled:
            np.array([(40, 10)[number % 2] | 3 << 16], "<u4").tofile(folder / "labels" / f"{number:06d}.label")
    return folder


@pytest.fixture
def root(tmp_path):
    """``dataset/sequences`` with 5 scans in 00, 2 in 01, 3 in 08 and 1, without label, in 11."""
    for name, scans in (("00", 5), ("01", 2), ("08", 3)):
        write_sequence(tmp_path / "kitti" / "dataset" / "sequences" / name, scans)
    write_sequence(tmp_path / "kitti" / "dataset" / "sequences" / "11", 1, labelled=False)
    return tmp_path / "kitti"


def test_the_official_splits():
    assert sequences_of_split("train") == ["00", "01", "02", "03", "04", "05", "06", "07", "09", "10"]
    assert sequences_of_split("val") == ["08"]
    assert sequences_of_split("test") == [str(number) for number in range(11, 22)]


def test_sequences_in_a_row(root):
    source = SemanticKittiDataset(root, SemanticKittiSelection("train", ("01", "00")), labels="semantickitti19")
    assert (source.name, len(source)) == ("semantickitti_train_00_01", 7)
    samples = [source.load_sample(i) for i in range(7)]
    assert [tuple(s.cloud.points[0, :2]) for s in samples] == [(0, n) for n in range(5)] + [(1, 0), (1, 1)]
    assert samples[5].key == "semantickitti_train_00_01/01_000000"
    assert [int(s.class_id[0]) for s in samples] == [8, 0, 8, 0, 8, 8, 0]  # road and car of the 19
    assert source.load_raw_class_id(6).tolist() == [10]
    assert source.load_scan_fields(6)["instance_id"].tolist() == [3]
    with pytest.raises(InputError, match="has samples 0 to 6, got index 7"):
        source.load_sample(7)


def test_one_percent_counts_through_all_sequences(root):
    """SLidR: ``sorted(all scans of train)[::skip]``; 00 has scans 0..4, 01 goes on with 5 and 6."""
    source = SemanticKittiDataset(root, SemanticKittiSelection(sequences=("00", "01"), skip=3))
    assert [source.load_sample(i).key.partition("/")[2] for i in range(len(source))] == [
        "00_000000",
        "00_000003",
        "01_000001",
    ]
    assert source.name == "semantickitti_00_01_skip3"
    with pytest.raises(InputError, match="got index 3"):
        source.load_sample(3)


def test_everything_and_what_has_no_labels(root):
    everything = SemanticKittiDataset(root)
    assert (everything.name, len(everything), everything.label_space.name) == ("semantickitti_all", 11, "nuscenes16")
    assert everything.load_sample(10).class_id is None
    test = SemanticKittiDataset(root, SemanticKittiSelection(sequences=("11",)))
    assert test.label_space is None
    assert test.load_scan_fields(0) == {}
    val = SemanticKittiDataset(root, SemanticKittiSelection("val"))
    assert {val.load_sample(i).cloud.points[0, 0] for i in range(3)} == {8}


def test_what_is_missing_is_said(root, tmp_path):
    with pytest.raises(InputError, match=r"kitti lacks the scans of sequence 02 03 .* 10; .*sequences=00\+01"):
        SemanticKittiDataset(root, SemanticKittiSelection("train"))
    with pytest.raises(InputError, match=r"08 is no sequence of split train; it has 00 01 02"):
        SemanticKittiDataset(root, SemanticKittiSelection("train", ("08",)))
    with pytest.raises(InputError, match=r"33 is no sequence of .*kitti; it has 00 01 08 11"):
        SemanticKittiDataset(root, SemanticKittiSelection(sequences=("33",)))
    with pytest.raises(InputError, match="is no SemanticKITTI root"):
        SemanticKittiDataset(tmp_path)
    with pytest.raises(
        InputError, match=r"holds 4 SemanticKITTI sequences; choose one:\n .*sequences/00\n(.*\n)*or many"
    ):
        only_sequence(root)
    with pytest.raises(ConfigError, match="has no split 'valid'; known: train, val, test"):
        SemanticKittiSelection("valid")
    with pytest.raises(ConfigError, match="skip must be 1"):
        SemanticKittiSelection(skip=0)
    with pytest.raises(ConfigError, match="sequences must differ"):
        SemanticKittiSelection(sequences=("00", "00"))
    with pytest.raises(ConfigError, match="there are semantickitti_to_nuscenes16, semantickitti_to_semantickitti19"):
        SemanticKittiDataset(root, labels="cityscapes")
    assert is_semantickitti_root(root)
    assert is_semantickitti_root(root / "dataset")
    assert not is_semantickitti_root(tmp_path)


def test_the_19_classes_are_those_of_the_benchmark():
    """learning_map of semantic-kitti.yaml: raw id to 1..19, 0 = ignored."""
    learning_map = {0: 0, 1: 0, 10: 1, 11: 2, 13: 5, 15: 3, 16: 5, 18: 4, 20: 5, 30: 6, 31: 7, 32: 8, 40: 9, 44: 10}
    learning_map |= {48: 11, 49: 12, 50: 13, 51: 14, 52: 0, 60: 9, 70: 15, 71: 16, 72: 17, 80: 18, 81: 19, 99: 0}
    learning_map |= {252: 1, 253: 7, 254: 6, 255: 8, 256: 5, 257: 5, 258: 4, 259: 5}
    mapping = LabelMapping.load("semantickitti_to_semantickitti19")
    assert mapping.class_ids == {raw: 255 if learned == 0 else learned - 1 for raw, learned in learning_map.items()}
    assert mapping.names == LabelMapping.load("semantickitti_to_nuscenes16").names
    assert mapping.shared_class_ids == tuple(range(19))
    assert mapping.target.class_names[0] == "car"
    assert mapping.target.palette[0] == (100, 150, 245)  # color_map has it blue first: [245, 150, 100]
    with pytest.raises(InputError, match="here: ids -1, 300 are none of semantickitti"):
        mapping.map_ids(np.array([300, 10, -1]), "here")


def test_poses_of_the_benchmark_lie_beside_the_sequences(root):
    """``poses/00.txt`` is used where the sequence has no poses of its own."""
    base = root / "dataset"
    (base / "poses").mkdir()
    (base / "poses" / "00.txt").write_text("1 0 0 0 0 1 0 0 0 0 1 0\n" + "1 0 0 1 0 1 0 2 0 0 1 3\n" * 4)
    sequence = base / "sequences" / "00"
    (sequence / "calib.txt").write_text(CALIBRATION)
    pose = SemanticKitti(sequence).load_sample(4).world_from_lidar
    np.testing.assert_allclose(pose[:3, 3], [3, -1, -2], atol=1e-12)  # 1 right, 2 down, 3 ahead of the camera
    (sequence / "poses.txt").write_text("1 0 0 0 0 1 0 0 0 0 1 7\n" * 5)
    pose = SemanticKitti(sequence).load_sample(4).world_from_lidar
    np.testing.assert_allclose(pose[:3, 3], [7, 0, 0], atol=1e-12)


def test_damaged_files_around_the_scans(root):
    folder = root / "dataset" / "sequences" / "00"
    (folder / "calib.txt").write_text(CALIBRATION)
    for text, message in (
        ("1 0 0 0 0 1 0 0 0 0 1\n", r"poses.txt, line 1: expected 12 numbers, got 11; copy it again"),
        ("1 0 0 0 0 1 0 0 0 0 1 0\n1 x\n", r"poses.txt, line 2: expected numbers \(could not convert"),
        ("1 0 0 0 0 1 0 0 0 0 1 0\n\n", r"poses.txt has 1 lines, none for scan 4"),
    ):
        (folder / "poses.txt").write_text(text)
        with pytest.raises(InputError, match=message):
            SemanticKitti(folder).load_sample(4)
    (folder / "poses.txt").unlink()
    (folder / "times.txt").write_text("0.0\nnow\n")
    with pytest.raises(InputError, match=r"times.txt, line 2: expected numbers"):
        SemanticKitti(folder).load_sample(0)
    (folder / "times.txt").unlink()
    (folder / "image_2").mkdir()
    Image.new("RGB", (20, 10)).save(folder / "image_2" / "000000.png")
    (folder / "calib.txt").write_text(CALIBRATION.replace("P2: 10", "P2: 0"))
    with pytest.raises(InputError, match=r"calib.txt: P2 begins with \[\[0.0, .* expected K with focal lengths > 0"):
        SemanticKitti(folder).load_sample(0)
    (folder / "calib.txt").unlink()
    with pytest.raises(InputError, match=r"has image_2 but no calib.txt; unpack data_odometry_calib.zip"):
        SemanticKitti(folder).load_sample(0)
    (folder / "velodyne" / "copy.bin").write_bytes(bytes(16))
    with pytest.raises(InputError, match=r"copy.bin: scans are named by their number"):
        SemanticKitti(folder)


def test_a_sequence_without_anything_but_scans(tmp_path):
    sequence = OdometrySequence(tmp_path)
    assert sequence.world_from_lidar(3) is None
    assert sequence.load_images("000000", 1) == ()
    assert sequence.stamp_ns(2) - sequence.stamp_ns(0) == 200_000_000


@pytest.mark.skipif(not REAL.is_dir(), reason="needs shared/data/semantickitti")
def test_the_real_scans_in_19_classes():
    source = SemanticKittiDataset(REAL, SemanticKittiSelection(skip=2), labels="semantickitti19")
    assert [source.load_sample(i).key for i in range(len(source))] == [
        "semantickitti_all_skip2/00_000000",
        "semantickitti_all_skip2/00_000003",
    ]
    sample = SemanticKittiDataset(REAL, labels="semantickitti19").load_sample(0)
    names = [source.label_space.class_names[i] for i in np.unique(sample.class_id) if i != 255]
    assert {"car", "road", "parking", "sidewalk", "building", "fence", "vegetation", "pole"} <= set(names)
    raw = source.load_raw_class_id(0)
    assert np.count_nonzero(sample.class_id == 8) == np.isin(raw, (40, 60)).sum() > 20_000
    assert np.count_nonzero(sample.class_id == 255) == np.isin(raw, (0, 1, 52, 99)).sum()
