"""What became of each sample of a source: one file of lines per process, read by all when they start again.

A line is ``{"index", "key", "cameras"}`` for a sample that is done, with ``"error"`` for one that was skipped. Only
appended to, so a killed process loses at most the line it was writing, and the images of that sample are still there.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from ov_seg_ros.core.errors import InputError
from training.atomic_files import write_json
from training.sharding import Shard

FOLDER = "journal"
SKIPPED_FILE = "skipped.json"


@dataclass(frozen=True)
class JournalEntry:
    """What became of one sample.

    Attributes:
        index: of the sample in its source.
        key: of the sample; "" where it could not even be loaded.
        cameras: whose segments are stored.
        error: why it was skipped, "" if it was not.
    """

    index: int
    key: str
    cameras: tuple[str, ...] = ()
    error: str = ""

    def encode(self) -> str:
        """One line."""
        content = {"index": self.index, "key": self.key, "cameras": list(self.cameras)}
        return json.dumps({**content, "error": self.error} if self.error else content) + "\n"


class Journal:
    """The file of this process; to be used in a ``with`` block, which holds it against a second process."""

    def __init__(self, folder: Path, part: Shard) -> None:
        """Opens it for appending.

        Args:
            folder: of the stage.
            part: names the file.

        Raises:
            InputError: another process writes the same file.
        """
        path = folder / FOLDER / f"{part.name}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab+")
        _lock(self._file.fileno(), path)
        self._file.seek(0, 2)
        if self._file.tell():
            self._file.seek(-1, 2)
            if self._file.read(1) != b"\n":  # the process was killed while it wrote the last line
                self._file.write(b"\n")

    def append(self, entry: JournalEntry) -> None:
        """Adds a line and hands it to the operating system, so that it outlives this process."""
        self._file.write(entry.encode().encode())
        self._file.flush()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def read_journals(folder: Path) -> dict[int, JournalEntry]:
    """What became of each sample so far, by index; a sample labelled once is done, whoever skipped it before.

    Args:
        folder: of the stage; its processes may be writing.
    """
    entries: dict[int, JournalEntry] = {}
    for path in sorted((folder / FOLDER).glob("*-of-*.jsonl")):
        for entry in _read_lines(path):
            known = entries.get(entry.index)
            if known is None or known.error:
                entries[entry.index] = entry
    return entries


def write_skipped(folder: Path) -> list[JournalEntry]:
    """Lists the skipped samples of all processes in ``skipped.json``; without any, there is no such file.

    When several processes end at the same time, the last to write has seen the lines of all: each looks again after
    writing.

    Raises:
        StorageFullError: the disk is full.
    """
    while True:
        skipped = _skipped(read_journals(folder).values())
        list_skipped(folder, skipped)
        if _skipped(read_journals(folder).values()) == skipped:
            return skipped


def list_skipped(folder: Path, skipped: Sequence[JournalEntry]) -> None:
    """Writes ``skipped.json``, or removes it where nothing was skipped.

    Raises:
        StorageFullError: the disk is full.
    """
    path = folder / SKIPPED_FILE
    if skipped:
        rows = [{"index": e.index, "key": e.key, "error": e.error} for e in skipped]
        write_json(path, rows, shared=True)
    else:
        path.unlink(missing_ok=True)


def _skipped(entries: Iterable[JournalEntry]) -> list[JournalEntry]:
    return sorted((e for e in entries if e.error), key=lambda e: e.index)


def _read_lines(path: Path) -> Iterable[JournalEntry]:
    for line in path.read_bytes().split(b"\n"):
        try:
            content = json.loads(line)
            cameras = tuple(str(c) for c in content["cameras"])
            yield JournalEntry(int(content["index"]), str(content["key"]), cameras, str(content.get("error", "")))
        except (ValueError, KeyError, TypeError):
            continue  # cut off when its process was killed; the sample is done again


def _lock(descriptor: int, path: Path) -> None:
    try:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:
        return  # not on this system; two runs at once are then up to the user
    except OSError as error:
        if error.errno not in (errno.EWOULDBLOCK, errno.EAGAIN):
            return  # a file system without locks
        raise InputError(f"another process writes {path}: wait for it, or end it") from error
