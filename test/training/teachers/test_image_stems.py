"""From a sample and a camera to the name of a file."""

import json
import tracemalloc

import numpy as np
import pytest

from ov_seg_ros.core.camera import CameraModel
from ov_seg_ros.core.data_types import CameraImage
from ov_seg_ros.core.errors import ConfigError, InputError
from training.teachers.image_stems import StemPattern, load_nuscenes_tokens

KEY = "drive_00/000012"


@pytest.mark.parametrize(
    ("pattern", "stem"),
    [
        ("{key_name}", "000012"),
        ("{key_name}_{camera}", "000012_front"),
        ("{key}_{camera}", "drive_00/000012_front"),
        ("{camera}/{stamp_ns}", "front/1234567"),
        ("{camera}-{stamp_us}", "front-1234"),
        ("{{{key_name}}}", "{000012}"),
        ("{token}.seg", "abc.seg"),
    ],
)
def test_patterns(pattern, stem):
    image = CameraImage("front", np.zeros((1, 1, 3), np.uint8), CameraModel(1, 1, 1, 1, 0, 0), np.eye(4), 1_234_567)
    assert StemPattern(pattern, tokens={("front", 1234): "abc"}).stem_of(KEY, image) == stem


def test_a_star_searches_the_folder_once():
    listed = []

    def stems():
        listed.append(1)
        return ["n015+08__CAM_BACK__7", "n015+08__CAM_BACK_LEFT__7", "n015+08__CAM_BACK__8", "a__CAM_BACK__8", "other"]

    pattern = StemPattern("*__{camera}__{stamp_us}", stems)
    assert pattern.stem(KEY, "CAM_BACK", 7000) == "n015+08__CAM_BACK__7"
    assert pattern.stem(KEY, "CAM_BACK_LEFT", 7999) == "n015+08__CAM_BACK_LEFT__7"
    with pytest.raises(InputError, match=r"sample .*12, camera CAM_BACK: 2 files fit, a__CAM_BACK__8 and n015"):
        pattern.stem(KEY, "CAM_BACK", 8000)
    with pytest.raises(InputError, match=r"camera CAM_FRONT: no file fits the pattern \*__CAM_FRONT__8"):
        pattern.stem(KEY, "CAM_FRONT", 8000)
    assert len(listed) == 1


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("masks", "is the same for every image"),
        ("{key_nam}", r"\{key_nam\} is none of key, key_name, camera"),
        ("{key", "stem pattern '{key': "),
        ("{0}", r"\{0\} is none of"),
        ("{token}", "needs the tokens: give the path of sample_data.json"),
    ],
)
def test_patterns_that_mean_nothing(pattern, message):
    with pytest.raises(ConfigError, match=message):
        StemPattern(pattern)


def test_what_is_missing_or_leads_astray():
    with pytest.raises(InputError, match="needs the stamp of the image"):
        StemPattern("{stamp_us}").stem(KEY, "front")
    with pytest.raises(InputError, match="no image of front at 5 us has a token"):
        StemPattern("{token}", tokens={("front", 4): "a"}).stem(KEY, "front", 5000)
    for key in ("../secret", "/etc/passwd", "a\0b"):
        with pytest.raises(InputError, match="is no name for a file in the folder"):
            StemPattern("{key}").stem(key, "front")


def test_tokens_of_nuscenes(tmp_path):
    rows = [
        {"token": "t1", "filename": "samples/CAM_BACK/n__CAM_BACK__17.jpg", "timestamp": 17, "is_key_frame": True},
        {"token": "t2", "filename": "sweeps/CAM_BACK/n__CAM_BACK__18.jpg", "timestamp": 18, "is_key_frame": False},
        {"token": "t3", "filename": "samples/LIDAR_TOP/n__LIDAR_TOP__17.pcd.bin", "timestamp": 17},
    ]
    path = tmp_path / "sample_data.json"
    path.write_text(json.dumps(rows))
    assert load_nuscenes_tokens(path) == {("CAM_BACK", 17): "t1"}
    path.write_text('[{"token": 1}]')
    with pytest.raises(InputError, match=r"is no sample_data.json of nuScenes: KeyError\('filename'\)"):
        load_nuscenes_tokens(path)


def test_tokens_are_read_without_holding_the_table(tmp_path, monkeypatch):
    """sample_data.json of v1.0-trainval has 2.6 million rows, 1 in 13 of them a keyframe's."""
    monkeypatch.setattr("training.sources.nuscenes_tables.CHUNK", 1 << 16)
    row = {"filename": "sweeps/CAM_BACK/n.jpg", "timestamp": 17, "is_key_frame": False, "next": "n" * 200}
    path = tmp_path / "sample_data.json"
    path.write_text(json.dumps([row | {"token": f"{i:032x}"} for i in range(10_000)]))
    tracemalloc.start()
    try:
        assert load_nuscenes_tokens(path) == {}
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < path.stat().st_size / 4
