"""``ov-seg`` as a user types it, on a drive whose every label is known."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import small_drive
from tiny_model import write_tiny_model

from ov_seg_ros.bags.convert import convert_source
from ov_seg_ros.bags.label_files import read_kitti_labels
from ov_seg_ros.bags.labelled import LABEL_INFO_TOPIC, LABELS_TOPIC
from ov_seg_ros.bags.recording import Recording
from ov_seg_ros.cli import VERBS, main
from ov_seg_ros.commands import options
from ov_seg_ros.core.data_types import PointCloud, Sample
from ov_seg_ros.core.errors import InputError
from ov_seg_ros.core.label_space import LabelSpace
from ov_seg_ros.messages.pointcloud2 import decode_pointcloud2
from ov_seg_ros.refinement.afi import refine_afi
from ov_seg_ros.refinement.afi_config import AfiConfig
from ov_seg_ros.refinement.refined_segmenter import REFINEMENTS
from ov_seg_ros.report.schema import REPORT_SCHEMA

HEAVY = {"numpy", "numba", "onnxruntime", "rosbags", "PIL", "torch", "rclpy", "tqdm", "scipy", "matplotlib"}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "tiny.onnx"
    write_tiny_model(path)
    return path


@pytest.fixture(scope="module")
def drive(tmp_path_factory):
    return small_drive.write_small_drive(tmp_path_factory.mktemp("bags") / "drive")


def ov_seg(*arguments) -> int:
    return main([str(argument) for argument in arguments])


def test_help_of_every_verb_is_quick_and_imports_nothing_heavy():
    code = "import sys; from ov_seg_ros.cli import build_parser; build_parser(); print(*sys.modules)"
    checkout = Path(__file__).parents[1]
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=checkout)
    assert not HEAVY & set(output.stdout.split())


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb, capsys):
    with pytest.raises(SystemExit) as exit_:
        ov_seg(verb, "--help")
    assert exit_.value.code == 0
    assert "--debug" in capsys.readouterr().out


def test_an_error_is_one_line_and_exit_code_2(capsys, tmp_path):
    assert ov_seg("segment", tmp_path / "nothing", "-o", tmp_path / "out") == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"ov-seg segment: {tmp_path / 'nothing'} does not exist")
    assert captured.err.count("\n") == 1


def test_debug_shows_where(tmp_path):
    with pytest.raises(InputError):
        ov_seg("segment", tmp_path / "nothing", "-o", tmp_path / "out", "--debug")


def test_ctrl_c_is_no_traceback(monkeypatch, capsys, model):
    monkeypatch.setattr(
        "ov_seg_ros.runtime.model_file.describe_model", lambda path: (_ for _ in ()).throw(KeyboardInterrupt)
    )
    assert ov_seg("info", model) == 130
    assert capsys.readouterr().err == "ov-seg info: interrupted\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_one_line_with_the_remedy(drive, model, tmp_path, capsys):
    (tmp_path / "report.json").symlink_to("/dev/full")
    assert ov_seg("evaluate", drive, "--model", model, "--json", tmp_path / "report.json") == 2
    message = "ov-seg evaluate: no space left; free some and run the same command again\n"
    assert capsys.readouterr().err.endswith(message)
    with pytest.raises(OSError, match="No space left"):
        ov_seg("evaluate", drive, "--model", model, "--json", tmp_path / "report.json", "--debug")


def test_a_reader_that_has_gone_is_no_error(model):
    command = [sys.executable, "-m", "ov_seg_ros.cli", "info", str(model), "--json"]
    pipe, checkout = subprocess.PIPE, Path(__file__).parents[1]
    process = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, cwd=checkout)
    process.stdout.close()  # as `| head` does, here before the first line
    assert process.stderr.read() == ""
    assert process.wait() == 141


def refuse_to_work(*_):
    raise AssertionError("work began before the output was checked")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("evaluate", "--json", "folder"), "folder cannot be written: it is a folder, expected a file"),
        (("evaluate", "--json", "file/x.json"), "file/x.json cannot be written: Not a directory"),
        (("evaluate", "--json", "r.json", "--html", "folder"), "folder cannot be written: it is a folder"),
        (
            ("evaluate", "--json", "r.json", "--overview", "o.xyz"),
            "the overview is a picture, .png or .jpg or .jpeg, got",
        ),
        (("segment", "-o", "file/x", "--format", "label"), "file/x cannot be written: Not a directory"),
        (("segment", "-o", "file", "--format", "ply"), "file cannot be written: it is a file, expected a folder"),
        (("segment", "-o", "file/x"), "file cannot be written: it is a file, expected a folder"),
        (("segment", "-o", "folder"), "folder exists already; give another path, or ask to overwrite it"),
    ],
)
def test_output_that_cannot_be_written_is_one_line_before_the_work(
    arguments, message, drive, tmp_path, monkeypatch, capsys
):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("mine")
    monkeypatch.chdir(tmp_path)
    for verb in ("evaluate", "segment"):
        monkeypatch.setattr(f"ov_seg_ros.commands.{verb}.load_segmenter", refuse_to_work)
    verb, *others = arguments
    assert ov_seg(verb, drive, *others) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"ov-seg {verb}: {message}")
    assert error.count("\n") == 1
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "folder"]


def test_info(model, capsys):
    assert ov_seg("info", model) == 0
    assert "classes         low, high" in capsys.readouterr().out
    assert ov_seg("info", model, "--json") == 0
    assert json.loads(capsys.readouterr().out)["classes"] == ["low", "high"]


def test_segment_copies_the_recording_and_adds_labels(drive, model, tmp_path, capsys):
    out = tmp_path / "labelled"
    assert ov_seg("segment", drive, "-o", out, "--model", model, "--provider", "cpu") == 0
    assert "3 scans labelled with tiny on CPUExecutionProvider" in capsys.readouterr().out
    with Recording.open(drive) as before, Recording.open(out) as after:
        added = {LABELS_TOPIC, LABEL_INFO_TOPIC}
        assert set(after.topics) - set(before.topics) == added
        kept = [(m.topic, m.received_ns, bytes(m.data)) for m in after.iter_messages() if m.topic not in added]
        assert kept == [(m.topic, m.received_ns, bytes(m.data)) for m in before.iter_messages()]
        for number, message in enumerate(after.iter_messages([LABELS_TOPIC])):
            decoded = decode_pointcloud2(message.decode())
            assert decoded.cloud.stamp_ns == small_drive.START_NS + number * small_drive.STEP_NS
            assert (decoded.cloud.points == small_drive.ring()).all()
            assert (decoded.fields["class_id"] == small_drive.PREDICTION).all()
            assert {"intensity", "probability", "entropy"} <= set(decoded.fields.dtype.names)
        names = [c.class_name for c in after.first(LABEL_INFO_TOPIC).decode().class_map]
        assert names == ["low", "high"]


class Meadow(small_drive.SmallDrive):
    """One scan of rough ground around height 0, where ``tiny_model`` cannot make up its mind."""

    def load_sample(self, index: int) -> Sample:
        points = np.random.default_rng(0).uniform((1, -5, -0.1), (9, 5, 0.1), (500, 3)).astype(np.float32)
        return Sample("meadow", PointCloud(points, np.zeros(500, np.float32), small_drive.START_NS, "lidar"))


def test_segment_refines_on_request(model, tmp_path, capsys):
    drive = convert_source(Meadow(1, None), tmp_path / "drive")
    labelled = {}
    for refinement in ("none", "afi"):
        out = tmp_path / refinement
        assert ov_seg("segment", drive, "-o", out, "--model", model, "--refine", refinement) == 0
        with Recording.open(out) as recording:
            labelled[refinement] = decode_pointcloud2(recording.first(LABELS_TOPIC).decode())
    assert ", refined with afi: " in capsys.readouterr().out
    student, refined = labelled["none"].fields, labelled["afi"].fields
    space = LabelSpace("tiny", ("low", "high"), ((0, 0, 0),) * 2)
    expected = refine_afi(labelled["none"].cloud.points, student["class_id"], space, AfiConfig.default())
    changed = expected != student["class_id"]
    assert 0 < changed.sum() < 250
    np.testing.assert_array_equal(refined["class_id"], expected)
    kept = np.where(changed, 1 - student["probability"], student["probability"])  # of two classes
    np.testing.assert_allclose(refined["probability"], kept)
    np.testing.assert_array_equal(refined["entropy"], student["entropy"])


def test_segment_translates_classes_on_request(drive, model, tmp_path):
    class_map = tmp_path / "map.yaml"
    class_map.write_text(
        "name: mine\nclasses:\n"
        "  - {name: UP, color: [1, 2, 3], from: [high]}\n"
        "  - {name: DOWN, color: [4, 5, 6], from: [low]}\n"
    )
    for name, given in (("own", ()), ("mapped", ("--class-map", class_map))):
        assert ov_seg("segment", drive, "-o", tmp_path / name, "--model", model, *given) == 0
    with Recording.open(tmp_path / "own") as own, Recording.open(tmp_path / "mapped") as mapped:
        before, after = (decode_pointcloud2(each.first(LABELS_TOPIC).decode()).fields for each in (own, mapped))
        classes = mapped.first(LABEL_INFO_TOPIC).decode().class_map
    np.testing.assert_array_equal(after["class_id"], np.array([1, 0])[before["class_id"]])
    assert [(each.class_id, each.class_name) for each in classes] == [(0, "UP"), (1, "DOWN")]


def test_evaluate_times_the_refinement_and_tells_of_it(drive, model, tmp_path):
    reports = {}
    for refinement in ("none", "afi"):
        path = tmp_path / f"{refinement}.json"
        assert ov_seg("evaluate", drive, "--model", model, "--json", path, "--refine", refinement) == 0
        reports[refinement] = json.loads(path.read_text())
    plain, refined = reports["none"], reports["afi"]
    assert set(refined["latency_ms"]["stages"]) - set(plain["latency_ms"]["stages"]) == {"refinement"}
    assert refined["latency_ms"]["p50"] >= refined["latency_ms"]["stages"]["refinement"]["p50"] > 0
    assert refined["notes"][0].startswith("the labels of the student were refined: afi")
    assert plain["notes"] == []
    assert plain["iou"] == pytest.approx(small_drive.IOU)


def test_refinements_are_those_of_the_node(capsys):
    schema = json.loads((Path(__file__).parents[1] / "ov_seg_ros/ros/segmentation_node.schema.json").read_text())
    assert tuple(schema["properties"]["refinement"]["enum"]) == options.REFINEMENTS == REFINEMENTS
    with pytest.raises(SystemExit):
        ov_seg("segment", "drive", "-o", "out", "--refine", "smooth")
    assert "invalid choice: 'smooth'" in capsys.readouterr().err


def test_segment_labels_a_labelled_recording_anew(drive, model, tmp_path):
    once, twice = tmp_path / "once", tmp_path / "twice.mcap"
    assert ov_seg("segment", drive, "-o", once, "--model", model) == 0
    assert ov_seg("segment", once, "-o", twice, "--model", model) == 0
    with Recording.open(once) as first, Recording.open(twice) as second:
        assert first.topics == second.topics


def test_segment_writes_files(drive, model, tmp_path):
    assert ov_seg("segment", drive, "-o", tmp_path / "l", "--model", model, "--format", "label") == 0
    assert sorted(p.name for p in (tmp_path / "l").iterdir()) == ["000000.label", "000001.label", "000002.label"]
    labels, _ = read_kitti_labels(tmp_path / "l" / "000001.label")
    assert (labels == small_drive.PREDICTION).all()
    assert ov_seg("segment", drive, "-o", tmp_path / "p", "--model", model, "--format", "ply") == 0
    assert (tmp_path / "p" / "000002.ply").read_bytes().startswith(b"ply\n")


def test_segment_overwrites_only_when_asked(drive, model, tmp_path, capsys):
    (tmp_path / "keep.txt").write_text("mine")
    assert ov_seg("segment", drive, "-o", tmp_path, "--model", model, "--format", "label") == 2
    assert "is not empty" in capsys.readouterr().err
    assert ov_seg("segment", drive, "-o", tmp_path, "--model", model, "--format", "label", "--overwrite") == 0
    assert (tmp_path / "keep.txt").read_text() == "mine"


@pytest.mark.parametrize("topic", ["/ov_seg/points", "ov_seg/points"])
def test_labels_are_not_labelled(drive, model, tmp_path, topic, capsys):
    labelled, out = tmp_path / "labelled", tmp_path / "again"
    assert ov_seg("segment", drive, "-o", labelled, "--model", model) == 0
    capsys.readouterr()
    assert ov_seg("segment", labelled, "-o", out, "--model", model, "--lidar-topic", topic) == 2
    error = capsys.readouterr().err
    assert "/ov_seg/points holds labels" in error
    assert "give the topic of the LiDAR itself, or none to have it found" in error
    assert not out.exists()


def test_evaluate_by_hand(drive, model, tmp_path, capsys):
    paths = {name: tmp_path / "new" / name for name in ("r.json", "r.html", "o.png")}
    options = ["--json", paths["r.json"], "--html", paths["r.html"], "--overview", paths["o.png"]]
    assert ov_seg("evaluate", drive, "--model", model, *options) == 0
    report = json.loads(paths["r.json"].read_text())
    jsonschema.validate(report, REPORT_SCHEMA)
    assert (report["scans_in"], report["scans_labelled"], report["scans_dropped"]) == (3, 3, 0)
    assert report["points"] == 3 * small_drive.POINTS
    assert report["iou"] == pytest.approx(small_drive.IOU)
    assert report["miou"] == pytest.approx(np.mean(list(small_drive.IOU.values())))
    assert report["seen"]["iou"] == pytest.approx(small_drive.IOU_SEEN)
    assert report["unseen"]["iou"] == pytest.approx(small_drive.IOU_UNSEEN)
    assert (report["seen"]["points"], report["unseen"]["points"]) == (18, 51)
    assert report["cameras"] == ["front"]
    assert report["latency_ms"]["p50"] > 0
    assert paths["r.html"].read_text().startswith("<!doctype html>")
    assert paths["o.png"].stat().st_size > 1000
    assert "mIoU     91.6 % whole cloud, 70.8 % where cameras see, 100.0 % where none does" in capsys.readouterr().out


def test_truth_is_matched_to_the_student_by_name(model, tmp_path):
    names = ("tree", "high", "low")  # other ids than the student's, and a class that it does not know
    drive = small_drive.write_small_drive(tmp_path / "drive", 1, names)
    assert ov_seg("evaluate", drive, "--model", model, "--json", tmp_path / "r.json") == 0
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["iou"] == pytest.approx(small_drive.IOU)
    assert "points of tree are not counted" in report["notes"][0]


def test_evaluate_without_truth_says_what_was_found(model, tmp_path, capsys):
    drive = small_drive.write_small_drive(tmp_path / "drive", 2, None)
    options = ["--json", tmp_path / "r.json", "--html", tmp_path / "r.html"]
    assert ov_seg("evaluate", drive, "--model", model, *options) == 0
    report = json.loads((tmp_path / "r.json").read_text())
    jsonschema.validate(report, REPORT_SCHEMA)
    assert "miou" not in report
    assert report["label_histogram"] == {"low": 24, "high": 24, "unknown": 0}
    assert report["cameras"] == ["front"]  # read for the picture alone
    assert "found    low 50%, high 50%" in capsys.readouterr().out


def test_evaluate_without_cameras_has_no_seen_part(drive, model, tmp_path):
    assert ov_seg("evaluate", drive, "--model", model, "--json", tmp_path / "r.json", "--no-cameras") == 0
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["iou"] == pytest.approx(small_drive.IOU)
    assert "unseen" not in report
    assert report["cameras"] == []


def test_an_unknown_topic_is_answered_with_the_ones_there_are(drive, model, tmp_path, capsys):
    arguments = ["evaluate", drive, "--model", model, "--json", tmp_path / "r.json"]
    assert ov_seg(*arguments, "--lidar-topic", "/nope") == 2
    assert "--lidar-topic /lidar/points" in capsys.readouterr().err
    assert ov_seg(*arguments, "--camera-topic", "/nope") == 2
    assert "--camera-topic /camera/front/image_raw/compressed" in capsys.readouterr().err


def test_convert_a_recording_keeps_its_scans(drive, tmp_path, capsys):
    assert ov_seg("convert", drive, tmp_path / "copy", "--storage", "sqlite3") == 0
    assert "3 scans of drive" in capsys.readouterr().out
    with Recording.open(drive) as before, Recording.open(tmp_path / "copy") as after:
        for old, new in zip(before.iter_clouds("/lidar/points"), after.iter_clouds("/lidar/points"), strict=True):
            assert (old.points == new.points).all()
            assert old.stamp_ns == new.stamp_ns
    assert ov_seg("convert", drive, tmp_path / "copy") == 2
    assert "exists already" in capsys.readouterr().err
