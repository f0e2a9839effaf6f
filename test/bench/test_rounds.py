"""Turns, medians and ratios, with numbers worked out by hand."""

from __future__ import annotations

import pytest

from ov_seg_ros.bench.rounds import take_turns, timed
from ov_seg_ros.bench.spread import median, paired_ratio, summarize


def test_contenders_take_turns_and_the_first_round_does_not_count():
    calls = []

    def contender(name):
        def measure():
            calls.append(name)
            return len(calls)

        return measure

    results = take_turns({"a": contender("a"), "b": contender("b")}, rounds=2)
    assert calls == ["a", "b", "a", "b", "a", "b"]
    assert results == {"a": [3, 5], "b": [4, 6]}


def test_a_timed_contender_gives_milliseconds():
    ticks = iter([1_000_000, 3_500_000])
    assert timed(lambda: None, clock_ns=lambda: next(ticks))() == 2.5


def test_the_summary_of_five_samples():
    cells = summarize([5.0, 1.0, 2.0, 3.0, 4.0])
    assert cells == pytest.approx(
        {"p50 ms": 3, "p90 ms": 4.6, "p99 ms": 4.96, "max ms": 5, "spread %": 100 * (4 - 2) / 3}
    )
    assert summarize([0.0], "s") == {"p50 s": 0, "p90 s": 0, "p99 s": 0, "max s": 0, "spread %": 0}


def test_a_ratio_is_that_of_each_round_so_a_slow_phase_of_the_machine_cancels():
    ours, theirs = [10.0, 30.0, 10.0], [20.0, 60.0, 20.0]
    assert paired_ratio(theirs, ours) == 2
    assert median(theirs) / median(ours[1:]) != 2
