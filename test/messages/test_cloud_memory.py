"""Clouds made in the memory of the message they are published with."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ov_seg_ros.core.data_types import SegmentedCloud
from ov_seg_ros.messages.cloud_memory import CloudMemory
from ov_seg_ros.messages.pointcloud2 import (
    DecodedCloud,
    decode_pointcloud2,
    encode_cloud,
    encode_segmentation,
    encode_visualization,
)


@pytest.fixture(scope="module")
def ros_types() -> dict[str, Any]:
    pytest.importorskip("sensor_msgs.msg", reason="needs the ROS message packages")
    from ov_seg_ros.ros.outputs import MESSAGE_TYPES

    return dict(MESSAGE_TYPES)


def make_scan(ros_types: dict[str, Any], count: int, width: int = 2) -> tuple[DecodedCloud, SegmentedCloud]:
    """Random points with a field of 1 or 2 bytes behind them, so that the labels follow a gap, and random labels."""
    rng = np.random.default_rng(count)
    fields = {name: rng.normal(size=count).astype(np.float32) for name in "xyz"}
    fields["ring"] = rng.integers(1, 255, count).astype(f"u{width}")
    labels = SegmentedCloud(
        rng.integers(0, 256, count).astype(np.uint8), rng.random(count, np.float32), rng.random(count, np.float32)
    )
    return decode_pointcloud2(encode_cloud(fields, count, "lidar").to_message(ros_types)), labels


def test_every_scan_is_as_if_made_in_new_memory(ros_types: dict[str, Any]) -> None:
    labelled, colored = CloudMemory(ros_types), CloudMemory(ros_types)
    colors = np.random.default_rng(0).integers(0, 256, (256, 3)).astype(np.uint8)
    for count, width, profile in (
        (50, 2, "full"), (50, 2, "full"), (20, 2, "full"), (90, 2, "full"), (0, 2, "full"), (7, 1, "full"),
        (60, 1, "xyzcpe"), (60, 2, "full"),
    ):  # fmt: skip
        decoded, labels = make_scan(ros_types, count, width)
        expected = encode_segmentation(decoded, labels, profile).to_message(ros_types)
        cloud = encode_segmentation(decoded, labels, profile, allocate=labelled.allocate)
        assert labelled.to_message(cloud) == expected
        del cloud  # its memory is needed again
        expected = encode_visualization(decoded, labels.class_id, colors).to_message(ros_types)
        cloud = encode_visualization(decoded, labels.class_id, colors, colored.allocate)
        assert colored.to_message(cloud) == expected
        del cloud


def test_the_same_message_serves_every_scan_and_holds_no_second_copy(ros_types: dict[str, Any]) -> None:
    memory, messages = CloudMemory(ros_types), []
    for count in (50, 40, 50):
        decoded, labels = make_scan(ros_types, count)
        cloud = encode_segmentation(decoded, labels, allocate=memory.allocate)
        messages.append(memory.to_message(cloud))
        assert np.shares_memory(cloud.data, np.frombuffer(messages[-1].data, np.uint8))
        del cloud
    assert messages[0] is messages[1] is messages[2]


def test_a_cloud_that_is_still_held_is_left_alone(ros_types: dict[str, Any]) -> None:
    memory = CloudMemory(ros_types)
    (first, first_labels), (second, second_labels) = make_scan(ros_types, 10), make_scan(ros_types, 30)
    held = encode_segmentation(first, first_labels, allocate=memory.allocate)
    before = held.data.copy()
    other = encode_segmentation(second, second_labels, allocate=memory.allocate)
    assert memory.to_message(other) == encode_segmentation(second, second_labels).to_message(ros_types)
    np.testing.assert_array_equal(held.data, before)
