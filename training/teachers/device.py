"""Where a teacher's network runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ov_seg_ros.core.errors import ConfigError, MissingDependencyError

if TYPE_CHECKING:
    import torch


def choose_device(name: str) -> torch.device:
    """The torch device of a teacher.

    Args:
        name: "auto" (the process's current CUDA device if there is one, else the CPU), "cpu", "cuda" or "cuda:N".

    Raises:
        ConfigError: the name means nothing, or CUDA is asked for where there is none.
        MissingDependencyError: torch is not installed.
    """
    try:
        import torch
    except ImportError as error:
        raise MissingDependencyError("torch", "pip install torch", "a 2D teacher") from error

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda") or (number and not number.isdigit()):
        raise ConfigError(f"device must be auto, cpu, cuda or cuda:N, got {name!r}")
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        found = torch.cuda.device_count()
        raise ConfigError(f"device {name} was asked for, but torch sees {found} CUDA devices; use auto or cpu")
    return torch.device(name)
