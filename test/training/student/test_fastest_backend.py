"""Which backend "auto" is."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch

from ov_seg_ros.core.errors import ConfigError, MissingDependencyError
from ov_seg_ros.core.pyramid import build_pyramid
from training.student import compiled_layers, fastest_backend
from training.student.fastest_backend import FastestBackend, fastest
from training.student.sparse_backends import load_backend
from training.student.sparse_layers import TABLES, SparseBackend, Tables

TABLE = Tables.from_pyramid(build_pyramid(np.array([[0, 0, 0], [0, 0, 1]], np.int32), 1)).levels[0]
FEATURES, WEIGHT = torch.ones(2, 4), torch.ones(27, 4, 4)


class OnGpu:
    device, dtype = torch.device("cuda", 0), torch.float16

    def __len__(self) -> int:
        return 2


def backend(name: str, seconds: float = 0.0, error: Exception | None = None) -> SparseBackend:
    def submanifold(features, weight, _):
        time.sleep(seconds)
        if error is not None:
            raise error
        return features @ weight[13]

    return SparseBackend(name, submanifold, submanifold, submanifold)


def test_on_a_cpu_the_compiled_kernels() -> None:
    out = load_backend("auto").submanifold(FEATURES, WEIGHT, TABLE)
    assert torch.equal(out, compiled_layers.submanifold(FEATURES, WEIGHT, TABLE))
    assert FastestBackend({}).choose(FEATURES, WEIGHT, TABLE) is compiled_layers.BACKEND


def test_the_faster_one_wins_wherever_it_stands() -> None:
    slow, fast = backend("slow", 0.02), backend("fast")
    assert fastest([slow, fast], FEATURES, WEIGHT, TABLE) is fast
    assert fastest([fast, slow], FEATURES, WEIGHT, TABLE) is fast


def test_one_that_refuses_the_type_is_out() -> None:
    refusing, slow = backend("refusing", error=ConfigError("float32 only")), backend("slow", 0.01)
    assert fastest([refusing, slow], FEATURES, WEIGHT, TABLE) is slow


def test_a_library_that_fails_on_this_card_is_out_and_named(caplog: pytest.LogCaptureFixture) -> None:
    broken, slow = backend("broken", error=RuntimeError("no kernel image")), backend("slow", 0.01)
    assert fastest([slow, broken], FEATURES, WEIGHT, TABLE) is slow
    assert "broken is left out, it fails here: no kernel image" in caplog.text


def test_our_own_failure_is_not_hidden() -> None:
    with pytest.raises(RuntimeError, match="shapes"):
        fastest([TABLES, backend("other")], torch.ones(2, 5), WEIGHT, TABLE)


def test_the_race_leaves_no_gradients() -> None:
    features = torch.ones(2, 4, requires_grad=True)
    fastest([backend("only")], features, WEIGHT, TABLE)
    assert features.grad is None


def test_on_a_gpu_the_race_is_run_once_among_what_loads(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """With features that say they lie on a GPU, as no GPU is needed to see who is asked."""
    races = []

    def race(backends, *_):
        races.append([b.name for b in backends])
        return backends[-1]

    def missing():
        raise MissingDependencyError("torchsparse", "pip install it", "the sparse backend torchsparse")

    monkeypatch.setattr(fastest_backend, "fastest", race)

    def of_another_cuda():
        raise ImportError("libcudart.so.11")

    auto = FastestBackend({"torchsparse": missing, "spconv": lambda: backend("spconv"), "third": of_another_cuda})
    on_gpu = OnGpu()
    assert [auto.choose(on_gpu, WEIGHT, TABLE).name for _ in range(2)] == ["spconv", "spconv"]
    assert races == [["tables", "spconv"]]
    assert "third is left out, it does not load: libcudart.so.11" in caplog.text
    assert "torchsparse" not in caplog.text
    assert auto.choose(on_gpu, WEIGHT, object()).name == "spconv"  # strides follow the choice


def test_before_the_first_choice_a_stride_is_left_to_the_tables() -> None:
    assert FastestBackend({}).choose(OnGpu(), WEIGHT, object()) is TABLES
