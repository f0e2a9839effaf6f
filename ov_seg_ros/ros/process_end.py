"""Sees to it that a process whose work is done ends, even if the middleware does not let it go."""

from __future__ import annotations

import faulthandler
import signal
import sys

END_S = 10.0
"""Time for taking leave of the middleware and the interpreter, seconds; it takes a fraction of one."""
_REPORT_S = 2.0


def limit_end(limit_s: float = END_S) -> None:
    """Ends the process after this time at the latest; call when nothing is left to do but to end.

    A DDS participant that goes while others come may, very rarely, wait for ever in its own threads, and rclpy waits
    for it with the interpreter's lock held, so that neither a Python thread nor a signal handler could step in.
    Whoever started the node would take it for running. Afterwards the log says where every thread was, and the exit
    code is 1.

    Args:
        limit_s: seconds from now.
    """
    if hasattr(signal, "setitimer"):
        signal.signal(signal.SIGALRM, signal.SIG_DFL)  # the kernel ends the process, also after the interpreter's end
        signal.setitimer(signal.ITIMER_REAL, limit_s + _REPORT_S)
    if sys.__stderr__ is not None:
        faulthandler.dump_traceback_later(limit_s, exit=True, file=sys.__stderr__)
