"""How much memory this process holds now, and held at most."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

_SELF = Path("/proc/self")


def resident_mib() -> float:
    """Resident memory now, MiB; where the system does not say, the most so far."""
    return _status_mib("VmRSS") or _peak_of_rusage()


def peak_mib() -> float:
    """The most resident memory since the last ``reset_peak``, MiB; where that is impossible, since the start."""
    return _status_mib("VmHWM") or _peak_of_rusage()


def reset_peak() -> bool:
    """Begins a new peak; returns whether the system can do that (Linux can)."""
    try:
        (_SELF / "clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _status_mib(key: str) -> float:
    status = _SELF / "status"
    lines = status.read_text().splitlines() if status.is_file() else []
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{key}:")), 0.0)


def _peak_of_rusage() -> float:
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (2**20 if sys.platform == "darwin" else 1024)
