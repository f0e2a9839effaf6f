"""Stage folders: what made them is what they are asked for, or they are refused."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from ov_seg_ros.core.errors import InputError
from training.stage_folder import StageFolder, first_difference, plain_settings


@dataclass(frozen=True)
class Inner:
    severity: float = 1.0
    seeds: tuple[int, ...] = (1, 2)


@dataclass(frozen=True)
class Settings:
    name: str = "a"
    teacher: Inner = Inner()


def test_a_stage_is_created_resumed_and_finished(tmp_path):
    created = StageFolder.open(tmp_path / "out", "lift", Settings(), {"label": "abc"})
    assert not created.complete
    (tmp_path / "out" / "result").touch()
    resumed = StageFolder.open(tmp_path / "out", "lift", Settings(), {"label": "abc"})
    assert resumed == created
    with pytest.raises(InputError, match=r"stage lift in .*out is not finished; run it again"):
        resumed.require_complete()
    resumed.finish(12)
    done = StageFolder.open(tmp_path / "out", "lift", Settings(), {"label": "abc"})
    assert (done.complete, done.count, done.hash) == (True, 12, created.hash)
    assert done.require_complete() is done
    content = json.loads((tmp_path / "out" / "stage.json").read_text())
    assert content == {
        "stage": "lift",
        "settings": {"name": "a", "teacher": {"severity": 1.0, "seeds": [1, 2]}},
        "inputs": {"label": "abc"},
        "hash": done.hash,
        "complete": True,
        "count": 12,
    }


@pytest.mark.parametrize(
    ("stage", "settings", "inputs", "difference"),
    [
        ("train", Settings(), {"label": "abc"}, r'stage = "lift", now it is "train"'),
        ("lift", Settings("b", Inner(2.0)), {}, r'settings.name = "a", now it is "b"'),
        ("lift", Settings(teacher=Inner(0.5)), {}, r"settings.teacher.severity = 1.0, now it is 0.5"),
        ("lift", Settings(teacher=Inner(1.0, (1,))), {}, r"settings.teacher.seeds = \[1, 2\], now it is \[1\]"),
        ("lift", {"name": "a"}, {}, r"settings.teacher.seeds = \[1, 2\], now it is not set"),
        ("lift", Settings(), {"label": "abd"}, r'inputs.label = "abc", now it is "abd"'),
        ("lift", Settings(), {"label": "abc", "x": "y"}, r'inputs.x = not set, now it is "y"'),
    ],
)
def test_other_settings_are_refused_by_their_first_difference(tmp_path, stage, settings, inputs, difference):
    StageFolder.open(tmp_path, "lift", Settings(), {"label": "abc"}).finish(1)
    with pytest.raises(InputError, match=rf"was made with {difference}; delete the folder, or choose"):
        StageFolder.open(tmp_path, stage, settings, inputs or {"label": "abc"})


def test_a_change_far_upstream_is_noticed(tmp_path):
    first = StageFolder.open(tmp_path / "1", "label", {"teacher": "a"})
    changed = StageFolder.open(tmp_path / "2", "label", {"teacher": "b"})
    StageFolder.open(tmp_path / "lift", "lift", {}, {"label": first.hash})
    with pytest.raises(InputError, match=rf'inputs.label = "{first.hash}", now it is "{changed.hash}"'):
        StageFolder.open(tmp_path / "lift", "lift", {}, {"label": changed.hash})


def test_the_hash_does_not_depend_on_the_order_of_settings():
    one = StageFolder(Path("a"), "s", {"x": 1, "y": {"z": 2, "w": 3}}, {})
    two = StageFolder(Path("b"), "s", {"y": {"w": 3, "z": 2}, "x": 1}, {}, complete=True, count=4)
    assert one.hash == two.hash
    assert len(one.hash) == 64


def test_foreign_and_damaged_folders(tmp_path):
    with pytest.raises(InputError, match="is no result of a stage"):
        StageFolder.load(tmp_path)
    (tmp_path / "stage.json.7.part").touch()
    StageFolder.open(tmp_path, "lift", {"a": 1})
    path = tmp_path / "stage.json"
    path.write_text(path.read_text().replace('"a": 1', '"a": 2'))
    with pytest.raises(InputError, match=r"was changed by hand: its hash is \w{12}, its content has \w{12}; delete"):
        StageFolder.open(tmp_path, "lift", {"a": 2})
    path.write_text('{"stage": "lift"')
    with pytest.raises(InputError, match=r"stage.json is damaged \(JSONDecodeError"):
        StageFolder.load(tmp_path)
    path.unlink()
    (tmp_path / "holiday.jpg").touch()
    with pytest.raises(InputError, match=r"holds files but no stage.json, .* choose an empty folder for stage lift"):
        StageFolder.open(tmp_path, "lift", {})


def test_settings_in_plain_types():
    assert plain_settings({"p": Path("a/b"), "n": np.float32(0.5), "a": np.arange(2), "d": Inner()}) == {
        "p": "a/b",
        "n": 0.5,
        "a": [0, 1],
        "d": {"severity": 1.0, "seeds": [1, 2]},
    }
    with pytest.raises(TypeError, match="a setting must be a number, text, path, list or mapping, got <object"):
        plain_settings({"o": object()})
    with pytest.raises(TypeError, match="settings must be a dataclass or a mapping, got list"):
        plain_settings([1])


def test_first_difference():
    assert first_difference({"a": {"b": 1}, "c": 2}, {"c": 2, "a": {"b": 1}}) is None
    assert first_difference({"b": 1, "a": 1}, {"b": 2, "a": 2}) == ("a", "1", "2")
    assert first_difference({"a": {}}, {"a": {"b": None}}) == ("a", "{}", "not set")
    assert first_difference({"a": 1}, {"a": 1.0}) == ("a", "1", "1.0")
