"""Domains of runs that go on at the same time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.node_processes import environment
from ov_seg_ros.commands.node_process import ros_environment
from ov_seg_ros.commands.ros_domain import DOMAINS, own_domain

SAME_ID = """
import os
os.getpid = lambda: 4200
from ov_seg_ros.commands.ros_domain import own_domain
print(own_domain(), own_domain(), flush=True)
input()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has names that go with the process")
def test_processes_do_not_share_one_even_if_their_ids_would() -> None:
    start = [sys.executable, "-c", SAME_ID]
    given = {"cwd": Path(__file__).parents[1], "stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(start, **given) for _ in range(3)]
    said = [process.stdout.readline().split() for process in processes]
    for process in processes:
        process.communicate("\n", timeout=60)
    assert all(first == again and int(first) in DOMAINS for first, again in said)
    assert len({first for first, _ in said}) == 3


def test_demo_and_benchmark_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ROS_DOMAIN_ID", raising=False)
    assert ros_environment()["ROS_DOMAIN_ID"] == environment({})["ROS_DOMAIN_ID"] == str(own_domain())
