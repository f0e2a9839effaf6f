"""Moves a recording into the present: which wall-clock time stands for which recorded time. Knows no ROS."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

SECOND = 1_000_000_000
NO_TIME = 0
"""The stamp of a message that has none: a static transform, a calibration, a driver without a clock."""
LAST_STAMP_NS = 2**31 * SECOND - 1
"""The latest stamp that a message can hold."""
_HEADER_STAMP = 4
"""Byte offset of header.stamp in a serialised message that begins with a header, after the 4 bytes of encapsulation."""

PLAUSIBLE_DELAY_NS = SECOND
"""A recorded scan is received at most this long after its stamp; else the two clocks have nothing in common."""


@dataclass(frozen=True)
class ReplayClock:
    """An affine map from recorded to wall-clock time: ``wall = wall_start + (recorded - recorded_start) / rate``.

    At rate 1 all stamps are shifted by one constant. At another rate the distances between stamps are stretched
    by 1 / rate, those between a scan and its images too.

    Attributes:
        recorded_start_ns: reception of the first message in the recording.
        wall_start_ns: when that message is published.
        rate: recorded seconds per second, > 0.
        stamp_shift_ns: added to recorded stamps first; brings stamps of a foreign clock to the time of reception.
    """

    recorded_start_ns: int
    wall_start_ns: int
    rate: float = 1.0
    stamp_shift_ns: int = 0

    def publish_ns(self, received_ns: int) -> int:
        """When to publish what was received at ``received_ns``."""
        passed = received_ns - self.recorded_start_ns
        return self.wall_start_ns + (passed if self.rate == 1.0 else round(passed / self.rate))

    def stamp_ns(self, recorded_stamp_ns: int) -> int:
        """The stamp that replaces a recorded one.

        ``NO_TIME`` stays what it is. What would lie outside the range of a message, because it was recorded by a
        clock that is years off and is played slowly, becomes the nearest stamp inside.
        """
        if recorded_stamp_ns == NO_TIME:
            return NO_TIME
        return min(max(self.publish_ns(recorded_stamp_ns + self.stamp_shift_ns), NO_TIME + 1), LAST_STAMP_NS)


def stamp_shift(received_ns: int, stamp_ns: int) -> int:
    """What to add to the stamps of a recording so that they precede reception plausibly.

    Args:
        received_ns: reception of the first scan.
        stamp_ns: its stamp.

    Returns:
        0 if the scan was received 0 to 1 s after its stamp: then its delay is part of the latency, as on the robot.
        0 as well if the scan has no stamp. Otherwise the shift that makes stamp and reception of the first scan equal.
    """
    if stamp_ns == NO_TIME or 0 <= received_ns - stamp_ns <= PLAUSIBLE_DELAY_NS:
        return 0
    return received_ns - stamp_ns


def read_stamp(data: bytes | memoryview) -> int:
    """``header.stamp`` of a serialised message that begins with a header, nanoseconds."""
    seconds, nanoseconds = struct.unpack_from(_stamp_format(data), data, _HEADER_STAMP)
    return int(seconds) * SECOND + int(nanoseconds)


def with_stamp(data: bytes | memoryview, stamp_ns: int) -> bytes:
    """A copy of a serialised message that begins with a header, with another stamp; nothing else changes."""
    copy = bytearray(data)
    struct.pack_into(_stamp_format(data), copy, _HEADER_STAMP, *divmod(stamp_ns, SECOND))
    return bytes(copy)


def restamp_transforms(message: Any, clock: ReplayClock) -> None:
    """Moves every transform of a decoded tf2_msgs/TFMessage into the present, in place."""
    for transform in message.transforms:
        stamp = transform.header.stamp
        stamp.sec, stamp.nanosec = divmod(clock.stamp_ns(stamp.sec * SECOND + stamp.nanosec), SECOND)


def _stamp_format(data: bytes | memoryview) -> str:
    return "<iI" if data[1] & 1 else ">iI"
