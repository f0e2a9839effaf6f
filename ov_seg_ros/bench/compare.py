"""Two result files next to each other. Figures of different runs are no fair comparison, and the text says so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ov_seg_ros.bench.results import load_result
from ov_seg_ros.bench.section import Cell, Table
from ov_seg_ros.bench.text_tables import format_table

CAUTION = "Ratios of two runs: load, clocks and versions differ. To compare fairly, measure both in one run, in turns."
COMPARED = ("p50", "rise", "peak")
"""Columns that begin with one of these are compared."""
DIFFERENCES = ("processor", "cores", "instruction_sets", "memory_gib", "gpus")


def compare_results(old: Path, new: Path) -> str:
    """A table of what both files measured, with new / old, below what differs between the runs.

    Raises:
        InputError: a file is no result.
    """
    before, after = load_result(old), load_result(new)
    figures_before, figures_after = dict(_figures(before)), dict(_figures(after))
    rows: list[dict[str, Cell]] = [
        {"section": section, "what": what, "column": column, "old": value, "new": later, "new / old": later / value}
        for (section, what, column), value in figures_before.items()
        if value and (later := figures_after.get((section, what, column))) is not None
    ]
    lines = [CAUTION, *_differences(before, after)]
    if not rows:
        return "\n".join([*lines, "The files have no figure in common."])
    left_out = len(figures_before) + len(figures_after) - 2 * len(rows)
    lines.append(format_table(Table(f"{old} -> {new}", tuple(rows))))
    return "\n".join([*lines, f"-- {left_out} figures stand in one file only"] if left_out else lines)


def _figures(content: Mapping[str, Any]) -> Iterator[tuple[tuple[str, str, str], float]]:
    """(section, what was measured, column) and the figure."""
    for name, section in content["sections"].items():
        for number, table in enumerate(section["tables"]):
            for row in table["rows"]:
                title = table["title"].split(":")[0] if len(section["tables"]) > 1 else ""
                words = [title, *(str(v) for k, v in row.items() if isinstance(v, str) or k in ("LiDARs", "beams"))]
                for column, value in row.items():
                    if column.startswith(COMPARED) and isinstance(value, int | float):
                        yield (name, " ".join(filter(None, words)) or str(number), column), float(value)


def _differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    """What the runs do not share."""
    for key in DIFFERENCES:
        old, new = before.get("machine", {}).get(key), after.get("machine", {}).get(key)
        if old != new:
            yield f"!! another {key}: {old} -> {new}"
    for key in sorted({*before.get("versions", {}), *after.get("versions", {})}):
        old, new = before.get("versions", {}).get(key), after.get("versions", {}).get(key)
        if old != new:
            yield f"!! {key}: {old} -> {new}"
    if before.get("model", {}).get("sha256") != after.get("model", {}).get("sha256"):
        yield "!! another model"
    for word, content in (("old", before), ("new", after)):
        busy = [name for name, section in content["sections"].items() if section.get("warning")]
        if busy:
            yield f"!! the machine of the {word} run was busy during: {', '.join(busy)}"
