"""Lets a process that is asked to end do so as orderly as after Ctrl-C: files are closed, child processes ended."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

END_SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
"""How service managers, containers and closed terminals end a process."""

_PR_SET_PDEATHSIG = 1
"""Of ``prctl`` (linux/prctl.h)."""


class Terminated(KeyboardInterrupt):
    """The process was asked to end by one of ``END_SIGNALS``.

    Attributes:
        signal_number: which one.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal.Signals(signal_number).name)
        self.signal_number = signal_number


@contextmanager
def orderly_end() -> Iterator[None]:
    """Within this block ``END_SIGNALS`` raise ``Terminated``, just as Ctrl-C raises ``KeyboardInterrupt``.

    What fails because it was interrupted (a half-written archive that cannot be closed) does not hide the request: the
    block is left by that. A signal that is ignored (``nohup``) stays ignored. Outside the main thread, where Python
    takes no signals, the block changes nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heeded = [number for number in END_SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, _raise_terminated) for number in heeded}
    try:
        yield
    except Exception as error:
        end = _request_behind(error)
        if end is None:
            raise
        raise end from error
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _request_behind(error: BaseException) -> KeyboardInterrupt | None:
    """The request to end that was being handled when an error came up, if there was one."""
    before = error.__context__
    while before is not None and not isinstance(before, KeyboardInterrupt):
        before = before.__context__
    return before


@contextmanager
def unheard_by_children() -> Iterator[None]:
    """Processes that are started within this block are deaf to Ctrl-C and to the end of their terminal.

    A terminal tells all processes at once; with this, only the one that started the others hears it, and ends them.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGHUP))  # which children inherit
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_with(parent: int, how: signal.Signals = signal.SIGTERM) -> None:
    """Has this process sent a signal when its parent ends, even by SIGKILL, which leaves a parent no time to say so.

    On Linux alone; elsewhere nothing happens. The kernel watches the thread that started this process, so that must be
    one that lives as long as its process, such as the main thread.

    Args:
        parent: process id of whoever started this process; where it has gone already, the signal comes at once.
        how: the signal.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(how), 0, 0, 0)
    if not _is_running(parent):  # it need not be the direct parent, Python may start by a wrapper
        signal.raise_signal(how)


def _is_running(process: int) -> bool:
    """On Linux; a dead process that nobody has asked for its exit code yet (state Z) is none."""
    try:
        os.kill(process, 0)  # asks whether it is there
    except ProcessLookupError:
        return False
    try:
        stat = Path(f"/proc/{process}/stat").read_bytes()
    except OSError:  # no /proc here
        return True
    return stat.rpartition(b")")[2].split()[0] not in (b"Z", b"X")


def describe_end(end: KeyboardInterrupt) -> str:
    """What ended the process, for the user: "interrupted" after Ctrl-C, "ended by SIGTERM"."""
    return f"ended by {end}" if isinstance(end, Terminated) else "interrupted"


def exit_code(end: KeyboardInterrupt) -> int:
    """What a shell reports for a process that a signal ended: 130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP."""
    return 128 + (end.signal_number if isinstance(end, Terminated) else signal.SIGINT)


def _raise_terminated(signal_number: int, frame: FrameType | None) -> None:
    raise Terminated(signal_number)
