"""One PointCloud2 of rclpy that is filled in place, scan after scan, and published without another copy."""

from __future__ import annotations

from array import array
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.messages.assembly import MessageTypes, make_message
from ov_seg_ros.messages.cloud_buffer import CloudBuffer, CloudField

CLOUD = "sensor_msgs/msg/PointCloud2"


class CloudMemory:
    """Hands the memory of a message to an encoder, and then the message out.

    The message is good until the next ``allocate``: publish it before that, from one thread.

    Example:
        cloud = encode_segmentation(decoded, segmented, allocate=memory.allocate)
        publisher.publish(memory.to_message(cloud))
    """

    def __init__(self, types: MessageTypes) -> None:
        """Begins with an empty message.

        Args:
            types: message classes of rclpy, see ``CloudBuffer.to_message``.
        """
        self._types = types
        self._message = make_message(types, CLOUD)
        self._layout: tuple[CloudField, ...] = ()

    def allocate(self, size: int, layout: tuple[CloudField, ...]) -> NDArray[np.uint8]:
        """Memory for the payload of the message.

        Args:
            size: bytes.
            layout: fields of every point; bytes that belong to none of them are zero as long as nobody writes them.

        Returns:
            (size,) uint8, writeable, with remains of the last cloud in its fields.
        """
        try:
            _resize(self._message.data, size)
        except BufferError:  # somebody still holds the last cloud
            self._message = make_message(self._types, CLOUD)
            _resize(self._message.data, size)
        memory = np.frombuffer(self._message.data, np.uint8) if size else np.zeros(0, np.uint8)
        if layout != self._layout:
            memory[:] = 0
            self._layout = layout
        return memory

    def to_message(self, cloud: CloudBuffer) -> Any:
        """The message with everything that stands in ``cloud``, which was made in the memory of ``allocate``."""
        return cloud.fill(self._message, self._types)


def _resize(payload: array[Any], size: int) -> None:
    if size < len(payload):
        del payload[size:]
    elif size > len(payload):
        payload.frombytes(bytes(size - len(payload)))
