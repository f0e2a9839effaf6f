"""One message of a recording, decoded only when asked."""

from __future__ import annotations

from dataclasses import dataclass, field
from struct import unpack_from
from typing import TYPE_CHECKING, Any

from rosbags.interfaces import Connection

from ov_seg_ros.core.errors import InputError

if TYPE_CHECKING:
    from ov_seg_ros.bags.recording import Recording


@dataclass(frozen=True)
class TopicSummary:
    """What a recording says about one topic.

    Attributes:
        name: of the topic.
        type_name: "sensor_msgs/msg/PointCloud2"; of the first publisher, where several types share the topic.
        count: number of messages.
    """

    name: str
    type_name: str
    count: int


@dataclass(frozen=True)
class RecordedMessage:
    """A message as it lies in the recording.

    Attributes:
        topic: name of the topic.
        type_name: of the message, "sensor_msgs/msg/Image".
        received_ns: when the recorder received it; the stamp of the measurement is ``stamp_ns``.
        data: serialised message (CDR, or the ROS 1 format in a ROS 1 bag).
        connection: where it came from, with definition and QoS, for copying.
    """

    topic: str
    type_name: str
    received_ns: int
    data: bytes | memoryview
    connection: Connection = field(repr=False)
    _recording: Recording = field(repr=False)

    def decode(self) -> Any:
        """The message object, with the attributes of its definition.

        Raises:
            InputError: the bytes are no message of that type, or the type is unknown.
        """
        return self._recording.decode(self)

    @property
    def stamp_ns(self) -> int:
        """``header.stamp`` in nanoseconds, read without decoding the rest; only for messages that begin with a header.

        Raises:
            InputError: the message is too short to hold a header.
        """
        offset = 4  # CDR encapsulation; in ROS 1 the 4 bytes of header.seq
        little_endian = self._recording.is_ros1 or bytes(self.data[1:2]) == b"\x01"
        if len(self.data) < offset + 8:
            raise InputError(f"{self.topic}: a {self.type_name} of {len(self.data)} bytes is cut off before its stamp")
        seconds, nanoseconds = unpack_from("<iI" if little_endian else ">iI", self.data, offset)
        return int(seconds) * 1_000_000_000 + int(nanoseconds)

    @property
    def stamp_or_received_ns(self) -> int:
        """``stamp_ns``, or the time of reception where the message is cut off before its stamp."""
        try:
            return self.stamp_ns
        except InputError:
            return self.received_ns
