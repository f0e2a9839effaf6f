"""A few threads that work on one thing together."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

_SIBLINGS = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"


def physical_cores() -> int:
    """Cores this process may use, hyper-threads counted once where the system tells them apart."""
    usable = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    cores = set()
    for cpu in usable:
        siblings = Path(_SIBLINGS.format(cpu))
        cores.add(siblings.read_text().strip() if siblings.is_file() else str(cpu))
    return len(cores)


class ThreadTeam:
    """The calling thread and ``num_threads - 1`` others.

    Args:
        num_threads: 0 = one per physical core.
    """

    def __init__(self, num_threads: int = 0) -> None:
        self.num_threads = num_threads or physical_cores()
        self._others = ThreadPoolExecutor(max(1, self.num_threads - 1), thread_name_prefix="network")

    def run(self, work: Callable[[], None]) -> None:
        """Calls ``work`` on every thread; returns when the caller's own call returns.

        The call of another thread may then still be on its way: ``work`` must do everything if it is alone, and nothing
        once everything is done.
        """
        for _ in range(self.num_threads - 1):
            self._others.submit(work)
        work()
