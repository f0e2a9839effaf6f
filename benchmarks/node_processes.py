"""Starts the programs of ``node_programs.py``, asks them what they saw, and reads what they cost from /proc."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ov_seg_ros.commands.ros_domain import own_domain

PROGRAMS = Path(__file__).with_name("node_programs.py")
CHECKOUT = PROGRAMS.parents[1]
PROFILE = CHECKOUT / "config" / "fastdds" / "large_data.xml"
TIMEOUT_S, WARM_UP_SCANS = 90.0, 5
SETTLE_S = 0.7
Variables = Mapping[str, str]
SETTINGS: dict[str, Variables] = {"default": {}, "large data": {"FASTDDS_DEFAULT_PROFILES_FILE": str(PROFILE)}}
NS_PER_MS = 1e6


@dataclass(frozen=True)
class Trip:
    """Scans that went from the driver through the node to the listener.

    Attributes:
        sent: stamps by the driver, nanoseconds.
        sent_mb, heard_mb: size of a scan on its way in and out.
        heard: what the listener says ("arrivals", milliseconds by stage, "counters").
        node: what the node says ("times" of its start, "arrivals" of scans).
        publish_ms: time the driver took to publish.
        node_cpu_s: processor time of the node while scans came.
        memory_mib: of the node at the end: resident, and its proportional share.
    """

    sent: list[int]
    sent_mb: float
    heard: dict[str, Any]
    node: dict[str, Any]
    publish_ms: list[float]
    node_cpu_s: float
    memory_mib: tuple[float, float]

    @property
    def round_trip_ms(self) -> list[float]:
        """From just before the driver publishes to the listener's callback, of every scan that came back."""
        arrived = dict(map(tuple, self.heard["arrivals"]))
        return [(arrived[s] - s) / NS_PER_MS for s in self.sent[WARM_UP_SCANS:] if s in arrived]

    @property
    def segment_ms(self) -> list[float]:
        """Time of the student per scan that came back."""
        stages = zip(*(self.heard[name] for name in ("preprocess", "inference", "postprocess")), strict=False)
        return [sum(stage) for stage in stages][WARM_UP_SCANS:]

    @property
    def transport_ms(self) -> list[float]:
        """From publication by the driver to reception by the node's middleware."""
        return [(received - source) / NS_PER_MS for source, received, _ in self.node["arrivals"][WARM_UP_SCANS:]]

    @property
    def take_ms(self) -> list[float]:
        """From there to the node's callback."""
        return [(taken - received) / NS_PER_MS for _, received, taken in self.node["arrivals"][WARM_UP_SCANS:]]

    @property
    def rate(self) -> float:
        """Scans per second."""
        return 1e9 * (len(self.sent) - 1) / (self.sent[-1] - self.sent[0])

    @property
    def lost(self) -> int:
        """Scans that did not come back."""
        return len(self.sent) - len(set(self.sent) & {stamp for stamp, _ in self.heard["arrivals"]})

    @property
    def unexplained(self) -> int:
        """Scans that the node's own counters say nothing about."""
        numbers = {key: int(value) for key, value in self.heard["counters"].items() if value.isdigit()}
        known = ("scans_labelled", "scans_dropped", "scans_unwanted", "bad_messages", "scans_missed")
        return len(self.sent) - sum(numbers[key] for key in known)


def environment(variables: Variables) -> dict[str, str]:
    """That of a process which hears nobody but those of this run; ``variables`` are set beside."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("FASTDDS", "FASTRTPS", "RMW_", "ROS_"))}
    fixed = {
        "ROS_DOMAIN_ID": str(own_domain()),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "PYTHONPATH": str(CHECKOUT),
    }
    return inherited | fixed | dict(variables)


class Program:
    """One of the programs, running."""

    def __init__(self, log: Path, variables: Variables, arguments: Sequence[str]) -> None:
        """Starts it."""
        self._name, self._log = arguments[0], log
        self.started = time.time()
        with log.open("a") as errors:
            self._process = subprocess.Popen(
                [sys.executable, str(PROGRAMS), *arguments],
                env=environment(variables),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        self._watch = threading.Timer(TIMEOUT_S, self._process.kill)
        self._watch.daemon = True
        self._watch.start()

    def wait_ready(self) -> None:
        """Waits for its line "ready"."""
        assert self._process.stdout is not None
        while (line := self._process.stdout.readline()).strip() != "ready":
            if not line:
                raise RuntimeError(f"{self._name} ended before it was ready:\n{self._log.read_text()[-2000:]}")

    def report(self, end: str) -> dict[str, Any]:
        """What it says at its end.

        Args:
            end: "wait" until it ends by itself, "close" its input, or "interrupt" it as Ctrl-C does.
        """
        assert self._process.stdout is not None
        assert self._process.stdin is not None
        if end == "interrupt":
            self._process.send_signal(signal.SIGINT)
        elif end == "close":
            self._process.stdin.close()
        lines = self._process.stdout.read().strip().splitlines()
        self._process.wait()
        self._watch.cancel()
        if not lines:
            raise RuntimeError(f"{self._name} ended without a word:\n{self._log.read_text()[-2000:]}")
        return dict(json.loads(lines[-1]))

    @property
    def cpu_s(self) -> float:
        """Processor time of all its threads so far."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def memory_mib(self) -> tuple[float, float]:
        """Resident, and the proportional share (a page that two processes share counts half)."""
        lines = Path(f"/proc/{self._process.pid}/smaps_rollup").read_text().splitlines()
        kib = {line.split(":")[0]: int(line.split()[1]) for line in lines[1:]}
        return kib["Rss"] / 1024, kib["Pss"] / 1024


class Stage:
    """Starts programs that belong together."""

    def __init__(self, scratch: Path, node_parameters: Mapping[str, Any]) -> None:
        """Prepares.

        Args:
            scratch: for the log.
            node_parameters: ROS parameters of every node.
        """
        self._log = scratch / "node.log"
        self._parameters = node_parameters

    def start(self, program: str, variables: Variables, *arguments: str) -> Program:
        """Starts a program."""
        return Program(self._log, variables, [program, *arguments])

    def start_node(self, variables: Variables, *arguments: str, **parameters: Any) -> Program:
        """Starts the node with these ROS parameters."""
        given = {**self._parameters, **parameters}
        pairs = [word for name, value in given.items() for word in ("-p", f"{name}:={value}")]
        return self.start("node", variables, *arguments, "--ros-args", *pairs)

    def trip(
        self,
        variables: Variables,
        node: Sequence[str],
        driver: Sequence[str],
        peers: Sequence[str] = (),
        listener: Sequence[str] = (),
        **parameters: Any,
    ) -> Trip:
        """Sends scans through a node to a listener, all of them new.

        Args:
            variables: of the environment, of all three.
            node: arguments of the node.
            driver: arguments of the driver.
            peers: arguments of both driver and listener.
            listener: arguments of the listener.
            parameters: ROS parameters of the node.
        """
        running = self.start_node(variables, *node, **parameters)
        running.wait_ready()
        hearing = self.start("listener", variables, *peers, *listener)
        hearing.wait_ready()
        time.sleep(SETTLE_S)
        source = self.start("driver", variables, *driver, *peers)
        source.wait_ready()
        cpu_s = running.cpu_s
        sent = source.report("wait")
        cpu_s = running.cpu_s - cpu_s
        time.sleep(1.2)  # one more round of diagnostics
        memory, heard = running.memory_mib, hearing.report("close")
        said = running.report("interrupt")
        return Trip(sent["stamps"], sent["bytes"] / 1e6, heard, said, sent["publish_ms"], cpu_s, memory)
