"""Paired comparisons: all contenders once per round, so that a machine that slows down slows all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping
from typing import TypeVar

Key = TypeVar("Key", bound=Hashable)
Result = TypeVar("Result")


def take_turns(contenders: Mapping[Key, Callable[[], Result]], rounds: int) -> dict[Key, list[Result]]:
    """Calls every contender once per round: A B C, A B C, ...

    Args:
        contenders: key to a function that does the work once and returns what it measured.
        rounds: counted rounds. One more comes first and is thrown away: it compiles, allocates and fills caches.

    Returns:
        Per contender, what it returned in every counted round.
    """
    results: dict[Key, list[Result]] = {key: [] for key in contenders}
    for number in range(rounds + 1):
        for key, measure in contenders.items():
            result = measure()
            if number:
                results[key].append(result)
    return results


def timed(work: Callable[[], object], clock_ns: Callable[[], int] = time.perf_counter_ns) -> Callable[[], float]:
    """A contender that returns the milliseconds one call of ``work`` took."""

    def measure() -> float:
        begin = clock_ns()
        work()
        return (clock_ns() - begin) * 1e-6

    return measure
