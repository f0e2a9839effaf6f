"""SemanticKITTI labels and PLY, checked byte by byte."""

import numpy as np
import pytest

from ov_seg_ros.bags.label_files import read_kitti_labels, write_kitti_labels, write_ply
from ov_seg_ros.core.errors import InputError
from ov_seg_ros.core.label_space import LabelSpace

SPACE = LabelSpace("two", ("car", "road"), ((250, 1, 2), (3, 4, 5)))


def test_labels_are_uint32_with_the_class_in_the_low_half(tmp_path):
    write_kitti_labels(tmp_path / "a.label", np.array([0, 1, 255], np.uint8), np.array([0, 7, 65535]))
    assert (tmp_path / "a.label").read_bytes() == bytes([0, 0, 0, 0, 1, 0, 7, 0, 255, 0, 255, 255])
    class_id, instance_id = read_kitti_labels(tmp_path / "a.label")
    assert class_id.tolist() == [0, 1, 255]
    assert instance_id.tolist() == [0, 7, 65535]


def test_labels_without_instances(tmp_path):
    write_kitti_labels(tmp_path / "a.label", np.array([3], np.uint8))
    assert (tmp_path / "a.label").read_bytes() == bytes([3, 0, 0, 0])


def test_wrong_instances_and_cut_off_labels(tmp_path):
    with pytest.raises(InputError, match=r"shape \(2,\), got \(1,\)"):
        write_kitti_labels(tmp_path / "a.label", np.zeros(2, np.uint8), np.zeros(1, int))
    with pytest.raises(InputError, match="must fit 16 bits, got 0 to 65536"):
        write_kitti_labels(tmp_path / "a.label", np.zeros(2, np.uint8), np.array([0, 65536]))
    (tmp_path / "b.label").write_bytes(bytes(7))
    with pytest.raises(InputError, match="no multiple of 4"):
        read_kitti_labels(tmp_path / "b.label")


def test_ply(tmp_path):
    points = np.array([[1, 2, 3], [np.nan, 5, 6]], np.float32)
    write_ply(tmp_path / "a.ply", points, np.array([1, 255], np.uint8), SPACE)
    header, _, body = (tmp_path / "a.ply").read_bytes().partition(b"end_header\n")
    assert header.decode().splitlines() == [
        "ply",
        "format binary_little_endian 1.0",
        "comment class 0 car",
        "comment class 1 road",
        "element vertex 2",
        "property float x",
        "property float y",
        "property float z",
        "property uchar red",
        "property uchar green",
        "property uchar blue",
        "property uchar class_id",
    ]
    expected = points[0].tobytes() + bytes([3, 4, 5, 1]) + points[1].tobytes() + bytes([128, 128, 128, 255])
    assert body == expected


def test_ply_of_no_points(tmp_path):
    write_ply(tmp_path / "a.ply", np.zeros((0, 3), np.float32), np.zeros(0, np.uint8), SPACE)
    assert b"element vertex 0" in (tmp_path / "a.ply").read_bytes()
    with pytest.raises(InputError, match=r"class_id must have shape \(1,\), got \(2,\)"):
        write_ply(tmp_path / "a.ply", np.zeros((1, 3), np.float32), np.zeros(2, np.uint8), SPACE)
