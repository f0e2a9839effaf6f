"""What a run was measured on and with: processor, memory, GPU, versions, commit."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = (
    "ov_seg_ros",
    "numpy",
    "numba",
    "llvmlite",
    "onnxruntime",
    "onnxruntime-gpu",
    "torch",
    "spconv",
    "open3d-cpu",
    "torchsparse",
    "MinkowskiEngine",
    "ros-rclpy",
)
"""Whose version decides figures; those that are not installed are left out."""

INSTRUCTION_SETS = (
    *("sse4_2", "avx", "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16", "avx512_fp16"),
    *("avx_vnni", "amx_tile", "amx_int8", "amx_bf16"),
    *("asimd", "asimdhp", "asimddp", "bf16", "i8mm", "sve", "sve2"),
)
_PROC = Path("/proc")
_ROOT = Path(__file__).resolve().parents[2]


def describe_machine() -> dict[str, Any]:
    """The hardware as JSON types: processor, cores this process may use, instruction sets, memory, GPUs, system."""
    cpuinfo = _read(_PROC / "cpuinfo")
    flags = set(_field(cpuinfo, "flags", "Features").split())
    return {
        "processor": _field(cpuinfo, "model name", "Model") or platform.processor() or platform.machine(),
        "architecture": platform.machine(),
        "cores": usable_cores(),
        "cores_of_machine": machine_cores(),
        "instruction_sets": [name for name in INSTRUCTION_SETS if name in flags],
        "memory_gib": _memory_gib(),
        "gpus": _gpus(),
        "system": f"{platform.system()} {platform.release()}",
    }


def describe_versions() -> dict[str, str]:
    """Python, the packages of ``PACKAGES`` that are installed, and ROS if its environment is set."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    for variable in ("ROS_DISTRO", "RMW_IMPLEMENTATION"):
        if variable in os.environ:
            versions[variable] = os.environ[variable]
    return versions


def describe_commit(folder: Path = _ROOT) -> dict[str, Any]:
    """The commit of the checkout and whether files differ from it; empty where there is no checkout."""
    if not (folder / ".git").exists():  # installed, perhaps somewhere inside another project's checkout
        return {}
    commit = _output("git", "-C", str(folder), "rev-parse", "HEAD")
    if not commit:
        return {}
    changed = _output("git", "-C", str(folder), "status", "--porcelain", "--untracked-files=no")
    return {"commit": commit, "changed_files": len(changed.splitlines())}


def machine_slug(machine: dict[str, Any]) -> str:
    """Name of the folder for results: processor, cores, GPU ("amd-epyc-9b14-2-cores", "...-nvidia-h100")."""
    words = [str(machine["processor"]), str(machine["cores"]), "cores", *sorted(set(machine["gpus"]))[:1]]
    noise = re.sub(r"\((r|tm)\)|\bcpu\b|\bprocessor\b|@.*?ghz|\d+-core", " ", " ".join(words).lower())
    return re.sub(r"[^a-z0-9]+", "-", noise).strip("-")


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine_cores() -> int:
    """Cores of the machine."""
    return os.cpu_count() or 1


def has_nvidia_gpu() -> bool:
    """Whether the driver shows a GPU to this process."""
    return any(Path("/dev").glob("nvidia[0-9]*")) or Path("/dev/nvhost-gpu").exists()  # the latter on a Jetson


def _memory_gib() -> float:
    kib = _field(_read(_PROC / "meminfo"), "MemTotal").removesuffix("kB").strip()
    return round(int(kib) / 2**20, 1) if kib.isdigit() else 0.0


def _gpus() -> list[str]:
    return _output("nvidia-smi", "--query-gpu=name", "--format=csv,noheader").splitlines()


def _read(path: Path) -> str:
    return path.read_text(errors="replace") if path.is_file() else ""


def _field(text: str, *names: str) -> str:
    """Value of the first line "name : value" with one of the names."""
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip() in names:
            return value.strip()
    return ""


def _output(*command: str) -> str:
    """What a program says, empty if it is not there or fails."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
