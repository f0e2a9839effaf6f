"""``--dry-run`` of every verb of ``python -m training``: what would run, on how much, and nothing is written."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from command_place import arguments, make_place
from tiny_chain import TinySource
from tiny_model import write_tiny_model

from ov_seg_ros.bags.convert import convert_source
from training import cli
from training.commands.chain import STAGES

pytestmark = pytest.mark.xdist_group("chain")

VERBS = ("label", *STAGES)
DRY = {
    "label": [r"label: 4 samples, 4 images: .*kB on disk", "min of the teacher"],
    "lift": ["lift: 4 scans of about 240 points, ", "kB on disk"],
    "refine": ["refine: the recipe leaves lifted labels as they are"],
    "pretrain": [r"pretrain: 2 steps of 2 scans \(1.0 passes over 4 scans\), .* M parameters, checkpoint .* MB"],
    "train": [r"train: 2 steps of 2 scans \(1.0 passes over 4 scans\)"],
    "probe": [r"linear: true labels of 4 scans, 23.0 kB on disk, then 2 steps"],
    "evaluate": ["evaluate: student, student . AFI on the ground truth of 4 samples of drive"],
    "export": ["export: .*student.onnx"],
    "all": ["label: 4 samples", "lift: 4 scans", "refine: ", "pretrain: 2 steps", "train: 2 steps", "export: "],
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    return make_place(tmp_path_factory.mktemp("dry_runs"))


def snapshot(folder: Path) -> dict[Path, tuple[int, int]]:
    return {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in folder.rglob("*")}


@pytest.mark.parametrize("verb", VERBS)
def test_dry_runs_name_what_would_run_and_write_nothing(place, verb, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = snapshot(place.root)
    assert cli.main(arguments(place, verb, "--dry-run", work=tmp_path / "work")) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"recipe tiny, source drive: 4 samples, results in {tmp_path / 'work'}\n")
    for pattern in DRY[verb]:
        assert re.search(pattern, shown), shown
    assert ("evaluate: " in shown) == (verb == "evaluate")  # all evaluates only with --validation
    assert snapshot(place.root) == before
    assert list(tmp_path.iterdir()) == []


def test_several_sources_are_one(place, capsys, tmp_path):
    assert cli.main(arguments(place, "train", "--source", place.judge, "--dry-run", work=tmp_path / "none")) == 0
    assert re.search(r"source drive\+judge: 6 samples", capsys.readouterr().out)


def test_dry_runs_of_all_name_the_judge_and_of_probe_the_mode(place, capsys, tmp_path):
    assert cli.main(arguments(place, "all", "--dry-run", "--validation", place.judge, work=tmp_path / "w")) == 0
    assert "on the ground truth of 2 samples of judge" in capsys.readouterr().out
    assert cli.main(arguments(place, "probe", "--dry-run", "--mode", "finetune", work=tmp_path / "w")) == 0
    shown = capsys.readouterr().out
    assert "finetune: true labels of 4 scans" in shown
    assert "linear" not in shown
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize("verb", ["evaluate", "probe"])
def test_dry_runs_refuse_a_source_without_ground_truth(place, capsys, tmp_path, verb):
    silent = SimpleNamespace(
        **{**vars(place), "drive": convert_source(TinySource(2, truth=False), tmp_path / "silent")}
    )
    assert cli.main(arguments(silent, verb, "--dry-run", work=tmp_path / "work")) == 2
    shown = capsys.readouterr()
    assert "source silent has ground truth of label space none, needed is nuscenes16" in shown.err
    assert "ground truth of 2" not in shown.out


def test_a_dry_run_of_evaluate_asks_for_the_classes_of_the_student(place, capsys, tmp_path):
    write_tiny_model(tmp_path / "student.onnx")
    for more in (["--model", tmp_path / "student.onnx"], []):
        assert cli.main(arguments(place, "evaluate", "--dry-run", *more, work=tmp_path)) == 2
        assert re.search("source drive has ground truth of label space .*, needed is tiny", capsys.readouterr().err)


def test_dry_runs_name_the_student_that_would_be_written(place, capsys, tmp_path):
    for verb in ("export", "all"):
        assert cli.main(arguments(place, verb, "--dry-run", "--model", tmp_path / "mine.onnx")) == 0
        assert f"export: {tmp_path / 'mine.onnx'}" in capsys.readouterr().out


def test_a_dry_run_says_that_the_teacher_would_fail(place, capsys, tmp_path):
    assert cli.main(arguments(place, "label", "--dry-run", "--set", "folder=nowhere", work=tmp_path / "w")) == 0
    assert "label: would fail now: " in capsys.readouterr().out


def test_a_dry_run_of_all_says_that_the_teacher_would_fail(place, capsys, tmp_path):
    assert cli.main(arguments(place, "all", "--dry-run", "--set", "folder=nowhere", work=tmp_path / "w")) == 0
    assert "label: would fail now: " in capsys.readouterr().out
