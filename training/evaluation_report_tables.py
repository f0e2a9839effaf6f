"""Evaluations as Markdown tables, ready for a paper: a row per method, the best of every column in bold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from training.evaluation import PARTS, Evaluation

NO_VALUE = "–"
_PART_TITLES = {
    "whole": "whole cloud",
    "seen": "seen by a camera",
    "unseen": "seen by none",
    "answered": "seen and labelled",
}
_EXPLANATION = """\
All values are percent; the best of every column is bold. `mIoU` is the mean over the classes that the truth or the
prediction holds; unknown predictions are misses. `mIoU (AFOV)` is what the code of AFOV and SLidR prints: the mean over
all classes, where a class that neither holds counts as 100.
"""


def write_tables(rows: Mapping[str, Evaluation]) -> str:
    """The text of ``evaluation.md``: IoU per class, by part of the cloud, by range, precision and recall.

    Args:
        rows: evaluations over one label space by the name of the method.
    """
    first = next(iter(rows.values()))
    classes = [first.label_space.class_names[i].replace("_", " ") for i in first.evaluated_ids]
    sections = [
        ("Intersection over union", ["mIoU", "mIoU (AFOV)", *classes], {n: _class_values(e) for n, e in rows.items()}),
        ("mIoU by what the cameras see", list(_PART_TITLES.values()), {n: _part_values(e) for n, e in rows.items()}),
        ("mIoU by range", [band.name for band in first.by_range], {n: _range_values(e) for n, e in rows.items()}),
        ("Precision", classes, {n: _chosen(e, e.whole.precision()) for n, e in rows.items()}),
        ("Recall", classes, {n: _chosen(e, e.whole.recall()) for n, e in rows.items()}),
    ]
    tables = [f"## {title}\n\n{markdown_table(columns, values)}" for title, columns, values in sections if columns]
    return "\n\n".join([f"# Evaluation\n\n{_EXPLANATION}", *tables]) + "\n"


def markdown_table(columns: Sequence[str], values: Mapping[str, Sequence[float]]) -> str:
    """A Markdown table of shares in [0, 1], printed as percent with one decimal.

    Args:
        columns: K titles.
        values: K shares per method; NaN = no value. Values that print the same are equally good; 0 is not, nor is
            one method alone the best of anything.
    """
    lines = ["| method | " + " | ".join(columns) + " |", "|---|" + "---:|" * len(columns)]
    percent = np.array([[round(100 * value, 1) for value in row] for row in values.values()]).reshape(-1, len(columns))
    best = np.nanmax(np.where(np.isnan(percent), -1.0, percent), axis=0)
    for name, row in zip(values, percent, strict=True):
        cells = [_cell(value, len(values) > 1 and value == top > 0) for value, top in zip(row, best, strict=True)]
        lines.append(f"| {name.replace('|', '/')} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(percent: float, bold: bool) -> str:
    text = NO_VALUE if np.isnan(percent) else f"{percent:.1f}"
    return f"**{text}**" if bold else text


def _class_values(evaluation: Evaluation) -> list[float]:
    matrix, ids = evaluation.whole, evaluation.evaluated_ids
    afov = matrix.miou_afov(ids) if matrix.points else float("nan")
    return [matrix.miou_fair(ids), afov, *_chosen(evaluation, matrix.iou_fair())]


def _part_values(evaluation: Evaluation) -> list[float]:
    return [getattr(evaluation, part).miou_fair(evaluation.evaluated_ids) for part in PARTS]


def _range_values(evaluation: Evaluation) -> list[float]:
    return [band.matrix.miou_fair(evaluation.evaluated_ids) for band in evaluation.by_range]


def _chosen(evaluation: Evaluation, values: np.ndarray) -> list[float]:
    return [float(values[i]) for i in evaluation.evaluated_ids]
