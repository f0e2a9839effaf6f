"""The contests of the package, whole, on a tiny student and tiny scans."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_model import write_tiny_model

from ov_seg_ros.bench import engines, memory, scaling, stages, startup, sustained
from ov_seg_ros.bench.fresh_process import ask, save_scan
from ov_seg_ros.bench.scans import as_scan
from ov_seg_ros.bench.section import BenchOptions
from ov_seg_ros.core.data_types import PointCloud
from ov_seg_ros.core.errors import ModelError, ProcessError

COUNT, CPU = 500, "CPUExecutionProvider"


def tiny_scan(name):
    points = np.random.default_rng(0).uniform(-4, 4, (COUNT, 3)).astype(np.float32)
    return as_scan(name, PointCloud(points, np.zeros(COUNT, np.float32)))


@pytest.fixture
def options(tmp_path):
    write_tiny_model(tmp_path / "tiny.onnx")
    (tmp_path / "scratch").mkdir()
    scans = (tiny_scan("first"), tiny_scan("second"))
    return BenchOptions(tmp_path / "tiny.onnx", scans, 1, rounds=2, quick=True, scratch=tmp_path / "scratch")


@pytest.fixture(autouse=True)
def cpu_alone(monkeypatch):
    monkeypatch.setattr(engines, "PROVIDERS", (CPU,))


def test_stages_add_up(options):
    section = stages.contest(options)
    assert [table.title.split(",")[0] for table in section.tables] == [
        "first beams: 500 points",
        "second beams: 500 points",
    ]
    (row,) = section.tables[0].rows
    assert row["provider"] == CPU
    assert row[f"x {CPU}"] == 1
    assert all(row[part] > 0 for part in stages.PARTS)
    for sample in section.details["samples"][f"first, {CPU}"]:
        parts = sum(sample[part] for part in stages.PARTS if part != "encode")
        assert parts <= sample[stages.LABELS] < sample[stages.ROUND_TRIP]
    assert len(section.details["samples"][f"first, {CPU}"]) == 2


def test_a_sustained_run_reports_the_scan_that_fared_worst(options, monkeypatch):
    monkeypatch.setattr(sustained, "QUICK_SECONDS", 0.5)
    section = sustained.contest(options)
    rows = section.tables[0].rows
    assert [row["scans"] for row in rows] == [5, 5]
    assert section.measures["sustained_32_lost"] == max(row["lost"] for row in rows) < 5
    assert section.measures["sustained_32_p99_ms"] == max(row["p99 ms"] for row in rows) > 0


def test_a_first_label_is_the_sum_of_its_steps(options):
    request = {"model": str(options.model), "provider": "cpu", "threads": 1}
    found = ask("first_label", {**request, "scan": save_scan(options.scans[0].cloud, options.scratch / "scan.npy")})
    assert sum(found[f"{step} ms"] for step in startup.STEPS) == pytest.approx(found["total ms"])
    assert all(found[f"{step} ms"] > 0 for step in startup.STEPS)


def test_starts_share_a_cache_that_is_empty_at_first(options, monkeypatch):
    caches, totals = [], iter([9000.0, 1.0, 2000.0])  # cold, a warm one that is thrown away, warm

    def answer(measurement, request, variables):
        folder = Path(variables["NUMBA_CACHE_DIR"])
        caches.append((folder, folder.exists()))
        folder.mkdir(exist_ok=True)
        return {f"{step} ms": 1.0 for step in startup.STEPS} | {"total ms": next(totals)}

    monkeypatch.setattr(startup, "ask", answer)
    section = startup.contest(options)
    cold, warm = section.tables[0].rows
    assert (cold["p50 s"], warm["p50 s"], warm["starts"]) == (9, 2, 1)
    assert section.measures == {"first_label_s": 2}
    assert len({folder for folder, _ in caches}) == 1
    assert [existed for _, existed in caches] == [False, True, True]


def test_memory_is_that_of_a_fresh_process(options):
    section = memory.contest(replace(options, scans=options.scans[:1]))
    for row in section.tables[0].rows:
        assert 20 < row["libraries MiB"] < row["student loaded MiB"] <= row["peak MiB"] < 1000
        assert 0 <= row["rise by scans MiB"] < 200
    assert [row["scan"] for row in section.tables[0].rows] == ["first"]


def test_a_fresh_process_that_fails_says_why(tmp_path):
    request = {"model": str(tmp_path / "nothing.onnx"), "provider": "cpu", "threads": 1, "scans": [], "repeats": 1}
    with pytest.raises(ProcessError, match=r"memory in a fresh process failed .*nothing\.onnx does not exist"):
        ask("memory", request)


def test_scaling_with_points_beams_and_lidars(options, monkeypatch):
    monkeypatch.setattr(scaling, "QUICK_POINTS", (10, 1000))
    monkeypatch.setattr(scaling, "QUICK_BEAMS", (4, 8))
    points, beams, lidars = scaling.contest(options).tables
    assert [row["points"] for row in points.rows] == [10, 1000]
    assert all(row["p50 ms"] <= row["max ms"] and row["rise MiB"] >= 0 for row in points.rows)
    assert [row["beams"] for row in beams.rows] == ["4", "8"]
    assert beams.rows[0]["points"] < beams.rows[1]["points"]
    assert lidars.rows[0]["LiDARs"] == 2


def test_a_size_that_fails_or_takes_too_long_ends_that_provider_alone(options, monkeypatch):
    class Segmenters:
        def __init__(self, limit):
            self.limit = limit

        def segment(self, cloud):
            if len(cloud) > self.limit:
                raise ModelError("out of memory")

    alive = {"small": Segmenters(5), "large": Segmenters(50)}
    missing = []
    assert scaling._affordable_rounds(alive, tiny_scan("a").cloud, options, missing) == options.rounds
    assert alive == {}
    assert missing == [f"{name} above 500 points: not measured, out of memory" for name in ("small", "large")]


def test_merged_clouds_keep_every_point_where_it_was_seen_from():
    cloud = PointCloud(np.zeros((2, 3), np.float32), np.ones(2, np.float32))
    merged = scaling.merge_clouds([cloud, cloud])
    assert merged.points.tolist() == [[1, 0, 0], [1, 0, 0], [-1, 0, 0], [-1, 0, 0]]
    assert len(merged.intensity) == 4


def test_a_provider_that_does_not_start_is_left_out_with_its_reason(options, monkeypatch):
    monkeypatch.setattr(engines, "PROVIDERS", (CPU, "cuda"))
    monkeypatch.setattr(engines, "has_nvidia_gpu", lambda: False)
    found = engines.load_engines(options)
    assert next(iter(found.segmenters)) == CPU
    if "cuda" not in found.segmenters:
        assert found.missing == ("provider cuda: not measured, this machine has no NVIDIA GPU",)


def test_a_student_that_nothing_runs_is_an_error(options, monkeypatch):
    monkeypatch.setattr(engines, "PROVIDERS", ("magic",))
    with pytest.raises(ModelError, match=r"no provider runs .*tiny\.onnx: provider magic: not measured"):
        engines.load_engines(options)
