"""A process that cannot end by itself is ended."""

import signal
import subprocess
import sys

import pytest

STUCK = {
    "while it shuts down": """
import ctypes
from ov_seg_ros.ros.process_end import limit_end
limit_end(0.3)
ctypes.PyDLL(None).pause()  # waits with the interpreter's lock held
""",
    "after the interpreter's end": """
import ctypes
from ov_seg_ros.ros.process_end import limit_end
libc = ctypes.CDLL(None)
libc.__cxa_atexit(libc.pause, None, None)
limit_end(0.3)
""",
}
FREE = """
from ov_seg_ros.ros.process_end import limit_end
limit_end(30)
raise SystemExit(3)
"""


def run(program):
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)


def test_says_where_it_was_stuck():
    process = run(STUCK["while it shuts down"])
    assert process.returncode == 1
    assert "Timeout" in process.stderr
    assert 'File "<string>", line 5' in process.stderr


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs interval timers")
def test_libraries_that_wait_when_the_interpreter_has_gone_are_ended_too():
    assert run(STUCK["after the interpreter's end"]).returncode == -signal.SIGALRM


def test_an_orderly_end_keeps_its_exit_code_and_is_silent():
    process = run(FREE)
    assert (process.returncode, process.stdout, process.stderr) == (3, "", "")
