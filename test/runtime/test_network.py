"""Who computes the network: our kernels where they can, ONNX Runtime where not, and never in silence."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnxruntime
import pytest

from ov_seg_ros.core.errors import ConfigError, ModelError
from ov_seg_ros.runtime import compiled_network
from ov_seg_ros.runtime.model_file import ModelFile, load_model_file, shipped_model_path
from ov_seg_ros.runtime.network import COMPILED, load_network

without_cuda = pytest.mark.skipif(
    "CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="this ONNX Runtime has CUDA"
)


@pytest.fixture(scope="module")
def shipped() -> ModelFile:
    return load_model_file(shipped_model_path())


@pytest.mark.parametrize("provider", ["cpu", "CPU", "compiled", "CompiledCPU"])
def test_the_shipped_student_is_compiled(shipped: ModelFile, provider: str) -> None:
    network = load_network(shipped, provider, num_threads=2)
    assert network.provider == COMPILED
    assert network.note == "runs on CompiledCPU with 2 threads (as asked)"


@without_cuda
def test_auto_without_a_gpu_is_compiled(shipped: ModelFile) -> None:
    network = load_network(shipped)
    assert network.provider == COMPILED
    assert "provider: auto; onnxruntime as installed knows no GPU" in network.note


def test_onnxruntime_by_its_own_name(shipped: ModelFile) -> None:
    network = load_network(shipped, "CPUExecutionProvider")
    assert (network.provider, network.note) == ("CPUExecutionProvider", "runs on CPUExecutionProvider, as asked")


def test_another_graph_is_left_to_onnxruntime_and_said(tiny_model: Path) -> None:
    network = load_network(load_model_file(tiny_model), "cpu")
    assert network.provider == "CPUExecutionProvider"
    assert "tiny.onnx cannot be compiled, its graph holds " in network.note


def test_another_graph_is_refused_where_kernels_were_asked_for(tiny_model: Path) -> None:
    with pytest.raises(ModelError, match=r"tiny\.onnx cannot be compiled, .*; provider CPUExecutionProvider runs it"):
        load_network(load_model_file(tiny_model), "compiled")


def test_an_unknown_operator_is_named(tiny_model: Path, tmp_path: Path) -> None:
    model = onnx.load(tiny_model)
    model.graph.node.append(onnx.helper.make_node("Sigmoid", ["logits"], ["unused"]))
    onnx.save(model, tmp_path / "a.onnx")
    with pytest.raises(ModelError, match="its graph holds"):
        load_network(load_model_file(tmp_path / "a.onnx"), "compiled")


class TestKernelsThatDoNotStart:
    """As on a processor that Numba has no code generator for."""

    @pytest.fixture(autouse=True)
    def break_kernels(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: object) -> None:
            raise RuntimeError("no such target")

        monkeypatch.setattr(compiled_network, "run_program", fail)

    def test_cpu_goes_on_with_onnxruntime(self, shipped: ModelFile) -> None:
        network = load_network(shipped, "cpu")
        assert network.provider == "CPUExecutionProvider"
        assert "CompiledCPU does not start here, RuntimeError: no such target" in network.note

    def test_kernels_asked_for_by_name_raise(self, shipped: ModelFile) -> None:
        with pytest.raises(ModelError, match="CompiledCPU does not start here, RuntimeError: no such target"):
            load_network(shipped, "compiled")


def test_negative_number_of_threads(shipped: ModelFile) -> None:
    with pytest.raises(ConfigError, match=r"num_threads must be >= 0 .* got -1"):
        load_network(shipped, "cpu", num_threads=-1)
