"""The process of a contender: its cores, and when it hands over."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from benchmarks.peers import turns


@pytest.mark.parametrize(("count", "expected"), [(1, [0]), (2, [0, 2]), (3, [0, 2, 1]), (9, [0, 2, 1, 3])])
def test_cores_come_before_their_second_threads(
    count: int, expected: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen: list[int] = []
    affinity = {
        "sched_getaffinity": lambda process: {0, 1, 2, 3},
        "sched_setaffinity": lambda process, cpus: chosen.extend(cpus),
    }
    monkeypatch.setattr(turns, "os", SimpleNamespace(**affinity))
    monkeypatch.setattr(turns, "_physical_core", lambda cpu: ("0", str(cpu // 2)))
    turns.pin_to_cores(count)
    assert chosen == expected


def test_systems_without_affinity_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "os", SimpleNamespace())
    turns.pin_to_cores(1)


def test_a_turn_ends_when_all_threads_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    used_s = iter([0.0, 0.005, 0.005, 0.010, 0.010, 0.0102])  # before and after three naps: the first two are no rest
    naps: list[float] = []
    clock = {"monotonic": lambda: 0.0, "process_time": lambda: next(used_s), "sleep": naps.append}
    monkeypatch.setattr(turns, "time", SimpleNamespace(**clock))
    turns._rest()
    assert len(naps) == 3
    assert list(used_s) == []
