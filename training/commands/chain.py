"""The stages of a recipe as verbs: from a source and a teacher to an evaluated student."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from training.commands.options import Bars, add_computing, check_file, check_folder, percent, print_skipped

if TYPE_CHECKING:
    from training.chain import Chain
    from training.evaluation import Evaluation
    from training.sources.protocol import Source

STAGES = {
    "lift": "carry what the teacher said over to the points: labels, and pairs for pre-training",
    "refine": "AFI on the lifted labels, where the recipe wants it",
    "pretrain": "tri-modal contrastive pre-training (TMP)",
    "train": "learn the classes from the lifted labels",
    "probe": "learn from true labels: linear probing or fine-tuning",
    "evaluate": "score a student on the ground truth of a source",
    "export": "write the trained student as an ONNX file that describes itself",
    "all": "label, lift, refine, pretrain, train, export and, with --validation, evaluate",
}
TEACHING = ("label", "all")
NEED_IMAGES = ("label", "lift", "all")
TEXT_OF_BACKEND = (
    "who computes the sparse convolutions: auto (the fastest that is there), compiled (our kernels, CPU), tables (torch"
    " alone), torchsparse or spconv (GPU)"
)


def add_stages(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """One verb per stage, and ``all``."""
    for name, about in STAGES.items():
        parser = verbs.add_parser(name, help=about, description=about[0].upper() + about[1:] + ".")
        parser.set_defaults(run=_run_stage)
        add_chain_options(parser)
        if name == "probe":
            parser.add_argument(
                "--mode", choices=("linear", "finetune"), default="linear", help="(default: %(default)s)"
            )
        if name in ("pretrain", "train", "probe", "export", "all"):
            parser.add_argument("--backend", default="auto", help=f"{TEXT_OF_BACKEND} (default: %(default)s)")
        if name in ("export", "evaluate", "all", "probe"):
            parser.add_argument("--model", type=Path, help="student file (default: student.onnx beside the stages)")
        if name in ("evaluate", "all"):
            parser.add_argument("--out", type=Path, help="folder of the scores (default: evaluation beside the stages)")
        if name == "all":
            parser.add_argument("--validation", help="source with ground truth to evaluate on")


def add_chain_options(parser: argparse.ArgumentParser) -> None:
    """Options of every stage."""
    parser.add_argument("--recipe", default="afov", help="YAML file, or its name in config/recipes (default: afov)")
    parser.add_argument(
        "--source",
        required=True,
        action="append",
        help="recording or data set, as in `ov-seg convert SOURCE`; given several times, all of them as one",
    )
    parser.add_argument("--work", type=Path, help="folder of the stages (default: build/<name of the recipe>)")
    parser.add_argument("--data", type=Path, help="take label and lift from here, to share them among recipes")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of the teacher")
    parser.add_argument("--dry-run", action="store_true", help="say what would run, on how much, with how much disk")
    add_computing(parser)
    parser.set_defaults(threads=None)


@contextmanager
def prepare(options: argparse.Namespace) -> Iterator[Chain]:
    """The chain that a command line asks for; its source has been looked at, and its backend is there."""
    import torch

    from training.chain import Chain, recipe_path
    from training.recipe import Recipe
    from training.sharding import claim_device
    from training.student.process_group import choose_device
    from training.student.sparse_backends import load_backend
    from training.teacher_choice import parse_changes

    if options.verb not in TEACHING:  # a teacher is faster with all cores
        torch.set_num_threads(options.threads or 1)
    elif options.threads:
        torch.set_num_threads(options.threads)
    backend = getattr(options, "backend", "auto")
    load_backend(backend)
    choose_device(options.device)
    recipe = Recipe.load(recipe_path(options.recipe))
    work = options.work or Path("build") / recipe.name
    _check_places(options, work)
    with Bars() as bars:
        chain = Chain.prepare(recipe, options.source, work, parse_changes(options.set))
        claim_device(chain.part)
        look_at(chain.open_source(), options.verb in NEED_IMAGES)
        shown = bars if chain.part.rank == 0 else chain.progress
        yield replace(
            chain,
            processes=options.processes,
            device=options.device,
            backend=backend,
            progress=shown,
            data=options.data,
        )


def _check_places(options: argparse.Namespace, work: Path) -> None:
    """Refuses places that cannot be written to before anything is computed for them."""
    reads_only = options.verb == "evaluate" and options.out is not None
    check_folder("--work", work, written=not reads_only)
    check_folder("--data", options.data, written=False)  # where all is there, it is only read
    check_folder("--out", getattr(options, "out", None))
    if options.verb in ("export", "all"):
        check_file("--model", options.model or work / "student.onnx")
    elif options.verb == "probe":
        check_file("--model", options.model)


def look_at(source: Source, needs_images: bool) -> None:
    """Refuses a source that nothing good can come of; doubts go to standard error."""
    from training.source_gate import refuse_bad_source

    refuse_bad_source(source, lambda line: print(line, file=sys.stderr), needs_images)


def print_plan(chain: Chain, stages: Sequence[str], model: Path | None = None) -> None:
    """What ``--dry-run`` shows."""
    from training.plan import plan_lines

    for line in plan_lines(chain, stages, model):
        print(line)


def _run_stage(options: argparse.Namespace) -> None:
    from training.source_gate import refuse_foreign_grid

    verb = options.verb
    with prepare(options) as chain:
        if verb == "all":
            refuse_foreign_grid(chain.open_source(), chain.recipe.grid.build())
            judged = _judged(chain, options)
            _plan_all(chain, options.model, judged) if options.dry_run else _all(chain, options, judged)
        elif options.dry_run:
            model = _model(chain, options) if verb in ("export", "evaluate") else None
            print_plan(chain, (options.mode if verb == "probe" else verb,), model)
        else:
            _VERBS[verb](chain, options)


def _lift(chain: Chain, _options: argparse.Namespace) -> None:
    from training.pipeline import lift

    stage = lift(chain)
    state = f"{stage.count} scans" if stage.complete else "this process's part is done"
    print(f"{stage.path}: {state}")
    print_skipped(stage.path)


def _refine(chain: Chain, _options: argparse.Namespace) -> None:
    from training.pipeline import refine

    if not chain.recipe.refine.labels:
        print(f"recipe {chain.recipe.name} leaves the lifted labels as they are (refine: labels: false)")
    else:
        print(f"{refine(chain).path}: refined")


def _pretrain(chain: Chain, _options: argparse.Namespace) -> None:
    from training.pipeline import pretrain

    stage = pretrain(chain)
    print(f"{stage.path}: {stage.count} steps")


def _train(chain: Chain, _options: argparse.Namespace) -> None:
    from training.pipeline import train

    stage, _ = train(chain)
    print(f"{stage.path}: {stage.count} steps")


def _probe(chain: Chain, options: argparse.Namespace) -> None:
    from training.pipeline import export, probe

    stage, trainer = probe(chain, options.mode)
    if chain.part.rank == 0:
        model = options.model or stage.path / "student.onnx"
        export(chain, stage, trainer, model)
        print(f"{stage.path}: {stage.count} steps, student: {model}")


def _export(chain: Chain, options: argparse.Namespace) -> None:
    from training.stage_folder import StageFolder

    StageFolder.load(chain.folder("train")).require_complete()
    _train_and_export(chain, options)


def _train_and_export(chain: Chain, options: argparse.Namespace) -> None:
    from training.pipeline import export, train

    stage, trainer = train(chain)
    if chain.part.rank == 0:
        model = _model(chain, options)
        export(chain, stage, trainer, model)
        print(f"{model}: {model.stat().st_size / 1e6:.1f} MB")


def _evaluate(chain: Chain, options: argparse.Namespace) -> None:
    from training.pipeline import evaluate

    if chain.part.rank != 0:
        return
    out = options.out or chain.folder("evaluation")
    _print_scores(evaluate(chain, _model(chain, options), out, print))
    print(f"tables, plots and JSON: {out}")
    print_skipped(out)


def _judged(chain: Chain, options: argparse.Namespace) -> Chain | None:
    """The chain on the source to evaluate on, which has been looked at before hours are spent; None for none."""
    from training.pipeline import require_truth
    from training.sources.resolve import open_source

    if not options.validation:
        return None
    judged = replace(chain, open_source=partial(open_source, options.validation))
    source = judged.open_source()
    require_truth(source, chain.recipe.load_label_space())
    look_at(source, needs_images=False)
    return judged


def _plan_all(chain: Chain, model: Path | None, judged: Chain | None) -> None:
    from training.teacher_features import require_text_features

    chain = replace(chain, build_teacher=cache(chain.build_teacher))
    require_text_features(chain, dry_run=True)
    pretrain = ("pretrain",) if chain.recipe.train.start == "pretrain" else ()
    print_plan(chain, ("label", "lift", "refine", *pretrain, "train", "export"), model)
    if judged is not None:
        print_plan(judged, ("evaluate",))


def _label(chain: Chain) -> None:
    """Builds the teacher once, and lets go of it afterwards."""
    from training.pipeline import label
    from training.teacher_features import require_text_features

    chain = replace(chain, build_teacher=cache(chain.build_teacher))
    require_text_features(chain)
    label(chain)


def _all(chain: Chain, options: argparse.Namespace, judged: Chain | None) -> None:
    import torch

    from training.pipeline import lift, pretrain, wait_for

    _label(chain)
    wait_for(chain, "label")
    torch.set_num_threads(options.threads or 1)
    lift(chain)
    wait_for(chain, "lift")
    if chain.recipe.train.start == "pretrain":
        pretrain(chain)
    _train_and_export(chain, options)
    if judged is not None:
        _evaluate(judged, options)


def _model(chain: Chain, options: argparse.Namespace) -> Path:
    return options.model or chain.work / "student.onnx"


def _print_scores(rows: dict[str, Evaluation]) -> None:
    """The mIoU of ``evaluation.md``."""
    for name, row in rows.items():
        scores = row.to_dict()
        parts = (f"{part} {percent(scores[part]['miou_fair'])}" for part in ("whole", "seen", "unseen"))
        print(f"{name:23} mIoU", *parts)


_VERBS: dict[str, Callable[[Chain, argparse.Namespace], None]] = {
    "lift": _lift,
    "refine": _refine,
    "pretrain": _pretrain,
    "train": _train,
    "probe": _probe,
    "evaluate": _evaluate,
    "export": _export,
}
