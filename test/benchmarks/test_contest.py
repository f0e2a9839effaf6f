"""Who is right gets times; who is wrong, absent or dead gets a reason."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="contests compare with torch")

from benchmarks.peers.case import Case
from benchmarks.peers.contest import Outcome, Rounds, hold_contest, relative_error
from benchmarks.peers.entrants import GEMM_ONLY, ONNX_RUNTIME, Entrant

pytestmark = pytest.mark.xdist_group("benchmarks")

STRANGERS = '''
"""Contenders that need no library."""

import os
import time

from ov_seg_ros.core.errors import MissingDependencyError


class Right:
    def __init__(self, case, threads):
        self.answer = case.reference().astype("float32")
        self.runs = 0

    def run(self):
        self.runs += 1
        time.sleep(0.02)
        print("libraries may print")
        return self.answer

    def logits(self, result):
        return result


class Wrong(Right):
    def run(self):
        return super().run() * 1.0001


class WrongOnce(Right):
    def run(self):
        return super().run() * (1.01 if self.runs == 3 else 1.0)


class Slow(Right):
    def run(self):
        time.sleep(0.4)
        return self.answer


class Dead(Right):
    def run(self):
        os._exit(3)


class Broken(Right):
    def run(self):
        raise ValueError("no such thing")


def missing(case, threads):
    raise MissingDependencyError("stranger", "pip install stranger", "the peer Stranger")
'''
ROUNDS = 4


def stranger(name: str) -> Entrant:
    return Entrant(name, f"strangers:{name}")


@pytest.fixture(scope="module")
def outcomes(case: Case, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    scratch = tmp_path_factory.mktemp("contest")
    (scratch / "strangers.py").write_text(STRANGERS)
    names = ("Right", "Wrong", "WrongOnce", "Slow", "Dead", "Broken", "missing")
    entrants = [ONNX_RUNTIME, GEMM_ONLY, *map(stranger, names)]
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(scratch)
        found = hold_contest(case, case, entrants, 1, Rounds(ROUNDS), scratch)
    assert [outcome.entrant for outcome in found] == entrants
    return {outcome.entrant.name: outcome for outcome in found}


def test_the_exported_student_is_right_and_timed(outcomes: dict[str, Outcome]) -> None:
    ours = outcomes[ONNX_RUNTIME.name]
    assert ours.reason == ""
    assert len(ours.counted_ms) == len(ours.cpu_ms) == ROUNDS
    assert all(ms > 0 for ms in ours.counted_ms)
    assert ours.error is not None
    assert ours.error < 2e-6
    assert ours.process_mib is not None
    assert ours.peak_mib is not None
    assert ours.held_mib is not None
    assert max(ours.held_mib, ours.peak_mib) < ours.process_mib


def test_a_floor_has_times_and_no_error(outcomes: dict[str, Outcome]) -> None:
    floor = outcomes[GEMM_ONLY.name]
    assert len(floor.counted_ms) == ROUNDS
    assert floor.error is None


def test_a_wrong_contender_gets_no_time(outcomes: dict[str, Outcome]) -> None:
    wrong = outcomes["Wrong"]
    assert wrong.ms == wrong.cpu_ms == []
    assert wrong.error == pytest.approx(1e-4, rel=1e-2)
    assert wrong.reason == "wrong: its logits differ by 1.0e-04 of the largest one, at most 1e-05 is right"


def test_wrong_in_one_round_is_wrong(outcomes: dict[str, Outcome]) -> None:
    once = outcomes["WrongOnce"]
    assert once.ms == []
    assert once.error == pytest.approx(1e-2, rel=1e-2)


def test_slow_contenders_leave_early(outcomes: dict[str, Outcome]) -> None:
    slow = outcomes["Slow"]
    assert slow.reason == ""
    assert [ms is None for ms in slow.ms] == [False, False, False, True]
    assert all(ms >= 400 for ms in slow.counted_ms)


def test_a_missing_library_is_skipped_with_its_sentence(outcomes: dict[str, Outcome]) -> None:
    assert outcomes["missing"].ms == []
    assert outcomes["missing"].error is None
    assert "which is not installed: pip install stranger" in outcomes["missing"].reason


def test_what_fails_says_how(outcomes: dict[str, Outcome]) -> None:
    assert outcomes["Broken"].reason == "ValueError: no such thing"
    assert outcomes["Dead"].reason.startswith("its process ended with code 3")


def test_no_round_begins_when_time_is_over(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "strangers.py").write_text(STRANGERS)
    monkeypatch.syspath_prepend(tmp_path)
    (found,) = hold_contest(case, case, [stranger("Right")], 1, Rounds(50, fewest=2, seconds=0), tmp_path)
    assert len(found.counted_ms) == 2


def test_relative_error() -> None:
    right = np.array([[1.0, -4.0]])
    assert relative_error(np.array([[1.0, -4.0]], np.float32), right) == 0
    assert relative_error(np.array([[1.0, -3.0]]), right) == 0.25
    assert relative_error(np.array([[np.nan, -4.0]]), right) == float("inf")
    assert relative_error(np.zeros((2, 1)), right) == float("inf")


def test_all_contenders_have_code_that_loads() -> None:
    import importlib

    from benchmarks.peers.entrants import ENTRANTS

    for entrant in ENTRANTS:
        module, name = entrant.target.split(":")
        assert callable(getattr(importlib.import_module(module), name))
    assert len({entrant.name for entrant in ENTRANTS}) == len(ENTRANTS)
    assert Path(importlib.import_module("benchmarks.peers.turns").__file__ or "").is_file()
