"""What a user writes and which source comes of it."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from small_drive import LOOKING_FORWARD, write_small_drive

from ov_seg_ros.core.errors import ConfigError, InputError
from training.sources.indoor_bins import IndoorBins
from training.sources.kitti_object import KittiObject
from training.sources.resolve import open_source
from training.sources.rgbd import RgbdSequence
from training.sources.semantickitti import SemanticKitti
from training.sources.semantickitti_dataset import SemanticKittiDataset
from training.sources.source_spec import SourceSpec

SHARED = Path(os.environ.get("OV_SEG_SHARED", Path(__file__).resolve().parents[4] / "shared"))


@dataclass(frozen=True)
class Nested:
    depth: int = 1


@dataclass(frozen=True)
class Settings:
    """One of every kind."""

    word: str = "a"
    maybe: str | None = None
    count: int = 1
    share: float = 0.5
    flag: bool = False
    words: tuple[str, ...] = ()
    numbers: tuple[int, ...] = ()
    nested: Nested = Nested()


def parse(text):
    return SourceSpec.parse(text, {"nuscenes", "s3dis"})


@pytest.mark.parametrize(
    ("text", "kind", "path", "options"),
    [
        ("/data/nuscenes", None, "/data/nuscenes", {}),
        ("nuscenes:/data/nuscenes", "nuscenes", "/data/nuscenes", {}),
        ("nuscenes:/d?split=train&skip=100", "nuscenes", "/d", {"split": "train", "skip": "100"}),
        ("/d?split=train,skip=100,", None, "/d", {"split": "train", "skip": "100"}),
        ("nuscenes:relative/d?a=b=c", "nuscenes", "relative/d", {"a": "b=c"}),
        ("/d:scene-0061", None, "/d:scene-0061", {}),
    ],
)
def test_a_specification_taken_apart(text, kind, path, options):
    spec = parse(text)
    assert (spec.kind, spec.path, dict(spec.options)) == (kind, Path(path), options)
    assert spec.is_plain == (kind is None and not options)


def test_what_exists_is_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nuscenes:a?b=c").mkdir()
    assert parse("nuscenes:a?b=c").is_plain


def test_options_become_settings():
    spec = parse("/d?word=x,maybe=y,count=7,share=2,flag=true,words=p+q,numbers=1+22,labels=z")
    settings, more = spec.take(Settings, labels="default", other="o")
    assert settings == Settings("x", "y", 7, 2.0, True, ("p", "q"), (1, 22))
    assert more == {"labels": "z", "other": "o"}
    assert parse("/d").take(Settings) == (Settings(), {})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("/d?count", "'count' must be key=value"),
        ("/d?count=1,count=2", "'count=2' must be key=value, every key once"),
        ("/d?cuont=1", "unknown option 'cuont'; did you mean count"),
        ("/d?nested=1", "unknown option 'nested'; known: word, maybe, count, share, flag, words, numbers"),
        ("/d?count=1.5", "count must be a whole number, got '1.5'"),
        ("/d?share=much", "share must be a number, got 'much'"),
        ("/d?flag=yes", "flag must be true or false, got 'yes'"),
        ("/d?numbers=1+x", "numbers must be a whole number, got 'x'"),
    ],
)
def test_wrong_options(text, message):
    with pytest.raises(ConfigError, match=message):
        parse(text).take(Settings)


def write_scan(folder):
    folder.mkdir(parents=True)
    np.zeros((1, 4), "<f4").tofile(folder / "000000.bin")


def test_semantickitti(tmp_path):
    sequences = tmp_path / "sequences"
    write_scan(sequences / "00" / "velodyne")
    assert open_source(tmp_path).name == "semantickitti_00"  # the only one
    write_scan(sequences / "08" / "velodyne")
    assert isinstance(open_source(sequences / "08"), SemanticKitti)
    assert open_source(f"{sequences / '08'}?labels=semantickitti19").mapping.target.name == "semantickitti19"
    for spec, name in (
        (f"semantickitti:{tmp_path}", "semantickitti_all"),
        (f"{tmp_path}?split=val", "semantickitti_val"),
        (f"semantickitti:{tmp_path}?sequences=00+08&skip=2", "semantickitti_00_08_skip2"),
        (f"{sequences / '08'}?skip=2", "semantickitti_all_skip2"),
    ):
        source = open_source(spec)
        assert (type(source), source.name) == (SemanticKittiDataset, name)
    with pytest.raises(InputError, match=r"holds 2 SemanticKITTI sequences; choose one:(\n.*)+semantickitti:.*=train"):
        open_source(tmp_path)
    with pytest.raises(ConfigError, match="unknown option 'splits'; did you mean split"):
        open_source(f"{tmp_path}?splits=val")


def test_a_folder_with_calibration_per_frame_is_of_the_object_benchmark(tmp_path):
    write_scan(tmp_path / "training" / "velodyne")
    (tmp_path / "training" / "calib").mkdir()
    (tmp_path / "training" / "calib" / "000000.txt").write_text("")
    assert isinstance(open_source(tmp_path), KittiObject)
    assert isinstance(open_source(f"kitti_object:{tmp_path / 'training'}"), KittiObject)
    with pytest.raises(ConfigError, match="unknown option 'skip'; known: none"):
        open_source(f"kitti_object:{tmp_path}?skip=2")


def test_nuscenes(tmp_path):
    """Options and the word before the colon mean many scenes, a path alone means one."""
    version = tmp_path / "v1.0-mini"
    version.mkdir()
    pose = {"translation": [0, 0, 0], "rotation": [1, 0, 0, 0]}
    keys = [("a", "scene-0061"), ("b", "scene-0103")]
    tables = {
        "sensor": [{"token": "s", "channel": "LIDAR_TOP"}],
        "calibrated_sensor": [{"token": "c", "sensor_token": "s", "camera_intrinsic": [], **pose}],
        "scene": [{"token": token, "name": name} for token, name in keys],
        "sample": [{"token": token, "scene_token": token, "timestamp": 1} for token, _ in keys],
        "ego_pose": [{"token": token, **pose} for token, _ in keys],
        "sample_data": [
            {"token": token, "sample_token": token, "ego_pose_token": token, "calibrated_sensor_token": "c"}
            | {"is_key_frame": True, "filename": "scan.bin", "timestamp": 1}
            for token, _ in keys
        ],
    }
    for name, rows in tables.items():
        (version / f"{name}.json").write_text(json.dumps(rows))
    assert open_source(f"nuscenes:{tmp_path}").scene_names == ("scene-0061", "scene-0103")
    assert open_source(f"{tmp_path}?split=mini_val").name == "nuscenes_mini_val"
    assert open_source(f"nuscenes:{tmp_path}?scenes=scene-0103,labels=nuscenes16").name == "nuscenes_scene-0103"
    assert open_source(f"{tmp_path}:scene-0103").name == "nuscenes_scene-0103"
    with pytest.raises(InputError, match=r"holds 2 scenes; choose one:(\n.*)+or many: nuscenes:.*\?split=train"):
        open_source(tmp_path)


@pytest.mark.parametrize(
    ("spec", "kind", "name"),
    [
        ("rgbd_7scenes", RgbdSequence, "rgbd_rgbd_7scenes"),
        ("rgbd_7scenes?neighbors=0,pixel_step=8", RgbdSequence, "rgbd_rgbd_7scenes"),
        ("scannet/tiny_labelled/s3dis", IndoorBins, "s3dis"),
        ("kitti_pointpainting", KittiObject, "kitti_pointpainting_training"),
        ("semantickitti?labels=semantickitti19", SemanticKittiDataset, "semantickitti_all"),
    ],
)
def test_the_real_samples_are_recognised(spec, kind, name):
    if not (SHARED / "data" / spec.partition("?")[0]).is_dir():
        pytest.skip(f"needs shared/data/{spec}")
    source = open_source(f"{SHARED / 'data'}/{spec}")
    assert (type(source), source.name) == (kind, name)


def test_a_wrong_word_for_a_path(tmp_path):
    with pytest.raises(InputError, match="is no nuScenes root"):
        open_source(f"nuscenes:{tmp_path}")
    with pytest.raises(InputError, match="does not exist; expected a recording"):
        open_source(f"nuscenes:{tmp_path / 'nothing'}")


def test_a_recording_comes_with_its_ground_truth(tmp_path):
    drive = write_small_drive(tmp_path / "drive", scans=1)
    for spec in (drive, f"{drive}?tolerance_ns=50000000"):
        source = open_source(spec)
        sample = source.load_sample(0)
        assert source.label_space.class_names == ("low", "high")
        np.testing.assert_array_equal(sample.class_id[[0, 1, 12]], [1, 1, 255])
        np.testing.assert_allclose(sample.images[0].camera_from_lidar, LOOKING_FORWARD, atol=1e-9)


def test_a_compressed_storage_file_is_answered_with_its_folder(tmp_path):
    (tmp_path / "drive_0.mcap.zstd").write_bytes(b"1234")
    with pytest.raises(InputError, match="a compressed storage file belongs to its folder; give"):
        open_source(tmp_path / "drive_0.mcap.zstd")


def test_a_recording_may_take_its_extrinsics_from_a_file(tmp_path):
    drive, file = write_small_drive(tmp_path / "drive", scans=1), tmp_path / "cameras.yaml"
    file.write_text("cameras: {front: {camera_from_lidar: [[0,-1,0,5], [0,0,-1,6], [1,0,0,7], [0,0,0,1]]}}")
    (image,) = open_source(f"recording:{drive}?extrinsics={file}").load_sample(0).images
    assert image.camera_from_lidar[:3, 3].tolist() == [5, 6, 7]
    with pytest.raises(ConfigError, match=r"extrinsics file .*nothing\.yaml does not exist"):
        open_source(f"{drive}?extrinsics={tmp_path / 'nothing.yaml'}")
    with pytest.raises(ConfigError, match="unknown option 'extrinsic'; did you mean extrinsics"):
        open_source(f"{drive}?extrinsic={file}")
