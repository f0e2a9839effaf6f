"""The record of a training: one CSV row per optimiser step, continued without gaps or repetitions after a kill."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TextIO


class TrainingLog:
    """Rows of figures by step. The first row decides the columns."""

    def __init__(self, path: Path, step: int) -> None:
        """Opens the log of a training that continues after ``step``; rows of later steps are dropped."""
        kept = []
        if path.exists():
            with path.open(newline="") as old:
                # A row cut short by a kill lacks columns; it is always of a later step.
                rows = [row for row in csv.DictReader(old) if None not in row.values()]
                kept = [row for row in rows if int(row["step"]) <= step]
        self._file: TextIO = path.open("w", newline="")
        self._rows: csv.DictWriter[str] | None = None
        for row in kept:
            self.write(row)

    def write(self, row: Mapping[str, object]) -> None:
        """Adds a row; ``step`` is its first column."""
        if self._rows is None:
            self._rows = csv.DictWriter(self._file, list(row))
            self._rows.writeheader()
        self._rows.writerow(row)

    def flush(self) -> None:
        """Puts what was written on disk."""
        self._file.flush()

    def __enter__(self) -> TrainingLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
