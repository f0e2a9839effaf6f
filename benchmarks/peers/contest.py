"""A paired contest: every contender once per round, each in a process of its own, only one of them awake at a time."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.case import Case
from benchmarks.peers.entrants import OURS, PEER, REDUCED, Entrant

SLOW, SLOW_ROUNDS = 4.0, 3
"""Who needs more than ``SLOW`` times the time of the best contender in the first counted round leaves after so many."""
_ROOT = Path(__file__).resolve().parents[2]
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
_TIMEOUT_S = 600.0


@dataclass(frozen=True)
class Rounds:
    """How many rounds count.

    Attributes:
        most: no more than these.
        fewest: these in any case.
        seconds: when they are over, no round begins beyond ``fewest``.
    """

    most: int
    fewest: int = 3
    seconds: float = 60.0


@dataclass
class Outcome:
    """What became of one contender.

    Attributes:
        entrant: who.
        ms: wall time per counted round, None where it did not take part any more; empty if it has no time.
        cpu_ms: processor time of all its threads in the same rounds.
        error: largest error of a logit in any round, relative to the largest right logit; None without logits.
        peak_mib: most memory in use above that before loading network and scan.
        held_mib: memory in use after the last run, above the same.
        process_mib: the peak with interpreter and libraries.
        reason: why there is no time, in a sentence; "" if there is one.
    """

    entrant: Entrant
    ms: list[float | None] = field(default_factory=list)
    cpu_ms: list[float | None] = field(default_factory=list)
    error: float | None = None
    peak_mib: float | None = None
    held_mib: float | None = None
    process_mib: float | None = None
    reason: str = ""

    @property
    def counted_ms(self) -> list[float]:
        """The times of the rounds it took part in."""
        return [ms for ms in self.ms if ms is not None]


def hold_contest(
    case: Case, trial: Case, entrants: Sequence[Entrant], threads: int, rounds: Rounds, scratch: Path
) -> list[Outcome]:
    """Lets all contenders compute the same case in turns.

    The first round does not count; the order moves on by one place per round. Logits of every round are compared with
    the right ones: who is wrong once has no times, only its error.

    Args:
        case: network and scan.
        trial: a tiny case that everybody plays first, see ``turns``.
        entrants: who takes part.
        threads: for each of them.
        rounds: how many.
        scratch: a folder for logits.

    Returns:
        One outcome per entrant, in their order.
    """
    outcomes = [Outcome(entrant) for entrant in entrants]
    reference = case.reference()
    with ExitStack() as stack:
        players = [_Player(outcome, case, trial, threads, scratch / f"{i}.npy") for i, outcome in enumerate(outcomes)]
        for player in players:
            stack.callback(player.stop)
        for player in players:
            player.wait_until_ready()
        begin = time.monotonic()
        for number in range(rounds.most + 1):
            if number > rounds.fewest and time.monotonic() - begin > rounds.seconds:
                break
            first = number % len(players)
            for player in players[first:] + players[:first]:
                player.take_turn(reference, counts=number > 0)
            if number == 1:
                _retire_slow(players)
    for outcome in outcomes:
        if outcome.reason:
            outcome.ms, outcome.cpu_ms = [], []
    return outcomes


def relative_error(logits: NDArray[np.floating], reference: NDArray[np.float64]) -> float:
    """Largest difference relative to the largest right logit; infinite for NaN and for another shape."""
    if logits.shape != reference.shape:
        return float("inf")
    error = float(np.abs(logits - reference).max() / np.abs(reference).max())
    return error if np.isfinite(error) else float("inf")


def _retire_slow(players: Sequence[_Player]) -> None:
    times = {
        id(p): p.outcome.ms[-1] for p in players if p.in_contest and p.outcome.entrant.role in (OURS, PEER, REDUCED)
    }
    best = min((ms for ms in times.values() if ms is not None), default=0.0)
    for player in players:
        ms = times.get(id(player))
        if ms is not None and ms > SLOW * best:
            player.turns_left = SLOW_ROUNDS - 1


class _Player:
    """One contender's process, seen from outside."""

    def __init__(self, outcome: Outcome, case: Case, trial: Case, threads: int, logits_path: Path) -> None:
        self.outcome = outcome
        self.turns_left: int | None = None
        self._logits_path, self._log = logits_path, logits_path.with_suffix(".log")
        arguments = [outcome.entrant.target, str(trial.folder), str(case.folder), str(threads)]
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.peers.turns", *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=_environment(outcome.entrant, threads),
                cwd=_ROOT,
            )
        self._answers: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def in_contest(self) -> bool:
        """Whether it may take another turn."""
        return not self.outcome.reason and self.turns_left != 0

    def wait_until_ready(self) -> None:
        """Notes why it cannot take part, if so."""
        self._receive()

    def take_turn(self, reference: NDArray[np.float64], counts: bool) -> None:
        """Lets it run once; judges what it computed."""
        if not self.in_contest:
            if not self.outcome.reason and counts:
                self.outcome.ms.append(None)
                self.outcome.cpu_ms.append(None)
            return
        if self.turns_left is not None:
            self.turns_left -= 1
        answer = self._ask()
        if answer is None:
            return
        outcome = self.outcome
        outcome.process_mib = answer["peak_mib"]
        outcome.peak_mib = answer["peak_mib"] - answer["before_mib"]
        outcome.held_mib = answer["held_mib"] - answer["before_mib"]
        if counts:
            outcome.ms.append(answer["ms"])
            outcome.cpu_ms.append(answer["cpu_ms"])
        if answer["logits"]:
            error = relative_error(np.load(self._logits_path), reference)
            outcome.error = max(error, outcome.error or 0.0)
            tolerance = outcome.entrant.tolerance
            if error > tolerance:
                outcome.reason = (
                    f"wrong: its logits differ by {error:.1e} of the largest one, at most {tolerance:.0e} is right"
                )

    def stop(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.wait()
        self._reader.join()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def _ask(self) -> dict[str, Any] | None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{self._logits_path}\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            self.outcome.reason = self._death()
            return None
        return self._receive()

    def _receive(self) -> dict[str, Any] | None:
        try:
            line = self._answers.get(timeout=_TIMEOUT_S)
        except queue.Empty:
            self.outcome.reason = f"it gave no answer within {_TIMEOUT_S:.0f} s"
            return None
        if not line:
            self.outcome.reason = self._death()
            return None
        answer = json.loads(line)
        self.outcome.reason = answer.get("missing") or answer.get("failed") or ""
        return None if self.outcome.reason else answer

    def _death(self) -> str:
        said = self._log.read_text(errors="replace").strip().splitlines()[-1:]
        return ": ".join([f"its process ended with code {self._process.wait()}", *said])

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._answers.put(line)
        self._answers.put("")


def _environment(entrant: Entrant, threads: int) -> dict[str, str]:
    """Ours, with as many threads for every pool a library may have, and no GPU."""
    settings = dict.fromkeys(_THREAD_VARIABLES, str(threads))
    settings |= {"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": os.pathsep.join([str(_ROOT), *sys.path])}
    return {**os.environ, **settings, **dict(entrant.environment)}
