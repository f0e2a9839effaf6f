"""``ov-seg demo``: the real node and the replay, each in its own process, over real DDS."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jsonschema
import pytest
import small_drive
import yaml
from heeded_signals import heed_signals
from tiny_model import write_tiny_model

from ov_seg_ros.commands import node_process
from ov_seg_ros.report.schema import REPORT_SCHEMA

pytest.importorskip("rclpy", reason="the ROS 2 wheels are not installed (pip install 'ov_seg_ros[ros]')")
pytestmark = pytest.mark.xdist_group("ros")
CHECKOUT = Path(__file__).parents[1]
SCANS = 6


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "tiny.onnx"
    write_tiny_model(path)
    return path


def start_demo(*arguments, **options):
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    command = [sys.executable, "-m", "ov_seg_ros.cli", "demo", *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, env=environment, stdout=pipe, stderr=pipe, text=True, preexec_fn=heed_signals, **options
    )


def demo(*arguments):
    """Runs the demo; returns the finished process."""
    process = start_demo(*arguments)
    output, errors = process.communicate(timeout=240)
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


def children_of(process):
    listed = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return [int(word) for word in listed.read_text().split()]


def wait_for(condition, timeout_s=60.0):
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)


def test_demo_labels_every_scan_of_a_recording(model, tmp_path):
    drive = small_drive.write_small_drive(tmp_path / "drive", SCANS)
    out = tmp_path / "out"
    done = demo(drive, "--out", out, "--model", model, "--provider", "cpu")
    assert done.returncode == 0, done.stderr
    report = json.loads((out / "report.json").read_text())
    jsonschema.validate(report, REPORT_SCHEMA)
    assert (report["scans_in"], report["scans_labelled"], report["scans_dropped"]) == (SCANS, SCANS, 0)
    assert report["iou"] == pytest.approx(small_drive.IOU)
    assert report["unseen"]["iou"] == pytest.approx(small_drive.IOU_UNSEEN)
    assert report["model"]["about"]["name"] == "tiny"
    assert report["command"].startswith("ov-seg demo ")
    assert {"labelled", "overview.png", "report.html", "report.json", "node"} == {p.name for p in out.iterdir()}
    assert str(out / "report.html") in done.stdout
    parameters = yaml.safe_load((out / "node" / "parameters.yaml").read_text())["/**"]["ros__parameters"]
    assert parameters["cameras"] == ["front"]
    assert parameters["queue_size"] == SCANS


def test_demo_lists_scans_that_cannot_be_read(model, tmp_path):
    drive = small_drive.write_damaged_drive(tmp_path / "drive")
    done = demo(drive, "--out", tmp_path / "out", "--model", model, "--provider", "cpu")
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    counts = [report[key] for key in ("scans_in", "scans_labelled", "scans_dropped", "scans_lost")]
    assert counts == [4, 2, 2, 0], done.stderr
    assert report["iou"] == pytest.approx(small_drive.IOU)
    refused, unplayable, *_ = report["notes"]
    assert refused.startswith("the node refused 1 scans: ")
    assert unplayable.startswith("1 messages of /lidar/points could not be played: ")


def test_demo_makes_its_own_drive(model, tmp_path):
    pytest.importorskip("embreex", reason="the ray tracer is not installed (pip install 'ov_seg_ros[synthetic]')")
    done = demo("--out", tmp_path, "--model", model, "--scans", 2, "--rate", "1")
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["scans_labelled"], report["scans_lost"]) == (2, 0)
    assert len(report["cameras"]) == 6
    assert "iou" not in report or set(report["iou"]) == {"low", "high"}
    assert (tmp_path / "drive" / "metadata.yaml").is_file()


def test_a_model_that_does_not_run_is_one_line(tmp_path):
    drive = small_drive.write_small_drive(tmp_path / "drive", 1)
    done = demo(drive, "--out", tmp_path / "out", "--model", tmp_path / "missing.onnx")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "missing.onnx does not exist" in done.stderr


@pytest.mark.parametrize(
    ("taken", "message"),
    [
        ("out", "out cannot be written: it is a file, expected a folder; give another path"),
        ("out/node", "node cannot be written: it is a file, expected a folder; give another path"),
        ("out/labelled/thesis.tex", "labelled is no recording and is not overwritten; give another path"),
        ("out/report.html/x", "report.html cannot be written: it is a folder, expected a file; give another path"),
    ],
)
def test_what_cannot_be_written_is_refused_before_anything_starts(taken, message, model, tmp_path):
    (tmp_path / taken).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / taken).write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    done = demo("--out", tmp_path / "out", "--model", model)
    assert done.returncode == 2
    assert done.stderr.endswith(f"{message}\n")
    assert done.stderr.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_a_node_that_ends_is_noticed_with_its_last_words(model, tmp_path):
    drive = small_drive.write_small_drive(tmp_path / "drive", 1)
    done = demo(drive, "--out", tmp_path / "out", "--model", model, "--threads", "300")
    assert done.returncode == 2
    assert "the node ended by itself" in done.stderr
    assert "num_threads must be 0 to 256" in done.stderr


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds child processes in /proc")
@pytest.mark.parametrize(
    ("end", "whole_group", "code"),
    [
        (signal.SIGTERM, False, 143),  # a service manager, a container
        (signal.SIGHUP, True, 129),  # a terminal that is closed tells all processes in it
        (signal.SIGINT, True, 130),  # Ctrl-C
    ],
)
def test_whoever_ends_the_demo_ends_node_and_replay(model, tmp_path, end, whole_group, code):
    drive = small_drive.write_small_drive(tmp_path / "drive", SCANS)
    out = tmp_path / "out"
    process = start_demo(drive, "--out", out, "--model", model, "--rate", "0.01", start_new_session=True)
    wait_for(lambda: len(children_of(process)) == 2)
    children = children_of(process)
    wait_for(lambda: list(out.glob(".replay_*/labels.mcap_unfinished")))  # the replay is under way
    (os.killpg if whole_group else os.kill)(process.pid, end)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors
    assert "Traceback" not in errors
    assert [child for child in children if Path(f"/proc/{child}").exists()] == []
    assert {path.name for path in out.iterdir()} == {"node"}


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children that their parent was killed")
def test_node_and_replay_end_when_the_demo_is_killed(model, tmp_path):
    drive = small_drive.write_small_drive(tmp_path / "drive", SCANS)
    out = tmp_path / "out"
    process = start_demo(drive, "--out", out, "--model", model, "--rate", "0.01")
    wait_for(lambda: len(children_of(process)) == 2)
    children = children_of(process)
    wait_for(lambda: list(out.glob(".replay_*/labels.mcap_unfinished")))  # the replay is under way
    process.kill()
    process.communicate(timeout=60)
    wait_for(lambda: not any(map(is_running, children)))
    assert {path.name for path in out.iterdir()} == {"node"}


def is_running(process: int) -> bool:
    """Of a process that may be nobody's child any more; a dead one may wait for whoever adopted it."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def test_a_process_that_does_not_end_is_killed(monkeypatch):
    monkeypatch.setattr(node_process, "STOP_S", 0.2)
    deaf = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); print(flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", deaf], stdout=subprocess.PIPE)
    assert process.stdout.readline()
    node_process._end(process, signal.SIGINT)
    assert process.returncode == -signal.SIGKILL
