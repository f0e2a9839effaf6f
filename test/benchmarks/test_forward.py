"""The benchmark of forward passes: its figures, and a run of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="contests compare with torch")

from benchmarks import forward
from benchmarks.peers.contest import Outcome, Rounds
from benchmarks.peers.entrants import (
    COMPILED,
    COPY,
    ENTRANTS,
    FLOORS,
    GEMM_ONLY,
    GEMM_PEAK,
    ONNX_RUNTIME,
    REDUCED,
    Entrant,
)
from benchmarks.peers.floors import COPY_BYTES, PEAK_FLOP
from benchmarks.peers.ranking import Found, Setting, as_section, goal_measures
from benchmarks.peers.workload import LayerWork, Workload
from ov_seg_ros.bench.scans import BenchScan, as_scan
from ov_seg_ros.bench.section import BenchOptions, section_to_dict
from ov_seg_ros.core.data_types import PointCloud

pytestmark = pytest.mark.xdist_group("benchmarks")
PEER = Entrant("stranger", "strangers:Stranger")
WORK = Workload((LayerWork("head", (1000,), 100, 10, 1000, 1000),), 0)  # 1e6 multiply-adds, 4 * 111010 bytes

NO_POINTS = PointCloud(np.zeros((0, 3), np.float32), np.zeros(0, np.float32))


def outcome(entrant: Entrant, *ms: float | None, error: float | None = 1e-7, reason: str = "") -> Outcome:
    return Outcome(entrant, list(ms), list(ms), error, 10.0, 5.0, 100.0, reason)


def found(*outcomes: Outcome, network: str = "minkunet18", beams: int = 32, threads: int = 2) -> Found:
    scan = BenchScan(f"made up {beams}", beams, None, NO_POINTS)
    return Found(Setting(network, scan, threads), WORK, (1000,), outcomes)


def test_ratios_are_paired_round_by_round() -> None:
    measures = goal_measures(
        [found(outcome(ONNX_RUNTIME, 2, 30, 4), outcome(PEER, 4, 45, 8), outcome(GEMM_ONLY, 1, 10, 1, error=None))]
    )
    assert measures["forward_32_floor_ratio"] == 3  # of 2, 3, 4
    assert measures["forward_32_peer_ratio"] == 2  # of 2, 1.5, 2
    assert measures["forward_error"] == 1e-7


def test_the_best_of_ours_meets_the_best_peer() -> None:
    other = Entrant("other", "strangers:Other")
    measures = goal_measures(
        [found(outcome(ONNX_RUNTIME, 4), outcome(COMPILED, 2), outcome(PEER, 9), outcome(other, 6))]
    )
    assert measures["forward_32_peer_ratio"] == 3


def test_who_computes_with_fewer_bits_is_no_peer() -> None:
    rough = Entrant("rough", "strangers:Rough", REDUCED, tolerance=0.1)
    outcomes = (outcome(COMPILED, 2), outcome(PEER, 6), outcome(rough, 1, error=0.02))
    assert goal_measures([found(*outcomes)])["forward_32_peer_ratio"] == 3
    rows = as_section([found(*outcomes)]).tables[0].rows
    assert [row["contender"] for row in rows[:3]] == [COMPILED.name, "stranger", "rough"]
    assert goal_measures([found(*outcomes)])["forward_error"] == 1e-7


def test_goals_are_judged_at_the_most_threads_and_errors_at_all() -> None:
    measures = goal_measures(
        [
            found(outcome(ONNX_RUNTIME, 9, error=3e-7), outcome(GEMM_ONLY, 1), threads=1),
            found(outcome(ONNX_RUNTIME, 3), outcome(GEMM_ONLY, 2), threads=2),
            found(outcome(ONNX_RUNTIME, 8), outcome(GEMM_ONLY, 1), network="small"),
            found(outcome(ONNX_RUNTIME, 5), outcome(GEMM_ONLY, 4), beams=64),
        ]
    )
    assert measures == {"forward_32_floor_ratio": 1.5, "forward_64_floor_ratio": 1.25, "forward_error": 3e-7}


def test_rounds_that_one_missed_do_not_count() -> None:
    measures = goal_measures([found(outcome(ONNX_RUNTIME, 1, 2, 100), outcome(PEER, 10, 20, None))])
    assert measures["forward_32_peer_ratio"] == 10


def test_who_is_wrong_stands_in_the_table_without_a_time() -> None:
    wrong = outcome(PEER, error=0.3, reason="wrong: its logits differ")
    absent = outcome(Entrant("absent", "a:b"), error=None, reason="not installed")
    also = outcome(Entrant("absent, too", "a:b"), error=None, reason="not installed")
    section = as_section([found(outcome(ONNX_RUNTIME, 2), wrong, absent, also)])
    (row,) = [row for row in section.tables[0].rows if row["contender"] == "stranger"]
    assert row["error"] == 0.3
    assert "p50 ms" not in row
    assert section.missing == (
        "no time for stranger: wrong: its logits differ (minkunet18, made up 32, 2 threads)",
        "no time for absent / absent, too: not installed",
    )
    json.dumps(section_to_dict(as_section([])))


def test_floors_follow_from_the_gauges() -> None:
    gauges = outcome(COPY, 100.0, error=None), outcome(GEMM_PEAK, 50.0, error=None)
    section = as_section([found(outcome(ONNX_RUNTIME, 2), outcome(GEMM_ONLY, 1, error=None), *gauges)])
    rows = {row["contender"]: row for row in section.tables[0].rows}
    moved = next(row for name, row in rows.items() if name.startswith("bytes / bandwidth"))
    computed = next(row for name, row in rows.items() if name.startswith("multiply-adds / peak"))
    assert moved["p50 ms"] == pytest.approx(4 * 111010 / (COPY_BYTES / 100))
    assert computed["p50 ms"] == pytest.approx(2e6 / (PEAK_FLOP / 50))
    assert computed["rate"] == pytest.approx(PEAK_FLOP / 50e-3 / 1e9)
    assert rows[ONNX_RUNTIME.name]["GFLOP/s"] == pytest.approx(2e6 / 2e-3 / 1e9)
    assert "copy" not in rows


def test_entrants_are_chosen_by_words() -> None:
    assert forward.choose_entrants([]) == ENTRANTS
    chosen = forward.choose_entrants(["ours, onnx"])
    assert set(chosen) == {ONNX_RUNTIME, *FLOORS}


@pytest.fixture
def small_scan(small_cloud: PointCloud) -> BenchScan:
    return as_scan("random 32", small_cloud)


def test_a_run(
    small_scan: BenchScan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(forward, "load_scans", lambda sources: (small_scan,))
    monkeypatch.setattr(forward, "FLOORS", (GEMM_ONLY,))
    path = tmp_path / "new" / "forward.json"
    options = ["--networks", "small", "--threads", "1", "--rounds", "1", "--entrants", "onnx", "--json", str(path)]
    forward.main(options)
    content = json.loads(path.read_text())
    assert content["command"].startswith("python benchmarks/forward.py --networks small")
    rows = {row["contender"]: row for row in content["tables"][0]["rows"]}
    assert rows[ONNX_RUNTIME.name]["p50 ms"] > 0
    assert rows[ONNX_RUNTIME.name]["error"] < 1e-5
    assert rows[GEMM_ONLY.name]["x floor"] == 1
    assert "ours, ONNX Runtime" in capsys.readouterr().out


def test_the_contest_of_the_suite(small_scan: BenchScan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def measure(networks, scans, threads, entrants, rounds, scratch, say) -> list[Found]:
        asked.update(networks=networks, threads=threads, rounds=rounds)
        return [found(outcome(ONNX_RUNTIME, 2))]

    monkeypatch.setattr(forward, "measure", measure)
    monkeypatch.setattr(forward, "usable_cores", lambda: 8)
    section = forward.contest(BenchOptions(tmp_path / "m.onnx", (small_scan,), rounds=3, quick=True))
    assert section.name == "forward"
    assert asked == {"networks": ("minkunet18",), "threads": [1, 2], "rounds": Rounds(3, seconds=15)}
