"""What tells the files of one data set from those of another, without reading them all.

A fingerprint of many files covers the names of all, and of a few, spread evenly, the size and a piece of the content:
enough to tell any two recordings apart, at the same small cost for ten files and for ten million. Where the files lie
and when they were written does not count, so a data set may be moved and copied; and a damaged file that is copied
again hardly ever changes the fingerprint of a large data set, so its stages go on.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from training.stage_folder import STAGE_FILE

T = TypeVar("T")

PROBES = 32
"""Files of which size and content count."""

PIECE = 4096
"""Bytes from the middle of such a file."""

DIGITS = 16


def fingerprint_files(paths: Iterable[Path], root: Path | None = None) -> str:
    """Of files that are too many or too large to be read.

    Args:
        paths: of the files, in any order; one that cannot be read counts as such.
        root: names count from here; None = the names of the files alone, which must then tell them apart.

    Returns:
        "108 files, 1f0c...", or "none".
    """
    named = sorted((path.name if root is None else path.relative_to(root).as_posix(), path) for path in paths)
    if not named:
        return "none"
    digest = hashlib.sha256("\0".join(name for name, _ in named).encode())
    for _, path in spread(named, PROBES):
        digest.update(_probe(path))
    return f"{len(named)} file{'s' if len(named) > 1 else ''}, {digest.hexdigest()[:DIGITS]}"


def files_below(folder: Path) -> Iterator[Path]:
    """All files in a folder and its folders, but hidden ones and the stages of a recipe that works in there."""
    for place, folders, names in os.walk(folder):
        shown = (name for name in folders if not name.startswith("."))
        folders[:] = [name for name in shown if not (Path(place) / name / STAGE_FILE).exists()]
        yield from (Path(place) / name for name in names if not name.startswith("."))


def fingerprint_contents(*paths: Path) -> str:
    """Of the whole content of a few small files, in order; "none" if none of them can be read."""
    digests = [_content(path) for path in paths]
    if not any(digests):
        return "none"
    return hashlib.sha256("\0".join(digests).encode()).hexdigest()[:DIGITS]


def fingerprint_values(*values: Any) -> str:
    """Of arrays and of whatever else JSON can hold."""
    digest = hashlib.sha256()
    for value in values:
        if isinstance(value, np.ndarray):
            digest.update(f"{value.dtype.str}{value.shape}".encode() + np.ascontiguousarray(value).tobytes())
        else:
            digest.update(json.dumps(value, sort_keys=True).encode() + b"\0")
    return digest.hexdigest()[:DIGITS]


def spread(values: Sequence[T], count: int) -> list[T]:
    """At most ``count`` of the values, from the first to the last at even distances."""
    if len(values) <= count:
        return list(values)
    return [values[i] for i in np.linspace(0, len(values) - 1, count).round().astype(int)]


def _content(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:  # whoever needs it will say so
        return ""


def _probe(path: Path) -> bytes:
    """Size, and a piece of the middle."""
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            file.seek(max(0, (size - PIECE) // 2))
            return f"{size} ".encode() + file.read(PIECE)
    except OSError:
        return b"unreadable"
