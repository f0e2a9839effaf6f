"""Runs the ROS nodes of this package as processes of their own, away from any other ROS system.

Each has a session of its own, so that Ctrl-C and a closed terminal reach this process alone, and it ends them in order.
Where it is killed, they end by themselves (Linux).
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml

from ov_seg_ros.commands.attached import attached_command
from ov_seg_ros.commands.ros_domain import own_domain
from ov_seg_ros.core.errors import InputError, MissingDependencyError

NODE_MODULE = "ov_seg_ros.ros.segmentation_node"
REPLAY_MODULE = "ov_seg_ros.ros.replay"
STOP_S = 15.0
LARGE_DATA_PROFILE = Path(__file__).resolve().parents[2] / "config" / "fastdds" / "large_data.xml"
LOG_LINES = 6


def require_ros() -> None:
    """Checks that rclpy can be imported.

    Raises:
        MissingDependencyError: it is not installed.
    """
    if find_spec("rclpy") is None:
        install = "pip install 'ov_seg_ros[ros]', or source a ROS 2 installation"
        raise MissingDependencyError("rclpy", install, "the demo")


def ros_environment() -> dict[str, str]:
    """Environment of both processes: transports for large messages, this machine only, a domain of their own.

    What is set already stays. Fast DDS ignores ``FASTDDS_BUILTIN_TRANSPORTS`` where discovery stays on this machine,
    hence the profile (docs/transport.md); an installation without the checkout's config folder goes without it.
    """
    defaults = {
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "ROS_DOMAIN_ID": str(own_domain()),
    }
    if LARGE_DATA_PROFILE.is_file():
        old = os.environ.get("ROS_DISTRO") in ("humble", "iron", "jazzy")
        defaults["FASTRTPS_DEFAULT_PROFILES_FILE" if old else "FASTDDS_DEFAULT_PROFILES_FILE"] = str(LARGE_DATA_PROFILE)
    return {**defaults, **os.environ}


def write_parameters(path: Path, parameters: Mapping[str, Any]) -> None:
    """Writes a ROS 2 parameter file for every node."""
    path.write_text(yaml.safe_dump({"/**": {"ros__parameters": dict(parameters)}}, sort_keys=False))


class NodeProcess:
    """A segmentation node in a process of its own; a context manager.

    Attributes:
        log: file that gets what the node writes to its terminal.
    """

    def __init__(self, parameters: Path, log: Path, environment: Mapping[str, str]) -> None:
        """Prepares the process.

        Args:
            parameters: ROS 2 parameter file.
            log: file to write.
            environment: of the process.
        """
        self.log = log
        self._command = attached_command(NODE_MODULE, ["--ros-args", "--params-file", str(parameters)])
        self._environment = dict(environment)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> NodeProcess:
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command, stdout=log, stderr=subprocess.STDOUT, env=self._environment, start_new_session=True
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            _end(self._process, signal.SIGINT)

    def run_beside(self, arguments: Sequence[str]) -> None:
        """Runs a replay until it ends, as long as the node lives.

        Args:
            arguments: of the replay.

        Raises:
            InputError: the replay failed, or the node ended; says the last lines of its log.
        """
        command = attached_command(REPLAY_MODULE, arguments)
        replay = subprocess.Popen(command, env=self._environment, start_new_session=True)
        try:
            while replay.poll() is None:
                if self._process is None or self._process.poll() is not None:
                    raise InputError(f"the node ended by itself; the last lines of {self.log}:\n{self.log_tail()}")
                time.sleep(0.1)
        finally:
            _end(replay, signal.SIGTERM)
        if replay.returncode:
            raise InputError(f"the replay failed; the last lines of {self.log}:\n{self.log_tail()}")

    def log_tail(self) -> str:
        """The last lines of the node's log, indented."""
        lines = self.log.read_text(errors="replace").splitlines()[-LOG_LINES:]
        return "\n".join(f"  {line}" for line in lines) or "  (empty)"


def _end(process: subprocess.Popen[bytes], how: signal.Signals) -> None:
    """Asks a process to end, and kills it if it takes too long or this process is asked to end once more."""
    if process.poll() is not None:
        return
    process.send_signal(how)
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        pass
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
