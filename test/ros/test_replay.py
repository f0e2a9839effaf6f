"""The replay as a process, over DDS, against a node whose labels and losses are known."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import small_drive

from ov_seg_ros.bags.labelled import LABEL_INFO_TOPIC, LABELS_TOPIC
from ov_seg_ros.bags.recording import Recording
from ov_seg_ros.bags.writer import RecordingWriter
from ov_seg_ros.messages.pointcloud2 import decode_pointcloud2
from ov_seg_ros.report.schema import REPORT_SCHEMA
from ov_seg_ros.ros.replay_clock import with_stamp

CHECKOUT = Path(__file__).parents[2]
SCANS = 12


@pytest.fixture(scope="module")
def drive(tmp_path_factory):
    return small_drive.write_small_drive(tmp_path_factory.mktemp("bags") / "drive", SCANS, None)


class Running:
    """Spins a rig in a thread while a replay runs beside it."""

    def __init__(self, rig):
        self.rig = rig
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._spin, daemon=True)

    def _spin(self):
        while not self.stop.is_set():
            self.rig.executor.spin_once(timeout_sec=0.02)

    def __enter__(self):
        self.thread.start()
        return self.rig

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()


def replay(*arguments, timeout_s=90):
    """Runs the replay; returns the finished process."""
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    command = [sys.executable, "-m", "ov_seg_ros.ros.replay", *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout_s, check=False)


def read_report(out):
    report = json.loads((out / "report.json").read_text())
    jsonschema.validate(report, REPORT_SCHEMA)
    return report


def test_every_scan_comes_back_labelled_with_its_own_stamp(start, drive, tmp_path):
    with Running(start(queue_size=SCANS)) as rig:
        done = replay(drive, "--out", tmp_path, "--ros-args", "-r", "__ns:=/")
    assert done.returncode == 0, done.stderr
    report = read_report(tmp_path)
    assert (report["scans_in"], report["scans_labelled"], report["scans_dropped"], report["scans_lost"]) == (
        SCANS,
        SCANS,
        0,
        0,
    )
    assert report["points"] == SCANS * small_drive.POINTS
    assert 0 < report["latency_ms"]["p50"] < 1000
    assert report["latency_ms"]["stages"]["inference"]["p50"] == 2.0  # what the simulated student claims
    assert report["provider"] == "CPUExecutionProvider"
    assert report["model"] == {"sha256": rig.segmenter.sha256, "classes": ["road", "car", "tree"], "about": {}}
    assert report["cameras"] == ["front"]
    expected = rig.simulated.expected_class(small_drive.ring())
    with Recording.open(drive) as before, Recording.open(tmp_path / "labelled") as after:
        assert set(after.topics) - set(before.topics) == {LABELS_TOPIC, LABEL_INFO_TOPIC}
        stamps = []
        for message in after.iter_messages([LABELS_TOPIC]):
            decoded = decode_pointcloud2(message.decode())
            stamps.append(decoded.cloud.stamp_ns)
            assert (decoded.fields["class_id"] == expected).all()
            np.testing.assert_array_equal(decoded.cloud.points, small_drive.ring())
        assert stamps == [small_drive.START_NS + k * small_drive.STEP_NS for k in range(SCANS)]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["labelled", "overview.png", "report.html", "report.json"]


def test_scans_that_an_overloaded_node_drops_are_accounted_for(start, drive, tmp_path):
    with Running(start(delay_s=0.25, queue_size=1)) as rig:  # 4 scans a second at best, 10 come
        done = replay(drive, "--out", tmp_path)
        labelled = len(rig.segmenter.calls)
    assert done.returncode == 0, done.stderr
    report = read_report(tmp_path)
    assert report["scans_in"] == SCANS
    assert 4 <= report["scans_dropped"] < SCANS
    assert report["scans_labelled"] == labelled == SCANS - report["scans_dropped"]
    assert report["scans_lost"] == 0
    with Recording.open(tmp_path / "labelled") as after:
        assert after.topics[LABELS_TOPIC].count == labelled
    assert f"{report['scans_dropped']} dropped, 0 lost on the way" in done.stderr


def test_scans_that_the_node_refuses_are_named(start, drive, tmp_path):
    rig = start(queue_size=SCANS)
    rig.segmenter.fail = True
    with Running(rig):
        done = replay(drive, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    report = read_report(tmp_path)
    assert (report["scans_labelled"], report["scans_dropped"], report["scans_lost"]) == (0, SCANS, 0)
    assert report["latency_ms"]["p50"] is None
    assert f"the node refused {SCANS} scans: the network failed on purpose" in report["notes"]


def test_another_rate_is_faster_and_said_so(start, drive, tmp_path):
    with Running(start(queue_size=SCANS)):
        done = replay(drive, "--out", tmp_path, "--rate", "4", "--no-cameras")
    assert done.returncode == 0, done.stderr
    report = read_report(tmp_path)
    assert report["scans_labelled"] == SCANS
    assert "played at 4 times the recorded pace" in report["notes"]
    assert report["cameras"] == []


def test_translated_classes_are_those_of_the_report(start, drive, tmp_path):
    path = tmp_path / "map.yaml"
    path.write_text("{name: mine, classes: [{name: ALL, color: [1, 2, 3], from: [road, car]}], unknown: [tree]}")
    with Running(start(queue_size=SCANS, class_map=str(path))):
        done = replay(drive, "--out", tmp_path / "out", "--no-cameras")
    assert done.returncode == 0, done.stderr
    report = read_report(tmp_path / "out")
    assert set(report["label_histogram"]) <= {"ALL", "unknown"}
    assert report["label_histogram"]["ALL"] > 0
    assert f"the classes of the student were translated: {path}" in report["notes"]


def test_the_transport_is_left_to_whoever_starts_node_and_replay(monkeypatch, tmp_path):
    from ov_seg_ros.ros import replay as command

    monkeypatch.delenv("FASTDDS_BUILTIN_TRANSPORTS", raising=False)
    assert command.main([str(tmp_path / "nothing"), "--out", str(tmp_path / "out")]) == 2
    assert "FASTDDS_BUILTIN_TRANSPORTS" not in os.environ


def test_calibrations_and_scans_without_a_stamp_are_played_slowly_too(start, tmp_path):
    whole = small_drive.write_small_drive(tmp_path / "whole", 3, None)
    with Recording.open(whole) as recording, RecordingWriter(tmp_path / "drive") as writer:
        for message in recording.iter_messages():
            is_static = message.topic.endswith("/camera_info") or message.topic == "/lidar/points"
            data = with_stamp(message.data, 0) if is_static else message.data
            writer.write_raw(message.topic, message.type_name, data, message.received_ns)
    with Running(start(queue_size=3)):
        done = replay(tmp_path / "drive", "--out", tmp_path / "out", "--rate", "0.3")
    assert done.returncode == 0, done.stderr
    report = read_report(tmp_path / "out")
    assert (report["scans_in"], report["scans_labelled"], report["scans_lost"]) == (3, 3, 0)
    assert report["latency_ms"]["p50"] is None
    assert "scans of the recording have no stamp (0), so there is no latency to measure" in report["notes"]


def test_without_a_node_it_ends_and_says_what_is_missing(drive, tmp_path):
    done = replay(drive, "--out", tmp_path, "--timeout", "1", "--node", "/nobody")
    assert done.returncode == 2
    assert "no answer within 1 s: no node /nobody was found" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_node_that_is_not_active_is_told_apart(start, drive, tmp_path):
    with Running(start(autostart=False)):
        done = replay(drive, "--out", tmp_path, "--timeout", "4")
    assert done.returncode == 2
    assert "start segmentation_node" in done.stderr or "not configured" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--rate", "0"], "--rate must be 0.01 to 100, got 0.0"),
        (["--lidar-topic", "/nope"], "--lidar-topic /lidar/points"),
        (["--node", "bad name"], "--node must be the name of a node, such as /segmentation_node, got 'bad name'"),
        (["--node", ""], "--node must be the name of a node, such as /segmentation_node, got ''"),
    ],
)
def test_bad_arguments_are_refused(drive, tmp_path, arguments, words):
    done = replay(drive, "--out", tmp_path, *arguments)
    assert done.returncode == 2
    assert words in done.stderr


@pytest.mark.parametrize(
    ("taken", "words"),
    [
        ("out", "out cannot be written: it is a file, expected a folder; give another path"),
        ("out/labelled/thesis.tex", "labelled is no recording and is not overwritten; give another path"),
        ("out/overview.png/x", "overview.png cannot be written: it is a folder, expected a file; give another path"),
    ],
)
def test_what_cannot_be_written_is_refused_before_a_node_is_looked_for(drive, tmp_path, taken, words):
    (tmp_path / taken).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / taken).write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    done = replay(drive, "--out", tmp_path / "out", "--timeout", "1")
    assert done.returncode == 2
    assert done.stderr.endswith(f"{words}\n")
    assert "Traceback" not in done.stderr
    assert sorted(tmp_path.rglob("*")) == before
