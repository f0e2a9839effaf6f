"""The benchmark of the stages, whole, on one scan, and what docs/afov.md makes of its figures."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the stages train networks")
pytest.importorskip("embreex", reason="the ray tracer is not installed")

pytestmark = pytest.mark.xdist_group("benchmarks")

STAGES = {
    "read scan and images",
    "label: simulated",
    "label: precomputed",
    "lift",
    "refine: AFI, default",
    "refine: AFI, released",
    "pretrain: make batch",
    "pretrain: step",
    "train: make batch",
    "train: step",
    "export, each",
    "evaluate",
    "evaluate, with AFI",
}


ROOT = Path(__file__).resolve().parents[1]
SHORT = ["--scans", "1", "--rounds", "1", "--recipes", "synthetic_afov"]


def test_every_stage_has_a_cost_and_a_run_can_be_cut_into_pieces(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every call goes on with the next row, from what is on the disk, and the last one writes the result."""
    from benchmarks import stage_costs

    monkeypatch.setattr(stage_costs, "LONG_ENOUGH", 0.0)
    path = tmp_path / "new" / "costs.json"
    arguments = [*SHORT, "--work", str(tmp_path / "work"), "--json", str(path)]
    calls = 0
    while not path.exists():
        stage_costs.main([*arguments, "--seconds", "0.5"] if calls < 3 else arguments)
        calls += 1
        assert calls < 5
    content = json.loads(path.read_text())
    (scans,) = content["scans"]
    rows = {row["stage"]: row for row in content["rows"]}
    assert set(rows) == STAGES
    assert len(content["rows"]) == len(STAGES)
    assert all(0 < row["cpu_s"] <= row["cpu_s_median"] and row["wall_s"] > 0 for row in rows.values())
    figures = {name for row in rows.values() for name in row} - {"source", "stage", "network", "rounds"}
    assert figures == set(content["figures"])
    assert 0 < scans["labelled_points"] < 1
    # A scan keeps 24 bytes per point, a pair 17 bytes, a segment 768 half-precision numbers and its text.
    scan = 24 * scans["points"]
    pairs = 17 * scans["pairs"] + (2 * 768 + 4) * scans["segments"]
    assert rows["refine: AFI, default"]["disk_mb"] == pytest.approx(scan / 1e3, abs=8)
    assert rows["lift"]["disk_mb"] == pytest.approx((scan + pairs) / 1e3, abs=16)
    shown = capsys.readouterr().out
    assert shown.count("synthetic, spinning32") == len(STAGES)
    assert shown.count("run the same command again") == calls - 1 > 0

    with pytest.raises(SystemExit, match=r"holds a run with .*; choose another folder"):
        stage_costs.main([*arguments, "--lidar", "spinning64"])
    for option in ("--seconds", "--again"):
        with pytest.raises(SystemExit):
            stage_costs.parse([*SHORT, option, "9"])
        assert "need --work" in capsys.readouterr().err


def test_costs_are_those_of_the_least_round_and_parts_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks import stage_costs
    from benchmarks.stage_costs_stages import Part, Work

    clock = {"cpu": 0.0, "wall": 0.0}
    monkeypatch.setattr(time, "process_time", lambda: clock["cpu"])
    monkeypatch.setattr(time, "perf_counter", lambda: clock["wall"])
    monkeypatch.setattr(stage_costs, "busy_seconds", lambda: clock["cpu"] + 0.5 * clock["wall"])

    def taking(*seconds: float):
        left = list(seconds)

        def action() -> None:
            took = left.pop(0)
            clock["cpu"] += took
            clock["wall"] += 2 * took

        return action

    def wait() -> None:
        clock["wall"] += 100

    first = Part(taking(9, 3, 1, 2), 10, wait)  # the first round, and what comes before each, do not count
    second = Part(taking(9, 4, 4, 8), 2)
    row = stage_costs.measure(Work("scans", "lift", "", lambda: [first, second], lambda: 5.0), 3)
    assert (row.source, row.stage, row.network, row.disk_mb, row.rounds) == ("scans", "lift", "", 5.0, 3)
    assert row.cpu_s == 1 * 100 + 4 * 500
    assert row.cpu_s_median == 2 * 100 + 4 * 500
    assert row.wall_s == 2 * row.cpu_s
    assert row.others == 0.5


