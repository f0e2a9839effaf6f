"""KITTI raw: the calibration chain by hand, stamps, poses, damaged files, and the real recording."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ov_seg_ros.core.errors import InputError
from training.sources.kitti_raw import KittiRaw, is_kitti_raw

SHARED = Path(os.environ.get("OV_SEG_SHARED", Path(__file__).resolve().parents[4] / "shared"))
REAL = SHARED / "data" / "kitti_raw" / "2011_09_26"

CAM_TO_CAM = """calib_time: 09-Jan-2012 13:57:47
R_rect_00: 1 0 0 0 1 0 0 0 1
S_rect_02: 20 10
P_rect_02: 10 0 9.5 5 0 10 4.5 -2 0 0 1 0.5
"""
VELO_TO_CAM = "calib_time: 15-Mar-2012\nR: 0 -1 0 0 0 -1 1 0 0\nT: 0.1 0.2 0.3\n"


@pytest.fixture
def drive(tmp_path):
    """Two frames, the second without an image; three points each."""
    folder = tmp_path / "2011_09_26" / "2011_09_26_drive_0001_sync"
    (folder / "velodyne_points" / "data").mkdir(parents=True)
    (folder / "image_02" / "data").mkdir(parents=True)
    (folder.parent / "calib_cam_to_cam.txt").write_text(CAM_TO_CAM)
    (folder.parent / "calib_velo_to_cam.txt").write_text(VELO_TO_CAM)
    for index in range(2):
        points = np.arange(12, dtype="<f4").reshape(3, 4) + index
        points.tofile(folder / "velodyne_points" / "data" / f"{index:010d}.bin")
    Image.new("RGB", (20, 10), (200, 100, 50)).save(folder / "image_02" / "data" / "0000000000.png")
    return folder


def test_points_image_and_key(drive):
    source = KittiRaw(drive)
    sample = source.load_sample(0)
    assert (len(source), source.name, source.label_space) == (2, "2011_09_26_drive_0001_sync", None)
    assert sample.key == "2011_09_26_drive_0001_sync/0000000000"
    np.testing.assert_array_equal(sample.cloud.points, [[0, 1, 2], [4, 5, 6], [8, 9, 10]])
    assert sample.cloud.intensity.tolist() == [3, 7, 11]
    assert sample.cloud.frame_id == "lidar"
    assert sample.images[0].image[0, 0].tolist() == [200, 100, 50]
    assert source.load_sample(1).images == ()
    assert sample.world_from_lidar is None


def test_the_projection_is_that_of_the_data_set(drive):
    image = KittiRaw(drive).load_sample(0).images[0]
    point = np.array([6.0, 1.0, -0.5, 1.0])
    projection = np.array([[10, 0, 9.5, 5], [0, 10, 4.5, -2], [0, 0, 1, 0.5]])
    reference = np.array([[0, -1, 0, 0.1], [0, 0, -1, 0.2], [1, 0, 0, 0.3], [0, 0, 0, 1]])
    u, v, depth = projection @ reference @ point
    pixels, valid = image.camera.project((image.camera_from_lidar @ point)[None, :3])
    assert valid.all()
    np.testing.assert_allclose(pixels[0], [u / depth, v / depth], rtol=1e-6)
    assert (image.camera_from_lidar @ point)[2] == pytest.approx(depth)


def test_a_date_folder_with_one_drive_is_that_drive(drive):
    assert is_kitti_raw(drive)
    assert is_kitti_raw(drive.parent)
    assert KittiRaw(drive.parent).name == drive.name
    (drive.parent / "2011_09_26_drive_0002_sync" / "velodyne_points").mkdir(parents=True)
    with pytest.raises(InputError, match=r"holds 2 drives; choose one:\n  .*drive_0001_sync\n  .*drive_0002_sync"):
        KittiRaw(drive.parent)


def test_stamps_without_a_file_are_a_tenth_of_a_second_apart(drive):
    source = KittiRaw(drive)
    midnight = 1_316_995_200_000_000_000  # 2011-09-26 00:00 UTC
    assert [source.load_sample(i).cloud.stamp_ns - midnight for i in range(2)] == [0, 100_000_000]


def test_stamps_of_the_files_are_exact(drive):
    (drive / "velodyne_points" / "timestamps.txt").write_text("2011-09-26 13:02:25.951199337\n2011-09-26 13:02:26.05\n")
    (drive / "image_02" / "timestamps.txt").write_text("2011-09-26 13:02:25.964389445\n")
    source = KittiRaw(drive)
    sample = source.load_sample(0)
    assert sample.cloud.stamp_ns == 1_317_042_145_951_199_337
    assert sample.images[0].stamp_ns - sample.cloud.stamp_ns == 13_190_108
    assert source.load_sample(1).cloud.stamp_ns == 1_317_042_146_050_000_000
    (drive / "velodyne_points" / "timestamps.txt").write_text("2011-09-26 13:02:25.951199337\n")
    with pytest.raises(InputError, match="has 1 lines, none for frame 0000000001"):
        KittiRaw(drive).load_sample(1)
    (drive / "velodyne_points" / "timestamps.txt").write_text("yesterday\n")
    with pytest.raises(InputError, match=r"timestamps\.txt, line 1: expected YYYY-MM-DD"):
        KittiRaw(drive).load_sample(0)


def test_frames_that_the_velodyne_lost_have_empty_stamps(drive):
    """As in 2011_09_26_drive_0009: no scan, but a line of its own, so that the later frames keep theirs."""
    lines = ["2011-09-26 13:02:25.1", "", "2011-09-26 13:02:25.3"]
    (drive / "velodyne_points" / "timestamps.txt").write_text("\n".join(lines) + "\n")
    scans = drive / "velodyne_points" / "data"
    (scans / "0000000001.bin").rename(scans / "0000000002.bin")
    first, third = (KittiRaw(drive).load_sample(i).cloud.stamp_ns for i in range(2))
    assert third - first == 200_000_000
    (scans / "0000000002.bin").rename(scans / "0000000001.bin")
    with pytest.raises(InputError, match="has 3 lines, none for frame 0000000001"):
        KittiRaw(drive).load_sample(1)


def test_poses_of_the_gps(drive):
    (drive / "oxts" / "data").mkdir(parents=True)
    (drive.parent / "calib_imu_to_velo.txt").write_text("R: 1 0 0 0 1 0 0 0 1\nT: -0.8 0.3 -0.8\n")
    quarter = np.pi / 2
    (drive / "oxts" / "data" / "0000000000.txt").write_text("49.0 8.0 110 0 0 0 1 2 3")
    (drive / "oxts" / "data" / "0000000001.txt").write_text(f"49.0 8.0001 111 0 0 {quarter} 1 2 3")
    first, second = (KittiRaw(drive).load_sample(i).world_from_lidar for i in range(2))
    np.testing.assert_allclose(first[:3, 3], [0.8, -0.3, 0.8], atol=1e-9)
    east = np.radians(0.0001) * 6378137 * np.cos(np.radians(49))
    # the LiDAR sits at (0.8, -0.3, 0.8) of the IMU, which has turned left by 90 degrees: x -> y, y -> -x
    np.testing.assert_allclose(second[:3, 3], [east + 0.3, 0.8, 1.8], atol=1e-6)
    np.testing.assert_allclose(second[:3, :3], [[0, -1, 0], [1, 0, 0], [0, 0, 1]], atol=1e-9)


def test_damaged_and_missing_files(drive):
    source = KittiRaw(drive)
    path = drive / "velodyne_points" / "data" / "0000000000.bin"
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(InputError, match=r"0000000000.bin holds 45 bytes, .* multiple of 16 .* copy it again"):
        source.load_sample(0)
    (drive / "image_02" / "data" / "0000000001.png").write_bytes(b"\x89PNG\r\n")
    with pytest.raises(InputError, match=r"0000000001\.png cannot be read"):
        source.load_sample(1)
    with pytest.raises(InputError, match="has samples 0 to 1, got index 2"):
        source.load_sample(2)
    (drive.parent / "calib_velo_to_cam.txt").write_text("R: 1 2 3\n")
    with pytest.raises(InputError, match=r"calib_velo_to_cam.txt: R must have 9 numbers, got 3"):
        KittiRaw(drive)
    (drive.parent / "calib_velo_to_cam.txt").write_text("T: 1 2 3\n")
    with pytest.raises(InputError, match="has no entry R; it has T"):
        KittiRaw(drive)
    (drive.parent / "calib_cam_to_cam.txt").unlink()
    with pytest.raises(InputError, match=r"has no calibration: expected calib_cam_to_cam.txt .* download"):
        KittiRaw(drive)


def test_files_that_do_not_belong_together(drive):
    Image.new("RGB", (10, 20)).save(drive / "image_02" / "data" / "0000000000.png")
    with pytest.raises(InputError, match=r"0000000000.png has 10 x 20 pixels, its calibration is for 20 x 10"):
        KittiRaw(drive).load_sample(0)
    (drive / "oxts" / "data").mkdir(parents=True)
    (drive / "oxts" / "data" / "0000000001.txt").write_text("49.0 8.0 110 0 0")
    with pytest.raises(InputError, match=r"0000000001.txt: expected at least 6 numbers .*, got 5"):
        KittiRaw(drive).load_sample(1)
    (drive / "oxts" / "data" / "0000000001.txt").write_text("49.0 8.0 110 0 0 0")
    with pytest.raises(InputError, match=r"calib_imu_to_velo.txt does not exist; unpack the calibration"):
        KittiRaw(drive).load_sample(1)
    (drive / "oxts" / "data" / "readme.txt").write_text("49.0 8.0 110 0 0 0")
    with pytest.raises(InputError, match=r"readme.txt: files of oxts are named by their frame"):
        KittiRaw(drive).load_sample(1)
    (drive / "velodyne_points" / "data" / "0000000000.bin").write_bytes(b"")
    with pytest.raises(InputError, match=r"0000000000.bin is empty; copy it again"):
        KittiRaw(drive).load_sample(0)


def test_folders_that_are_none(tmp_path):
    assert not is_kitti_raw(tmp_path)
    with pytest.raises(InputError, match="is no KITTI raw folder"):
        KittiRaw(tmp_path)
    (tmp_path / "velodyne_points").mkdir()
    with pytest.raises(InputError, match=r"holds no velodyne_points/data"):
        KittiRaw(tmp_path)


@pytest.mark.skipif(not REAL.is_dir(), reason="needs shared/data/kitti_raw")
def test_the_real_recording_hits_its_images():
    """Between 15.2 k and 16.3 k points fall into each image (README of the data)."""
    source = KittiRaw(REAL)
    assert len(source) == 16
    counts = []
    for index in (0, 4, 8, 12, 15):
        sample = source.load_sample(index)
        image = sample.images[0]
        points = sample.cloud.points @ image.camera_from_lidar[:3, :3].T + image.camera_from_lidar[:3, 3]
        _, inside = image.camera.project(points)
        counts.append(int((inside & (points[:, 2] > 0.5)).sum()))
        assert image.image.shape == (375, 1242, 3)
    assert min(counts) >= 15_150
    assert max(counts) <= 16_350
