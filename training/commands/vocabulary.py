"""Show and check the texts that a teacher is asked for."""

from __future__ import annotations

import argparse
from pathlib import Path

from ov_seg_ros.core.data_types import IGNORE_ID


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Of ``vocabulary``."""
    parser.set_defaults(run=_vocabulary)
    parser.add_argument("--teacher", type=Path, required=True, help="YAML file, see config/teachers")


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
