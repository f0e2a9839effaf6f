"""The contest of maps: who takes part, what it reports, and that it sees maps that are wrong."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks import maps
from benchmarks.maps_clouds import CARTESIAN, Cloud
from ov_seg_ros.bench.street import scan_of_size
from ov_seg_ros.core.pyramid import build_pyramid

CASE = maps.Case("street", 32, "0.1 m", scan_of_size(1000))


def test_every_step_has_a_plain_contender() -> None:
    others, missing = maps.other_libraries()
    assert len(others) + len(missing) == 2
    with maps.one_torch_thread():
        samples = maps.time_steps(CASE, others, rounds=1)
    rows = maps.rows_of(samples)
    assert [row["step"] for row in rows if row["by"] == maps.OURS] == list(maps.STEPS)
    assert [row["step"] for row in rows if row["by"] == maps.PLAIN] == list(maps.STEPS)
    assert {row["by"] for row in rows if row["step"] == "maps"} >= {maps.OURS, maps.PLAIN}
    assert all(row["x ours"] == 1 for row in rows if row["by"] == maps.OURS)


def test_goals_go_by_the_slowest_grid() -> None:
    measured = [(CASE, {("voxels + maps", maps.OURS): [ms, ms + 1, ms + 2]}) for ms in (2.0, 5.0, 3.0)]
    assert maps.goal_measures(measured) == {"maps_32_ms": 6.0}


def test_wrong_maps_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    cloud = Cloud("street", CARTESIAN, CASE.cloud.points)
    assert not maps.differs(cloud)

    def with_pairs_mixed_up(coords: np.ndarray, num_levels: int) -> object:
        right = build_pyramid(coords, num_levels)
        level = right.levels[2]
        wrong = replace(level, pair_neighbor=np.roll(level.pair_neighbor, 1))
        return replace(right, levels=(*right.levels[:2], wrong, *right.levels[3:]))

    monkeypatch.setattr(maps, "build_pyramid", with_pairs_mixed_up)
    assert maps.differs(cloud)


def test_scaling_counts_points_and_voxels() -> None:
    row = maps.scaling_row(1000, rounds=1)
    assert row["points"] == "1,000"
    assert 0 < row["voxels"] <= 1000
