"""How far stages are, told to whoever shows it."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Called with (stage, done, total)."""


def silent(_stage: str, _done: int, _total: int) -> None:
    """Progress of processes that have none to show."""
