"""The contest on a GPU, as far as it can be judged without one."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch", reason="contests compare with torch")

from benchmarks import gpu
from benchmarks.gpu import HALF, OURS, SPCONV, goal_figures, rows_of
from ov_seg_ros.bench.goals import GOALS
from ov_seg_ros.bench.scans import as_scan
from ov_seg_ros.bench.section import BenchOptions
from ov_seg_ros.core.data_types import PointCloud
from ov_seg_ros.core.errors import ModelError

pytestmark = pytest.mark.xdist_group("benchmarks")
SMALL, LARGE = "minkunet18", "minkunet34c"


def test_without_a_gpu_it_says_why(monkeypatch: pytest.MonkeyPatch, small_cloud: PointCloud) -> None:
    options = BenchOptions(Path("student.onnx"), (as_scan("random 32", small_cloud),))
    monkeypatch.setattr(gpu, "has_nvidia_gpu", lambda: False)
    section = gpu.contest(options)
    assert section.missing == ("a GPU: not measured, this machine has no NVIDIA GPU",)
    monkeypatch.setattr(gpu, "has_nvidia_gpu", lambda: True)
    monkeypatch.setattr(gpu.torch.cuda, "is_available", lambda: False)
    assert "does not see the GPU: install a CUDA build" in gpu.contest(options).missing[0]
    assert not section.measures


def test_who_does_not_start_is_left_out_by_name(
    monkeypatch: pytest.MonkeyPatch, small_cloud: PointCloud, tmp_path: Path
) -> None:
    def refuse(path: Path, engine: str) -> None:
        raise ModelError("no driver")

    monkeypatch.setattr(gpu, "load", refuse)
    options = BenchOptions(tmp_path / "x.onnx", (as_scan("random 32", small_cloud),), quick=True, scratch=tmp_path)
    times, agreement, missing = gpu.whole_scans((SMALL,), options.scans[0], options)
    assert (times, agreement) == ({}, {})
    assert missing[0] == f"{HALF}: not measured, no driver"


def test_goals_are_judged_by_float16_and_paired_ratios() -> None:
    whole = {(SMALL, HALF): [2.0, 4.0, 4.0], (LARGE, HALF): [5.0, 6.0, 6.0], (SMALL, gpu.FLOAT): [9.0] * 3}
    parts = {(SMALL, OURS): [1.0, 2.0, 2.0], (SMALL, SPCONV): [2.0, 3.0, 4.0]}
    figures = goal_figures(32, whole, parts)
    assert figures == {"gpu_32_p99_ms": 4.0, "gpu_32_34c_ratio": 1.5, "gpu_32_peer_ratio": 2.0}
    assert set(figures) <= {goal.measure for goal in GOALS if goal.section == "gpu"}
    assert goal_figures(64, {}, {}) == {}


def test_rows_tell_how_many_labels_stay() -> None:
    (row,) = rows_of({(SMALL, HALF): [2.0, 4.0]}, {(SMALL, HALF): 0.98})
    assert (row["contender"], row["p50 ms"], row["same labels"]) == (HALF, 3.0, 0.98)
    assert "same labels" not in rows_of({(SMALL, OURS): [2.0]})[0]


@pytest.mark.skipif(not gpu.torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_a_run_on_a_gpu(small_cloud: PointCloud, tmp_path: Path) -> None:
    options = BenchOptions(Path("x.onnx"), (as_scan("random 32", small_cloud),), quick=True, scratch=tmp_path)
    assert gpu.contest(options).measures["gpu_32_p99_ms"] > 0


@pytest.mark.skipif(gpu.torch.cuda.is_available(), reason="there is a GPU")
def test_tiles_are_not_timed_without_a_gpu(capsys: pytest.CaptureFixture[str]) -> None:
    from benchmarks import gpu_tiles

    with pytest.raises(SystemExit):
        gpu_tiles.main([])
    assert "timed on an NVIDIA GPU, and torch sees none" in capsys.readouterr().err
