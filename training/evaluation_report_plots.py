"""Evaluations as pictures: IoU per class, mIoU by range, and what every true class was taken for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ov_seg_ros.core.errors import MissingDependencyError
from training.evaluation import Evaluation

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DPI = 120
_NUMBERS_UP_TO = 25
"""Classes up to which the cells of a confusion matrix carry numbers."""


def plot_classes(rows: Mapping[str, Evaluation], path: Path) -> None:
    """Bars of the IoU per class, one colour per method; classes that nobody holds have none.

    Args:
        rows: evaluations over one label space by the name of the method.
        path: PNG to write.
    """
    first = next(iter(rows.values()))
    names = [first.label_space.class_names[i].replace("_", " ") for i in first.evaluated_ids]
    figure = new_figure(7.0, 1.2 + len(names) * (0.12 + 0.13 * len(rows)))
    axes = figure.add_subplot()
    thickness = 0.8 / len(rows)
    for number, (name, evaluation) in enumerate(rows.items()):
        values = 100 * evaluation.whole.iou_fair()[list(evaluation.evaluated_ids)]
        mean = 100 * evaluation.whole.miou_fair(evaluation.evaluated_ids)
        position = np.arange(len(names)) - 0.4 + (number + 0.5) * thickness
        axes.barh(position, np.nan_to_num(values), thickness, label=f"{name} (mIoU {mean:.1f} %)")
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set(xlim=(0, 100), xlabel="IoU, %")
    axes.grid(axis="x", alpha=0.3)
    figure.legend(loc="outside upper center", frameon=False)
    figure.savefig(path, dpi=_DPI)


def plot_ranges(rows: Mapping[str, Evaluation], path: Path) -> None:
    """Lines of the mIoU by range, one per method; bands without truth are left out.

    Args:
        rows: evaluations with the same bands.
        path: PNG to write.
    """
    figure = new_figure(6.0, 4.0)
    axes = figure.add_subplot()
    for name, evaluation in rows.items():
        values = [100 * band.matrix.miou_fair(evaluation.evaluated_ids) for band in evaluation.by_range]
        axes.plot(range(len(values)), values, marker="o", label=name)
    bands = next(iter(rows.values())).by_range
    axes.set_xticks(range(len(bands)), [band.name for band in bands])
    axes.set(ylim=(0, 100), xlabel="range", ylabel="mIoU, %")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside upper center", frameon=False, ncols=3)
    figure.savefig(path, dpi=_DPI)


def plot_confusion(name: str, evaluation: Evaluation, path: Path) -> None:
    """Heat map of the confusion matrix, normalised by row: what became of each true class; last column "unknown".

    Args:
        name: of the method.
        evaluation: of the method.
        path: PNG to write.
    """
    shares = 100 * evaluation.whole.normalized_rows()  # (C, C + 1)
    names = [class_name.replace("_", " ") for class_name in evaluation.label_space.class_names]
    side = 2.5 + 0.36 * len(names)
    figure = new_figure(side + 1.0, side)
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    axes.set_xticks(range(len(names) + 1), [*names, "unknown"], rotation=90)
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="predicted", ylabel="true", title=f"{name}: share of the true class, %")
    if len(names) <= _NUMBERS_UP_TO:
        for row, column in zip(*np.nonzero(shares >= 0.5), strict=True):
            color = "white" if shares[row, column] > 60 else "black"
            axes.text(column, row, f"{shares[row, column]:.0f}", ha="center", va="center", fontsize=7, color=color)
    figure.colorbar(image, ax=axes, shrink=0.8)
    figure.savefig(path, dpi=_DPI)


def new_figure(width: float, height: float) -> Figure:
    """An empty figure that draws without a display and leaves no global state behind.

    Args:
        width: inches.
        height: inches.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError("matplotlib", "pip install matplotlib", "plotting an evaluation") from error
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure
