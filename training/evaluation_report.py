"""An evaluation as a folder: ``evaluation.json``, ``evaluation.md`` with tables for a paper, and plots."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from ov_seg_ros.core.errors import InputError
from ov_seg_ros.core.label_space import LabelSpace
from training.atomic_files import explain_full_disk, write_bytes
from training.evaluation import Evaluation
from training.evaluation_report_plots import plot_classes, plot_confusion, plot_ranges
from training.evaluation_report_tables import write_tables

JSON_FILE = "evaluation.json"
TABLES_FILE = "evaluation.md"


def write_evaluation(folder: str | Path, rows: Mapping[str, Evaluation], with_plots: bool = True) -> Path:
    """Writes everything there is to say about some methods on one set of samples.

    Files: ``evaluation.json`` (label space, scores and confusion matrices), ``evaluation.md``, ``iou_by_class.png``,
    ``miou_by_range.png``, and one ``confusion_NN_NAME.png`` per method. Numbers are written before pictures, so that
    a missing plotting package costs no evaluation.

    Args:
        folder: made if it does not exist; files of the same names are replaced.
        rows: evaluations by the name of the method, in the order of the table.
        with_plots: whether pictures are drawn.

    Returns:
        ``folder``.

    Raises:
        InputError: no rows, or rows over different classes or range bands.
        MissingDependencyError: matplotlib is not installed; the numbers are written.
        StorageFullError: the disk is full.
    """
    _check_rows(rows)
    folder = Path(folder)
    space = next(iter(rows.values())).label_space
    content = {"label_space": space.to_dict(), "rows": {name: row.to_dict() for name, row in rows.items()}}
    write_bytes(folder / JSON_FILE, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())
    write_bytes(folder / TABLES_FILE, write_tables(rows).encode())
    if with_plots:
        with explain_full_disk(folder / "plots"):
            _write_plots(folder, rows)
    return folder


def load_evaluation(folder: str | Path) -> dict[str, Evaluation]:
    """Rows that ``write_evaluation`` wrote, to be put beside others in one table.

    Raises:
        InputError: the file is missing or damaged.
    """
    path = Path(folder) / JSON_FILE
    if not path.is_file():
        raise InputError(f"{path} does not exist; expected a folder that an evaluation wrote")
    try:
        content = json.loads(path.read_text())
        space = LabelSpace.from_dict(content["label_space"], str(path))
        rows = content["rows"].items()
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is no evaluation ({error!r}); evaluate again") from error
    return {name: Evaluation.from_dict(row, space) for name, row in rows}


def _write_plots(folder: Path, rows: Mapping[str, Evaluation]) -> None:
    plot_classes(rows, folder / "iou_by_class.png")
    if next(iter(rows.values())).by_range:
        plot_ranges(rows, folder / "miou_by_range.png")
    for number, (name, evaluation) in enumerate(rows.items(), 1):
        stem = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
        plot_confusion(name, evaluation, folder / f"confusion_{number:02d}_{stem}.png")


def _check_rows(rows: Mapping[str, Evaluation]) -> None:
    if not rows:
        raise InputError("an evaluation needs at least one row, got none")
    first_name, first = next(iter(rows.items()))
    for name, row in rows.items():
        if row.label_space.class_names != first.label_space.class_names or row.class_ids != first.class_ids:
            raise InputError(f"rows {first_name!r} and {name!r} are over different classes; they fit no common table")
        if [(b.low, b.high) for b in row.by_range] != [(b.low, b.high) for b in first.by_range]:
            raise InputError(f"rows {first_name!r} and {name!r} have different range bands; evaluate them alike")
