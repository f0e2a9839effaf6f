"""Whether a file or folder can be written, asked before the work that fills it."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryFile

from ov_seg_ros.core.errors import InputError


def require_writable_file(path: Path) -> None:
    """Checks that a file can be written; leaves nothing behind.

    Args:
        path: file to write; it may exist, and folders above it may be missing.

    Raises:
        InputError: it is a folder, lies below a file, or is not allowed; the message holds the reason.
    """
    try:
        if path.is_dir():
            raise _not_writable(path, "it is a folder, expected a file")
        if path.is_file():
            os.close(os.open(path, os.O_WRONLY))
        elif not path.exists():  # what is neither file nor folder, a pipe for one, is not touched
            _try_to_create_in(path.parent)
    except OSError as error:
        raise _not_writable(path, error.strerror) from error


def require_writable_folder(path: Path) -> None:
    """Checks that a folder can be made and filled; leaves nothing behind.

    Args:
        path: folder to write to; it may exist, and folders above it may be missing.

    Raises:
        InputError: it is a file, lies below one, or is not allowed; the message holds the reason.
    """
    try:
        if path.exists() and not path.is_dir():
            raise _not_writable(path, "it is a file, expected a folder")
        _try_to_create_in(path)
    except OSError as error:
        raise _not_writable(path, error.strerror) from error


def _try_to_create_in(folder: Path) -> None:
    """Creates a nameless file in the folder, or in the nearest one above it that exists."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    with TemporaryFile(dir=folder):
        pass


def _not_writable(path: Path, reason: str | None) -> InputError:
    return InputError(f"{path} cannot be written: {reason or 'no reason given'}; give another path")
