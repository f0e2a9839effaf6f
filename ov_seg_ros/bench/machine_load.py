"""Whether the machine was quiet while something was measured."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

BUSY_SHARE = 0.1
"""Of all cores, used by others: above it, figures are to be taken with care."""


@dataclass(frozen=True)
class MachineTimes:
    """Processor time that was used so far, seconds.

    Attributes:
        wall: of a clock.
        machine: by everything on this machine, of all cores; None where the system does not say.
        own: by this process and the children it has waited for.
    """

    wall: float
    machine: float | None
    own: float


def read_times() -> MachineTimes:
    """The times now."""
    own = os.times()
    return MachineTimes(
        time.monotonic(), _busy_seconds(), own.user + own.system + own.children_user + own.children_system
    )


class LoadMeter:
    """Measures how many cores other processes used; started when it is made."""

    def __init__(self, read: Callable[[], MachineTimes] = read_times) -> None:
        self._read = read
        self._begin = read()

    def others(self) -> float | None:
        """Cores that others used since the start, on average; None where the system does not say."""
        begin, now = self._begin, self._read()
        if begin.machine is None or now.machine is None or now.wall <= begin.wall:
            return None
        others = (now.machine - begin.machine) - (now.own - begin.own)
        return max(0.0, others / (now.wall - begin.wall))


def load_warning(others: float | None, cores: int) -> str:
    """A sentence if others used so much that the figures cannot be trusted, else nothing.

    Args:
        others: cores that others used on average.
        cores: of the machine.
    """
    if others is None or others <= BUSY_SHARE * cores:
        return ""
    return f"the machine was busy: other processes used {others:.1f} of {cores} cores, so these times are too long"


def _busy_seconds() -> float | None:
    """All but idle and waiting time of /proc/stat, time stolen by other virtual machines included."""
    stat = Path("/proc/stat")
    if not stat.is_file():
        return None
    user, nice, system, _idle, _waiting, *rest = (int(v) for v in stat.read_text().split("\n", 1)[0].split()[1:9])
    return float(user + nice + system + sum(rest)) / os.sysconf("SC_CLK_TCK")
