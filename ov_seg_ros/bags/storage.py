"""Opening the storage of a recording, and what to do when it cannot be read.

The one place that knows which errors ``rosbags`` raises. Everything that leaves it is
an ``InputError`` that names the file and the remedy.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rosbags import rosbag1, rosbag2

from ov_seg_ros.core.errors import InputError, OvSegError

STORAGE_SUFFIXES = (".mcap", ".db3")
ACCEPTED = "a rosbag2 folder (metadata.yaml beside .mcap or .db3 files), a .mcap file, a .db3 file or a ROS 1 .bag file"

Reader = rosbag1.Reader | rosbag2.Reader


def is_recording(path: Path) -> bool:
    """Whether ``path`` has the outside of a recording; says nothing about its health."""
    if path.is_dir():
        return (path / "metadata.yaml").is_file() or bool(storage_files(path))
    return path.is_file() and (path.suffix in (*STORAGE_SUFFIXES, ".bag") or path.name == "metadata.yaml")


def storage_files(folder: Path) -> list[Path]:
    """The .mcap and .db3 files directly in a folder, sorted."""
    return sorted(p for p in folder.iterdir() if p.suffix in STORAGE_SUFFIXES)


def open_reader(path: Path) -> Reader:
    """Opens a recording of any kind for reading.

    Args:
        path: see ``ACCEPTED``; ``metadata.yaml`` itself stands for its folder.

    Raises:
        InputError: nothing there, not a recording, or a recording that was cut off or damaged.
    """
    if path.name == "metadata.yaml":
        path = path.parent
    if not path.exists():
        raise InputError(f"{path} does not exist; expected {ACCEPTED}")
    if path.is_dir():
        _check_folder(path)
    elif path.suffix not in (*STORAGE_SUFFIXES, ".bag"):
        raise InputError(f"{path} is no recording: expected {ACCEPTED}{_compressed_hint(path)}")
    with readable(path):
        reader: Reader = rosbag1.Reader(path) if path.suffix == ".bag" else rosbag2.Reader(path)
        reader.open()
        return reader


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turns whatever the storage layer raises while reading ``path`` into an ``InputError`` with a remedy."""
    try:
        yield
    except (OvSegError, GeneratorExit, KeyboardInterrupt):
        raise
    except PermissionError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}; check the file's permissions") from error
    except Exception as error:  # rosbags raises its own, struct, apsw, yaml, Unicode, Type and Index errors here
        reason = str(error) or type(error).__name__
        raise InputError(f"{path} cannot be read to its end: {reason.rstrip('.')}. {remedy(path)}") from error


def remedy(path: Path) -> str:
    """What to do about a damaged recording, as a command to paste."""
    files = storage_files(path) if path.is_dir() else [path]
    suffix = files[0].suffix if files else ""
    if suffix == ".mcap":
        fixed = files[0].with_name(f"{files[0].stem}_recovered.mcap")
        return f"If the recorder was cut off, rescue what is there: mcap recover {files[0]} -o {fixed}"
    if suffix == ".db3":
        fixed = files[0].with_name(f"{files[0].stem}_recovered.db3")
        return f"If the recorder was cut off, rescue what is there: sqlite3 {files[0]} .recover | sqlite3 {fixed}"
    if suffix == ".bag":
        return f"If the recorder was cut off, rescue what is there: rosbag reindex {path}"
    return "Copy the recording again"


def _check_folder(folder: Path) -> None:
    """A folder without metadata.yaml is not opened by guessing: its files may belong to several recordings."""
    if (folder / "metadata.yaml").is_file():
        return
    files = storage_files(folder)
    if not files:
        raise InputError(f"folder {folder} holds no recording: expected {ACCEPTED}")
    raise InputError(
        f"folder {folder} has no metadata.yaml (the recorder writes it when it stops). "
        f"Rebuild it with: ros2 bag reindex {folder}   or give the storage file itself: {files[0]}"
    )


def _compressed_hint(path: Path) -> str:
    if path.suffix == ".zstd":
        return f" (a compressed storage file belongs to its folder; give {path.parent})"
    return ""
