"""Scans from folders, from recordings, and made up."""

from __future__ import annotations

import numpy as np
import pytest
import small_drive

from ov_seg_ros.bench.scans import as_scan, load_point_file, load_scans
from ov_seg_ros.core.data_types import PointCloud
from ov_seg_ros.core.errors import InputError
from ov_seg_ros.messages.pointcloud2 import decode_pointcloud2


def write_bin(path, count, columns):
    rows = np.random.default_rng(count).uniform(-50, 50, (count, columns)).astype("<f4")
    if columns == 5:
        rows[:, 4] = np.arange(count) % 32
    rows.tofile(path)
    return rows


@pytest.mark.parametrize("count", [7, 10, 20])  # 10 rows of 4 and 20 rows of 4 are as long as 8 and 16 rows of 5
def test_kitti_and_nuscenes_are_told_apart(tmp_path, count):
    four, five = write_bin(tmp_path / "four.bin", count, 4), write_bin(tmp_path / "five.bin", count, 5)
    cloud, ring = load_point_file(tmp_path / "four.bin")
    assert (cloud.points == four[:, :3]).all()
    assert (cloud.intensity == four[:, 3]).all()
    assert ring is None
    cloud, ring = load_point_file(tmp_path / "five.bin")
    assert (cloud.points == five[:, :3]).all()
    assert (ring == np.arange(count) % 32).all()


@pytest.mark.parametrize("size", [0, 1, 15, 33])
def test_a_file_of_neither_kind_is_refused(tmp_path, size):
    (tmp_path / "cut.bin").write_bytes(bytes(range(1, size + 1)))
    with pytest.raises(InputError, match=r"cut\.bin holds \d+ bytes; expected rows of 4 float32"):
        load_point_file(tmp_path / "cut.bin")


def test_the_message_holds_what_the_cloud_holds():
    cloud = PointCloud(np.arange(6, dtype=np.float32).reshape(2, 3), np.array([7, 8], np.float32))
    scan = as_scan("two points", cloud, np.array([3, 4], np.uint16))
    decoded = decode_pointcloud2(scan.message)
    assert (decoded.cloud.points == cloud.points).all()
    assert (decoded.cloud.intensity == cloud.intensity).all()
    assert decoded.fields["ring"].tolist() == [3, 4]
    assert (scan.beams, len(scan)) == (32, 2)


def test_a_folder_gives_its_middle_scan_of_each_size_and_the_rest_is_made_up(tmp_path):
    folder = tmp_path / "scans" / "deep"
    folder.mkdir(parents=True)
    for number, count in enumerate((100, 200, 300)):
        write_bin(folder / f"{number}.bin", count, 4)
    scans = load_scans([tmp_path / "scans"])
    assert [(scan.name, scan.beams) for scan in scans] == [("scans 32", 32), ("synthetic 64", 64)]
    assert len(scans[0]) == 200
    write_bin(folder / "large.bin", 70_000, 5)
    assert [scan.name for scan in load_scans([tmp_path / "scans"])] == ["scans 32", "scans 64"]
    assert [scan.name for scan in load_scans([folder / "1.bin", "synthetic"])] == [
        "synthetic 32",
        "1.bin 32",
        "synthetic 64",
    ]


def test_a_recording_gives_a_later_scan_as_it_was_recorded(tmp_path):
    bag = small_drive.write_small_drive(tmp_path / "drive")
    scan = load_scans([bag])[0]
    assert scan.name == "drive 32"
    assert (scan.cloud.points == small_drive.ring()).all()
    assert decode_pointcloud2(scan.message).cloud.stamp_ns > small_drive.START_NS


def test_nothing_named_is_made_up():
    assert [(scan.name, scan.beams) for scan in load_scans(())] == [("synthetic 32", 32), ("synthetic 64", 64)]


def test_what_is_no_source_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"does not exist; expected a folder of \.bin scans, a recording, or"):
        load_scans([tmp_path / "nothing"])
    with pytest.raises(InputError, match=r"holds no \.bin scans .* and is no recording"):
        load_scans([tmp_path])
