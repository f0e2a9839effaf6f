"""What it takes to repeat a run: command, machine and versions."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path

from ov_seg_ros.report.run_report import Provenance

PACKAGES = ("ov_seg_ros", "numpy", "numba", "onnxruntime", "onnxruntime-gpu", "rosbags", "pillow", "ros-rclpy")


def describe_run(bag: Path, command: str | None = None) -> Provenance:
    """Describes this process and machine.

    Args:
        bag: the recording; only its name is kept.
        command: command line to show, by default that of this process with its program's bare name.
    """
    return Provenance(
        command=command or shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        bag=bag.name,
        date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        machine={
            "processor": _processor_name(),
            "cores": _usable_cores(),
            "system": f"{platform.system()} {platform.release()}",
        },
        versions={"python": platform.python_version(), **_package_versions()},
    )


def _package_versions() -> dict[str, str]:
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _processor_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
