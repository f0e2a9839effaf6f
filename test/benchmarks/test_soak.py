"""What the soak test makes of what it saw."""

from __future__ import annotations

import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from benchmarks import soak
from benchmarks.soak import observe, report

COUNTERS = {
    "scans_labelled": "90",
    "scans_dropped": "4",
    "scans_unwanted": "0",
    "bad_messages": "5",
    "scans_missed": "0",
}
SAID = {
    "sent": 100, "empty": 3, "truncated": 5, "labelled": 90, "viewed": 40, "overlays": 20, "visits": 1,
    "counters": {**COUNTERS, "state": "active"},
}  # fmt: skip


def test_growth_is_that_of_the_settled_part() -> None:
    def memory(minute: float) -> float:
        return 300 + 20 * minute if minute < 5 else 400 + 0.5 * (minute - 5)

    samples = [
        {"minute": k / 10, "resident MiB": memory(k / 10), "open files": 26.0, "threads": 22.0} for k in range(201)
    ]
    section = report(samples, SAID, minutes=20)
    assert section.measures["soak_mib_per_hour"] == pytest.approx(30)
    assert section.measures["soak_resident_mib"] == pytest.approx(407.5)
    assert section.measures["soak_unexplained"] == 1
    rows = section.tables[0].rows
    assert [row["minute"] for row in rows][:: len(rows) - 1] == [0, 20]
    assert "5 refused, 4 dropped" in section.notes[0]


WAIT = "import sys; sys.stdin.read()"


def start(code: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def test_a_tester_does_not_wait_for_a_node_that_has_died(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soak, "SAMPLE_S", 0.05)
    with start("raise SystemExit(3)") as node, start(WAIT) as tester:
        node.wait()
        with pytest.raises(RuntimeError, match="the node ended with code 3"):
            observe(node, tester)
        assert tester.wait(60) < 0


def test_a_tester_that_fails_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soak, "SAMPLE_S", 0.05)
    with start(WAIT) as node, start("raise ValueError") as tester:
        with pytest.raises(RuntimeError, match="the tester ended with code 1"):
            observe(node, tester)
        node.kill()


def test_what_both_saw_is_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    with start(WAIT) as node, start(f"{WAIT}; print('{{\"sent\": 3}}')") as tester:
        naps = iter([False, False, True])

        def sleep(_: float) -> None:
            if next(naps):
                assert tester.stdin is not None
                tester.stdin.close()
                tester.wait()

        monkeypatch.setattr(soak, "time", SimpleNamespace(sleep=sleep, monotonic=time.monotonic))
        samples, heard = observe(node, tester)
        node.kill()
    assert heard == {"sent": 3}
    assert len(samples) == 2
    assert samples[0]["resident MiB"] > 0
