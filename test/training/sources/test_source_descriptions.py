"""What sources say about themselves: the same wherever the data lie, another thing for any other data."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from painted_source import PaintedSource
from PIL import Image
from small_drive import write_small_drive

from ov_seg_ros.bags.convert import convert_source
from ov_seg_ros.bags.extrinsics import load_extrinsics
from ov_seg_ros.bags.sample_stream import SampleStream, SampleStreamOptions
from ov_seg_ros.core.errors import InputError
from ov_seg_ros.core.label_space import LabelSpace
from training.labelling_run import source_identity
from training.sources.indoor_bins import IndoorBins
from training.sources.joined import JoinedSource
from training.sources.kitti_object import KittiObject
from training.sources.kitti_raw import KittiRaw
from training.sources.nuscenes import NuScenes
from training.sources.nuscenes_keyframe import NuScenesKeyframe
from training.sources.nuscenes_splits import NuScenesSelection
from training.sources.recording import RecordingSource
from training.sources.rgbd import RgbdConfig, RgbdSequence
from training.sources.rgbd_scene import RgbdScene
from training.sources.s3dis import S3dis
from training.sources.scannet import ScanNet, ScanNetConfig
from training.sources.semantickitti import SemanticKitti
from training.sources.semantickitti_dataset import SemanticKittiDataset, SemanticKittiSelection
from training.sources.synthetic import LABEL_SPACE_FILE, DriveConfig, SyntheticDrive
from training.sources.synthetic_folder import FORMAT, SyntheticFolder

K = "10 0 4\n0 10 3\n0 0 1\n"


def write(path: Path, content: str | bytes = b"0123456789abcdef") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def picture(path: Path, value: int = 0, mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, (8, 6), (value, 0, 0) if mode == "RGB" else value).save(path)


def kitti_object(folder: Path) -> None:
    for stem in ("000003", "000007"):
        write(folder / "velodyne" / f"{stem}.bin")
        write(folder / "calib" / f"{stem}.txt", "P2: 1")
    write(folder / "image_2" / "000003.png")


def kitti_raw(folder: Path) -> None:
    write(
        folder / "calib_cam_to_cam.txt",
        "R_rect_00: 1 0 0 0 1 0 0 0 1\nS_rect_02: 20 10\nP_rect_02: 9 0 9 5 0 9 4 2 0 0 1 0",
    )
    write(folder / "calib_velo_to_cam.txt", "R: 0 -1 0 0 0 -1 1 0 0\nT: 0.1 0.2 0.3")
    write(folder / "velodyne_points" / "data" / "0000000000.bin")
    write(folder / "image_02" / "data" / "0000000000.png")
    write(folder / "velodyne_points" / "timestamps.txt", "2011-09-26 13:02:25.9")


def semantickitti(folder: Path) -> None:
    for sequence in ("00", "01"):
        for stem in ("000000", "000001"):
            write(folder / "sequences" / sequence / "velodyne" / f"{stem}.bin")
            write(folder / "sequences" / sequence / "labels" / f"{stem}.label")
            write(folder / "sequences" / sequence / "image_2" / f"{stem}.png")
        write(folder / "sequences" / sequence / "calib.txt", "P2: 1")
        write(folder / "sequences" / sequence / "times.txt", "0\n0.1")


def nuscenes(folder: Path) -> None:
    pose = {"translation": [0, 0, 0], "rotation": [1, 0, 0, 0]}
    camera = [[9, 0, 8], [0, 9, 4], [0, 0, 1]]
    tables: dict[str, list[dict[str, Any]]] = {
        "scene": [{"token": "s", "name": "scene-0061"}],
        "sample": [{"token": "k", "scene_token": "s", "timestamp": 5}],
        "sensor": [{"token": "l", "channel": "LIDAR_TOP"}, {"token": "c", "channel": "CAM_FRONT"}],
        "calibrated_sensor": [
            {"token": "l", "sensor_token": "l", "camera_intrinsic": [], **pose},
            {"token": "c", "sensor_token": "c", "camera_intrinsic": camera, **pose},
        ],
        "ego_pose": [{"token": "p", **pose}],
        "sample_data": [
            {
                "token": f"data-{sensor}", "sample_token": "k", "ego_pose_token": "p",
                "calibrated_sensor_token": sensor,
                "timestamp": 5, "is_key_frame": True, "width": 16, "height": 9, "filename": f"samples/{sensor}",
            }
            for sensor in "lc"
        ],
        "lidarseg": [{"sample_data_token": "data-l", "filename": "lidarseg/l.bin"}],
    }  # fmt: skip
    for name, rows in tables.items():
        write(folder / "v1.0-mini" / f"{name}.json", json.dumps(rows))


def keyframe(folder: Path) -> None:
    write(folder / "scan.bin")
    write(folder / "front.jpg")
    cameras = {"CAM_FRONT": {"image": "front.jpg", "cam2img": [[9, 0, 8], [0, 9, 4], [0, 0, 1]]}}
    write(folder / "calib.json", json.dumps({"lidar": {"file": "scan.bin"}, "timestamp": 1.5, "cameras": cameras}))


def indoor_bins(folder: Path) -> None:
    write(folder / "points" / "scene0000_00.bin")
    write(folder / "semantic_mask" / "scene0000_00.bin")


def s3dis(folder: Path) -> None:
    write(folder / "Area_1" / "office_1" / "Annotations" / "chair_1.txt", "0 0 0 1 1 1\n")


def frames(folder: Path) -> None:
    write(folder / "camera-intrinsics.txt", K)
    for number in range(2):
        picture(folder / f"frame-{number:06d}.color.png")
        picture(folder / f"frame-{number:06d}.depth.png", 2000, "I;16")
        write(folder / f"frame-{number:06d}.pose.txt", "1 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 0 1\n")


def scannet(folder: Path) -> None:
    scene = folder / "scene0000_00"
    write(scene / "scene0000_00_vh_clean_2.ply")
    write(scene / "scene0000_00_vh_clean_2.labels.ply")
    write(scene / "scene0000_00.txt", "axisAlignment = 1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1")
    picture(scene / "color" / "0.jpg")
    picture(scene / "depth" / "0.png", 2000, "I;16")
    write(scene / "pose" / "0.txt", "1 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 0 1\n")
    write(scene / "intrinsic" / "intrinsic_color.txt", K)


def joined(folder: Path) -> JoinedSource:
    return JoinedSource([KittiRaw(folder), KittiObject(folder)])


KITTI_RAW = ("velodyne_points/data/0000000000.bin", "image_02/data/0000000000.png", "calib_velo_to_cam.txt",
             "calib_cam_to_cam.txt", "velodyne_points/timestamps.txt")  # fmt: skip
KITTI_OBJECT = ("velodyne/000003.bin", "velodyne/000007.bin", "image_2/000003.png", "calib/000007.txt")
ODOMETRY = ("velodyne/000001.bin", "image_2/000000.png", "calib.txt", "times.txt")
FRAMES = ("frame-000001.color.png", "frame-000000.depth.png", "frame-000001.pose.txt", "camera-intrinsics.txt")

SOURCES: dict[str, tuple[Callable[[Path], None], Callable[[Path], Any], tuple[str, ...], tuple[str, ...]]] = {
    "kitti_object": (kitti_object, KittiObject, KITTI_OBJECT, ()),
    "kitti_raw": (kitti_raw, KittiRaw, KITTI_RAW, ()),
    "sequence": (
        semantickitti,
        lambda folder: SemanticKitti(folder / "sequences" / "00"),
        tuple(f"sequences/00/{name}" for name in ODOMETRY),
        ("sequences/00/labels/000001.label",),
    ),
    "semantickitti": (
        semantickitti,
        SemanticKittiDataset,
        tuple(f"sequences/{number}/{name}" for number in ("00", "01") for name in ODOMETRY),
        ("sequences/01/labels/000001.label",),
    ),
    "nuscenes": (
        nuscenes,
        NuScenes,
        ("v1.0-mini/sample_data.json", "v1.0-mini/calibrated_sensor.json", "v1.0-mini/ego_pose.json"),
        ("v1.0-mini/lidarseg.json",),
    ),
    "keyframe": (keyframe, NuScenesKeyframe, ("scan.bin", "front.jpg", "calib.json"), ()),
    "indoor_bins": (indoor_bins, IndoorBins, ("points/scene0000_00.bin",), ("semantic_mask/scene0000_00.bin",)),
    "s3dis": (s3dis, S3dis, ("Area_1/office_1/Annotations/chair_1.txt",), ()),
    "rgbd": (frames, RgbdSequence, FRAMES, ()),
    "rgbd_scene": (frames, RgbdScene, FRAMES, ()),
    "scannet": (
        scannet,
        ScanNet,
        tuple(
            f"scene0000_00/{name}"
            for name in ("scene0000_00_vh_clean_2.ply", "scene0000_00.txt", "color/0.jpg", "pose/0.txt")
        ),
        ("scene0000_00/scene0000_00_vh_clean_2.labels.ply",),
    ),
    "joined": (lambda folder: (kitti_raw(folder), kitti_object(folder)), joined, (*KITTI_RAW, *KITTI_OBJECT), ()),
}  # fmt: skip
"""How to write one, how to open it, files that decide its samples, files that decide its ground truth alone."""


def change(path: Path) -> None:
    """Another file of the same size and, where the source reads it, of the same form."""
    if path.suffix in (".png", ".jpg") and path.stat().st_size > 16:
        with Image.open(path) as image:
            size, mode = image.size, image.mode
        Image.new(mode, size, (90, 80, 70) if mode == "RGB" else 1999).save(path)
        return
    content = path.read_text()
    for old, new in (("data-l", "data-x"), ("[0, 0, 0]", "[0, 0, 7]"), ("1.5", "2.5"), ("0 0 0 1\n", "0 0 0 1 \n")):
        if old in content:
            path.write_text(content.replace(old, new))
            return
    at = max(i for i, character in enumerate(content) if character.isdigit())
    path.write_text(content[:at] + ("2" if content[at] != "2" else "3") + content[at + 1 :])


@pytest.mark.parametrize("kind", SOURCES)
def test_a_source_may_be_moved(kind, tmp_path):
    build, open_source, _, _ = SOURCES[kind]
    build(tmp_path / "here" / "data")
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    for path in (tmp_path / "there").rglob("*"):
        os.utime(path, (0, 0))
    first, second = (open_source(tmp_path / place / "data") for place in ("here", "there"))
    about = source_identity(first, truth=True)
    assert json.loads(json.dumps(about)) == about
    assert str(tmp_path) not in json.dumps(about)
    assert source_identity(second, truth=True) == about


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, entry in SOURCES.items() for name in entry[2]])
def test_other_data_are_another_source(kind, name, tmp_path):
    """Files of the same names and sizes, and another content in one of them."""
    build, open_source, _, _ = SOURCES[kind]
    build(tmp_path)
    before = source_identity(open_source(tmp_path))
    change(tmp_path / name)
    after = source_identity(open_source(tmp_path))
    assert (after["name"], after["samples"]) == (before["name"], before["samples"])
    assert after["about"] != before["about"]


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, entry in SOURCES.items() for name in entry[3]])
def test_labels_make_a_difference_to_those_who_use_them(kind, name, tmp_path):
    build, open_source, _, _ = SOURCES[kind]
    build(tmp_path)
    before = [source_identity(open_source(tmp_path), truth) for truth in (False, True)]
    assert "truth" not in json.dumps(before[0])
    change(tmp_path / name)
    after = [source_identity(open_source(tmp_path), truth) for truth in (False, True)]
    assert after[0] == before[0]
    assert after[1] != before[1]


def test_options_and_label_spaces_count(tmp_path):
    semantickitti(tmp_path)
    nuscenes(tmp_path)
    frames(tmp_path / "frames")
    scannet(tmp_path)
    opened = [
        SemanticKittiDataset(tmp_path),
        SemanticKittiDataset(tmp_path, SemanticKittiSelection(skip=2)),
        SemanticKittiDataset(tmp_path, labels="semantickitti19"),
        NuScenes(tmp_path),
        NuScenes(tmp_path, selection=NuScenesSelection()),
        RgbdSequence(tmp_path / "frames"),
        RgbdSequence(tmp_path / "frames", RgbdConfig(max_depth=3.0)),
        ScanNet(tmp_path),
        ScanNet(tmp_path, ScanNetConfig(axis_align=False)),
    ]
    found = [json.dumps(source.describe()) for source in opened]
    assert len(set(found)) == len(found) - 1  # the only scene of a version, however it was chosen
    assert found[3] == found[4]
    labels = [source_identity(opened[i]) for i in (0, 2)]
    assert labels[0] == labels[1]  # what is mapped to which class is no matter of the images


def rendered(folder: Path) -> None:
    """One scan with one image."""
    about = {
        "format": FORMAT,
        "name": "drive_0007",
        "config": asdict(DriveConfig(7, num_scans=1, cameras=("front",))),
        "label_space": LabelSpace.load(LABEL_SPACE_FILE).to_dict(),
        "base_from_lidar": [],
        "base_from_camera": {},
        "camera_models": {},
        "scans": [{"stamp_ns": 5, "camera_stamp_ns": {"front": 6}}],
        "poses": {"5": []},
    }
    write(folder / "drive.json", json.dumps(about))
    write(folder / "scans" / "000000.npz")
    write(folder / "images" / "front" / "000000.jpg")


@pytest.mark.parametrize("name", ["drive.json", "scans/000000.npz", "images/front/000000.jpg"])
def test_rendered_drives_are_their_description_and_their_files(tmp_path, name):
    rendered(tmp_path / "here")
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    before, moved = (source_identity(SyntheticFolder(tmp_path / place)) for place in ("here", "there"))
    assert moved == before
    change(tmp_path / "here" / name)
    assert source_identity(SyntheticFolder(tmp_path / "here")) != before


def test_synthetic_drives_are_their_configuration():
    configs = (DriveConfig(7), DriveConfig(7, num_scans=41), DriveConfig(7, image_width=320))
    found = [SyntheticDrive.describe(_WithConfig(config)) for config in configs]
    assert found[0]["seed"] == 7
    assert len({json.dumps(about) for about in found}) == 3


class _WithConfig:
    """A drive without its world, which takes seconds to build."""

    def __init__(self, config: DriveConfig) -> None:
        self.config = config


EXTRINSICS = """
lidar_frame: lidar
cameras:
  front:
    camera_from_lidar: {{translation: [0.0, {y}, 0.0], rotation_xyzw: [0.5, -0.5, 0.5, 0.5]}}
