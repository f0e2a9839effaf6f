"""Signals that end a process, raised and undone in this very process."""

import os
import signal
import threading

import pytest

from ov_seg_ros.core.interruption import END_SIGNALS, Terminated, exit_code, orderly_end


@pytest.fixture
def heeded():
    """Signals that whoever runs the tests may have had ignored (``nohup``)."""
    before = {each: signal.signal(each, signal.SIG_DFL) for each in END_SIGNALS}
    yield
    for each, handler in before.items():
        signal.signal(each, handler)


@pytest.mark.usefixtures("heeded")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_request_to_end_is_raised_like_ctrl_c(number, code):
    before = {each: signal.getsignal(each) for each in END_SIGNALS}
    with pytest.raises(KeyboardInterrupt) as caught, orderly_end():
        signal.raise_signal(number)
    assert isinstance(caught.value, Terminated)
    assert str(caught.value) == number.name
    assert exit_code(caught.value) == code
    assert {each: signal.getsignal(each) for each in END_SIGNALS} == before


def test_ctrl_c_has_the_exit_code_of_its_own():
    assert exit_code(KeyboardInterrupt()) == 130


def test_what_nohup_ignores_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with orderly_end():
            os.kill(os.getpid(), signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_another_thread_may_use_it_too():
    reached = []

    def work():
        with orderly_end():
            reached.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert reached == [True]
