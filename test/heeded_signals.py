"""Signals for processes that tests start: heeded as in a terminal, whatever the tests were started by."""

from __future__ import annotations

import signal


def heed_signals() -> None:
    """For ``preexec_fn``: undoes what ``nohup`` and ``&`` have ignored."""
    for each in (signal.SIGINT, signal.SIGHUP):
        signal.signal(each, signal.SIG_DFL)
