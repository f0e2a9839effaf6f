"""Processes that share the work of a stage, and end with it however it ends."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from types import TracebackType
from typing import Any, TypeVar

from ov_seg_ros.core.interruption import end_with, unheard_by_children

Result = TypeVar("Result")


class WorkerPool:
    """Fresh processes; a context manager.

    They leave Ctrl-C to the process that started them. Where its block is left by an error or a request to end, they
    are killed instead of finishing what they are at, which can take minutes: their files are whole or not there. Where
    that process is killed itself, they end, too (Linux). Use it from a thread that lives as long as its process, as the
    main thread does: the kernel ends them with the thread that started them.
    """

    def __init__(
        self, processes: int, begin: Callable[..., None] | None = None, arguments: tuple[Any, ...] = ()
    ) -> None:
        """Starts none of them yet.

        Args:
            processes: how many.
            begin: run first in each.
            arguments: of ``begin``.
        """
        with unheard_by_children():  # Python starts one of its own here, which looks after shared resources
            self._pool = ProcessPoolExecutor(processes, get_context("spawn"), _begin, (os.getpid(), begin, arguments))

    def map(self, work: Callable[..., Result], *arguments: Iterable[Any]) -> Generator[Result, None, None]:
        """Gives out all work when the first result is asked for; yields the results in the order of the arguments.

        Args:
            work: a function that the processes can import.
            arguments: one sequence for each of its parameters.

        Raises:
            BrokenProcessPool: a process died.
        """
        with unheard_by_children():
            futures = [self._pool.submit(work, *each) for each in zip(*arguments, strict=False)]
        for future in futures:  # not Executor.map: what it cancels upsets the thread that notices killed processes
            yield future.result()

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            for process in list((self._pool._processes or {}).values()):
                process.kill()
        self._pool.shutdown()


def _begin(parent: int, begin: Callable[..., None] | None, arguments: tuple[Any, ...]) -> None:
    end_with(parent, signal.SIGKILL)
    if begin is not None:
        begin(*arguments)
