"""``python -m training VERB``: the offline stages from a checkout."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from ov_seg_ros.core.data_types import IGNORE_ID
from ov_seg_ros.core.errors import ConfigError, OvSegError

DEFAULT_MODEL = Path("ov_seg_ros/models/student.onnx")
DEFAULT_RECIPE = Path("config/recipes/synthetic_small.yaml")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one verb; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except OvSegError as error:
        if options.debug:
            raise
        print(f"training {options.verb}: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training", description="Distil students without labels.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    _add_student(verbs.add_parser("student", help="synthetic drives to an exported, evaluated student, all stages"))
    _add_label(
        verbs.add_parser("label", help="let a 2D teacher label the images of a source (torchrun shares the work)")
    )
    _add_vocabulary(verbs.add_parser("vocabulary", help="show and check the texts that a teacher is asked for"))
    for verb in verbs.choices.values():
        verb.add_argument("--debug", action="store_true", help="show a traceback on errors")
    return parser


def _add_student(student: argparse.ArgumentParser) -> None:
    student.set_defaults(run=_student)
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


def _add_label(label: argparse.ArgumentParser) -> None:
    label.set_defaults(run=_label)
    label.add_argument(
        "--teacher", type=Path, required=True, help="YAML file, see config/teachers and docs/teachers.md"
    )
    label.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="changes a setting of the teacher"
    )
    label.add_argument("--source", required=True, help="recording or data set, as in `ov-seg convert SOURCE`")
    label.add_argument("--out", type=Path, required=True, help="folder of the segments; an interrupted run continues")
    label.add_argument(
        "--dry-run", action="store_true", help="estimate disk and time from three samples, write nothing"
    )


def _add_vocabulary(vocabulary: argparse.ArgumentParser) -> None:
    vocabulary.set_defaults(run=_vocabulary)
    vocabulary.add_argument("--teacher", type=Path, required=True, help="YAML file, see config/teachers")


def _label(options: argparse.Namespace) -> None:
    from training.labelling_estimate import disk_estimate
    from training.labelling_run import label_source
    from training.sharding import claim_device, read_shard
    from training.sources.resolve import open_source
    from training.teacher_choice import TeacherChoice, parse_changes

    part = read_shard()
    claim_device(part)
    source = open_source(options.source)
    teacher = TeacherChoice.load(options.teacher, parse_changes(options.set)).build()
    if options.dry_run:
        print(disk_estimate(source, teacher))
        return
    result = label_source(source, teacher, options.out, part)
    print(
        f"{options.out}: {result.labelled} samples labelled, {result.resumed} were there, {len(result.skipped)} skipped"
    )


def _vocabulary(options: argparse.Namespace) -> None:
    from training.dictionary_check import check_dictionary
    from training.teacher_choice import TeacherChoice

    dictionary = TeacherChoice.load(options.teacher).load_dictionary()
    for group, name in enumerate(dictionary.groups):
        owner = int(dictionary.group_class[group])
        target = "(ignored)" if owner == IGNORE_ID else dictionary.label_space.class_names[owner]
        texts = [t for t, g in zip(dictionary.texts, dictionary.text_group, strict=True) if g == group]
        print(f"{target:20} {name}: {', '.join(texts)}")
    print(f"{len(dictionary)} texts, {len(dictionary.groups)} groups, templates: {len(dictionary.templates)}")
    for finding in check_dictionary(dictionary):
        print(f"{finding.level}: {finding.message}")


def _student(options: argparse.Namespace) -> None:
    import torch

    from training.sharding import read_shard
    from training.synthetic_recipe import SyntheticRecipe
    from training.synthetic_student import Workspace, run

    if read_shard().world > 1:
        raise ConfigError("student starts its own processes (--processes): run it without torchrun")
    torch.set_num_threads(options.threads)

    bars: dict[str, tqdm] = {}

    def progress(stage: str, done: int, total: int) -> None:
        if stage not in bars:
            bars[stage] = tqdm(total=total, desc=stage, mininterval=1, file=sys.stderr)
        bars[stage].update(done - bars[stage].n)

    recipe = SyntheticRecipe.load(options.recipe)
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
