"""A benchmark as JSON, as a page with a table, and as a plot."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ov_seg_ros.core.errors import MissingDependencyError
from training.benchmark_synthetic import SyntheticBenchmark

TITLES = {
    "lifted": "lifted labels alone",
    "baseline_short": "random first weights, no longer than TMP's labels",
    "baseline": "baseline: random first weights, equal steps",
    "baseline_afi": "baseline + AFI",
    "tmp": "TMP",
    "tmp_afi": "TMP + AFI (AFOV)",
    "tmp_no_text": "TMP without texts",
    "tmp_no_image": "TMP without images",
    "ceiling": "ground truth (ceiling)",
}
"""Rows of the result, in order."""

SEEDS_MIN_FOR_SPREAD = 2


def write_benchmark(
    path: Path, benchmark: SyntheticBenchmark, rows: Mapping[str, Sequence[Mapping[str, Any]]], command: str
) -> list[dict[str, Any]]:
    """Writes the result and, beside it, a Markdown page and a plot of the same name.

    Args:
        path: of the JSON file.
        benchmark: what was run.
        rows: by name, one entry per seed, see ``run_benchmark``.
        command: that made it.

    Returns:
        The rows as written.

    Raises:
        MissingDependencyError: matplotlib is not installed; JSON and page are written.
    """
    table = [_row(name, rows[name]) for name in TITLES if name in rows]
    ceiling = next((row for row in table if row["name"] == "ceiling"), {})
    best = ceiling.get("miou_mean", 0.0)
    content = {
        "seeds": list(benchmark.seeds),
        "commit": _commit(),
        "command": command,
        "rows": table,
        "ceiling": {**ceiling, "share_of_ceiling": {r["name"]: r["miou_mean"] / best for r in table if best}},
        "held_out": [asdict(drives) for drives in benchmark.held_out],
        "recipe": benchmark.recipe.to_dict(),
        "machine": {"processor": platform.machine(), "cores": os.cpu_count(), "processes": benchmark.processes},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n")
    path.with_suffix(".md").write_text(_page(path, content))
    _plot(path.with_suffix(".png"), table)
    return table


def _row(name: str, entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    by_part = {part: [e["scores"][part]["miou"] or 0.0 for e in entries] for part in ("whole", "seen", "unseen")}
    row: dict[str, Any] = {"name": name, "miou_mean": _mean(by_part["whole"]), "miou_std": _spread(by_part["whole"])}
    for part in ("seen", "unseen"):
        row |= {f"miou_{part}_mean": _mean(by_part[part]), f"miou_{part}_std": _spread(by_part[part])}
    row["train_seconds"] = _mean([e["train_seconds"] for e in entries])
    row["miou_by_seed"] = by_part["whole"]
    names = list(entries[0]["scores"]["whole"]["iou"])
    row["iou_mean"] = {n: _mean([e["scores"]["whole"]["iou"][n] or 0.0 for e in entries]) for n in names}
    return row


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


def _spread(values: Sequence[float]) -> float:
    """Standard deviation over the seeds."""
    return float(np.std(values, ddof=1)) if len(values) >= SEEDS_MIN_FOR_SPREAD else 0.0


def _commit() -> str:
    """Of the checkout, with "+" if files of it were changed since."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        changed = subprocess.run([*git, "diff", "HEAD", "--quiet"], check=False).returncode
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head + ("+" if changed else "")


def _page(path: Path, content: Mapping[str, Any]) -> str:
    shares = content["ceiling"]["share_of_ceiling"]
    is_short = any(row["name"] == "baseline_short" for row in content["rows"])
    but_one = ", but for the second, which takes as many on labels as TMP does after its pre-training"
    lines = [
        "# What each part of AFOV gains on synthetic drives",
        "",
        f"`{content['command']}`, {len(content['seeds'])} seeds (drives, order and first weights), judged on drives",
        "that no training uses; mIoU over 16 classes in %, mean and standard deviation over the seeds. All rows of a",
        f"seed learn from the same scans, and for the same number of steps{but_one if is_short else ''}.",
        f"Figures: [{path.name}]({path.name}).",
        "",
        f"![mIoU by row]({path.with_suffix('.png').name})",
        "",
        "| | whole | seen by a camera | unseen | of the ceiling | training |",
        "|---|---|---|---|---|---|",
    ]
    for row in content["rows"]:
        cells = [
            f"{100 * row[f'miou_{p}mean']:.1f} ± {100 * row[f'miou_{p}std']:.1f}" for p in ("", "seen_", "unseen_")
        ]
        share = f"{100 * shares[row['name']]:.0f} %" if row["name"] in shares else "-"
        minutes = f"{row['train_seconds'] / 60:.1f} min"
        lines.append("| " + " | ".join([TITLES[row["name"]], *cells, share, minutes]) + " |")
    return "\n".join(lines) + "\n"


def _plot(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError("matplotlib", "pip install matplotlib", "plotting a benchmark") from error
    figure = Figure(figsize=(8, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    places = np.arange(len(rows))
    for shift, (part, title, color) in enumerate(
        (("", "whole cloud", "#3b6ea5"), ("unseen_", "unseen by cameras", "#c9803c"))
    ):
        heights = [100 * row[f"miou_{part}mean"] for row in rows]
        spread = [100 * row[f"miou_{part}std"] for row in rows]
        axes.barh(places + 0.38 * shift, heights, 0.36, xerr=spread, color=color, label=title, error_kw={"lw": 1})
    axes.set_yticks(places + 0.19, [TITLES[row["name"]] for row in rows])
    axes.invert_yaxis()
    axes.set_xlabel("mIoU, %")
    axes.grid(axis="x", alpha=0.3)
    figure.legend(loc="outside upper right", ncols=2, frameon=False)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.savefig(path, dpi=130)
