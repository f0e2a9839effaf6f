"""KITTI object folders: the calibration chain by hand, parts, damaged files, and the real frames."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ov_seg_ros.core.errors import InputError
from training.sources.kitti_object import KittiObject, is_kitti_object

SHARED = Path(os.environ.get("OV_SEG_SHARED", Path(__file__).resolve().parents[4] / "shared"))
CALIBRATION = """P0: 1 0 0 0 0 1 0 0 0 0 1 0
P2: 10 0 9.5 5 0 10 4.5 -2 0 0 1 0.5
R0_rect: 0 0 1 0 1 0 -1 0 0
Tr_velo_to_cam: 0 -1 0 0.1 0 0 -1 0.2 1 0 0 0.3
"""


@pytest.fixture
def training(tmp_path):
    folder = tmp_path / "kitti" / "training"
    for part in ("velodyne", "calib", "image_2"):
        (folder / part).mkdir(parents=True)
    for stem in ("000000", "000007"):
        np.arange(8, dtype="<f4").reshape(2, 4).tofile(folder / "velodyne" / f"{stem}.bin")
        (folder / "calib" / f"{stem}.txt").write_text(CALIBRATION)
    Image.new("RGB", (20, 10), (1, 2, 3)).save(folder / "image_2" / "000007.png")
    return folder


def test_frames(training):
    source = KittiObject(training)
    assert (len(source), source.name, source.label_space) == (2, "kitti_training", None)
    first, second = source.load_sample(0), source.load_sample(1)
    assert (first.key, second.key) == ("kitti_training/000000", "kitti_training/000007")
    assert first.cloud.points.tolist() == [[0, 1, 2], [4, 5, 6]]
    assert first.cloud.intensity.tolist() == [3, 7]
    assert (first.images, first.world_from_lidar, first.class_id) == ((), None, None)
    assert second.cloud.stamp_ns - first.cloud.stamp_ns == 7 * 10**9
    assert first.cloud.stamp_ns > 0
    assert second.images[0].name == "image_2"
    assert second.images[0].image[0, 0].tolist() == [1, 2, 3]


def test_the_projection_is_that_of_the_data_set(training):
    image = KittiObject(training).load_sample(1).images[0]
    point = np.array([1.0, 0.2, 6.0, 1.0])
    projection = np.array([[10, 0, 9.5, 5], [0, 10, 4.5, -2], [0, 0, 1, 0.5]])
    rectify = np.array([[0, 0, 1, 0], [0, 1, 0, 0], [-1, 0, 0, 0], [0, 0, 0, 1]])
    velo_to_cam = np.array([[0, -1, 0, 0.1], [0, 0, -1, 0.2], [1, 0, 0, 0.3], [0, 0, 0, 1]])
    u, v, depth = projection @ rectify @ velo_to_cam @ point
    in_camera = image.camera_from_lidar @ point
    assert in_camera[2] == pytest.approx(depth)
    np.testing.assert_allclose((image.camera.matrix @ in_camera[:3])[:2] / depth, [u / depth, v / depth])


def test_parts(training):
    assert is_kitti_object(training)
    assert is_kitti_object(training.parent)
    assert not is_kitti_object(training.parent.parent)
    assert KittiObject(training.parent).name == "kitti_training"
    for part in ("velodyne", "calib"):
        (training.parent / "testing" / part).mkdir(parents=True)
    (training.parent / "testing" / "velodyne" / "000000.bin").write_bytes(bytes(16))
    (training.parent / "testing" / "calib" / "000000.txt").write_text(CALIBRATION)
    with pytest.raises(InputError, match=r"holds several parts; choose one:\n  .*training\n  .*testing"):
        KittiObject(training.parent)
    with pytest.raises(InputError, match="is no KITTI object folder"):
        KittiObject(training.parent.parent)


def test_damaged_and_missing_files(training):
    source = KittiObject(training)
    (training / "calib" / "000007.txt").write_text(CALIBRATION.replace("R0_rect", "R_rect"))
    with pytest.raises(InputError, match=r"000007.txt has no entry R0_rect; it has P0, P2, R_rect, Tr_velo_to_cam"):
        source.load_sample(1)
    (training / "calib" / "000007.txt").unlink()
    with pytest.raises(InputError, match=r"000007.txt does not exist"):
        source.load_sample(1)
    (training / "velodyne" / "000000.bin").write_bytes(bytes(17))
    with pytest.raises(InputError, match="holds 17 bytes, which is no multiple of 16"):
        source.load_sample(0)


@pytest.mark.parametrize(
    ("folder", "counts"),
    [("kitti_object", (20_285, 18_630, 20_210)), ("kitti_pointpainting/training", None)],
)
def test_the_real_frames_hit_their_images(folder, counts):
    """Points per image as the README of the data counts them: pixel (0, 0) is the corner, depth > 0.5 m."""
    if not (SHARED / "data" / folder).is_dir():
        pytest.skip(f"needs shared/data/{folder}")
    source = KittiObject(SHARED / "data" / folder)
    found = []
    for index in range(3):
        sample = source.load_sample(index)
        image = sample.images[0]
        in_camera = sample.cloud.points @ image.camera_from_lidar[:3, :3].T + image.camera_from_lidar[:3, 3]
        u, v, w = image.camera.matrix @ in_camera[in_camera[:, 2] > 0.5].T
        inside = (u >= 0) & (u / w < image.camera.width) & (v >= 0) & (v / w < image.camera.height)
        found.append(int(inside.sum()))
    assert tuple(found) == counts if counts else all(16_500 <= n <= 20_100 for n in found)
