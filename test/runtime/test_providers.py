"""Execution providers: what was asked for runs, or there is an error that says what to do."""

from __future__ import annotations

from pathlib import Path

import onnxruntime
import pytest

from ov_seg_ros.core.errors import ConfigError, ModelError
from ov_seg_ros.runtime.model_file import load_model_file
from ov_seg_ros.runtime.network import load_network
from ov_seg_ros.runtime.providers import create_session

has_cuda = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
without_cuda = pytest.mark.skipif(has_cuda, reason="this ONNX Runtime has CUDA")


@pytest.mark.parametrize("name", ["cpu", "CPU", "CPUExecutionProvider"])
def test_cpu_by_any_name(tiny_model: Path, name: str) -> None:
    session = create_session(tiny_model.read_bytes(), name)
    assert session.provider == "CPUExecutionProvider"
    assert session.session.get_providers()[0] == "CPUExecutionProvider"


@without_cuda
@pytest.mark.parametrize("name", ["cuda", "CUDAExecutionProvider"])
def test_cuda_without_its_wheel_is_refused_with_a_remedy(tiny_model: Path, name: str) -> None:
    with pytest.raises(
        ConfigError, match=rf"'{name}' was asked for, .* has only .*CPUExecutionProvider.*onnxruntime-gpu"
    ):
        create_session(tiny_model.read_bytes(), name)


@without_cuda
def test_tensorrt_without_its_wheel_is_refused_with_a_remedy(tiny_model: Path) -> None:
    with pytest.raises(ConfigError, match="TensorRT 10"):
        create_session(tiny_model.read_bytes(), "tensorrt")


def test_a_provider_that_does_not_exist(tiny_model: Path) -> None:
    with pytest.raises(ConfigError, match="'gpu' does not exist; known: auto, compiled, triton, cpu, cuda, tensorrt"):
        create_session(tiny_model.read_bytes(), "gpu")


@without_cuda
@pytest.mark.filterwarnings("ignore:Specified provider")
class TestBrokenGpuInstallation:
    """A wheel that claims CUDA but cannot start it: ONNX Runtime itself carries on with the CPU."""

    @pytest.fixture(autouse=True)
    def claim_cuda(self, monkeypatch: pytest.MonkeyPatch) -> None:
        claimed = ["CUDAExecutionProvider", "CPUExecutionProvider"]
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: claimed)

    def test_onnxruntime_falls_back_silently(self, tiny_model: Path) -> None:
        session = onnxruntime.InferenceSession(tiny_model.read_bytes(), providers=["CUDAExecutionProvider"])
        assert session.get_providers() == ["CPUExecutionProvider"]

    def test_we_do_not(self, tiny_model: Path) -> None:
        with pytest.raises(ModelError, match=r"CUDAExecutionProvider was asked for but did not start.*provider cpu"):
            create_session(tiny_model.read_bytes(), "cuda")

    def test_auto_tells(self, tiny_model: Path) -> None:
        network = load_network(load_model_file(tiny_model), "auto")
        assert network.provider == "CPUExecutionProvider"
        assert "CUDAExecutionProvider was asked for but did not start" in network.note


def test_a_gpu_computes_in_float32_and_keeps_its_engines(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    class Session:
        def __init__(self, *_: object, providers: list, **__: object) -> None:
            pairs = [(p, None) if isinstance(p, str) else p for p in providers]
            asked.append([*[name for name, _ in pairs], [given for _, given in pairs if given is not None]])

        def get_providers(self) -> list[str]:
            return asked[-1][:1]

    names = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: names)
    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name in ("cuda", "tensorrt"):
        create_session(tiny_model.read_bytes(), name)
    cuda = {"arena_extend_strategy": "kSameAsRequested", "use_tf32": "0"}
    assert asked[0] == [*names[1:], [cuda]]
    assert asked[1][:3] == names
    create_session(tiny_model.read_bytes() + b"other weights", "tensorrt")
    engines, others = (Path(found[3][0]["trt_engine_cache_path"]) for found in asked[1:])
    assert engines.parent == others.parent == tmp_path / "ov_seg_ros" / "tensorrt"
    assert engines != others
    assert engines.is_dir()
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    create_session(tiny_model.read_bytes(), "tensorrt")
    assert asked[3][3] == [{}, cuda]


def test_number_of_threads(tiny_model: Path) -> None:
    session = create_session(tiny_model.read_bytes(), "cpu", num_threads=1)
    assert session.session.get_session_options().intra_op_num_threads == 1


def test_a_refused_network_is_one_error_and_no_noise(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ModelError, match=r"refuses a\.onnx on CPUExecutionProvider: .*"):
        create_session(b"\x08\x08garbage", "cpu", where="a.onnx")
    assert capfd.readouterr() == ("", "")
