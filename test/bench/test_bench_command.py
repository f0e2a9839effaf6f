"""``ov-seg bench`` as a user types it."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
from tiny_model import write_tiny_model

from ov_seg_ros.bench import engines
from ov_seg_ros.cli import main
from ov_seg_ros.commands import bench


@pytest.fixture
def model(tmp_path, monkeypatch):
    monkeypatch.setattr(engines, "PROVIDERS", ("CPUExecutionProvider",))
    write_tiny_model(tmp_path / "tiny.onnx")
    return tmp_path / "tiny.onnx"


@pytest.fixture
def scans(tmp_path):
    (tmp_path / "scans").mkdir()
    for name, count in (("a", 300), ("b", 61_000)):
        np.random.default_rng(0).uniform(-9, 9, (count, 4)).astype("<f4").tofile(tmp_path / "scans" / f"{name}.bin")
    return tmp_path / "scans"


def ov_seg_bench(*arguments):
    return main(["bench", *map(str, arguments)])


def test_tables_on_the_terminal_and_figures_in_the_file(model, scans, tmp_path, capsys):
    assert ov_seg_bench(model, "--scans", scans, "--only", "stages", "--rounds", 1, "--out", tmp_path / "out") == 0
    out, progress = capsys.readouterr()
    assert "scans: scans 32 beams (300 points), scans 64 beams (61,000 points)" in out
    assert "== stages: bytes to labels, 1 rounds" in out
    assert "not measured: maps_32_ms" in out
    assert progress.splitlines() == ["stages"]
    (path,) = (tmp_path / "out").glob("*/*.json")
    assert out.rstrip().endswith(str(path))
    content = json.loads(path.read_text())
    assert content["complete"]
    assert content["options"] == {"rounds": 1, "threads": 0, "quick": False, "cores": 0}
    assert content["model"]["name"] == "tiny"
    assert content["scans"][0] == {"name": "scans 32", "beams": 32, "points": 300}
    assert len(content["load_average_before"]) == len(content["load_average_after"]) == 3
    assert list(content["sections"]) == ["stages"]


def test_two_files_are_compared_instead_of_measured(model, scans, tmp_path, capsys):
    for name in ("old", "new"):
        arguments = ("--scans", scans, "--only", "stages", "--rounds", 1, "--json", tmp_path / f"{name}.json")
        assert ov_seg_bench(model, *arguments) == 0
    capsys.readouterr()
    assert ov_seg_bench("--compare", tmp_path / "old.json", tmp_path / "new.json") == 0
    out = capsys.readouterr().out
    assert out.startswith("Ratios of two runs")
    assert "new / old" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--rounds", 0), "--rounds must be at least 1, got 0"),
        (("--threads", -1), "--threads must be >= 0, got -1"),
        (("--cores", 100_000), "--cores must lie between 1 and"),
        (("--cores", -1), "--cores must lie between 1 and"),
        (("--only", "speed"), "there is no section speed; known here: stages, memory, sustained, startup, scaling"),
        (("--scans", "nowhere"), "nowhere does not exist"),
        (("nothing.onnx",), "model nothing.onnx does not exist"),
        (("--compare", "a.json", "b.json"), "a.json does not exist"),
    ],
)
def test_errors_are_one_line(arguments, message, tmp_path, capsys):
    assert ov_seg_bench(*arguments, "--out", tmp_path) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"ov-seg bench: {message}")
    assert error.count("\n") == 1
    assert not list(tmp_path.rglob("*.json"))


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--json", "folder cannot be written: it is a folder, expected a file; give another path"),
        ("--out", "file cannot be written: it is a file, expected a folder; give another path"),
    ],
)
def test_a_file_that_cannot_be_written_is_refused_before_anything_is_measured(option, message, tmp_path, capsys):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("mine")
    target = tmp_path / ("folder" if option == "--json" else "file")
    assert ov_seg_bench(option, target) == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert error.endswith(f"{message}\n")
    assert error.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="needs processor affinity")
def test_cores_restrict_this_process_and_its_children():
    usable = os.sched_getaffinity(0)
    try:
        bench.use_cores(1)
        assert os.sched_getaffinity(0) == {min(usable)}
    finally:
        os.sched_setaffinity(0, usable)


def test_the_command_is_the_one_that_repeats_the_run(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    script = str(tmp_path / "benchmarks" / "suite.py")
    assert bench._command_line([script, "--scans", "a b"]) == "python benchmarks/suite.py --scans 'a b'"
    assert bench._command_line(["/usr/bin/ov-seg", "bench"]) == "ov-seg bench"
