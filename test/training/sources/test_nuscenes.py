"""nuScenes: turned axes, ego motion between scan and image, tables, lidarseg, and the real keyframe."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ov_seg_ros.bags.convert import convert_source
from ov_seg_ros.bags.recording import Recording
from ov_seg_ros.bags.sample_stream import SampleStream
from ov_seg_ros.core.errors import ConfigError, InputError
from training.sources.nuscenes import NuScenes, is_nuscenes
from training.sources.nuscenes_axes import SENSOR_FROM_LIDAR, Box3d, turn_points
from training.sources.nuscenes_keyframe import NuScenesKeyframe, is_nuscenes_keyframe
from training.sources.nuscenes_splits import NuScenesSelection

SHARED = Path(os.environ.get("OV_SEG_SHARED", Path(__file__).resolve().parents[4] / "shared"))
REAL = SHARED / "data" / "nuscenes" / "scene-0061_first"
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason="needs shared/data/nuscenes")

SCAN = np.array([[1, 2, 3, 100, 0], [-4, 5, -6, 50, 31]], "<f4")  # x right, y forward
CAMERA_ON_EGO = {"translation": [1.5, 0, 1.5], "rotation": [0.5, -0.5, 0.5, -0.5]}  # looks forward; w, x, y, z
LIDAR_ON_EGO = {"translation": [1.0, 0, 2.0], "rotation": [np.sqrt(0.5), 0, 0, -np.sqrt(0.5)]}  # turned right by 90 deg


def row(token, **columns):
    return {"token": token, **columns}


def write_tables(folder, scenes=("scene-0001",)):
    """Two keyframes per scene, ego driving 10 m/s along global y; the camera is exposed 20 ms after the scan."""
    version = folder / "v1.0-mini"
    version.mkdir(parents=True)
    (folder / "samples").mkdir()
    SCAN.tofile(folder / "samples" / "scan.bin")
    Image.new("RGB", (16, 9), (9, 8, 7)).save(folder / "samples" / "image.jpg")
    tables = {"scene": [], "sample": [], "sample_data": [], "ego_pose": []}
    tables["sensor"] = [row("s0", channel="LIDAR_TOP"), row("s1", channel="CAM_FRONT"), row("s2", channel="RADAR")]
    intrinsic = [[10, 0, 8], [0, 10, 4.5], [0, 0, 1]]
    tables["calibrated_sensor"] = [
        row("c0", sensor_token="s0", camera_intrinsic=[], **LIDAR_ON_EGO),
        row("c1", sensor_token="s1", camera_intrinsic=intrinsic, **CAMERA_ON_EGO),
        row("c2", sensor_token="s2", camera_intrinsic=[], **LIDAR_ON_EGO),
    ]
    for number, scene in enumerate(scenes):
        tables["scene"].append(row(scene, name=scene))
        for frame in (1, 0):  # tables are in no order
            sample, time = f"{scene}/{frame}", 10**15 + number * 10**9 + frame * 500_000
            tables["sample"].append(row(sample, scene_token=scene, timestamp=time))
            for sensor, delay in (("0", 0), ("1", 20_000), ("2", 0)):
                token, stamp = f"{sample}/{sensor}", time + delay
                tables["ego_pose"].append(
                    row(
                        token, translation=[0, 10e-6 * (stamp - 10**15), 0], rotation=[np.sqrt(0.5), 0, 0, np.sqrt(0.5)]
                    )
                )
                columns = {"sample_token": sample, "ego_pose_token": token, "calibrated_sensor_token": f"c{sensor}"}
                columns |= {"timestamp": stamp, "is_key_frame": True, "width": 16, "height": 9}
                columns["filename"] = "samples/image.jpg" if sensor == "1" else "samples/scan.bin"
                tables["sample_data"] += [row(token, **columns), row(token + "x", **columns | {"is_key_frame": False})]
    for name, rows in tables.items():
        (version / f"{name}.json").write_text(json.dumps(rows))
    return folder


@pytest.fixture
def root(tmp_path):
    return write_tables(tmp_path / "nuscenes")


def test_a_root_may_be_called_like_its_archive(tmp_path):
    root = write_tables(tmp_path / "v1.0-mini")  # tar -x -C v1.0-mini -f v1.0-mini.tgz
    assert is_nuscenes(root)
    for folder in (root, root / "v1.0-mini"):
        source = NuScenes(folder)
        assert source.root == root
        assert len(source.load_sample(0).cloud) == 2


def test_axes_are_turned_exactly():
    turned = turn_points(SCAN[:, :3])
    assert turned.tolist() == [[2, -1, 3], [5, 4, -6]]  # forward, left, up
    back = np.c_[turned, np.ones(2)] @ SENSOR_FROM_LIDAR.T
    np.testing.assert_array_equal(back[:, :3], SCAN[:, :3])


def test_boxes_are_turned_with_the_points():
    # 2 m ahead, 1 m right; 4 m long, heading along the sensor's x (right)
    box = Box3d.from_sensor_axes("car", (1, 2, 0, 4, 2, 1, 0), 3)
    assert box.center == (2, -1, 0)
    assert box.yaw == pytest.approx(-np.pi / 2)
    inside = [[2, -2.99, 0], [2, 0.99, 0], [2.99, -1, 0.5], [1.01, -1, -0.5]]
    outside = [[2, -3.01, 0], [3.01, -1, 0], [2, -1, 0.51], [np.nan, 0, 0]]
    assert box.contains(np.array(inside)).all()
    assert not box.contains(np.array(outside)).any()


def test_a_keyframe_of_the_tables(root):
    source = NuScenes(root)
    assert (len(source), source.name, source.label_space) == (2, "nuscenes_scene-0001", None)
    sample = source.load_sample(1)
    assert sample.key == "nuscenes_scene-0001/000001"
    assert sample.cloud.stamp_ns == (10**15 + 500_000) * 1000
    assert sample.cloud.points.tolist() == [[2, -1, 3], [5, 4, -6]]
    assert sample.cloud.intensity.tolist() == [100, 50]
    assert source.load_scan_fields(1)["ring"].tolist() == [0, 31]
    (image,) = sample.images
    assert (image.name, image.stamp_ns - sample.cloud.stamp_ns) == ("CAM_FRONT", 20_000_000)
    assert sample.class_id is None


def test_ego_motion_is_in_the_calibration(root):
    image = NuScenes(root).load_sample(0).images[0]
    # a point 5 m ahead of the LiDAR; the camera sits 0.5 m further ahead, 0.5 m lower, and has driven 0.2 m on
    np.testing.assert_allclose(image.camera_from_lidar @ [5, 0, 0, 1], [0, -0.5, 4.3, 1], atol=1e-9)
    np.testing.assert_allclose(image.camera_from_lidar @ [5, 1, 0, 1], [-1, -0.5, 4.3, 1], atol=1e-9)


def test_the_pose_of_the_lidar(root):
    pose = NuScenes(root).load_sample(1).world_from_lidar
    np.testing.assert_allclose(pose[:3, 3], [0, 6, 2], atol=1e-9)  # 5 m driven, 1 m ahead of the ego frame
    np.testing.assert_allclose(pose[:3, 0], [0, 1, 0], atol=1e-9)  # forward is global y


def test_converted_to_a_recording_the_calibration_stays(root, tmp_path):
    source = NuScenes(root)
    convert_source(source, tmp_path / "out")
    with Recording.open(tmp_path / "out") as recording:
        samples = list(SampleStream(recording))
        tree = recording.transform_tree()
    for index, sample in enumerate(samples):
        expected = source.load_sample(index)
        np.testing.assert_allclose(sample.images[0].camera_from_lidar, expected.images[0].camera_from_lidar, atol=1e-9)
    np.testing.assert_allclose(
        tree.lookup("base_link", "lidar", 0)[:3, :], np.eye(4)[:3] + [[0, 0, 0, 1], [0] * 4, [0, 0, 0, 2]], atol=1e-9
    )


def test_lidarseg(root):
    label_file = {"sample_data_token": "scene-0001/0/0", "filename": "lidarseg.bin"}
    (root / "v1.0-mini" / "lidarseg.json").write_text(json.dumps([label_file]))
    np.array([17, 31], np.uint8).tofile(root / "lidarseg.bin")
    source = NuScenes(root)
    assert source.label_space.name == "nuscenes16"
    assert source.load_sample(0).class_id.tolist() == [source.label_space.class_names.index("car"), 255]
    assert source.load_sample(1).class_id is None
    (root / "lidarseg.bin").write_bytes(b"1")
    with pytest.raises(InputError, match=r"lidarseg.bin: 1 bytes for 2 points"):
        NuScenes(root).load_sample(0)


def test_several_scenes_need_a_choice(tmp_path):
    root = write_tables(tmp_path / "n", scenes=("scene-0001", "scene-0061"))
    with pytest.raises(InputError, match=r"holds 2 scenes; choose one:\n  .*:scene-0001\n  .*:scene-0061"):
        NuScenes(root)
    with pytest.raises(InputError, match="has no scene 'scene-9'; choose one:"):
        NuScenes(root, "scene-9")
    assert NuScenes(root / "v1.0-mini", "scene-0061").name == "nuscenes_scene-0061"
    shutil.copytree(root / "v1.0-mini", root / "v1.0-trainval")
    with pytest.raises(InputError, match="holds several versions; choose one"):
        NuScenes(root)


def rename_version(root, name):
    (root / "v1.0-mini").rename(root / name)
    return root


def test_a_split_of_many_scenes(tmp_path):
    """scene-0002 and scene-0001 are of train, scene-0003 of val; the table is in no order."""
    scenes = ("scene-0002", "scene-0003", "scene-0001")
    root = rename_version(write_tables(tmp_path / "n", scenes), "v1.0-trainval")
    source = NuScenes(root, selection=NuScenesSelection("train"))
    assert (source.name, len(source), source.scene_names) == ("nuscenes_train", 4, ("scene-0002", "scene-0001"))
    keys = [source.load_sample(i).key for i in range(4)]
    assert keys == [f"nuscenes_train/{s}_{n:06d}" for s in ("scene-0002", "scene-0001") for n in (0, 1)]
    stamps = [source.load_sample(i).cloud.stamp_ns // 1000 - 10**15 for i in range(4)]
    assert stamps == [0, 500_000, 2 * 10**9, 2 * 10**9 + 500_000]
    assert source.tokens(2) == {"LIDAR_TOP": "scene-0001/0/0", "CAM_FRONT": "scene-0001/0/1"}
    every_second = NuScenes(root, selection=NuScenesSelection("train", skip=2))
    assert (every_second.scene_names, every_second.name) == (("scene-0001",), "nuscenes_train_skip2")
    assert every_second.load_sample(0).key == "nuscenes_train_skip2/scene-0001_000000"
    assert NuScenes(root, selection=NuScenesSelection("val")).scene_names == ("scene-0003",)
    assert len(NuScenes(root, selection=NuScenesSelection())) == 6
    one = NuScenes(root, selection=NuScenesSelection(scenes=("scene-0003",)))
    assert one.load_sample(1).key == NuScenes(root, "scene-0003").load_sample(1).key == "nuscenes_scene-0003/000001"


def test_several_scenes_are_no_recording(tmp_path):
    source = NuScenes(write_tables(tmp_path / "n", ("scene-0001", "scene-0002")), selection=NuScenesSelection())
    with pytest.raises(InputError, match=r"holds 2 scenes, each with its own calibration; choose one: .*n:scene-0001"):
        convert_source(source, tmp_path / "out")


def test_the_split_chooses_the_version(tmp_path):
    root = write_tables(tmp_path / "n", ("scene-0061", "scene-0103"))
    shutil.copytree(root / "v1.0-mini", root / "v1.0-trainval")
    assert NuScenes(root, selection=NuScenesSelection("mini_val")).scene_names == ("scene-0103",)
    assert NuScenes(root, selection=NuScenesSelection("train")).scene_names == ("scene-0061",)
    assert len(NuScenes(root, selection=NuScenesSelection(version="v1.0-mini"))) == 4
    with pytest.raises(InputError, match="holds several versions; choose one"):
        NuScenes(root, selection=NuScenesSelection())
    with pytest.raises(
        InputError, match=r"has no version v1.0-test \(split test belongs to it\); download it, or choose"
    ):
        NuScenes(root, selection=NuScenesSelection("test"))
    with pytest.raises(InputError, match=r"split val belongs to v1.0-trainval, got .*v1.0-mini"):
        NuScenes(root, selection=NuScenesSelection("val", version="v1.0-mini"))


def test_labels_in_an_unknown_space(root):
    with pytest.raises(ConfigError, match=r"there are nuscenes_lidarseg_to_nuscenes16"):
        NuScenes(root, labels="nuscenes17")


def test_an_image_of_another_size_than_its_calibration(root):
    Image.new("RGB", (8, 9)).save(root / "samples" / "image.jpg")
    with pytest.raises(InputError, match=r"image.jpg has 8 x 9 pixels, its calibration is for 16 x 9"):
        NuScenes(root).load_sample(0)
    (root / "samples" / "image.jpg").unlink()
    with pytest.raises(InputError, match=r"image.jpg does not exist"):
        NuScenes(root).load_sample(0)
    (root / "samples" / "scan.bin").write_bytes(b"")
    with pytest.raises(InputError, match=r"scan.bin is empty"):
        NuScenes(root).load_sample(0)


def test_labels_out_of_range(root):
    label_file = {"sample_data_token": "scene-0001/0/0", "filename": "lidarseg.bin"}
    (root / "v1.0-mini" / "lidarseg.json").write_text(json.dumps([label_file]))
    np.array([17, 32], np.uint8).tofile(root / "lidarseg.bin")
    with pytest.raises(InputError, match=r"lidarseg.bin: ids 32 are none of nuscenes_lidarseg"):
        NuScenes(root).load_sample(0)


def test_damaged_tables_and_files(root):
    assert is_nuscenes(root)
    assert not is_nuscenes(root.parent)
    with pytest.raises(InputError, match="is no nuScenes root"):
        NuScenes(root.parent)
    (root / "samples" / "scan.bin").write_bytes(bytes(39))
    with pytest.raises(InputError, match="holds 39 bytes, which is no multiple of 20"):
        NuScenes(root).load_sample(0)
    (root / "v1.0-mini" / "ego_pose.json").write_text("[{")
    with pytest.raises(InputError, match=r"ego_pose.json is damaged"):
        NuScenes(root)
    (root / "v1.0-mini" / "ego_pose.json").unlink()
    with pytest.raises(InputError, match=r"ego_pose.json is missing; unpack"):
        NuScenes(root)


def test_damaged_keyframe(tmp_path):
    with pytest.raises(InputError, match=r"has no calib.json"):
        NuScenesKeyframe(tmp_path)
    (tmp_path / "calib.json").write_text('{"lidar": {}}')
    assert is_nuscenes_keyframe(tmp_path)
    with pytest.raises(InputError, match=r"calib.json is no calibration of a nuScenes keyframe: KeyError\('file'\)"):
        NuScenesKeyframe(tmp_path)
    content = {"lidar": {"file": "scan.bin"}, "timestamp": 1.5, "cameras": {"CAM": {"image": "a.jpg"}}}
    (tmp_path / "calib.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"scan.bin does not exist"):
        NuScenesKeyframe(tmp_path).load_sample(0)
    SCAN.tofile(tmp_path / "scan.bin")
    with pytest.raises(InputError, match="camera CAM is incomplete: KeyError"):
        NuScenesKeyframe(tmp_path).load_sample(0)


def count_in_image(points, image):
    """Pixels as the README of the data counts them: (0, 0) is the corner of the image."""
    in_camera = points @ image.camera_from_lidar[:3, :3].T + image.camera_from_lidar[:3, 3]
    in_camera = in_camera[in_camera[:, 2] > 0.5]
    u, v, w = image.camera.matrix @ in_camera.T
    u, v = u / w, v / w
    return int(((u >= 0) & (u < image.camera.width) & (v >= 0) & (v < image.camera.height)).sum())


@needs_real
def test_the_real_keyframe_hits_its_images():
    """3,067 to 4,826 points per image (README of the data)."""
    sample = NuScenesKeyframe(REAL).load_sample(0)
    counts = {image.name: count_in_image(sample.cloud.points, image) for image in sample.images}
    assert len(counts) == 6
    assert (min(counts.values()), max(counts.values())) == (3067, 4826)
    assert all(image.image.shape == (900, 1600, 3) for image in sample.images)
    assert sample.cloud.stamp_ns == 1_532_402_927_647_951_000


@needs_real
def test_the_real_boxes_hold_their_points():
    """994 of the 1,009 declared points lie in the boxes (README of the data)."""
    source = NuScenesKeyframe(REAL)
    points = source.load_sample(0).cloud.points
    inside = [int(box.contains(points).sum()) for box in source.boxes]
    assert (len(inside), sum(inside), sum(box.point_count for box in source.boxes)) == (69, 994, 1009)


@needs_real
def test_the_real_keyframe_as_a_recording(tmp_path):
    """The ego motion of each camera goes into the static transform: the same points hit the same images."""
    source = NuScenesKeyframe(REAL)
    convert_source(source, tmp_path / "keyframe.mcap")
    with Recording.open(tmp_path / "keyframe.mcap") as recording:
        stream = SampleStream(recording)
        (sample,) = list(stream)
    counts = sorted(count_in_image(sample.cloud.points, image) for image in sample.images)
    expected = source.load_sample(0)
    assert counts == sorted(count_in_image(expected.cloud.points, image) for image in expected.images)
    assert all(counter == {"paired": 1} for counter in stream.counters.values())
