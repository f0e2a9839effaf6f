"""Lets the process keep the memory of one scan for the next.

A scan of 2.6 MB goes through a dozen buffers of that size. Left to itself, glibc gives many of them back to the kernel
after every scan, which then maps and clears them page by page for the next one: on a virtual machine that takes longer
than all the copying.
"""

from __future__ import annotations

import ctypes
import os

KEEP_BYTES = 64 << 20
"""Free memory at the end of a heap that is kept."""
OWN_MAPPING_BYTES = 32 << 20
"""Buffers from this size on are mapped on their own and given back when freed; glibc takes no larger limit."""
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
