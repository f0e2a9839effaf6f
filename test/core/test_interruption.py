"""Signals that end a process, raised and undone in this very process."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

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


class Archive:
    """Cannot be closed half-written, like those of torch."""

    def __enter__(self):
        return self

    def __exit__(self, *error):
        try:
            raise ValueError("unexpected position")
        except ValueError as problem:
            raise RuntimeError("cannot be closed") from problem


@pytest.mark.usefixtures("heeded")
def test_what_fails_because_of_the_request_does_not_hide_it():
    with pytest.raises(Terminated, match="SIGTERM") as caught, orderly_end(), Archive():
        signal.raise_signal(signal.SIGTERM)
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_other_failures_are_left_as_they_are():
    with pytest.raises(RuntimeError, match="cannot be closed"), orderly_end(), Archive():
        pass


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


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children that their parent was killed")
def test_a_child_ends_with_a_parent_that_is_killed():
    child = (
        "import sys, time; from ov_seg_ros.core.interruption import end_with;"
        "end_with(int(sys.argv[1])); print(flush=True); time.sleep(60)"
    )
    parent = "import os, subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1], str(os.getpid())])"
    checkout = Path(__file__).parents[2]
    process = subprocess.Popen([sys.executable, "-c", parent, child], stdout=subprocess.PIPE, cwd=checkout)
    assert process.stdout.readline() == b"\n"
    process.kill()
    assert process.stdout.read() == b""  # nobody holds the pipe any more
    process.wait()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children that their parent was killed")
@pytest.mark.parametrize("is_waited_for", [True, False], ids=["waited for", "a zombie"])
def test_a_child_whose_parent_has_gone_ends_at_once(is_waited_for):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, gone.pid, os.WEXITED | (0 if is_waited_for else os.WNOWAIT))
    code = "import sys; from ov_seg_ros.core.interruption import end_with; end_with(int(sys.argv[1]))"
    command = [sys.executable, "-c", code, str(gone.pid)]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], check=False)
    gone.wait()
    assert done.returncode == -signal.SIGTERM
