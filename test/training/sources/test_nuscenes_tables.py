"""The tables of nuScenes: read in pieces, gathered in an index, kept on disk."""

import json
import logging

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ov_seg_ros.core.errors import InputError
from training.sources import nuscenes_cache, nuscenes_tables
from training.sources.nuscenes_cache import cache_folder, load_index
from training.sources.nuscenes_index import KeyframeIndex
from training.sources.nuscenes_tables import read_rows


@pytest.fixture
def table(tmp_path):
    def write(text):
        (tmp_path / "t.json").write_text(text)
        return tmp_path / "t.json"

    return write


@given(
    rows=st.lists(
        st.dictionaries(
            st.text(max_size=4),
            st.integers() | st.text(max_size=6) | st.lists(st.floats(-1, 1), max_size=3),
            max_size=3,
        ),
        max_size=6,
    ),
    chunk=st.integers(40, 200),
    indent=st.none() | st.integers(0, 2),
)
def test_any_list_of_objects_comes_back_whatever_the_pieces(rows, chunk, indent, tmp_path_factory):
    path = tmp_path_factory.mktemp("t") / "t.json"
    path.write_text(json.dumps(rows, indent=indent))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nuscenes_tables, "CHUNK", chunk)
        if all(len(json.dumps(row, indent=indent)) < chunk for row in rows):
            assert list(read_rows(path)) == rows


@pytest.mark.parametrize("text", ["", "{}", "[{", '[{"a": 1}', '[{"a": 1},', '[{"a": 1}, 5]', '[{"a": 1}, {"b" 2}]'])
def test_damaged_tables_are_named(table, text):
    with pytest.raises(InputError, match=r"t.json is damaged \(.*\); unpack the metadata archive again"):
        list(read_rows(table(text)))


def test_a_row_that_never_ends_is_not_read_to_the_end(table, monkeypatch):
    monkeypatch.setattr(nuscenes_tables, "CHUNK", 100)
    rows = read_rows(table('[{"a": 1}, {"b": ' + "x" * 10_000))
    assert next(rows) == {"a": 1}
    with pytest.raises(InputError, match="is damaged"):
        next(rows)


POSE = {"translation": [1, 2, 3], "rotation": [1, 0, 0, 0]}


def write_version(folder, **changes):
    """Two scenes in the order b, a; scene a with two keyframes, the later one without its camera."""
    tables = {
        "sensor": [{"token": "sL", "channel": "LIDAR_TOP"}, {"token": "sC", "channel": "CAM_BACK"}],
        "scene": [{"token": "b", "name": "scene-0002"}, {"token": "a", "name": "scene-0001"}],
        "sample": [
            {"token": "a1", "scene_token": "a", "timestamp": 20},
            {"token": "a0", "scene_token": "a", "timestamp": 10},
            {"token": "b0", "scene_token": "b", "timestamp": 30},
        ],
        "calibrated_sensor": [
            {"token": "cL", "sensor_token": "sL", "camera_intrinsic": [], **POSE},
            {"token": "cC", "sensor_token": "sC", "camera_intrinsic": [[9, 0, 8], [0, 7, 6], [0, 0, 1]], **POSE},
        ],
        "ego_pose": [{"token": t, "translation": [i, 0, 0], "rotation": [1, 0, 0, 0]} for i, t in enumerate("pqrstu")],
        "sample_data": [
            _data("a1", "cL", "p", 20),
            _data("a0", "cL", "q", 10),
            _data("a0", "cC", "r", 11, width=16, height=9),
            _data("b0", "cL", "s", 30),
            _data("b0", "cC", "t", 31, width=16, height=9),
            {**_data("b0", "cL", "u", 35), "is_key_frame": False},
        ],
    } | changes
    folder.mkdir(exist_ok=True)
    for name, rows in tables.items():
        (folder / f"{name}.json").write_text(json.dumps(rows))
    return folder


def _data(sample, calibration, pose, stamp, **more):
    row = {"token": f"{sample}{calibration}", "sample_token": sample, "calibrated_sensor_token": calibration}
    return row | {"ego_pose_token": pose, "timestamp": stamp, "is_key_frame": True, "filename": f"{pose}.bin"} | more


