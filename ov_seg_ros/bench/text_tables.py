"""Sections and goals as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from ov_seg_ros.bench.goals import GOAL_CORES, MISSED, NOT_RUN, Verdict
from ov_seg_ros.bench.section import Cell, Section, Table


def format_section(section: Section, warning: str = "") -> str:
    """Title, tables, notes and what is missing.

    Args:
        section: to show.
        warning: below the title, empty = none.
    """
    parts = [f"== {section.name}: {section.title}"]
    parts += [f"!! {warning}"] if warning else []
    parts += [format_table(table) for table in section.tables if table.rows]
    parts += [f"   {note}" for note in section.notes]
    parts += [f"-- {sentence}" for sentence in section.missing]
    return "\n".join(parts)


def format_table(table: Table) -> str:
    """The title and one line per row, columns aligned: text to the left, numbers to the right."""
    columns = table.shown or tuple(table.rows[0])
    lines = [list(columns), *([format_cell(row.get(column)) for column in columns] for row in table.rows)]
    is_text = [all(isinstance(row.get(column), str | None) for row in table.rows) for column in columns]
    return "\n".join([f"   {table.title}", *(f"   {line}" for line in align(lines, is_text))])


def format_goals(verdicts: Sequence[Verdict], cores: int) -> str:
    """One line per goal that was measured, then which were not, and why.

    Args:
        verdicts: of all goals.
        cores: that were used.
    """
    lines = [["goal", "bound", "measured", "verdict"]]
    measured = [v for v in verdicts if v.value is not None]
    lines += [_goal_cells(verdict) for verdict in measured]
    head = "== goals" + ("" if cores == GOAL_CORES else f" (bounds are for {GOAL_CORES} cores, measured on {cores})")
    why = [*_unmeasured(verdicts)]
    busy = sorted({verdict.goal.section for verdict in measured if verdict.why})
    why += [f"!! measured while the machine was busy: {', '.join(busy)}"] if busy else []
    return "\n".join([head, *(align(lines, [True, True, False, True]) if measured else ()), *why])


def _unmeasured(verdicts: Sequence[Verdict]) -> Iterator[str]:
    """Which goals have no figure, by reason."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for verdict in verdicts:
        if verdict.value is None:
            section = "" if verdict.why == NOT_RUN else verdict.goal.section
            reasons.setdefault((section, verdict.why), []).append(verdict.goal.measure)
    for (section, why), names in reasons.items():
        yield f"-- not measured: {', '.join(names)} ({f'{section}: ' if section else ''}{why})"


def _goal_cells(verdict: Verdict) -> list[str]:
    goal, value = verdict.goal, verdict.value
    cell = format_cell(int(value) if value is not None and value.is_integer() else value)
    bound = f"{'>=' if goal.at_least else '<='} {goal.bound:g} {goal.unit}"
    word = verdict.verdict.upper() if verdict.verdict == MISSED else verdict.verdict
    return [goal.what, bound.strip(), f"{cell} {goal.unit}".strip(), word]


def format_cell(value: Cell) -> str:
    """Three digits that mean something; whole numbers with thousands separated; "-" for nothing."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}"
    if value and abs(value) < 0.01:
        return f"{value:.1e}"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def align(lines: Sequence[Sequence[str]], is_text: Sequence[bool]) -> Iterable[str]:
    """Pads cells so that columns stand below each other.

    Args:
        lines: of the same number of cells.
        is_text: per column, whether it is aligned to the left.
    """
    widths = [max(len(line[i]) for line in lines) for i in range(len(is_text))]
    for line in lines:
        cells = [c.ljust(w) if text else c.rjust(w) for c, w, text in zip(line, widths, is_text, strict=True)]
        yield "  ".join(cells).rstrip()
