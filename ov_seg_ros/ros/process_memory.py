"""Lets the process keep the memory of one scan for the next, and give back what it no longer uses.

A scan of 2.6 MB goes through a dozen buffers of that size. Left to itself, glibc gives many of them back to the kernel
after every scan, which then maps and clears them page by page for the next one: on a virtual machine that takes longer
than all the copying. What is kept, though, falls to pieces where images and clouds of ever another size come and go, so
that the process grows; giving free pages back whenever it has slows that down (``benchmarks/soak.py`` shows how much).
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

KEEP_BYTES = 64 << 20
"""Free memory at the end of a heap that is kept."""
OWN_MAPPING_BYTES = 32 << 20
"""Buffers from this size on are mapped on their own and given back when freed; glibc takes no larger limit."""
GROWTH_BYTES = 96 << 20
"""By so much the process may grow before free pages are given back; scans of one size stay below it."""
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h of glibc
_CHOSEN_BY_USER = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


def keep_freed_memory() -> bool:
    """Tells the C library to keep what is freed, up to ``KEEP_BYTES`` per heap; call once, before threads start.

    Returns:
        False if it was left as it is: not glibc, or the environment has settings of the user.
    """
    if any(name in os.environ for name in _CHOSEN_BY_USER):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, OWN_MAPPING_BYTES) and mallopt(_M_TRIM_THRESHOLD, KEEP_BYTES))


class FreeMemory:
    """Gives free memory back to the kernel whenever the process has grown."""

    def __init__(self) -> None:
        """Takes the process as it is for its proper size."""
        self._proper_bytes = resident_bytes()

    def give_back(self) -> bool:
        """Gives all free pages back if the process has grown by ``GROWTH_BYTES`` since; call about once a second.

        Returns:
            Whether it had grown.
        """
        resident = resident_bytes()
        if resident < self._proper_bytes + GROWTH_BYTES:
            self._proper_bytes = min(self._proper_bytes, resident)
            return False
        ctypes.CDLL(None).malloc_trim(0)
        self._proper_bytes = resident_bytes()
        return True


def resident_bytes() -> int:
    """Memory that the process holds; 0 where there is no /proc."""
    try:
        pages = Path("/proc/self/statm").read_text().split()[1]
    except OSError:
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
