"""Reading recordings (rosbag2 folders, mcap and sqlite3 files, ROS 1 bags) without ROS."""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from rosbags import rosbag1
from rosbags.interfaces import Connection

from ov_seg_ros.bags.cameras import CameraTopics, find_cameras
from ov_seg_ros.bags.lidar_topics import find_lidar_topic
from ov_seg_ros.bags.message_types import POINT_CLOUD, new_typestore, register_definition
from ov_seg_ros.bags.messages import RecordedMessage, TopicSummary
from ov_seg_ros.bags.storage import Reader, open_reader, readable
from ov_seg_ros.bags.tf_topics import build_transform_tree
from ov_seg_ros.core.data_types import PointCloud
from ov_seg_ros.core.errors import InputError
from ov_seg_ros.core.transforms import TransformTree
from ov_seg_ros.messages.pointcloud2 import decode_pointcloud2

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
"""Beginning of what zstd compressed; no serialised message begins like this."""


class Recording:
    """A recording, open for reading; a context manager.

    Messages are streamed: at no time more than the storage's own chunk is in memory. Stamps are those of the
    message headers; the time of reception only orders the stream.

    Attributes:
        path: as given.
        topics: every topic by name.
        is_ros1: whether it is a ROS 1 bag.
    """

    def __init__(self, path: Path, reader: Reader) -> None:
        self.path = path
        self.is_ros1 = isinstance(reader, rosbag1.Reader)
        self._reader: Reader | None = reader
        self._is_streaming = False
        self._typestore = new_typestore(self.is_ros1)
        self._first: dict[str, RecordedMessage | None] = {}
        self._tree: TransformTree | None = None
        self.topics = _summarise(reader.connections)

    @classmethod
    def open(cls, path: str | Path) -> Recording:
        """Opens a rosbag2 folder, a bare .mcap or .db3 file, or a ROS 1 .bag file.

        Raises:
            InputError: nothing there, no recording, cut off or damaged; the message holds the remedy.
        """
        path = Path(path)
        return cls(path, open_reader(path))

    def close(self) -> None:
        """Closes the files; a second call does nothing."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def __enter__(self) -> Recording:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def reader(self) -> Reader:
        """The storage layer.

        Raises:
            InputError: the recording was closed.
        """
        if self._reader is None:
            raise InputError(f"recording {self.path} is closed")
        return self._reader

    @property
    def name(self) -> str:
        """Name of the folder or file, without the suffix of a storage."""
        name = self.path.parent.name if self.path.name == "metadata.yaml" else self.path.name
        return name if self.path.is_dir() else name.removesuffix(self.path.suffix) or name

    @property
    def message_count(self) -> int:
        """Number of messages of all topics."""
        return sum(t.count for t in self.topics.values())

    @property
    def start_ns(self) -> int:
        """Reception of the first message, nanoseconds; 0 if there is none."""
        return int(self.reader.start_time) if self.message_count else 0

    @property
    def duration_ns(self) -> int:
        """From the first to the last reception, nanoseconds; 0 if there is none."""
        return max(0, int(self.reader.duration) - 1) if self.message_count else 0

    def topics_of(self, *type_names: str) -> list[TopicSummary]:
        """Topics of the given message types that hold messages, by name."""
        found = (t for t in self.topics.values() if t.type_name in type_names and t.count)
        return sorted(found, key=lambda t: t.name)

    def first(self, topic: str) -> RecordedMessage | None:
        """The first message of a topic (remembered), or None if there is none."""
        if topic not in self._first:
            with closing(self.iter_messages([topic] if topic in self.topics else [])) as messages:
                self._first[topic] = next(messages, None)
        return self._first[topic]

    def first_decodable(self, topic: str) -> Any | None:
        """The first message of a topic that can be decoded, as an object; None if there is none."""
        with closing(self.iter_messages([topic] if topic in self.topics else [])) as messages:
            for message in messages:
                try:
                    return message.decode()
                except InputError:
                    continue
        return None

    def find_lidar_topic(self, topic: str | None = None) -> str:
        """The topic of the LiDAR; see ``lidar_topics.find_lidar_topic``."""
        return find_lidar_topic(self, topic)

    def find_cameras(self, topics: Sequence[str] | None = None) -> list[CameraTopics]:
        """The cameras; see ``cameras.find_cameras``."""
        return find_cameras(self, topics)

    def iter_messages(
        self, topics: Collection[str] | None = None, start_ns: int | None = None, stop_ns: int | None = None
    ) -> Generator[RecordedMessage, None, None]:
        """Streams messages in the order of reception.

        Args:
            topics: only these; None = all.
            start_ns: only messages received then or later; None = from the beginning.
            stop_ns: only messages received before; None = to the end.

        Raises:
            InputError: a topic does not exist, or the recording cannot be read to its end.
        """
        self._check_topics(topics)
        with self._borrowed_reader() as reader, readable(self.path):
            connections = [c for c in reader.connections if topics is None or c.topic in topics]
            if not connections:
                return
            for connection, received_ns, data in reader.messages(connections, start_ns, stop_ns):
                yield RecordedMessage(connection.topic, connection.msgtype, received_ns, data, connection, self)

    def iter_clouds(self, topic: str) -> Iterator[PointCloud]:
        """Streams the scans of a topic.

        Raises:
            InputError: the topic holds no PointCloud2, or a message is malformed.
        """
        summary = self.topics.get(topic)
        if summary is not None and summary.type_name != POINT_CLOUD:
            raise InputError(f"{self.path}: topic {topic} holds {summary.type_name}, expected {POINT_CLOUD}")
        for message in self.iter_messages([topic]):
            yield decode_pointcloud2(message.decode()).cloud

    def decode(self, message: RecordedMessage) -> Any:
        """The message object of ``message``; ``message.decode()`` is the same."""
        register_definition(self._typestore, message.type_name, message.connection.msgdef)
        try:
            if self.is_ros1:
                return self._typestore.deserialize_ros1(message.data, message.type_name)
            return self._typestore.deserialize_cdr(message.data, message.type_name)
        except Exception as error:  # struct, Value, Index, Key and rosbags' own errors
            raise InputError(
                f"{self.path}: {message.topic} at {message.received_ns} ns is no valid {message.type_name}: "
                f"{self._explain(message, error)}"
            ) from error

    def _explain(self, message: RecordedMessage, error: Exception) -> str:
        if bytes(message.data[:4]) == ZSTD_MAGIC:
            return f"messages are compressed one by one, which metadata.yaml tells; give the folder, {self.path.parent}"
        return str(error)

    def transform_tree(self) -> TransformTree:
        """All transforms of /tf_static and /tf (built on the first call); empty if there are none."""
        if self._tree is None:
            self._tree = build_transform_tree(self)
        return self._tree

    @contextmanager
    def _borrowed_reader(self) -> Iterator[Reader]:
        """The reader, or a second one while the first is in the middle of a stream: readers share a file position."""
        if self._is_streaming:
            with closing(open_reader(self.path)) as reader:
                yield reader
            return
        reader = self.reader
        self._is_streaming = True
        try:
            yield reader
        finally:
            self._is_streaming = False

    def _check_topics(self, topics: Collection[str] | None) -> None:
        unknown = sorted(set(topics or ()) - set(self.topics))
        if unknown:
            raise InputError(
                f"{self.path} has no topic {', '.join(unknown)}; it has: {', '.join(sorted(self.topics)) or 'none'}"
            )


def _summarise(connections: Sequence[Connection]) -> dict[str, TopicSummary]:
    topics: dict[str, TopicSummary] = {}
    for connection in connections:
        known = topics.get(connection.topic)
        count = connection.msgcount + (known.count if known else 0)
        type_name = known.type_name if known else connection.msgtype
        topics[connection.topic] = TopicSummary(connection.topic, type_name, count)
    return dict(sorted(topics.items()))
