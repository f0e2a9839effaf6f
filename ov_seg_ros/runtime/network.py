"""Who computes the network of a student: our own kernels on a CPU, or an execution provider of ONNX Runtime."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.errors import ConfigError, ModelError
from ov_seg_ros.core.pyramid import Pyramid, build_pyramid
from ov_seg_ros.runtime.model_file import ModelFile
from ov_seg_ros.runtime.network_plan import NotPlannableError
from ov_seg_ros.runtime.onnx_graph import read_onnx_graph

COMPILED = "CompiledCPU"
"""Our own kernels on a CPU, as ``provider`` of a network; everything else is a name of ONNX Runtime's."""
TRITON = "TritonCUDA"
"""Our own kernels on an NVIDIA GPU: the provider of a whole segmenter (``triton_segmenter``), not of a network."""
ON_CPU = (COMPILED, "CPUExecutionProvider")


class Network(Protocol):
    """A network ready to run. Not for several threads at once.

    Attributes:
        provider: ``COMPILED`` or ONNX Runtime's name of the execution provider that runs it, verified.
        note: one sentence for the log: what runs, and why when nobody asked for it by name.
    """

    provider: str
    note: str

    def run(self, features: NDArray[np.float32], pyramid: Pyramid) -> NDArray[np.float32]:
        """Voxel features (V, F) to logits (V, C)."""


def load_network(model: ModelFile, provider: str = "auto", num_threads: int = 0) -> Network:
    """Makes a network ready.

    Args:
        model: the student.
        provider: "auto" = a GPU if there is one, else as "cpu"; "cpu" = our kernels, or ONNX Runtime where those cannot
            run; "compiled" = our kernels; "cuda", "tensorrt" or ONNX Runtime's own name ("CPUExecutionProvider"). What
            was asked for by name runs or raises.
        num_threads: CPU threads of the network, 0 = one per physical core.

    Raises:
        ConfigError: the provider is unknown or not installed, or ``num_threads`` is negative.
        ModelError: the provider does not start on this machine, or cannot run this file; or the file contradicts
            itself.
    """
    check_graph(model)
    if num_threads < 0:
        raise ConfigError(f"num_threads must be >= 0 (0 = one per physical core), got {num_threads}")
    asked = provider.lower()
    if asked in ("compiled", COMPILED.lower()):
        return _compile(model, num_threads, "as asked")
    if asked == "cpu":
        return _on_cpu(model, num_threads, "as asked")
    if asked == "auto":
        return _choose(model, num_threads)
    return _with_onnxruntime(model, provider, num_threads)


def check_graph(model: ModelFile) -> None:
    """Whether inputs and output of the graph fit the description; found now, not at the first scan.

    Raises:
        ModelError: they do not.
    """
    name, header = model.description.name, model.header
    _check_columns(name, "features", header.inputs, len(model.description.point_features), "point features")
    _check_columns(name, "logits", header.outputs, len(model.description.label_space), "classes")
    known = build_pyramid(np.zeros((1, 3), np.int32), model.description.num_levels).graph_inputs()
    unknown = sorted(set(header.inputs) - {"features", *known})
    if unknown:
        raise ModelError(
            f"model {name!r} asks for inputs that this version does not make ({', '.join(unknown)}):"
            " export the student again"
        )


def _check_columns(model: str, tensor: str, columns: dict[str, int], expected: int, what: str) -> None:
    if tensor not in columns:
        raise ModelError(f"model {model!r} has no {tensor!r} in its graph: export the student again")
    if columns[tensor] not in (0, expected):
        raise ModelError(
            f"model {model!r} describes {expected} {what}, but {tensor!r} has {columns[tensor]} columns:"
            " export the student again"
        )


def _choose(model: ModelFile, num_threads: int) -> Network:
    from ov_seg_ros.runtime.providers import CUDA, gpu_is_offered

    if not gpu_is_offered():
        return _on_cpu(model, num_threads, "provider: auto; onnxruntime as installed knows no GPU")
    try:
        network = _with_onnxruntime(model, CUDA, num_threads)
    except ModelError as error:
        return _on_cpu(model, num_threads, f"provider: auto; {error}")
    network.note = f"runs on {CUDA}, the best provider found (provider: auto)"
    return network


def _on_cpu(model: ModelFile, num_threads: int, reason: str) -> Network:
    try:
        return _compile(model, num_threads, reason)
    except ModelError as error:
        network = _with_onnxruntime(model, "CPUExecutionProvider", num_threads)
        network.note = f"runs on {network.provider} ({reason}; {error})"
        return network


def _compile(model: ModelFile, num_threads: int, reason: str) -> Network:
    from ov_seg_ros.runtime.compiled_network import CompiledNetwork

    description = model.description
    try:
        network = CompiledNetwork(read_onnx_graph(model.content), len(description.point_features), num_threads)
        one_voxel = build_pyramid(np.zeros((1, 3), np.int32), description.num_levels)
        network.run(np.zeros((1, len(description.point_features)), np.float32), one_voxel)
    except NotPlannableError as error:
        raise ModelError(
            f"{model.path} cannot be compiled, its graph holds {error}; provider CPUExecutionProvider runs it"
        ) from error
    except Exception as error:  # Numba's and LLVM's exceptions have no common base class
        raise ModelError(
            f"{COMPILED} does not start here, {type(error).__name__}: {error}; provider CPUExecutionProvider may"
        ) from error
    network.note = f"runs on {COMPILED} with {network.num_threads} threads ({reason})"
    return network


def _with_onnxruntime(model: ModelFile, provider: str, num_threads: int) -> Network:
    from ov_seg_ros.runtime.onnx_network import OnnxNetwork

    return OnnxNetwork(model, provider, num_threads)
