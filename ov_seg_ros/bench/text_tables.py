"""Sections and goals as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ov_seg_ros.bench.goals import MISSED, NOT_MEASURED, Verdict
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


def format_goals(verdicts: Sequence[Verdict]) -> str:
    """One line per goal, and why some were not measured."""
    lines = [["goal", "bound", "measured", "verdict"]]
    for v in verdicts:
        sign = ">=" if v.goal.at_least else "<="
        value = "-" if v.value is None else f"{format_cell(v.value)} {v.goal.unit}".strip()
        verdict = v.verdict.upper() if v.verdict == MISSED else v.verdict
        lines.append([v.goal.what, f"{sign} {v.goal.bound:g} {v.goal.unit}".strip(), value, verdict])
    reasons = sorted({f"{v.goal.section}: {v.why}" for v in verdicts if v.verdict == NOT_MEASURED})
    return "\n".join(["== goals", *align(lines, [True, True, False, True]), *(f"-- {reason}" for reason in reasons)])


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
