"""The YAML files that choose a teacher, and the verbs that use them."""

import importlib
from pathlib import Path

import pytest

from ov_seg_ros.core.errors import ConfigError
from training.cli import main
from training.config import parse_settings
from training.teacher_choice import KINDS, TEACHERS, TeacherChoice, parse_changes

KITTI = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "kitti_raw" / "2011_09_26"
MASKS = KITTI.parents[1] / "masks_2d" / "kitti_raw"
FILES = sorted(TEACHERS.glob("*.yaml"))


def test_every_kind_comes_with_a_file():
    assert {TeacherChoice.load(path).kind for path in FILES} == set(KINDS)


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_shipped_files_fit_their_teachers(path):
    choice = TeacherChoice.load(path)
    module, config, teacher = KINDS[choice.kind]
    loaded = importlib.import_module(f"training.teachers.{module}")
    parse_settings(getattr(loaded, config), choice.settings, str(path))
    assert callable(getattr(loaded, teacher))
    dictionary = choice.load_dictionary()
    assert dictionary.label_space.name == choice.label_space
    assert len(dictionary) >= len(dictionary.label_space)


def test_changes_are_read_as_yaml(tmp_path):
    changes = parse_changes(["short_side=640", "device=cpu", "half_precision=true", "weights=a=b"])
    assert changes == {"short_side": 640, "device": "cpu", "half_precision": True, "weights": "a=b"}
    choice = TeacherChoice.load(TEACHERS / "maskclip.yaml", changes)
    assert choice.settings["short_side"] == 640
    assert choice.settings["model"] == "ViT-B-16"
    with pytest.raises(ConfigError, match="KEY=VALUE, got 'device'"):
        parse_changes(["device"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "kind: maskclp\nlabel_space: nuscenes16\ndictionary: nuscenes",
            "no teacher of kind 'maskclp'; did you mean maskclip",
        ),
        ("kind: san\nlabel_space: nuscenes16", "missing key dictionary"),
        (
            "kind: san\nlabel_space: nuscenes16\ndictionary: nuscenes\nsettings: 3",
            "settings: expected keys and values, got 3",
        ),
        ("kind: [", "is no YAML"),
    ],
)
def test_wrong_files_are_refused(tmp_path, content, message):
    path = tmp_path / "teacher.yaml"
    path.write_text(content)
    with pytest.raises(ConfigError, match=message):
        TeacherChoice.load(path)


def test_unknown_settings_name_the_nearest(tmp_path, capsys):
    arguments = ["label", "--source", str(tmp_path), "--out", str(tmp_path / "out"), "--teacher"]
    assert main([*arguments, str(tmp_path / "none.yaml")]) == 2
    (tmp_path / "mine.yaml").write_text(
        "kind: precomputed\nlabel_space: nuscenes16\ndictionary: nuscenes_plain\nsettings: {foldr: x}"
    )
    with pytest.raises(ConfigError, match="unknown key 'foldr'; did you mean folder"):
        TeacherChoice.load(tmp_path / "mine.yaml").build()


def test_the_vocabulary_is_shown_and_checked(capsys):
    assert main(["vocabulary", "--teacher", str(TEACHERS / "san.yaml")]) == 0
    printed = capsys.readouterr().out
    assert "175 texts, 31 groups" in printed
    assert "(ignored)" in printed
    assert "scooter" in printed.split("175 texts")[1]


def test_files_deep_in_a_folder_count_and_a_stage_that_lies_there_does_not(tmp_path):
    deep = tmp_path / "segments" / "drive" / "000000_front.json"
    deep.parent.mkdir(parents=True)
    deep.write_text("[1]")
    choice = TeacherChoice.load(TEACHERS / "cityscapes_masks.yaml", {"folder": str(tmp_path)})
    before = choice.describe()
    (tmp_path / "work" / "label").mkdir(parents=True)
    (tmp_path / "work" / "label" / "stage.json").touch()
    (tmp_path / ".hidden").touch()
    assert choice.describe() == before
    deep.write_text("[2]")
    assert choice.describe()["files"] != before["files"]


@pytest.mark.skipif(not MASKS.is_dir(), reason="needs shared/data/masks_2d")
def test_masks_on_disk_become_segments(tmp_path, capsys):
    arguments = ["label", "--teacher", str(TEACHERS / "cityscapes_masks.yaml"), "--set", f"folder={MASKS}"]
    arguments += ["--source", str(KITTI), "--out", str(tmp_path / "out")]
    assert main([*arguments, "--dry-run"]) == 0
    assert "16 samples, 16 images" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()
    assert main(arguments) == 0
    assert "16 samples labelled, 0 were there, 0 skipped" in capsys.readouterr().out
    assert main(arguments) == 0
    assert "0 samples labelled, 16 were there" in capsys.readouterr().out
