"""Processes that share work: they end with the one that started them, at once and without a word of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from heeded_signals import heed_signals

CHECKOUT = Path(__file__).parents[2]
SCRIPT = """
import sys, time
from pathlib import Path
from ov_seg_ros.core.interruption import exit_code, orderly_end
from training.worker_pool import WorkerPool

def work(folder, number):
    (Path(folder) / str(number)).touch()
    if number < 0:
        raise ValueError
    time.sleep(100)  # longer than any test waits

if __name__ == "__main__":
    first, folder = int(sys.argv[1]), sys.argv[2]
    try:
        with orderly_end(), WorkerPool(2) as pool:
            list(pool.map(work, [folder] * 5, range(first, first + 5)))
    except KeyboardInterrupt as end:
        sys.exit(exit_code(end))
    except ValueError:
        sys.exit(7)
"""


def wait_until(true) -> None:
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def start(folder: Path, first: int) -> subprocess.Popen[str]:
    script = folder / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), str(first), str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    return subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
        preexec_fn=heed_signals,
    )


@pytest.mark.parametrize(
    ("end", "whole_group"), [(signal.SIGINT, True), (signal.SIGHUP, True), (signal.SIGTERM, False)]
)
def test_they_end_with_the_one_that_started_them(end, whole_group, tmp_path):
    process = start(tmp_path, 0)
    wait_until(lambda: (tmp_path / "0").exists() and (tmp_path / "1").exists())
    (os.killpg if whole_group else os.kill)(process.pid, end)
    _, said = process.communicate(timeout=60)  # until the last of them has let go of stderr
    assert (process.returncode, said) == (128 + end, "")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children that their parent was killed")
def test_they_end_with_one_that_is_killed(tmp_path):
    process = start(tmp_path, 0)
    wait_until(lambda: (tmp_path / "0").exists() and (tmp_path / "1").exists())
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL


def test_an_error_of_one_ends_the_others(tmp_path):
    process = start(tmp_path, -1)
    process.communicate(timeout=60)
    assert process.returncode == 7