def test_the_index_in_order_of_scene_table_and_time(tmp_path):
    index = KeyframeIndex.build(write_version(tmp_path / "v1.0-mini"))
    assert index.channels.tolist() == ["LIDAR_TOP", "CAM_BACK"]
    assert index.scene_names.tolist() == ["scene-0002", "scene-0001"]
    assert index.scene.tolist() == [0, 1, 1]
    assert index.files.tolist() == [[b"s.bin", b"t.bin"], [b"q.bin", b"r.bin"], [b"p.bin", b""]]
    assert index.stamps_us[:, 0].tolist() == [30, 10, 20]
    assert [index.has(k, 1) for k in range(3)] == [True, True, False]
    assert index.sizes[0, 1].tolist() == [16, 9]
    np.testing.assert_array_equal(index.intrinsics[index.calibration[0, 1]], [[9, 0, 8], [0, 7, 6], [0, 0, 1]])
    np.testing.assert_array_equal(index.world_from_sensor(1, 1)[:3, 3], [1 + 2, 2, 3])  # pose r, mounted at (1, 2, 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ego_pose": []}, r"ego_pose.json lacks 5 poses, the first is s; unpack it again"),
        ({"sample": [{"token": "x", "scene_token": "c", "timestamp": 1}]}, "sample x is of scene c, which scene.json"),
        ({"sample": [{"token": "x", "timestamp": 1}]}, r"sample.json: row x has no 'scene_token'"),
        ({"sample_data": [{"token": "x", "is_key_frame": True}]}, "row x has no 'calibrated_sensor_token'"),
        (
            {"calibrated_sensor": [{"token": "cC", "sensor_token": "sC", "camera_intrinsic": [], **POSE}]},
            r"row cC of CAM_BACK must have camera_intrinsic \(3, 3\)",
        ),
        (
            {"calibrated_sensor": [{"token": "cL", "sensor_token": "sL", "translation": [1]}]},
            "row cL has no 'rotation'",
        ),
    ],
)
def test_tables_that_do_not_fit_together(tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        KeyframeIndex.build(write_version(tmp_path / "v", **changes))


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(nuscenes_cache, "CACHE_FROM_BYTES", 0)
    return tmp_path / "cache"


def test_large_tables_are_read_once(tmp_path, cache, monkeypatch):
    version = write_version(tmp_path / "v1.0-trainval")
    first = load_index(version)
    (file,) = cache_folder().glob("*")
    assert file.is_relative_to(cache)
    monkeypatch.setattr(KeyframeIndex, "build", classmethod(lambda cls, v: pytest.fail("read again")))
    again = load_index(version)
    for name in first.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(again, name), getattr(first, name))


def test_changed_tables_and_damaged_caches_are_read_again(tmp_path, cache, caplog):
    version = write_version(tmp_path / "v1.0-trainval")
    load_index(version)
    (file,) = cache_folder().glob("*")
    file.write_bytes(file.read_bytes()[:200])
    with caplog.at_level(logging.WARNING):
        assert len(load_index(version)) == 3
    assert "cannot be read" in caplog.text
    write_version(version, scene=[{"token": "b", "name": "scene-0009"}, {"token": "a", "name": "scene-0001"}] * 1)
    (version / "sample.json").write_text((version / "sample.json").read_text() + " ")
    assert load_index(version).scene_names.tolist() == ["scene-0009", "scene-0001"]
    assert len(list(cache_folder().glob("*.npz"))) == 2


def test_without_a_place_for_the_cache_it_still_works(tmp_path, cache, caplog):
    cache.write_text("a file where the folder should be")
    with caplog.at_level(logging.WARNING):
        assert len(load_index(write_version(tmp_path / "v1.0-trainval"))) == 3
    assert "cannot be kept in" in caplog.text


def test_small_tables_leave_no_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    load_index(write_version(tmp_path / "v1.0-mini"))
    assert not (tmp_path / "cache").exists()
