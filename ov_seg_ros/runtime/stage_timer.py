"""Wall time of named stages."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class StageTimer:
    """Collects the wall time of stages; stages may nest.

    Example:
        >>> timer = StageTimer()
        >>> with timer.stage("preprocess"):
        ...     pass
        >>> sorted(timer.stage_ms)
        ['preprocess']

    Attributes:
        stage_ms: milliseconds by stage; a stage that ran twice holds the sum, one that raised counts too.
    """

    def __init__(self, clock_ns: Callable[[], int] = time.perf_counter_ns) -> None:
        self._clock_ns = clock_ns
        self.stage_ms: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Times the ``with`` block under ``name``."""
        start_ns = self._clock_ns()
        try:
            yield
        finally:
            elapsed_ms = (self._clock_ns() - start_ns) * 1e-6
            self.stage_ms[name] = self.stage_ms.get(name, 0.0) + elapsed_ms
