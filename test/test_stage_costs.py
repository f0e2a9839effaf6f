"""The benchmark of the stages, whole, on one scan."""

from __future__ import annotations

import json
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


def test_every_stage_has_a_cost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from benchmarks import stage_costs

    path = tmp_path / "new" / "costs.json"
    stage_costs.main(["--scans", "1", "--rounds", "1", "--recipes", "synthetic_afov", "--json", str(path)])
    content = json.loads(path.read_text())
    (scans,) = content["scans"]
    rows = {row["stage"]: row for row in content["rows"]}
    assert set(rows) == STAGES
    assert all(row["cpu_s"] > 0 and row["wall_s"] > 0 for row in rows.values())
    assert 0 < scans["labelled_points"] < 1
    # A scan keeps 24 bytes per point, a pair 17 bytes, a segment 768 half-precision numbers and its text.
    scan = 24 * scans["points"]
    pairs = 17 * scans["pairs"] + (2 * 768 + 4) * scans["segments"]
    assert rows["refine: AFI, default"]["disk_mb"] == pytest.approx(scan / 1e3, abs=8)
    assert rows["lift"]["disk_mb"] == pytest.approx((scan + pairs) / 1e3, abs=16)
    assert capsys.readouterr().out.count("synthetic, spinning32") == len(STAGES)
