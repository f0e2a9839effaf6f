"""Every contender that can run here computes the right logits, and every adapter passes on what it should."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import peer_library_stand_ins
import pytest

pytest.importorskip("torch", reason="contests compare with torch")

import torch

from benchmarks.peers import (
    minkowski_engine_peer,
    open3d_peer,
    reduced_precision,
    spconv_peer,
    torch_tables,
    torchsparse_peer,
)
from benchmarks.peers.case import Case
from benchmarks.peers.compiled import Compiled
from benchmarks.peers.contest import relative_error
from benchmarks.peers.entrants import ENTRANTS, REDUCED, TOLERANCE
from benchmarks.peers.library import find_positions
from benchmarks.peers.onnx_runtime import OnnxRuntime
from benchmarks.peers.torch_tables import TorchTables, _OurLayers
from ov_seg_ros.core.errors import ConfigError, MissingDependencyError

pytestmark = pytest.mark.xdist_group("benchmarks")
needs_spconv = pytest.mark.skipif(importlib.util.find_spec("spconv") is None, reason="needs spconv")


def check(make: Callable[[Case, int], Any], case: Case) -> None:
    contender, reference = make(case, 1), case.reference()
    for _ in range(2):  # a second run reuses maps
        assert relative_error(contender.logits(contender.run()), reference) < TOLERANCE / 5


@pytest.mark.parametrize("make", [Compiled, OnnxRuntime, TorchTables, torch_tables.folded])
def test_ours(make: Callable[[Case, int], Any], case: Case) -> None:
    check(make, case)


@pytest.mark.parametrize(
    ("make", "bound"),
    [(reduced_precision.bfloat16, 0.05), (reduced_precision.float16, 0.005), (reduced_precision.OnnxInt8, 0.3)],
)
def test_fewer_bits_are_near_but_not_exact(make: Callable[[Case, int], Any], bound: float, case: Case) -> None:
    contender = make(case, 1)
    assert TOLERANCE < relative_error(contender.logits(contender.run()), case.reference()) < bound
    assert contender.logits(contender.run()).dtype == np.float32


def test_only_fewer_bits_excuse_errors() -> None:
    assert {entrant.role for entrant in ENTRANTS if entrant.tolerance > TOLERANCE} == {REDUCED}


@needs_spconv
@pytest.mark.parametrize("make", [spconv_peer.on_our_maps, spconv_peer.warm, spconv_peer.cold])
def test_spconv(make: Callable[[Case, int], Any], case: Case) -> None:
    check(make, case)


@needs_spconv
def test_spconv_is_refused_where_it_is_wrong(case: Case) -> None:
    with pytest.raises(ConfigError, match="one thread only"):
        spconv_peer.warm(case, 2)


@pytest.mark.parametrize("make", [open3d_peer.warm, open3d_peer.cold])
def test_open3d(make: Callable[[Case, int], Any], case: Case) -> None:
    try:
        check(make, case)
    except (MissingDependencyError, ConfigError) as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("make", [torchsparse_peer.warm, torchsparse_peer.cold])
def test_torchsparse(make: Callable[[Case, int], Any], case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    peer_library_stand_ins.install_torchsparse(monkeypatch)
    check(make, case)


def test_torchsparse_2_is_refused(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    peer_library_stand_ins.install_torchsparse(monkeypatch, "2.1.0")
    with pytest.raises(ConfigError, match=r"torchsparse 2\.1\.0 computes on a GPU only"):
        torchsparse_peer.warm(case, 1)


@pytest.mark.parametrize("make", [minkowski_engine_peer.warm, minkowski_engine_peer.cold])
def test_minkowski_engine(make: Callable[[Case, int], Any], case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    peer_library_stand_ins.install_minkowski_engine(monkeypatch)
    check(make, case)


@pytest.mark.parametrize(
    ("peer", "package"),
    [(torchsparse_peer, "torchsparse"), (minkowski_engine_peer, "MinkowskiEngine"), (spconv_peer, "spconv")]
    + [(open3d_peer, "open3d")],
)
def test_a_missing_library_says_how_to_get_it(
    peer: Any, package: str, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peer, "importlib", SimpleNamespace(util=SimpleNamespace(find_spec=lambda name: None)))
    with pytest.raises(MissingDependencyError, match=f"{package}, which is not installed"):
        peer.warm(case, 1)


def test_our_positions_are_found_as_they_are() -> None:
    found = find_positions(_OurLayers())
    assert found["submanifold"].tolist() == list(range(27))
    assert found["down"].tolist() == found["up"].tolist() == list(range(8))


ORDER = {n: torch.from_numpy(np.random.default_rng(n).permutation(n)) for n in (27, 8)}


class Shuffled(_OurLayers):
    """Our layers with positions in an order of their own."""

    def prepare(self, weight: torch.Tensor, kind: str, level: int) -> torch.Tensor:
        ours = torch.empty_like(weight)
        ours[ORDER[len(weight)]] = weight
        return ours


def test_any_order_of_positions_is_found() -> None:
    found = find_positions(Shuffled())
    assert found["submanifold"].tolist() == ORDER[27].tolist()
    assert found["down"].tolist() == found["up"].tolist() == ORDER[8].tolist()


class Blind(_OurLayers):
    """A library that reads one position twice and another never."""

    def prepare(self, weight: torch.Tensor, kind: str, level: int) -> torch.Tensor:
        weight = weight.clone()
        weight[3] = weight[4]
        return weight


def test_a_library_that_works_differently_is_refused() -> None:
    with pytest.raises(ConfigError, match="this version works differently"):
        find_positions(Blind())
