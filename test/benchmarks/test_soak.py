"""What the soak test makes of what it saw."""

from __future__ import annotations

import pytest

from benchmarks.soak import report

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
