"""Recordings with scans that cannot be read, and ground truth that does not fit, on the command line of ``ov-seg``."""

from __future__ import annotations

import json

import jsonschema
import numpy as np
import pytest
import small_drive
from tiny_model import write_tiny_model

from ov_seg_ros.bags.build_messages import cloud_message
from ov_seg_ros.bags.labelled import LABELS_TOPIC
from ov_seg_ros.bags.layout import LIDAR_TOPIC, TRUTH_TOPIC
from ov_seg_ros.bags.recording import Recording
from ov_seg_ros.bags.writer import RecordingWriter
from ov_seg_ros.cli import main
from ov_seg_ros.report.schema import REPORT_SCHEMA


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "tiny.onnx"
    write_tiny_model(path)
    return path


@pytest.fixture
def misfit(tmp_path):
    """Three scans; the ground truth of the first has fewer points."""
    whole = small_drive.write_small_drive(tmp_path / "whole")
    with Recording.open(whole) as recording, RecordingWriter(tmp_path / "misfit") as writer:
        for message in recording.iter_messages():
            if message.topic != TRUTH_TOPIC or message.stamp_ns != small_drive.START_NS:
                writer.copy(message)
            else:
                short = {name: np.zeros(5, np.uint8) for name in ("x", "y", "z", "class_id")}
                writer.write(TRUTH_TOPIC, cloud_message(short, message.stamp_ns, "lidar"), message.received_ns)
    return tmp_path / "misfit"


def ov_seg(*arguments) -> int:
    return main([str(argument) for argument in arguments])


def test_scans_that_cannot_be_read_are_left_out_and_listed(model, tmp_path, capsys):
    drive, out = small_drive.write_damaged_drive(tmp_path / "drive"), tmp_path / "labelled"
    assert ov_seg("segment", drive, "-o", out, "--model", model, "--provider", "cpu") == 0
    output, errors = capsys.readouterr()
    assert output == f"2 scans labelled with tiny on CPUExecutionProvider, 2 left out: {out}\n"
    first, second = errors.splitlines()
    place = "a scan could not be read and was left out: /lidar/points at"
    assert first.startswith(f"{place} {small_drive.START_NS} ns: ")
    assert second.startswith(f"{place} {small_drive.START_NS + 2 * small_drive.STEP_NS} ns: ")
    with Recording.open(drive) as before, Recording.open(out) as after:
        assert after.topics["/lidar/points"] == before.topics["/lidar/points"]
        stamps = [message.stamp_ns for message in after.iter_messages([LABELS_TOPIC])]
    assert stamps == [small_drive.START_NS + number * small_drive.STEP_NS for number in (1, 3)]


def test_a_file_of_labels_keeps_the_number_of_its_scan(model, tmp_path):
    drive, out = small_drive.write_damaged_drive(tmp_path / "drive"), tmp_path / "labels"
    assert ov_seg("segment", drive, "-o", out, "--model", model, "--format", "label") == 0
    assert sorted(path.name for path in out.iterdir()) == ["000001.label", "000003.label"]


def test_scans_that_cannot_be_read_are_dropped_in_the_report(model, tmp_path, capsys):
    drive = small_drive.write_damaged_drive(tmp_path / "drive")
    options = ["--json", tmp_path / "r.json", "--html", tmp_path / "r.html"]
    assert ov_seg("evaluate", drive, "--model", model, *options) == 0
    report = json.loads((tmp_path / "r.json").read_text())
    jsonschema.validate(report, REPORT_SCHEMA)
    counts = [report[key] for key in ("scans_in", "scans_labelled", "scans_dropped", "scans_lost")]
    assert counts == [4, 2, 2, 0]
    assert report["iou"] == pytest.approx(small_drive.IOU)
    assert [note.split(": ")[1] for note in report["notes"]] == [
        f"/lidar/points at {small_drive.START_NS + number * small_drive.STEP_NS} ns" for number in (0, 2)
    ]
    output, errors = capsys.readouterr()
    assert "2 of 4 labelled, 2 dropped, 0 lost on the way" in output
    assert errors.splitlines() == report["notes"]


def test_ground_truth_that_does_not_fit_is_left_out_of_the_report(misfit, model, tmp_path, capsys):
    assert ov_seg("evaluate", misfit, "--model", model, "--json", tmp_path / "r.json") == 0
    report = json.loads((tmp_path / "r.json").read_text())
    assert (report["scans_labelled"], report["scans_dropped"]) == (3, 0)
    assert report["iou"] == pytest.approx(small_drive.IOU)
    (note,) = report["notes"]
    assert note.startswith(f"ground truth was left out: {TRUTH_TOPIC} at {small_drive.START_NS} ns has 5 points")
    assert capsys.readouterr().err == f"{note}\n"


def test_a_recording_without_a_scan_that_can_be_read_is_an_error_and_leaves_nothing(model, tmp_path, capsys):
    drive = small_drive.write_damaged_drive(tmp_path / "drive", 2, (0, 1))
    for verb in (("segment", "-o"), ("segment", "--format", "ply", "-o"), ("evaluate", "--json")):
        assert ov_seg(verb[0], drive, "--model", model, *verb[1:], tmp_path / "out") == 2
        error = capsys.readouterr().err
        assert "drive, topic /lidar/points: none of the 2 scans can be read: /lidar/points at" in error
        assert not (tmp_path / "out").exists()


def test_convert_leaves_out_what_cannot_be_read_and_lists_it(tmp_path, capsys):
    drive, out = small_drive.write_damaged_drive(tmp_path / "drive"), tmp_path / "copy"
    assert ov_seg("convert", drive, out) == 0
    output, errors = capsys.readouterr()
    assert output == f"2 scans of drive, 2 left out: {out}\n"
    first, second = errors.splitlines()
    assert first.startswith("a scan could not be read and was left out: sample 0 of drive: ")
    assert second.startswith("a scan could not be read and was left out: sample 2 of drive: ")
    with Recording.open(out) as recording:
        stamps = [message.stamp_ns for message in recording.iter_messages([LIDAR_TOPIC])]
    assert stamps == [small_drive.START_NS + number * small_drive.STEP_NS for number in (1, 3)]


def test_convert_leaves_out_a_scan_with_ground_truth_of_another_length(misfit, tmp_path, capsys):
    assert ov_seg("convert", misfit, tmp_path / "copy") == 0
    output, errors = capsys.readouterr()
    assert output == f"2 scans of misfit, 1 left out: {tmp_path / 'copy'}\n"
    assert "sample 0 of misfit: /ground_truth/points at" in errors


def test_convert_bears_only_a_share(tmp_path, capsys):
    drive = small_drive.write_damaged_drive(tmp_path / "drive")
    assert ov_seg("convert", drive, tmp_path / "copy", "--max-unreadable", "0") == 2
    error = capsys.readouterr().err
    assert error.startswith("ov-seg convert: 1 of 1 scans cannot be read, more than a share of 0 of them: copy or rec")
    assert ov_seg("convert", drive, tmp_path / "copy", "--max-unreadable", "2") == 2
    assert "must be in [0, 1], got 2" in capsys.readouterr().err
    nothing = small_drive.write_damaged_drive(tmp_path / "nothing", 2, (0, 1))
    assert ov_seg("convert", nothing, tmp_path / "none") == 2
    assert "ov-seg convert: source nothing: none of the 2 scans can be read: sample 0 of" in capsys.readouterr().err
