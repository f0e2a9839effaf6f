"""``ov-seg demo``: the real node and the replay, each in its own process, over real DDS."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import small_drive
import yaml
from tiny_model import write_tiny_model

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


def demo(*arguments, **variables):
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT), **variables}
    command = [sys.executable, "-m", "ov_seg_ros.cli", "demo", *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)


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


def test_a_node_that_ends_is_noticed_with_its_last_words(model, tmp_path):
    drive = small_drive.write_small_drive(tmp_path / "drive", 1)
    done = demo(drive, "--out", tmp_path / "out", "--model", model, "--threads", "300")
    assert done.returncode == 2
    assert "the node ended by itself" in done.stderr
    assert "num_threads must be 0 to 256" in done.stderr
