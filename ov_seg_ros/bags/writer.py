"""Writing rosbag2 recordings without ROS."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from rosbags.interfaces import Connection, ConnectionExtRosbag2, Qos
from rosbags.rosbag2 import StoragePlugin, Writer

from ov_seg_ros.bags.message_types import definition_to_copy, standard_definition, standard_typestore
from ov_seg_ros.bags.messages import RecordedMessage
from ov_seg_ros.bags.qos import default_qos
from ov_seg_ros.bags.recording import Recording
from ov_seg_ros.bags.storage import STORAGE_SUFFIXES, is_recording, storage_files
from ov_seg_ros.core.errors import ConfigError, InputError
from ov_seg_ros.core.output_paths import require_writable_folder

STORAGES = {"mcap": StoragePlugin.MCAP, "sqlite3": StoragePlugin.SQLITE3}
_SUFFIX_STORAGE = {".mcap": "mcap", ".db3": "sqlite3"}

_METADATA_VERSION: Literal[8] = 8
"""Read by ``ros2 bag`` of humble and later; version 9 is not."""


class RecordingWriter:
    """Writes one recording; a context manager.

    A topic is registered when it is first written to. However the block is left, even by an error or Ctrl-C, what
    was written so far is closed properly and can be played; ``metadata.yaml`` then says so under ``custom_data``.
    Where a recording is overwritten, the new one replaces it only when it is complete; so a recording may be read
    while it is rewritten, and an error leaves the old one as it was.

    Attributes:
        path: of the recording: a rosbag2 folder, or a single file if the path ends with .mcap or .db3.
        message_count: messages written so far.
    """

    def __init__(self, path: str | Path, storage: str = "mcap", overwrite: bool = False) -> None:
        """Checks the target; nothing is written before the ``with`` block begins.

        Args:
            path: where to write; a suffix .mcap or .db3 makes a single file and decides the storage.
            storage: "mcap" or "sqlite3", uncompressed.
            overwrite: whether a recording (and only a recording) that lies there is replaced.

        Raises:
            ConfigError: the storage is not known, or contradicts the suffix.
            InputError: see ``check_target``.
        """
        self.path = Path(path)
        self.message_count = 0
        self._is_single_file = self.path.suffix in STORAGE_SUFFIXES
        self._storage = _SUFFIX_STORAGE.get(self.path.suffix, storage)
        if self._storage not in STORAGES:
            raise ConfigError(f"storage must be {' or '.join(STORAGES)}, got {storage!r}")
        check_target(self.path, overwrite)
        self._replaces = self.path.exists()
        self._writer: Writer | None = None
        self._connections: dict[tuple[str, str], Connection] = {}

    def __enter__(self) -> RecordingWriter:
        shutil.rmtree(self._aside, ignore_errors=True)
        target = self._aside / self.path.stem if self._is_single_file or self._replaces else self.path
        self._writer = Writer(target, version=_METADATA_VERSION, storage_plugin=STORAGES[self._storage])
        try:
            self._writer.open()
        except OSError as error:
            raise InputError(f"{self.path} cannot be written: {error.strerror}; choose another path") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        writer, self._writer = self._open_writer(), None
        if kind is not None:
            writer.set_custom_data("incomplete", f"writing stopped early: {kind.__name__}")
        writer.close()
        if writer.path == self.path:
            return
        if kind is None or not self._replaces:
            self._move_here(writer.path)
        shutil.rmtree(self._aside)

    @property
    def _aside(self) -> Path:
        """Where single files and replacements are written until they are complete."""
        return _aside(self.path)

    def _move_here(self, written: Path) -> None:
        """Puts the folder ``written``, or its one file, in the place of what lies at ``path``."""
        if self.path.is_dir():
            shutil.rmtree(self.path)
        else:
            self.path.unlink(missing_ok=True)
        (storage_files(written)[0] if self._is_single_file else written).rename(self.path)

    def write(self, topic: str, message: Any, received_ns: int, qos: Qos | None = None) -> None:
        """Writes a message object made from ``message_types.standard_typestore()``.

        Args:
            topic: its name, beginning with "/".
            message: the message; its ``__msgtype__`` says the type.
            received_ns: place in the time line of the recording, usually the stamp of the message.
            qos: how to offer the topic, taken on its first message; None = latched for /tf_static and label_info,
                reliable for the rest.

        Raises:
            InputError: the message does not fit its type.
        """
        type_name = message.__msgtype__
        store = standard_typestore()
        try:
            data = store.serialize_cdr(message, type_name)
        except Exception as error:  # struct, Type, Attribute and rosbags' own errors
            raise InputError(f"message for {topic} does not fit {type_name}: {error}") from error
        self.write_raw(topic, type_name, data, received_ns, qos)

    def write_raw(
        self, topic: str, type_name: str, data: bytes | memoryview, received_ns: int, qos: Qos | None = None
    ) -> None:
        """Writes a message of a standard type that is serialised (CDR) already; arguments as in ``write``."""
        connection = self._connections.get((topic, type_name))
        if connection is None:
            connection = self._register(topic, type_name, standard_definition(type_name), [qos or default_qos(topic)])
        self._append(connection, received_ns, data)

    def copy(self, message: RecordedMessage) -> None:
        """Writes a message of another recording byte for byte, with its definition and QoS.

        Raises:
            InputError: it comes from a ROS 1 bag, whose messages are serialised differently.
        """
        source = message.connection
        connection = self._connections.get((message.topic, message.type_name))
        if connection is None:
            if not isinstance(source.ext, ConnectionExtRosbag2):
                raise InputError(
                    f"messages of a ROS 1 bag cannot be copied into {self.path}; convert the bag first: "
                    "rosbags-convert --src OLD.bag --dst NEW"
                )
            offered = list(source.ext.offered_qos_profiles) or [default_qos(message.topic)]
            connection = self._register(message.topic, message.type_name, definition_to_copy(source), offered)
        self._append(connection, message.received_ns, message.data)

    def copy_all(self, recording: Recording, leave_out: Collection[str] = ()) -> Iterator[RecordedMessage]:
        """Copies a recording message by message and hands each one out after it was written.

        What the caller writes between two messages is placed between them, so labels can follow their scan::

            for message in writer.copy_all(recording):
                if message.topic == lidar_topic:
                    writer.write("/ov_seg/points", label(message.decode()), message.received_ns)

        Args:
            recording: what to copy.
            leave_out: topics that are not copied.

        Raises:
            InputError: the recording cannot be read.
        """
        topics = [name for name in recording.topics if name not in leave_out]
        for message in recording.iter_messages(topics):
            self.copy(message)
            yield message

    def _append(self, connection: Connection, received_ns: int, data: bytes | memoryview) -> None:
        try:
            self._open_writer().write(connection, received_ns, data)
        except OSError as error:
            raise InputError(f"{self.path} cannot be written: {error.strerror}; is the disk full?") from error
        self.message_count += 1

    def _register(self, topic: str, type_name: str, definition: tuple[str, str], offered: list[Qos]) -> Connection:
        if not topic.startswith("/"):
            raise InputError(f"topic names begin with '/', got {topic!r}")
        writer = self._open_writer()
        text, type_hash = definition
        connection = writer.add_connection(
            topic, type_name, msgdef=text, rihs01=type_hash, offered_qos_profiles=offered
        )
        self._connections[topic, type_name] = connection
        return connection

    def _open_writer(self) -> Writer:
        if self._writer is None:
            raise InputError(f"{self.path} is not open for writing; use it in a with block")
        return self._writer


def check_target(path: Path, overwrite: bool) -> None:
    """Checks that a recording can be written; writes nothing.

    Args:
        path: of the recording.
        overwrite: whether a recording (and only a recording) that lies there may be replaced.

    Raises:
        InputError: something lies there already, a run that was killed left its half there, or the folder cannot be
            written.
    """
    require_writable_folder(path.parent)
    if path.exists() and not overwrite:
        raise InputError(f"{path} exists already; give another path, or ask to overwrite it")
    if path.exists() and (path.name == "metadata.yaml" or not is_recording(path)):
        raise InputError(f"{path} is no recording and is not overwritten; give another path")
    if _aside(path).exists() and not path.exists():
        raise InputError(f"{_aside(path)} exists already, left by a run that was killed; delete it and run again")


def _aside(path: Path) -> Path:
    return path.with_name(f"{path.name}_unfinished")
