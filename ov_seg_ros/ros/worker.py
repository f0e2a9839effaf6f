"""One worker thread with two lanes: urgent jobs first, and only when there are none, spare-time jobs.

Knows no ROS. Each lane holds a bounded number of waiting jobs; when it is full the oldest is dropped and counted, so
that under overload the newest scan is worked on and no backlog delays it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, TypeVar

JobT = TypeVar("JobT")
SpareT = TypeVar("SpareT")


class LatestWorker(Generic[JobT, SpareT]):
    """Works on the jobs of two lanes in a thread of its own.

    Attributes:
        dropped: urgent jobs that had to go because newer ones came.
        spare_dropped: likewise of the spare lane.
    """

    def __init__(
        self,
        urgent: Callable[[JobT], None],
        spare: Callable[[SpareT], None],
        queue_size: int = 1,
        spare_size: int = 1,
        on_error: Callable[[Exception], None] | None = None,
    ) -> None:
        """Prepares the worker; ``start`` starts it.

        Args:
            urgent: what to do with a job of the first lane.
            spare: what to do with a job of the second lane.
            queue_size: jobs that may wait in the first lane, not counting the one in work.
            spare_size: likewise in the second lane.
            on_error: told of every exception of ``urgent`` and ``spare``; the worker goes on.
        """
        self._work: tuple[Callable[[Any], None], Callable[[Any], None]] = (urgent, spare)
        self._on_error = on_error or (lambda error: None)
        self._sizes = (queue_size, spare_size)
        self._lanes: tuple[deque[Any], deque[Any]] = (deque(), deque())
        self._condition = threading.Condition()
        self._stopping = False
        self._busy = False
        self._thread: threading.Thread | None = None
        self.dropped = 0
        self.spare_dropped = 0

    @property
    def waiting(self) -> int:
        """Urgent jobs that wait or are in work."""
        with self._condition:
            return len(self._lanes[0]) + self._busy

    def start(self) -> None:
        """Starts the thread; does nothing if it runs."""
        if self._thread is None:
            self._stopping = False
            thread = threading.Thread(target=self._run, name="segmentation_worker", daemon=True)
            thread.start()
            self._thread = thread  # only now: Ctrl-C during the start must not leave a thread that cannot be joined

    def stop(self, timeout_s: float = 10.0) -> bool:
        """Lets the job in work finish, drops (and counts) what waits, ends the thread.

        Returns:
            False if the job in work did not finish in time.
        """
        with self._condition:
            self._stopping = True
            self.dropped += len(self._lanes[0])
            self.spare_dropped += len(self._lanes[1])
            for lane in self._lanes:
                lane.clear()
            self._condition.notify_all()
        thread, self._thread = self._thread, None
        if thread is None:
            return True
        thread.join(timeout_s)
        return not thread.is_alive()

    def submit(self, job: JobT) -> None:
        """Queues an urgent job; drops the oldest waiting one if there is no room."""
        self.dropped += self._append(0, job)

    def submit_spare(self, job: SpareT) -> None:
        """Queues a job for spare time; drops the oldest waiting one if there is no room."""
        self.spare_dropped += self._append(1, job)

    def _append(self, lane: int, job: Any) -> int:
        with self._condition:
            if self._stopping:
                return 1
            queue = self._lanes[lane]
            queue.append(job)
            dropped = max(0, len(queue) - self._sizes[lane])
            if dropped:
                queue.popleft()
            self._condition.notify()
            return dropped

    def _run(self) -> None:
        while True:
            with self._condition:
                self._busy = False
                self._condition.wait_for(lambda: self._stopping or any(self._lanes))
                if self._stopping:
                    return
                lane = 0 if self._lanes[0] else 1
                job = self._lanes[lane].popleft()
                self._busy = lane == 0
            try:
                self._work[lane](job)
            except Exception as error:
                self._on_error(error)
            del job  # a scan must not live on until the next one comes
