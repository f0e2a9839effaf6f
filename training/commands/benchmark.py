"""What each part of the method gains, with a table, JSON and a page that plots it."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from ov_seg_ros.core.errors import ConfigError
from training.commands.options import Bars, check_file, check_folder, percent, positive


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Of ``benchmark``."""
    parser.set_defaults(run=_benchmark)
    parser.add_argument("what", choices=("synthetic",), help="synthetic: AFOV's parts on synthetic drives")
    parser.add_argument("--json", type=Path, required=True, help="file of the result; a page and a plot lie beside it")
    parser.add_argument("--recipe", default="synthetic_afov", help="(default: %(default)s)")
    parser.add_argument("--work", type=Path, default=Path("build/benchmark"), help="stages (default: %(default)s)")
    parser.add_argument(
        "--drives",
        type=Path,
        default=Path("build/student/drives"),
        help="rendered drives, shared with `student` (default: %(default)s)",
    )
    parser.add_argument("--seeds", type=int, default=3, choices=(1, 2, 3), help="(default: %(default)s)")
    parser.add_argument("--arms", nargs="+", help="leave out the other trainings (baseline, tmp, tmp_no_text, ...)")
    parser.add_argument("--share", type=float, default=1.0, help="of each seed's training drives (default: all)")
    parser.add_argument("--validation", action="store_true", help="judge on drives to choose settings by instead")
    parser.add_argument("--steps", type=int, nargs=2, metavar=("PRETRAIN", "TRAIN"), help="instead of the recipe's")
    parser.add_argument("--processes", type=positive, default=os.cpu_count() or 1, help="trainings side by side")


def _benchmark(options: argparse.Namespace) -> None:
    from training.benchmark_page import write_benchmark
    from training.benchmark_synthetic import ARMS, HELD_OUT, VALIDATION, SyntheticBenchmark, run_benchmark
    from training.chain import recipe_path
    from training.recipe import Recipe

    _check(options, ARMS)
    recipe = Recipe.load(recipe_path(options.recipe))
    if options.steps:
        before, after = options.steps
        recipe = replace(
            recipe,
            pretrain=replace(recipe.pretrain, trainer=replace(recipe.pretrain.trainer, steps=before)),
            train=replace(recipe.train, trainer=replace(recipe.train.trainer, steps=after)),
        )
    benchmark = SyntheticBenchmark(
        recipe,
        options.work,
        options.drives,
        tuple(range(options.seeds)),
        VALIDATION if options.validation else HELD_OUT,
        options.share,
        options.processes,
        tuple(options.arms or ARMS),
    )
    with Bars() as bars:
        rows = run_benchmark(benchmark, bars)
    command = shlex.join(["python", "-m", "training", *sys.argv[1:]])
    for row in write_benchmark(options.json, benchmark, rows, command):
        spread = f"+- {100 * row['miou_std']:.1f}"
        print(f"{row['name']:16} {percent(row['miou_mean'])} {spread}  unseen {percent(row['miou_unseen_mean'])}")
    print(f"result: {options.json}, page: {options.json.with_suffix('.md')}")


def _check(options: argparse.Namespace, arms: Collection[str]) -> None:
    """What would otherwise fail after drives were rendered and labelled."""
    from training.sharding import read_shard

    check_file("--json", options.json)
    for option, folder in (("--work", options.work), ("--drives", options.drives)):
        check_folder(option, folder)
    if read_shard().world > 1:
        raise ConfigError("benchmark starts its own processes (--processes): run it without torchrun")
    if unknown := [arm for arm in options.arms or () if arm not in arms]:
        raise ConfigError(f"--arms must be some of {', '.join(arms)}, got {', '.join(unknown)}")
    if not 0 < options.share <= 1:
        raise ConfigError(f"--share must be in (0, 1], got {options.share}")
