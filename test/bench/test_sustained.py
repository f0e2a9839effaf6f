"""Scans that arrive at a rate, on a clock that only work and sleep move."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ov_seg_ros.bench.sustained import run_at_rate


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds

    def work(self, durations):
        remaining = iter(durations)
        return lambda: self.sleep(next(remaining))


def run(durations, rate_hz, count):
    clock = Clock()
    return run_at_rate(clock.work(durations), rate_hz, count, clock, clock.sleep)


def test_work_that_is_quick_enough_labels_every_scan():
    found = run([0.04] * 10, rate_hz=10, count=10)
    assert found.latency_ms == pytest.approx([40] * 10)
    assert (found.arrived, found.lost, found.late) == (10, 0, 0)
    assert found.busy == pytest.approx(0.4)


def test_work_that_is_too_slow_loses_all_but_the_latest():
    # Scans arrive at 0, 100 ... 500 ms. Scan 0 from 0 to 260, then scan 2 (1 is lost) to 520, then 5 (3, 4) to 780.
    found = run([0.26] * 3, rate_hz=10, count=6)
    assert found.latency_ms == pytest.approx([260, 320, 280])
    assert (found.lost, found.late) == (3, 3)
    assert found.busy == pytest.approx(1)


def test_one_slow_scan_makes_the_next_late_and_loses_none():
    found = run([0.15, 0.04, 0.04], rate_hz=10, count=3)
    assert found.latency_ms == pytest.approx([150, 90, 40])
    assert (found.lost, found.late) == (0, 1)


@given(st.lists(st.floats(0.001, 1.0), min_size=30, max_size=30), st.integers(1, 30))
def test_every_scan_is_labelled_or_lost(durations, count):
    found = run(durations, rate_hz=10, count=count)
    assert len(found.latency_ms) + found.lost == count
    assert min(found.latency_ms) > 0
    assert 0 < found.busy <= 1 + 1e-9
