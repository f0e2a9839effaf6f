"""What the report of a replay says about the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import small_drive
from tiny_model import write_tiny_model

from ov_seg_ros.bags.layout import LIDAR_TOPIC, TRUTH_INFO_TOPIC
from ov_seg_ros.bags.recording import Recording
from ov_seg_ros.bags.writer import RecordingWriter
from ov_seg_ros.cli import main
from ov_seg_ros.core.class_map import ClassMap
from ov_seg_ros.ros.replay_report import ReplayRun, write_report
from ov_seg_ros.runtime.model_file import load_model_file


def report_of(labelled: Path, model: Path, class_map: ClassMap, out: Path) -> dict[str, Any]:
    run = ReplayRun(
        bag=labelled,
        lidar_topic=LIDAR_TOPIC,
        cameras=(),
        label_space=class_map.label_space,
        published=2,
        dropped=0,
        stamps_ns=(),
        latencies_ms=(),
        stages_ms={},
        provider="none",
        model_sha256=load_model_file(model).sha256,
        has_class_map=True,
    )
    return write_report(run, labelled, out, "replay", model).to_dict()


@pytest.mark.parametrize(
    ("classes", "iou"),
    [
        ("[{name: low, color: [1, 2, 3], from: [low, high]}]", {"low": 1.0}),  # "high" is not counted: no class
        (
            "[{name: high, color: [1, 2, 3], from: [high]}, {name: low, color: [4, 5, 6], from: [low]}]",
            {"high": small_drive.IOU["high"], "low": small_drive.IOU["low"]},
        ),
    ],
    ids=["joined", "in another order"],
)
def test_scores_stand_under_the_classes_of_the_node(classes: str, iou: dict[str, float], tmp_path: Path) -> None:
    """A node with a class map speaks other classes than the file of its student."""
    drive, labelled = small_drive.write_small_drive(tmp_path / "drive", 2), tmp_path / "labelled"
    model, class_map = tmp_path / "student.onnx", tmp_path / "map.yaml"
    write_tiny_model(model)
    class_map.write_text(f"{{name: mapped, classes: {classes}}}")
    options = ["--model", str(model), "--class-map", str(class_map)]
    assert main(["segment", str(drive), "-o", str(labelled), *options]) == 0
    report = report_of(labelled, model, ClassMap.load(class_map), tmp_path / "out")
    assert report["model"]["about"]["name"]  # the file was looked at
    assert report["model"]["classes"] == list(iou)
    assert report["iou"] == pytest.approx(iou)


def test_ground_truth_that_does_not_name_its_classes_is_not_taken_for_mapped_ones(tmp_path: Path) -> None:
    whole, drive = small_drive.write_small_drive(tmp_path / "whole", 2), tmp_path / "drive"
    with Recording.open(whole) as recording, RecordingWriter(drive) as writer:
        for message in recording.iter_messages():
            if message.topic != TRUTH_INFO_TOPIC:
                writer.write_raw(message.topic, message.type_name, message.data, message.received_ns)
    model, class_map = tmp_path / "student.onnx", tmp_path / "map.yaml"
    write_tiny_model(model)
    class_map.write_text("{name: mapped, classes: [{name: all, color: [1, 2, 3], from: [low, high]}]}")
    options = ["--model", str(model), "--class-map", str(class_map)]
    assert main(["segment", str(drive), "-o", str(tmp_path / "labelled"), *options]) == 0
    report = report_of(tmp_path / "labelled", model, ClassMap.load(class_map), tmp_path / "out")
    assert "miou" not in report
    assert any(note.startswith("ground truth was left out: the recording does not name") for note in report["notes"])
