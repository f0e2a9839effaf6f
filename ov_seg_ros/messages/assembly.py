"""Taking messages apart and putting them together without knowing who made their classes.

Decoders read attributes, so rclpy messages, rosbags messages and plain objects all serve. Encoders get the
classes handed in as ``types``: a mapping from ROS names to classes. rosbags has one ready
(``typestore.types``); with rclpy it is ``{"sensor_msgs/msg/PointCloud2": sensor_msgs.msg.PointCloud2, ...}``.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.errors import InputError

MessageTypes = Mapping[str, Any]
"""ROS name ("std_msgs/msg/Header") to message class."""


def make_message(types: MessageTypes, name: str, /, **values: Any) -> Any:
    """Builds one message.

    Args:
        types: the classes.
        name: of the type to build, like "std_msgs/msg/Header".
        values: every field of the type. Arrays are 1-D ndarrays; rclpy gets them as ``array.array`` made in one copy
            (handing it an ndarray or memoryview costs 100 ms per 2 MB: it walks the elements).

    Raises:
        InputError: ``types`` does not hold the class.
    """
    if name not in types:
        raise InputError(f"the message class {name} was not handed in; pass types={{{name!r}: class, ...}}")
    message_type = types[name]
    if not hasattr(message_type, "get_fields_and_field_types"):
        return message_type(**values)
    message = message_type()
    for field, value in values.items():  # setting a property copies once less than the constructor does
        if isinstance(value, np.ndarray):
            _set_array(message, field, value)
        else:
            setattr(message, field, value)
    return message


def make_header(types: MessageTypes, stamp_ns: int, frame_id: str) -> Any:
    """std_msgs/Header."""
    sec, nanosec = divmod(int(stamp_ns), 1_000_000_000)
    stamp = make_message(types, "builtin_interfaces/msg/Time", sec=sec, nanosec=nanosec)
    return make_message(types, "std_msgs/msg/Header", stamp=stamp, frame_id=frame_id)


def read_stamp_ns(header: Any) -> int:
    """Stamp of a std_msgs/Header, nanoseconds."""
    return int(header.stamp.sec) * 1_000_000_000 + int(header.stamp.nanosec)


def read_bytes(data: Any, what: str) -> NDArray[np.uint8]:
    """Views the payload of a message as bytes, without a copy and read-only.

    Args:
        data: bytes, ``array.array('B')``, (L,) uint8 ndarray or another buffer of bytes.
        what: for the message of the error.

    Returns:
        (L,) uint8, not writeable: decoders never change what they were given.

    Raises:
        InputError: not a buffer of bytes.
    """
    try:
        view = memoryview(data)
        payload = np.frombuffer(view, np.uint8) if view.nbytes else np.zeros(0, np.uint8)
    except (TypeError, ValueError, BufferError) as error:
        raise InputError(f"data of {what} must be a contiguous buffer of bytes, got {type(data).__name__}") from error
    payload.flags.writeable = False
    return payload


def split_rows(payload: NDArray[np.uint8], height: int, row_bytes: int, row_step: int, what: str) -> NDArray[np.uint8]:
    """Views a payload as rows, leaving out the padding at their ends.

    Args:
        payload: (L,) uint8.
        height: number of rows.
        row_bytes: bytes of a row that mean something.
        row_step: bytes from one row to the next; not read where there is one row only.
        what: for the message of the error, with sizes.

    Returns:
        (height, row_bytes) uint8 view.

    Raises:
        InputError: rows overlap, or the payload is shorter or longer than they need (the padding of the last
            row may be missing).
    """
    if height == 0 or row_bytes == 0:
        if len(payload):
            raise InputError(f"{what}: holds no elements, but data has {len(payload)} bytes")
        return np.zeros((height, row_bytes), np.uint8)
    if height > 1 and row_step < row_bytes:
        raise InputError(f"{what}: rows overlap, the step is {row_step} bytes but a row takes {row_bytes}")
    shortest = (height - 1) * row_step + row_bytes
    if len(payload) not in (shortest, height * max(row_step, row_bytes)):
        raise InputError(
            f"{what}: data has {len(payload)} bytes, expected {shortest}; "
            f"{'truncated on its way' if len(payload) < shortest else 'sizes and data contradict each other'}"
        )
    return np.lib.stride_tricks.as_strided(payload, (height, row_bytes), (row_step, 1), writeable=False)


def _set_array(message: Any, field: str, values: NDArray[Any]) -> None:
    """Fills an array of a rclpy message, in place where it can be: setting it copies it once more since Jazzy."""
    present = getattr(message, field)
    in_place = isinstance(present, array) and present.typecode == values.dtype.char and not present
    target = present if in_place else array(values.dtype.char)
    target.frombytes(np.ascontiguousarray(values).data.cast("B") if values.size else b"")
    if not in_place:
        setattr(message, field, target)
