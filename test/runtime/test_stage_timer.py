from __future__ import annotations

import pytest

from ov_seg_ros.runtime.stage_timer import StageTimer


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
