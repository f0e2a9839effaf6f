"""Threads that work together, and what happens when one of them is late."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from numba import njit

from ov_seg_ros.kernels.atomics import fetch_add, wait_until
from ov_seg_ros.kernels.thread_team import ThreadTeam, physical_cores


@njit(nogil=True)
def count(counter, times):
    for _ in range(times):
        fetch_add(counter.ctypes.data, 1)


@njit(nogil=True)
def wait(counter, value):
    wait_until(counter.ctypes.data, value)


def test_no_increment_is_lost() -> None:
    counter = np.zeros(1, np.int64)
    count(counter, 0)  # compiled before the threads race
    threads = [threading.Thread(target=count, args=(counter, 200_000)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counter[0] == 800_000


def test_waiting_ends_when_the_value_is_reached_and_lets_others_run() -> None:
    counter = np.zeros(1, np.int64)
    wait(counter, 0)
    waiting = threading.Thread(target=wait, args=(counter, 3))
    waiting.start()
    waiting.join(0.05)
    assert waiting.is_alive()
    count(counter, 3)
    waiting.join(5)
    assert not waiting.is_alive()


def test_every_thread_is_called() -> None:
    team = ThreadTeam(3)
    together = threading.Barrier(3, timeout=10)
    team.run(lambda: together.wait() and None)
    assert not together.broken


def test_one_thread_is_the_callers() -> None:
    names = []
    ThreadTeam(1).run(lambda: names.append(threading.current_thread()))
    assert names == [threading.current_thread()]


def test_the_caller_does_not_wait_for_a_thread_that_is_late() -> None:
    team = ThreadTeam(2)
    release, calls = threading.Event(), []

    def work() -> None:
        calls.append(threading.current_thread())
        if threading.current_thread() is not threading.main_thread():
            release.wait(10)

    team.run(work)
    team.run(work)  # the other thread still sits in the first call
    assert calls.count(threading.main_thread()) == 2
    release.set()


def test_an_error_of_the_caller_reaches_it() -> None:
    def fail() -> None:
        raise MemoryError("no room")

    with pytest.raises(MemoryError, match="no room"):
        ThreadTeam(2).run(fail)


def test_zero_threads_are_as_many_as_cores() -> None:
    assert ThreadTeam().num_threads == physical_cores() >= 1
