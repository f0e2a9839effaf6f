from __future__ import annotations

import pytest

from ov_seg_ros.runtime.stage_timer import StageTimer, summarise_ms


class FakeClock:
    def __init__(self) -> None:
        self.now_ns = 0

    def __call__(self) -> int:
        return self.now_ns

    def sleep_ms(self, milliseconds: float) -> None:
        self.now_ns += int(milliseconds * 1_000_000)


def test_nested_and_repeated_stages_add_up() -> None:
    clock = FakeClock()
    timer = StageTimer(clock)
    with timer.stage("total"):
        for _ in range(2):
            with timer.stage("part"):
                clock.sleep_ms(1.5)
        clock.sleep_ms(4)
    assert timer.stage_ms == pytest.approx({"part": 3.0, "total": 7.0})


def test_a_stage_that_raises_is_timed_and_the_error_passes() -> None:
    clock = FakeClock()
    timer = StageTimer(clock)

    def fail() -> None:
        with timer.stage("bad"):
            clock.sleep_ms(2)
            raise ValueError("boom")

    with pytest.raises(ValueError, match="boom"):
        fail()
    assert timer.stage_ms == pytest.approx({"bad": 2.0})


def test_percentiles_by_hand() -> None:
    assert summarise_ms(list(range(101))) == pytest.approx({"p50": 50.0, "p90": 90.0, "p99": 99.0})
    assert summarise_ms([10.0, 0.0]) == pytest.approx({"p50": 5.0, "p90": 9.0, "p99": 9.9})
    assert summarise_ms([7.0]) == {"p50": 7.0, "p90": 7.0, "p99": 7.0}


def test_no_samples_no_summary() -> None:
    assert summarise_ms([]) == {}
