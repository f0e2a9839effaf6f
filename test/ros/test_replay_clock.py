"""Stamps of a replay, without ROS."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ov_seg_ros.bags.build_messages import cloud_message, transforms_message
from ov_seg_ros.bags.message_types import POINT_CLOUD, standard_typestore
from ov_seg_ros.ros.replay_clock import (
    LAST_STAMP_NS,
    NO_TIME,
    SECOND,
    ReplayClock,
    read_stamp,
    restamp_transforms,
    stamp_shift,
    with_stamp,
)

stamps = st.integers(0, 2**31 * SECOND - 1)


def serialised_cloud(stamp_ns: int) -> bytes:
    message = cloud_message({"x": np.arange(3, dtype=np.float32)}, stamp_ns, "lidar")
    return bytes(standard_typestore().serialize_cdr(message, POINT_CLOUD))


@settings(deadline=None)  # the first message takes long: the message definitions are read
@given(stamps, stamps)
def test_only_the_stamp_changes_and_comes_back(before: int, after: int):
    data = serialised_cloud(before)
    moved = with_stamp(data, after)
    assert read_stamp(data) == before
    assert read_stamp(moved) == after
    header = standard_typestore().deserialize_cdr(moved, POINT_CLOUD).header
    assert header.stamp.sec * SECOND + header.stamp.nanosec == after
    assert with_stamp(moved, before) == data


def test_big_endian_messages_are_understood():
    data = b"\x00\x00\x00\x00" + struct.pack(">iI", 7, 9) + b"rest"
    assert read_stamp(data) == 7 * SECOND + 9
    assert with_stamp(data, 8 * SECOND + 1) == b"\x00\x00\x00\x00" + struct.pack(">iI", 8, 1) + b"rest"


def test_at_rate_1_everything_is_shifted_by_one_constant():
    clock = ReplayClock(recorded_start_ns=1_000, wall_start_ns=9 * SECOND)
    assert clock.publish_ns(1_000) == 9 * SECOND
    shift = 9 * SECOND - 1_000
    assert {clock.stamp_ns(s) - s for s in (1, 1_000, 1_700_000_000_123_456_789)} == {shift}


def test_another_rate_stretches_distances():
    slow = ReplayClock(0, 100 * SECOND, rate=0.5)
    assert slow.publish_ns(3 * SECOND) == 106 * SECOND
    assert slow.stamp_ns(3 * SECOND) - slow.stamp_ns(2 * SECOND) == 2 * SECOND


def test_a_plausible_delay_is_kept_and_a_foreign_clock_is_aligned():
    assert stamp_shift(received_ns=10 * SECOND, stamp_ns=10 * SECOND - 80_000_000) == 0
    assert stamp_shift(received_ns=10 * SECOND, stamp_ns=3 * SECOND) == 7 * SECOND  # counts from the sensor's start
    assert stamp_shift(received_ns=10 * SECOND, stamp_ns=11 * SECOND) == -SECOND  # a stamp from the future
    aligned = ReplayClock(10 * SECOND, 50 * SECOND, stamp_shift_ns=7 * SECOND)
    assert aligned.stamp_ns(3 * SECOND) == aligned.publish_ns(10 * SECOND)


def test_transforms_move_with_the_scans():
    message = transforms_message([("odom", "base_link", np.eye(4)), ("base_link", "lidar", np.eye(4))], 5 * SECOND)
    restamp_transforms(message, ReplayClock(0, 100 * SECOND))
    assert [(t.header.stamp.sec, t.header.stamp.nanosec) for t in message.transforms] == [(105, 0), (105, 0)]


@pytest.mark.parametrize("rate", [0.01, 0.05, 1.0, 100.0])
@pytest.mark.parametrize("shift", [0, 1_700_000_000 * SECOND])
def test_a_stamp_that_means_no_time_stays_so(rate: float, shift: int):
    clock = ReplayClock(1_700_000_000 * SECOND, 1_800_000_000 * SECOND, rate, shift)
    assert clock.stamp_ns(NO_TIME) == NO_TIME
    message = transforms_message([("base_link", "lidar", np.eye(4))], 0)
    restamp_transforms(message, clock)
    assert (message.transforms[0].header.stamp.sec, message.transforms[0].header.stamp.nanosec) == (0, 0)
    assert stamp_shift(received_ns=1_700_000_000 * SECOND, stamp_ns=NO_TIME) == 0


def test_stamps_of_a_clock_that_is_years_off_stay_what_a_message_can_hold():
    slow = ReplayClock(1_700_000_000 * SECOND, 1_800_000_000 * SECOND, rate=0.05)
    assert slow.stamp_ns(5 * SECOND) == 1  # before the beginning of time, but no "no time"
    assert slow.stamp_ns(1_900_000_000 * SECOND) == LAST_STAMP_NS
    data = serialised_cloud(0)
    for stamp in (5 * SECOND, 1_900_000_000 * SECOND):
        assert read_stamp(with_stamp(data, slow.stamp_ns(stamp))) == slow.stamp_ns(stamp)
    message = transforms_message([("base_link", "lidar", np.eye(4))], 5 * SECOND)
    restamp_transforms(message, slow)
    assert (message.transforms[0].header.stamp.sec, message.transforms[0].header.stamp.nanosec) == (0, 1)


def test_a_cut_off_message_is_an_error():
    with pytest.raises(struct.error):
        read_stamp(b"\x00\x01\x00\x00\x00")
