"""ONNX Runtime sessions on an execution provider that was asked for, checked and reported.

ONNX Runtime falls back to the CPU without an error when a GPU library is missing. Here, a provider
that was asked for by name runs or raises; what "auto" chooses is decided in ``network``.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnxruntime

from ov_seg_ros.core.errors import ConfigError, ModelError

CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"
SHORT_NAMES = {"cpu": CPU, "cuda": CUDA, "tensorrt": TENSORRT}

# A scan changes the shapes of every tensor. "Next power of two" growth of the GPU arena would then
# hold up to twice the memory of the largest scan (onnxruntime #14474, #22297).
# TF32, on by default, multiplies with 10 bits of mantissa: the answers would not be those of the CPU.
_CUDA_OPTIONS = {"arena_extend_strategy": "kSameAsRequested", "use_tf32": "0"}
_REMEDIES = {
    CUDA: "pip uninstall -y onnxruntime, then pip install 'onnxruntime-gpu[cuda,cudnn]' (NVIDIA driver needed;"
    " the wheel must match the driver's CUDA major version), or provider cpu",
    TENSORRT: "install onnxruntime-gpu in place of onnxruntime and TensorRT 10 (pip install tensorrt),"
    " or provider cuda or cpu",
}


@dataclass(frozen=True)
class ProviderSession:
    """A network ready to run.

    Attributes:
        session: runs the network on ``provider``.
        provider: ONNX Runtime's name of the execution provider.
    """

    session: onnxruntime.InferenceSession
    provider: str


def gpu_is_offered() -> bool:
    """Whether this build of ONNX Runtime knows a GPU that "auto" may choose; not whether it starts.

    TensorRT is left out: it builds engines for minutes, so somebody has to want it.
    """
    return CUDA in onnxruntime.get_available_providers()


def create_session(content: bytes, provider: str, num_threads: int = 0, where: str = "model") -> ProviderSession:
    """Loads a network on the execution provider asked for.

    Args:
        content: the ONNX file.
        provider: "cpu", "cuda", "tensorrt" or ONNX Runtime's own name ("OpenVINOExecutionProvider").
        num_threads: CPU threads of the network, 0 = one per physical core.
        where: name of the file for error messages.

    Raises:
        ConfigError: the provider is unknown or not part of this ONNX Runtime.
        ModelError: the provider does not start on this machine, or ONNX Runtime refuses the file.
    """
    available = onnxruntime.get_available_providers()
    name = full_provider_name(provider, available)
    session = _create_verified(content, name, num_threads, where)
    return ProviderSession(session, name)


def full_provider_name(provider: str, available: Sequence[str]) -> str:
    """ONNX Runtime's name of ``provider``, which must be one of ``available``.

    Raises:
        ConfigError: there is no such provider, or this build of ONNX Runtime has it not.
    """
    name = SHORT_NAMES.get(provider.lower(), provider)
    if name not in onnxruntime.get_all_providers():
        raise ConfigError(
            f"execution provider {provider!r} does not exist; known: auto, compiled, triton, {', '.join(SHORT_NAMES)}"
            f" and ONNX Runtime's own names, here {', '.join(available)}"
        )
    if name not in available:
        remedy = _REMEDIES.get(name, "install the build of ONNX Runtime that has it, or provider auto")
        raise ConfigError(
            f"execution provider {provider!r} was asked for, but onnxruntime {onnxruntime.__version__} as installed"
            f" has only {', '.join(available)}: {remedy}"
        )
    return name


def _create_verified(content: bytes, name: str, num_threads: int, where: str) -> onnxruntime.InferenceSession:
    hints = "" if name == CPU else _preload_gpu_libraries()
    providers: list[Any] = [(name, _CUDA_OPTIONS if name == CUDA else {})]
    if name == TENSORRT:
        providers = [(TENSORRT, _tensorrt_options(content)), (CUDA, _CUDA_OPTIONS)]
    if name != CPU:
        providers.append(CPU)  # for the operators that the provider leaves out, by its own choice
    try:
        session = onnxruntime.InferenceSession(
            content, sess_options=_session_options(num_threads), providers=providers, enable_fallback=0
        )
    except Exception as error:  # onnxruntime's exceptions have no common base class of their own
        raise ModelError(f"onnxruntime {onnxruntime.__version__} refuses {where} on {name}: {error}") from error
    active = session.get_providers()[0]
    if active != name:
        raise ModelError(
            f"{name} was asked for but did not start, onnxruntime offers {active}: its libraries or the GPU were not"
            f" found ({_build_facts()}{hints}); {_REMEDIES.get(name, 'choose provider cpu or auto')}"
        )
    return session


def _session_options(num_threads: int) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.enable_mem_pattern = False  # a plan is kept per input shape, and no two scans have the same
    # Threads that wait do so asleep: the same median latency, and the robot's other nodes get the cores.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4  # errors reach the user as our exceptions, not as lines on stderr
    return options


def _tensorrt_options(content: bytes) -> dict[str, str]:
    """Engines are kept between starts where there is a place for them: building one takes minutes.

    Each network has a folder of its own: an engine holds weights, but ONNX Runtime finds it again by names alone.
    """
    try:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        cache = base / "ov_seg_ros" / "tensorrt" / hashlib.sha256(content).hexdigest()[:16]
        cache.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # the latter where there is no home
        return {}
    return {"trt_engine_cache_enable": "1", "trt_engine_cache_path": str(cache), "trt_timing_cache_enable": "1"}


def _preload_gpu_libraries() -> str:
    """Loads CUDA and cuDNN from their pip packages; returns what ONNX Runtime says when some are missing."""
    said = io.StringIO()
    if hasattr(onnxruntime, "preload_dlls"):  # since 1.21
        with contextlib.redirect_stdout(said):
            onnxruntime.preload_dlls()
    return "".join(f"; {line.strip()}" for line in said.getvalue().splitlines() if line.strip())


def _build_facts() -> str:
    cuda_version = getattr(onnxruntime, "cuda_version", "")
    return f"onnxruntime {onnxruntime.__version__}" + (f" built for CUDA {cuda_version}" if cuda_version else "")
