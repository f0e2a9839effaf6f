"""What can run a student here: every execution provider that starts on this machine."""

from __future__ import annotations

from dataclasses import dataclass

from ov_seg_ros.bench.machine import has_nvidia_gpu
from ov_seg_ros.bench.section import BenchOptions
from ov_seg_ros.core.errors import ModelError, OvSegError
from ov_seg_ros.runtime.segmenter import Segmenter

PROVIDERS = ("compiled", "CPUExecutionProvider", "cuda", "triton")
"""Names that ``Segmenter.load`` takes. TensorRT is left out: it builds engines for minutes."""


@dataclass(frozen=True)
class Engines:
    """What runs a student, and what does not.

    Attributes:
        segmenters: by the name of the provider as it is given to ``Segmenter.load``, warmed up; at least one.
        missing: per provider that does not start, why.
    """

    segmenters: dict[str, Segmenter]
    missing: tuple[str, ...]


def load_engines(options: BenchOptions) -> Engines:
    """Loads the student once per provider.

    Raises:
        ModelError: none runs it.
    """
    segmenters: dict[str, Segmenter] = {}
    missing: list[str] = []
    for name in PROVIDERS:
        try:
            segmenter = Segmenter.load(options.model, name, options.threads)
            segmenter.warm_up()
        except OvSegError as error:
            missing.append(f"provider {name}: not measured, {_why_not(name, error)}")
        else:
            segmenters[name] = segmenter
    if not segmenters:
        raise ModelError(
            f"no provider runs {options.model}: {'; '.join(missing)}; mend one of these, or measure another student"
        )
    return Engines(segmenters, tuple(missing))


def _why_not(name: str, error: OvSegError) -> str:
    if name in ("cuda", "triton") and not has_nvidia_gpu():
        return "this machine has no NVIDIA GPU"
    return str(error)
