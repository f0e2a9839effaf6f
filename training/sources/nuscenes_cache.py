"""Keeps the index of a large version of nuScenes on disk, so that its gigabytes of JSON are read once."""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
import zipfile
from dataclasses import fields
from pathlib import Path

import numpy as np

from training.sources.nuscenes_index import TABLES, KeyframeIndex

logger = logging.getLogger(__name__)

LAYOUT = 1
"""Raised when the meaning of the arrays changes; older files are then not found."""

CACHE_FROM_BYTES = 64 << 20
"""Tables that are smaller in all (v1.0-mini: 25 MB) are read anew each time."""


def load_index(version: Path) -> KeyframeIndex:
    """The index of a version: from the cache if it was made of these very tables, else built and cached.

    The cache lies in ``$XDG_CACHE_HOME/ov_seg_ros`` (``~/.cache/ov_seg_ros``); where that cannot be written to,
    the tables are read each time, with a warning.

    Args:
        version: folder of the tables ("/data/nuscenes/v1.0-trainval").

    Raises:
        InputError: a table is missing or damaged.
    """
    tables = [version / f"{name}.json" for name in TABLES]
    if sum(path.stat().st_size for path in tables if path.is_file()) < CACHE_FROM_BYTES:
        return KeyframeIndex.build(version)
    path = cache_folder() / f"{version.name}-{_fingerprint(tables)}.npz"
    index = _read(path)
    if index is None:
        logger.info("reading the tables of %s; the next time they come from %s", version, path)
        index = KeyframeIndex.build(version)
        _write(index, path)
    return index


def cache_folder() -> Path:
    """Where indices are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ov_seg_ros" / "nuscenes"


def _fingerprint(tables: list[Path]) -> str:
    """Of where the tables lie, how large they are and when they were written."""
    parts = [str(LAYOUT)]
    for path in tables:
        if path.is_file():
            parts.append(f"{path.resolve()} {path.stat().st_size} {path.stat().st_mtime_ns}")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _read(path: Path) -> KeyframeIndex | None:
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return KeyframeIndex(**{entry.name: arrays[entry.name] for entry in fields(KeyframeIndex)})
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        logger.warning("%s cannot be read (%s); the tables are read again", path, error)
        return None


def _write(index: KeyframeIndex, path: Path) -> None:
    """Complete or not at all: other processes may read it at the same time."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            part = Path(folder) / path.name
            np.savez(part, **{entry.name: getattr(index, entry.name) for entry in fields(KeyframeIndex)})
            os.replace(part, path)
    except OSError as error:
        logger.warning("the index of the tables cannot be kept in %s (%s)", path, error)
