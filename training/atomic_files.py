"""Files that are either whole or not there, and disks that run full."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ov_seg_ros.core.errors import OvSegError

FULL_DISK = (errno.ENOSPC, errno.EDQUOT)


class StorageFullError(OvSegError):
    """A disk or quota is exhausted, or would be before the work is done."""


@contextmanager
def explain_full_disk(path: Path, bytes_needed: int | None = None) -> Iterator[None]:
    """Turns what the system says about a full disk into an error that names the place and the remedy.

    Args:
        path: file that is written, or folder of several.
        bytes_needed: size of the file; None = unknown.

    Raises:
        StorageFullError: the disk or quota is exhausted.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in FULL_DISK:
            raise
        raise StorageFullError(_full_message(path, bytes_needed)) from error


@contextmanager
def atomic_path(path: Path, bytes_needed: int | None = None, shared: bool = False) -> Iterator[Path]:
    """Yields ``<path>.part`` to write to and gives it its final name afterwards, unless an error came.

    A process killed in between leaves at most the ``.part``, which the next attempt overwrites. The folder is created.

    Args:
        path: final name.
        bytes_needed: size of the file, for the message of a full disk; None = unknown.
        shared: several processes may write the same file at the same time; each then has a partial file of its own.

    Raises:
        StorageFullError: the disk or quota is exhausted; the partial file is removed.
    """
    suffix = f".{os.getpid()}.part" if shared else ".part"
    partial = path.with_name(path.name + suffix)
    try:
        with explain_full_disk(path, bytes_needed):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield partial
            partial.replace(path)
    except BaseException:
        with suppress(OSError):  # the first error is the one to tell
            partial.unlink()
        raise


def write_bytes(path: Path, content: bytes, shared: bool = False) -> None:
    """Writes a file whole or not at all.

    Raises:
        StorageFullError: see ``atomic_path``.
    """
    with atomic_path(path, len(content), shared) as partial:
        partial.write_bytes(content)


def write_json(path: Path, content: Any, shared: bool = False) -> None:
    """Writes JSON, indented, whole or not at all.

    Raises:
        StorageFullError: see ``atomic_path``.
    """
    write_bytes(path, (json.dumps(content, indent=1) + "\n").encode(), shared)


def check_free_space(folder: Path, bytes_needed: int, what: str) -> None:
    """Refuses to begin what the disk cannot hold.

    Args:
        folder: to be written to; need not exist yet.
        bytes_needed: by all that is still to come.
        what: will be written ("labels of 34149 samples"), for the message.

    Raises:
        StorageFullError: less is free.
    """
    free = shutil.disk_usage(_existing(folder)).free
    if free < bytes_needed:
        raise StorageFullError(
            f"{what} need about {format_bytes(bytes_needed)} in {folder}, where {format_bytes(free)} are free; "
            "free some space or choose a folder on another disk"
        )


def format_bytes(count: float) -> str:
    """``1536000`` as ``1.5 MB``; powers of 1000."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if abs(count) < 999.95 or (unit == "bytes" and abs(count) < 1000):
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def _full_message(path: Path, bytes_needed: int | None) -> str:
    size = "more space" if bytes_needed is None else f"{format_bytes(bytes_needed)} more"
    try:
        free = f", {format_bytes(shutil.disk_usage(_existing(path.parent)).free)} are free"
    except OSError:
        free = ""
    return (
        f"no space left in {path.parent}: {path.name} needs {size}{free}; free some space and run the same "
        "command again, it continues where it stopped"
    )


def _existing(folder: Path) -> Path:
    return next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())
