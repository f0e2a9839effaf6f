"""The contest on a GPU, as far as it can be judged without one."""

from __future__ import annotations

import weakref
from functools import partial
from pathlib import Path
from unittest.mock import MagicMock

import pytest

pytest.importorskip("torch", reason="contests compare with torch")
import torch

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
    missing: dict[str, None] = {}
    assert gpu.whole_scans((SMALL,), options.scans[0], options, missing) == ({}, {})
    assert next(iter(missing)) == f"{HALF}: not measured, no driver"


def test_who_fails_on_the_way_does_not_take_the_others_along() -> None:
    calls, missing = iter(range(9)), {}

    def fail_in_the_second_round() -> float:
        if next(calls) == 1:
            raise RuntimeError("CUDA error")
        return 1.0

    contenders = {(SMALL, OURS): lambda: 2.0, (SMALL, SPCONV): fail_in_the_second_round}
    assert gpu.in_turns(contenders, 3, missing) == {(SMALL, OURS): [2.0] * 3}
    assert list(missing) == [f"minkunet18 {SPCONV}: not measured, CUDA error"]
    assert next(calls) == 2  # it is not asked again


def test_what_a_graph_reads_lives_as_long_as_its_replay(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("Stream", "current_stream", "CUDAGraph", "stream", "graph"):
        monkeypatch.setattr(gpu.torch.cuda, name, MagicMock())
    weights = torch.zeros(1)
    alive = weakref.ref(weights)
    replay = gpu.recorded(partial(torch.add, weights, 1))
    del weights
    replay()
    assert alive() is not None


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
