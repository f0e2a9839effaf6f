"""Class lists as messages."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from ov_seg_ros.core.errors import InputError
from ov_seg_ros.core.label_space import LabelSpace
from ov_seg_ros.messages.label_info import decode_label_info_json, encode_label_info, encode_label_info_json

SPACE = LabelSpace("street", ("road", "car"), ((128, 64, 128), (0, 0, 142)))


def test_label_info() -> None:
    names = (
        "vision_msgs/msg/LabelInfo",
        "vision_msgs/msg/VisionClass",
        "std_msgs/msg/Header",
        "builtin_interfaces/msg/Time",
    )
    message = encode_label_info(SPACE, dict.fromkeys(names, SimpleNamespace), 1_000_000_002, "lidar", threshold=0.5)
    assert [(entry.class_id, entry.class_name) for entry in message.class_map] == [(0, "road"), (1, "car")]
    assert (message.threshold, message.header.frame_id, message.header.stamp.nanosec) == (0.5, "lidar", 2)


def test_without_vision_msgs() -> None:
    with pytest.raises(InputError, match="vision_msgs/msg/VisionClass was not handed in"):
        encode_label_info(SPACE, {})


def test_json_by_hand_and_back() -> None:
    text = encode_label_info_json(SPACE, version="7")
    assert json.loads(text) == {
        "name": "street",
        "version": "7",
        "ignore_id": 255,
        "classes": [
            {"id": 0, "name": "road", "color": [128, 64, 128]},
            {"id": 1, "name": "car", "color": [0, 0, 142]},
        ],
    }
    assert decode_label_info_json(text) == (SPACE, "7")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"name": "a", "version": "", "classes": [{"id": 0}]}'])
def test_other_json_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="expected label info as encode_label_info_json makes it"):
        decode_label_info_json(text)


def test_ids_out_of_order_are_refused() -> None:
    text = encode_label_info_json(SPACE).replace('"id": 1', '"id": 3')
    with pytest.raises(InputError, match="0 to 1 in order"):
        decode_label_info_json(text)