def test_short_actions_are_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks import stage_costs
    from benchmarks.stage_costs_stages import Part

    clock = iter(range(10**6))
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock) * 0.125)  # an action takes one tick
    assert len(stage_costs.time_rounds(Part(lambda: None, 1), 3).cpu) == 8  # a second
    monkeypatch.setattr(stage_costs, "LONG_ENOUGH", 1e9)
    assert len(stage_costs.time_rounds(Part(lambda: None, 1), 3).cpu) == stage_costs.MOST_ROUNDS


def test_the_load_of_others_is_read_from_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    from benchmarks import stage_costs

    path = tmp_path / "stat"
    monkeypatch.setattr(stage_costs, "_STAT", path)
    assert stage_costs.busy_seconds() is None
    path.write_text("cpu  100 20 30 9999 8888 4 6 7 0 0\ncpu0 1 2 3\n")
    assert stage_costs.busy_seconds() == 160 / os.sysconf("SC_CLK_TCK")


def test_disturbed_rows_are_measured_again_and_the_quieter_one_is_kept(tmp_path: Path) -> None:
    from benchmarks import stage_costs

    def row(cpu_s: float, others: float | None) -> stage_costs.Cost:
        return stage_costs.Cost("scans", "lift", "", cpu_s, cpu_s, cpu_s, None, 3, others)

    key = ("scans", "lift", "")
    found = stage_costs.Measured(tmp_path, {"scans": "1"})
    assert not stage_costs.is_settled(found.find(key), None)
    for cpu_s, others, kept in ((5.0, 1.0, 5.0), (4.0, 1.1, 5.0), (6.0, 0.1, 6.0), (3.0, 0.1, 6.0)):
        found.add(row(cpu_s, others))
        again = stage_costs.Measured(tmp_path, {"scans": "1"})
        assert [each["cpu_s"] for each in again.rows] == [kept]
        assert stage_costs.is_settled(again.find(key), None)
        assert stage_costs.is_settled(again.find(key), 0.2) == (kept == 6.0)
    assert stage_costs.is_settled({"others": None}, 0.0)


def hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h"


def test_the_estimate_for_nuscenes_follows_from_the_measurement() -> None:
    """Lines of docs/afov.md that are derived from the keyframe of nuScenes, and their sums."""
    measured = json.loads((ROOT / "benchmarks" / "results" / "stage_costs.json").read_text())
    rows = {(row["stage"], row["network"]): row for row in measured["rows"] if row["source"] == "scene-0061_first"}
    assert max(row["others"] for row in measured["rows"]) < 0.3

    def seconds(stage: str, network: str = "") -> float:
        return rows[stage, network]["cpu_s"] / 1000

    large, scans, passes, trained, judged = "minkunet34c", 28_130, 28_130 * 40, 28_130 * 5, 6_019
    label, lift, batch = seconds("label: precomputed"), seconds("lift"), seconds("pretrain: make batch", large)
    tmp, train, evaluate = (seconds(s, large) for s in ("pretrain: step", "train: step", "evaluate, with AFI"))
    one = [scans * 6 * 1.53 / 10 / 3600, scans * lift / 8 / 3600, judged * evaluate / 3600]
    eight = [one[0] / 8, *one[1:]]
    low, high, low_8, high_8 = (
        sum(round(each, 1) for each in (*parts, *more))
        for parts, more in ((one, (24, 1)), (one, (373, 3)), (eight, (6, 0.1)), (eight, (93, 0.4)))
    )
    page = (ROOT / "docs" / "afov.md").read_text()
    for line in (
        f"{scans:,} x {label:.3f} s, most of it beside the GPU | {hours(scans * label)} | {hours(scans * label / 8)} |",
        f"| {scans:,} x {lift:.3f} s / 8 | {hours(scans * lift / 8)} | {hours(scans * lift / 8)} |",
        f"| {passes:,} x {batch:.3f} s, beside the GPU: hidden as long as that takes more than {1000 * batch:.0f} ms "
        f"per scan | {hours(passes * batch)} | {hours(passes * batch / 4)} on 4 |",
        f"| {judged:,} x {evaluate:.3f} s | {hours(judged * evaluate)} | {hours(judged * evaluate)} |",
        f"| **{low:.0f} to {high:.0f} h** | **{low_8:.0f} to {high_8:.0f} h** |",
        f"| TMP {passes:,} x {tmp:.2f} s = {passes * tmp / 3600:.0f} h, training {trained:,} x {train:.2f} s = "
        f"{trained * train / 3600:.0f} h | do not |",
        f"| {scans / 1000} x {rows['label: precomputed', '']['disk_mb']:.0f} MB |",
        f"| {scans / 1000} x {rows['lift', '']['disk_mb']:,.0f} MB |",
    ):
        assert line in page, line
