"""A ROS domain for this process and those it starts: two runs at a time must not hear each other."""

from __future__ import annotations

import os
import socket
import sys
from functools import cache

DOMAINS = range(1, 102)
"""Without 0, which everybody has who chose none; 101 is the last one whose ports are free on every Linux."""

_HELD: list[socket.socket] = []


@cache
def own_domain() -> int:
    """The same one at every call; no other process has got it from here while this one lives.

    Process ids alone leave two processes the same domain once in a hundred times. On Linux a name in the network
    namespace says that it is taken, and goes with the process; elsewhere it stays with the process id.
    """
    first = os.getpid() % len(DOMAINS)
    if sys.platform != "linux":
        return DOMAINS[first]
    return next(filter(_take, (*DOMAINS[first:], *DOMAINS[:first])), DOMAINS[first])


def _take(domain: int) -> bool:
    name = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        name.bind(f"\0ov_seg_ros/domain/{domain}")  # of Linux alone: no file, nothing to clean up
    except OSError:
        name.close()
        return False
    _HELD.append(name)
    return True
