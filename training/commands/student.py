"""Synthetic drives to an exported, evaluated student, all stages."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from ov_seg_ros.core.errors import ConfigError
from training.commands.options import Bars, add_computing, check_file, check_folder, percent

DEFAULT_MODEL = Path("ov_seg_ros/models/student.onnx")
DEFAULT_RECIPE = Path("config/recipes/synthetic_small.yaml")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Of ``student``."""
    parser.set_defaults(run=_student)
    parser.add_argument("--recipe", type=Path, default=DEFAULT_RECIPE, help="YAML file (default: %(default)s)")
    parser.add_argument("--model", type=Path, default=DEFAULT_MODEL, help="file to write (default: %(default)s)")
    parser.add_argument("--work", type=Path, default=Path("build/student"), help="stages (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="write the scores here (default: beside the stages)")
    add_computing(parser)


def _student(options: argparse.Namespace) -> None:
    import torch

    from training.sharding import read_shard
    from training.synthetic_recipe import SyntheticRecipe
    from training.synthetic_student import Workspace, run

    if read_shard().world > 1:
        raise ConfigError("student starts its own processes (--processes): run it without torchrun")
    check_folder("--work", options.work)
    check_file("--model", options.model)
    check_file("--json", options.json)
    torch.set_num_threads(options.threads)
    recipe = SyntheticRecipe.load(options.recipe)
    with Bars() as bars:
        scores = run(Workspace(recipe, options.work, options.processes, bars, options.device), options.model)
    path = options.json or options.work / f"{recipe.name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(scores, indent=1) + "\n")
    for row in ("student", "without_color", "lifted"):
        if row in scores:
            parts = ("whole", "seen", "unseen", "answered")
            print(f"{row:14}", *(f"{part} {percent(scores[row][part]['miou'])}" for part in parts), sep="  ")
    print(f"model: {options.model} ({options.model.stat().st_size / 1e6:.2f} MB), scores: {path}")
