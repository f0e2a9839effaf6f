"""Estimates for GPUs, against figures worked out by hand."""

from __future__ import annotations

import pytest

from benchmarks import gpu_estimate
from benchmarks.gpu_estimate import Gpu, best_ms, estimate, worst_ms
from benchmarks.peers.workload import LayerWork, Workload
from ov_seg_ros.bench.scans import as_scan
from ov_seg_ros.core.data_types import PointCloud

pytestmark = pytest.mark.xdist_group("benchmarks")
LAYER = LayerWork("stem", (1000, 2000), 8, 16, rows_in=2000, rows_out=1000)
# 3000 * 8 * 16 = 384,000 multiply-adds; float16: 2 * (2000 * 8 + 2 * 8 * 16 + 16 + 1000 * 16) = 64,544 bytes at least
WORK = Workload((LAYER, LAYER), added_bytes=4000)


def test_at_best_the_slower_of_products_and_bytes_counts() -> None:
    assert best_ms(WORK, Gpu("memory", 1e6, 1.0)) == pytest.approx((2 * 64_544 + 2000) / 1e9 * 1e3)
    assert best_ms(WORK, Gpu("products", 1.0, 1e6)) == pytest.approx(2 * 768_000 / 1e12 * 1e3)


def test_at_worst_every_layer_waits_and_gathers_from_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_estimate, "LAUNCH_US", 5.0)
    gathered = 2 * (3000 * 8 + 1000 * 16)  # bytes
    assert worst_ms(WORK, Gpu("memory", 1e6, 1.0)) == pytest.approx(2 * (gathered / 1e9 * 1e3 + 0.005))
    assert worst_ms(WORK, Gpu("products", 1.0, 1e6)) == pytest.approx(2 * (2 * 384_000 / 0.5e12 * 1e3 + 0.005))


def test_a_table_of_a_scan(small_cloud: PointCloud) -> None:
    (table,) = estimate((as_scan("random 32", small_cloud),)).tables
    assert [row["network"] for row in table.rows] == ["student", "minkunet18", "minkunet34c"]
    macs = [row["GMAC"] for row in table.rows]
    assert 0 < macs[0] < macs[1] < macs[2]
    low, high = (float(part) for part in str(table.rows[1]["Jetson AGX Orin 64GB"]).split(" to "))
    assert low < high
