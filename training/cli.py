"""``python -m training VERB``: the offline stages from a checkout."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from ov_seg_ros.core.errors import OvSegError

DEFAULT_MODEL = Path("ov_seg_ros/models/student.onnx")
DEFAULT_RECIPE = Path("config/recipes/synthetic_small.yaml")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one verb; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        _student(options)
    except OvSegError as error:
        if options.debug:
            raise
        print(f"training {options.verb}: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training", description="Distil students without labels.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    student = verbs.add_parser("student", help="synthetic drives to an exported, evaluated student, all stages")
    student.add_argument("--recipe", type=Path, default=DEFAULT_RECIPE, help="YAML file (default: %(default)s)")
    student.add_argument("--model", type=Path, default=DEFAULT_MODEL, help="file to write (default: %(default)s)")
    student.add_argument("--work", type=Path, default=Path("build/student"), help="stages (default: %(default)s)")
    student.add_argument("--json", type=Path, help="write the scores here (default: beside the stages)")
    student.add_argument(
        "--processes",
        type=int,
        default=min(8, os.cpu_count() or 1),
        help="for rendering, labelling and, without a GPU, training (default: %(default)s)",
    )
    student.add_argument(
        "--threads", type=int, default=1, help="of torch on the CPU; small networks are fastest with 1"
    )
    student.add_argument("--device", default="auto", help="to train on: auto, cpu or cuda (default: %(default)s)")
    student.add_argument("--debug", action="store_true", help="show a traceback on errors")
    return parser


def _student(options: argparse.Namespace) -> None:
    import torch

    from training.config import Recipe
    from training.pipeline import Workspace, run

    torch.set_num_threads(options.threads)

    bars: dict[str, tqdm] = {}

    def progress(stage: str, done: int, total: int) -> None:
        if stage not in bars:
            bars[stage] = tqdm(total=total, desc=stage, mininterval=1, file=sys.stderr)
        bars[stage].update(done - bars[stage].n)

    recipe = Recipe.load(options.recipe)
    scores = run(Workspace(recipe, options.work, options.processes, progress, options.device), options.model)
    for bar in bars.values():
        bar.close()
    path = options.json or options.work / f"{recipe.name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(scores, indent=1) + "\n")
    for row in ("student", "without_color", "lifted"):
        if row in scores:
            parts = ("whole", "seen", "unseen", "answered")
            print(f"{row:14}", *(f"{part} {_percent(scores[row][part]['miou'])}" for part in parts), sep="  ")
    print(f"model: {options.model} ({options.model.stat().st_size / 1e6:.2f} MB), scores: {path}")


def _percent(value: float | None) -> str:
    return "  - " if value is None else f"{100 * value:.1f} %"