"""


def test_recordings_are_told_apart_by_time_points_and_calibration(tmp_path):
    first = write_small_drive(tmp_path / "here" / "drive.mcap")
    (tmp_path / "there").mkdir()
    shutil.copy(first, tmp_path / "there" / "drive.mcap")
    about = RecordingSource(first).describe()
    assert RecordingSource(tmp_path / "there" / "drive.mcap").describe() == about
    assert sorted(about["messages"].values()) == [3, 3]
    assert about["truth"]["messages"] == 3

    options = []
    for number, y in enumerate((0.0, 0.1)):
        path = tmp_path / f"{number}.yaml"
        path.write_text(EXTRINSICS.format(y=y))
        options.append(SampleStreamOptions(extrinsics=load_extrinsics(path)))
    options.append(SampleStreamOptions(tolerance_ns=1))
    options.append(SampleStreamOptions(cameras=()))
    others = [RecordingSource(first, each).describe() for each in options]
    others.append(RecordingSource(write_small_drive(tmp_path / "more" / "drive.mcap", scans=4)).describe())
    found = [json.dumps(each) for each in (about, *others)]
    assert len(set(found)) == len(found)
    changed = others[1]["calibration"], others[0]["calibration"]
    assert changed[0] != changed[1]
    assert others[0]["first_scan"] == others[1]["first_scan"] == about["first_scan"]


def test_describing_a_recording_keeps_its_place(tmp_path):
    """Scans are still streamed in order, and none is counted twice."""
    source = RecordingSource(convert_source(PaintedSource(4), tmp_path / "drive.mcap"))
    source.describe()
    assert [source.load_sample(i).cloud.stamp_ns for i in range(4)] == [1, 2, 3, 4]
    assert "_received_ns" not in vars(source)  # no search for the times of all scans
    assert all(sum(counter.values()) == 4 for counter in source.stream.counters.values())


def test_a_first_scan_that_cannot_be_read_does_not_end_a_run(tmp_path, monkeypatch):
    source = RecordingSource(write_small_drive(tmp_path / "drive.mcap"))

    def broken(stream: SampleStream, start_ns: int = 0):
        raise InputError("scan 0 is cut off")

    monkeypatch.setattr(SampleStream, "samples", broken)
    about = source.describe()
    assert about["first_scan"] == "unreadable"
    assert about["duration_ns"] > 0


def test_sources_of_one_name_in_a_row_are_told_apart(tmp_path):
    for number in range(2):
        kitti_object(tmp_path / str(number) / "data")
    change(tmp_path / "1" / "data" / "velodyne" / "000003.bin")
    first, second = (KittiObject(tmp_path / str(number) / "data") for number in range(2))
    found = [json.dumps(JoinedSource(each).describe()) for each in ([first, second], [second, first], [first, first])]
    assert len(set(found)) == 3


@pytest.mark.parametrize("kind", [kind for kind in SOURCES if kind != "joined"])
def test_every_source_can_be_part_of_a_row(kind, tmp_path):
    build, open_source, _, _ = SOURCES[kind]
    build(tmp_path)
    alone = open_source(tmp_path)
    both = JoinedSource([alone, alone])
    about = both.describe()
    assert about["truth"] == [alone.describe().get("truth")] * 2
    assert [part["samples"] for part in about["sources"]] == [len(alone)] * 2
    assert source_identity(both)["samples"] == 2 * len(alone)
