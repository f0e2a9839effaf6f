"""The protocol of the benchmark suite: options go into a contest, a section comes out.

A contest is a function ``contest(options: BenchOptions) -> Section``. It measures one thing, contenders taking turns
for ``options.rounds`` rounds (``bench.rounds``), and never fails for what is merely absent: it leaves that out and
says in ``Section.missing`` what is missing and how to get it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from ov_seg_ros.bench.scans import BenchScan

Cell: TypeAlias = str | int | float | bool | None
"""One entry of a table; None = not measured."""


@dataclass(frozen=True)
class BenchOptions:
    """What every contest is told.

    Attributes:
        model: student file.
        scans: what to measure on, at least one; see ``BenchScan``.
        threads: CPU threads of the network, 0 = one per physical core.
        rounds: counted rounds of every paired comparison, at least 1; one more comes first and is thrown away.
        quick: the whole suite shall take about a minute: fewer sizes, shorter runs.
        scratch: an empty folder for intermediate files, removed after the run.
        say: shows one line of progress; nothing else of a contest writes to the terminal.
    """

    model: Path
    scans: tuple[BenchScan, ...]
    threads: int = 0
    rounds: int = 10
    quick: bool = False
    scratch: Path = Path(".")
    say: Callable[[str], None] = field(default=lambda line: None)


@dataclass(frozen=True)
class Table:
    """Rows that are printed below each other.

    Attributes:
        title: above the rows, with what they have in common (threads, precision).
        rows: per row, column to value; the columns of the first row are those of the table. Text cells say what was
            measured (engine, scan), number cells how much; a column's unit is in its name ("p50 ms", "peak MiB").
        shown: columns to print, None = all; the file holds all.
    """

    title: str
    rows: tuple[Mapping[str, Cell], ...]
    shown: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Section:
    """What one contest found.

    Attributes:
        name: short and unique ("forward"), its key in the file.
        title: one line for people.
        tables: to print and to keep.
        measures: figures that goals are judged by, see ``bench.goals.GOALS`` for their names.
        missing: per thing that was not measured, a sentence with what it needs and how to get it.
        notes: what a reader must know to read the figures right.
        details: anything else to keep (settings, raw samples), made of JSON types.
        command: repeats this contest alone; empty = the command of the whole run.
    """

    name: str
    title: str
    tables: tuple[Table, ...] = ()
    measures: Mapping[str, float] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    command: str = ""


Contest: TypeAlias = Callable[[BenchOptions], Section]


def section_to_dict(section: Section) -> dict[str, Any]:
    """The section as it stands in the file, made of JSON types."""
    return {
        "title": section.title,
        "tables": [{"title": table.title, "rows": [dict(row) for row in table.rows]} for table in section.tables],
        "measures": dict(section.measures),
        "missing": list(section.missing),
        "notes": list(section.notes),
        "details": dict(section.details),
        "command": section.command,
    }
