"""Let a 2D teacher label the images of a source; ``torchrun`` shares the work."""

from __future__ import annotations

import argparse
from pathlib import Path

from ov_seg_ros.core.errors import ConfigError
from training.commands.chain import add_chain_options, look_at, prepare, print_plan
from training.commands.options import check_folder, print_skipped


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Of ``label``."""
    parser.set_defaults(run=_label)
    parser.add_argument("--teacher", type=Path, help="YAML file instead of the recipe's, see config/teachers")
    parser.add_argument("--out", type=Path, help="folder of the segments, with --teacher")
    add_chain_options(parser)


def _label(options: argparse.Namespace) -> None:
    from training.pipeline import label

    if (options.teacher is None) != (options.out is None):
        raise ConfigError("--teacher and --out belong together: a teacher of your own choice labels into a folder")
    if options.teacher is None:
        with prepare(options) as chain:
            if options.dry_run:
                print_plan(chain, ("label",))
            else:
                _print_result(label(chain))
        return
    _label_alone(options)


def _label_alone(options: argparse.Namespace) -> None:
    """Without a recipe: one teacher, one source, one folder."""
    from training.finished_labels import find_finished, remember_request
    from training.labelling_estimate import disk_estimate
    from training.labelling_run import label_source
    from training.sharding import claim_device, read_shard
    from training.sources.resolve import open_sources
    from training.teacher_choice import TeacherChoice, parse_changes

    check_folder("--out", options.out)
    part = read_shard()
    claim_device(part)
    source = open_sources(options.source)
    look_at(source, needs_images=True)
    choice = TeacherChoice.load(options.teacher, parse_changes(options.set))
    request = choice.describe()
    if options.dry_run:
        print(disk_estimate(source, choice.build()))
    elif (found := find_finished(options.out, source, choice.load_dictionary(), request, part)) is not None:
        _print_result(found)
    else:
        result = label_source(source, choice.build(), options.out, part)
        remember_request(result, request)
        _print_result(result)


def _print_result(result: object) -> None:
    from training.labelling_run import LabellingResult

    assert isinstance(result, LabellingResult)
    counts = f"{result.labelled} samples labelled, {result.resumed} were there, {len(result.skipped)} skipped"
    print(f"{result.folder.path}: {counts}")
    print_skipped(result.folder.path)
