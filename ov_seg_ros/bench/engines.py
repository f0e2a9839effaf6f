"""What can run a student here: every execution provider that starts on this machine."""

from __future__ import annotations

from dataclasses import dataclass

from ov_seg_ros.bench.machine import has_nvidia_gpu
from ov_seg_ros.bench.section import BenchOptions
from ov_seg_ros.core.errors import OvSegError
from ov_seg_ros.runtime.providers import SHORT_NAMES
from ov_seg_ros.runtime.segmenter import Segmenter

SLOW_TO_START = ("tensorrt",)
"""Left out: they build for minutes, so somebody has to ask for them by name."""


@dataclass(frozen=True)
class Engines:
    """What runs a student, and what does not.

    Attributes:
        segmenters: by the name of the provider, as it is given to ``Segmenter.load``; warmed up.
        missing: per provider that does not start, why.
    """

    segmenters: dict[str, Segmenter]
    missing: tuple[str, ...]


def load_engines(options: BenchOptions) -> Engines:
    """Loads the student once per provider.

    Raises:
        ModelError: not even the CPU runs it.
    """
    segmenters: dict[str, Segmenter] = {}
    missing: list[str] = []
    for name in provider_names():
        try:
            segmenter = Segmenter.load(options.model, name, options.threads)
            segmenter.warm_up()
        except OvSegError as error:
            if name == "cpu":
                raise
            missing.append(f"provider {name}: not measured, {_why_not(name, error)}")
        else:
            segmenters[name] = segmenter
    return Engines(segmenters, tuple(missing))


def provider_names() -> tuple[str, ...]:
    """Names that ``Segmenter.load`` takes, the CPU's first."""
    return ("cpu", *(name for name in SHORT_NAMES if name not in ("cpu", *SLOW_TO_START)))


def _why_not(name: str, error: OvSegError) -> str:
    if name == "cuda" and not has_nvidia_gpu():
        return "this machine has no NVIDIA GPU"
    return str(error)
