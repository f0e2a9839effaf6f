"""The suite of a checkout, and its contests that no other test runs."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tiny_model import write_tiny_model

pytest.importorskip("torch", reason="contests of the checkout measure the training side as well")

from benchmarks import networks, suite, training_backends, vocabulary
from ov_seg_ros.bench import engines
from ov_seg_ros.bench.scans import as_scan
from ov_seg_ros.bench.section import BenchOptions
from ov_seg_ros.core.data_types import PointCloud
from ov_seg_ros.core.errors import ModelError
from ov_seg_ros.runtime.model_file import load_model_file, shipped_model_path
from ov_seg_ros.runtime.segmenter import Segmenter


@pytest.fixture
def options(tmp_path):
    points = np.random.default_rng(0).uniform(-4, 4, (300, 3)).astype(np.float32)
    scan = as_scan("tiny", PointCloud(points, np.zeros(300, np.float32)))
    return BenchOptions(shipped_model_path(), (scan,), 1, rounds=1, quick=True, scratch=tmp_path)


@pytest.mark.parametrize("count", [10, 255])
def test_a_head_of_any_size_is_a_student(tmp_path, count):
    vocabulary.write_with_classes(shipped_model_path(), count, tmp_path / "s.onnx")
    before, after = load_model_file(shipped_model_path()), load_model_file(tmp_path / "s.onnx")
    assert len(after.description.label_space) == count
    assert after.description.grid == before.description.grid
    points = np.random.default_rng(1).uniform(-5, 5, (400, 3)).astype(np.float32)
    cloud = PointCloud(points, np.zeros(400, np.float32))
    found = Segmenter.load(tmp_path / "s.onnx", "cpu", 1).segment(cloud)
    assert found.class_id.max() < count
    assert len(np.unique(found.class_id)) > 1


def test_a_network_without_a_linear_head_is_refused(tmp_path):
    write_tiny_model(tmp_path / "tiny.onnx")
    with pytest.raises(ModelError, match="ends with Add, expected a Gemm"):
        vocabulary.write_with_classes(tmp_path / "tiny.onnx", 10, tmp_path / "s.onnx")


def test_vocabulary(options):
    section = vocabulary.contest(options)
    assert [row["classes"] for row in section.tables[0].rows] == [10, 255]
    assert section.tables[0].rows[0]["x 10 classes"] == 1
    assert "a label space at most 255 classes" in section.missing[0]


def test_networks(options, monkeypatch):
    monkeypatch.setattr(engines, "PROVIDERS", ("CPUExecutionProvider",))
    section = networks.contest(options)
    (row,) = section.tables[0].rows
    assert (row["network"], row["provider"]) == ("small", "CPUExecutionProvider")
    assert row["p50 ms"] > row["inference"] > 0


def test_training_backends(options):
    import torch

    threads = torch.get_num_threads()
    section = training_backends.contest(options)
    assert torch.get_num_threads() == threads
    ours = section.tables[0].rows[0]
    assert ours["backend"] == "auto"
    assert ours["step x auto"] == 1
    assert ours["step p50 ms"] > 0
    step, batch = section.tables[-1].rows
    assert (step["work"], batch["work"]) == ("training step", "making its batch")
    assert section.measures["training_data_share"] == batch["x step"] > 0


def test_the_suite_has_all_contests_and_takes_real_scans_where_they_are(tmp_path, monkeypatch, capsys):
    seen = {}
    monkeypatch.setattr(suite, "run_contests", lambda args, modules: seen.update(args=args, modules=modules))
    monkeypatch.setenv("OV_SEG_SHARED", str(tmp_path))
    suite.main([])
    assert seen["args"].scans == []
    assert {"stages", "maps", "forward", "node", "training_backends"} <= set(seen["modules"])
    (tmp_path / "data" / "nuscenes").mkdir(parents=True)
    suite.main([])
    assert seen["args"].scans == [str(tmp_path / "data" / "nuscenes")]
    suite.main(["--scans", "synthetic"])
    assert seen["args"].scans == ["synthetic"]


def test_an_error_of_the_suite_is_one_line(capsys):
    with pytest.raises(SystemExit) as exit_:
        suite.main(["--rounds", "0", "--scans", "synthetic"])
    assert exit_.value.code == 2
    assert capsys.readouterr().err.endswith("error: --rounds must be at least 1, got 0\n")


def test_a_contest_alone_writes_its_section(options, tmp_path, monkeypatch, capsys):
    rows = np.zeros((200, 4), "<f4")
    rows[:, :2] = np.random.default_rng(0).uniform(-9, 9, (200, 2))
    rows.tofile(tmp_path / "scan.bin")
    monkeypatch.setattr(vocabulary, "QUICK_CLASSES", (10,))
    arguments = ["--scans", str(tmp_path / "scan.bin"), "--quick", "--rounds", "1", "--json", str(tmp_path / "v.json")]
    vocabulary.main(arguments)
    assert "== vocabulary: bytes to labels with heads of 10 to 10 classes" in capsys.readouterr().out
    content = json.loads((tmp_path / "v.json").read_text())
    assert list(content["sections"]) == ["vocabulary"]
    assert content["complete"]
