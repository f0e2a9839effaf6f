"""What several verbs share: progress bars and how many processes there are."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from ov_seg_ros.core.errors import ConfigError, InputError
from ov_seg_ros.core.output_paths import require_writable_file, require_writable_folder

LISTED = 10
"""So many corrupt samples are listed at the end of a stage."""


class Bars:
    """A progress bar per stage, on standard error; to be used in a ``with`` block."""

    def __init__(self) -> None:
        self._bars: dict[str, tqdm] = {}

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Shows that ``done`` of ``total`` steps of a stage are done."""
        if stage not in self._bars:
            self._bars[stage] = tqdm(total=total, desc=stage, mininterval=1, file=sys.stderr)
        self._bars[stage].update(done - self._bars[stage].n)

    def __enter__(self) -> Bars:
        return self

    def __exit__(self, *_: object) -> None:
        for bar in self._bars.values():
            bar.close()


def add_computing(parser: argparse.ArgumentParser) -> None:
    """Options that say who computes; none changes a result."""
    parser.add_argument(
        "--processes",
        type=positive,
        default=min(8, os.cpu_count() or 1),
        help="on this machine, for the stages before training and, without a GPU, training (default: %(default)s)",
    )
    parser.add_argument(
        "--threads", type=positive, default=1, help="of torch on the CPU; small networks are fastest with 1"
    )
    parser.add_argument(
        "--device", default="auto", choices=("auto", "cpu", "cuda"), help="to train on (default: %(default)s)"
    )


def check_folder(option: str, path: Path | None, written: bool = True) -> None:
    """Refuses, before hours are spent, a folder that cannot be one.

    Args:
        option: that names it, for the message.
        path: made where it does not exist; None = not given.
        written: something will be written into it.

    Raises:
        ConfigError: it, or a folder it would lie in, is a file, or may not be written to.
    """
    if path is None:
        return
    if written:
        _check(option, require_writable_folder, path)
    elif path.exists() and not path.is_dir():
        raise ConfigError(f"{option} {path} is a file, expected a folder; give another path")


def check_file(option: str, path: Path | None) -> None:
    """Refuses, before hours are spent, a file that cannot be written.

    Args:
        option: that names it, for the message.
        path: to be written or replaced; None = not given.

    Raises:
        ConfigError: it is a folder, or its folder cannot be one.
    """
    if path is not None:
        _check(option, require_writable_file, path)


def _check(option: str, require: Callable[[Path], None], path: Path) -> None:
    try:
        require(path)
    except InputError as error:
        raise ConfigError(f"{option} {error}") from error


def positive(text: str) -> int:
    """A number on the command line that must be at least 1."""
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def percent(value: float | None) -> str:
    """0.4711 as "47.1 %"."""
    return "  - " if value is None else f"{100 * value:.1f} %"


def print_skipped(folder: Path) -> None:
    """Lists the corrupt samples of a stage, the first ten with what is wrong with them."""
    from training.sample_journal import SKIPPED_FILE

    path = folder / SKIPPED_FILE
    if not path.is_file():
        return
    rows = json.loads(path.read_text())
    for row in rows[:LISTED]:
        print(f"skipped sample {row['index']} {row['key']}: {row['error']}")
    if len(rows) > LISTED:
        print(f"and {len(rows) - LISTED} more, see {path}")
