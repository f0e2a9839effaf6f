"""What one maker of messages puts on the wire, the other one reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ov_seg_ros.core.camera import CameraModel
from ov_seg_ros.messages.camera_info import decode_camera_info, encode_camera_info
from ov_seg_ros.messages.images import decode_image, encode_compressed_image, encode_image
from ov_seg_ros.messages.pointcloud2 import decode_pointcloud2, encode_cloud

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
CAMERA = CameraModel(640, 480, 400.0, 410.0, 310.0, 245.0, "equidistant", (0.01, 0.0, 0.0, 0.001))
MESSAGES: dict[str, Callable[[Any], Any]] = {
    "PointCloud2": lambda types: encode_cloud(
        {name: np.arange(5, dtype=np.float32) for name in "xyz"}, 1_000_000_002, "lidar"
    ).to_message(types),
    "Image": lambda types: encode_image(PIXELS, types, 3, "camera"),
    "CompressedImage": lambda types: encode_compressed_image(PIXELS, types, 3, "camera"),
    "CameraInfo": lambda types: encode_camera_info(CAMERA, types, 3, "camera"),
}
DECODERS: dict[str, Callable[[Any], Any]] = {
    "PointCloud2": lambda message: decode_pointcloud2(message).cloud.points,
    "Image": decode_image,
    "CompressedImage": decode_image,
    "CameraInfo": lambda message: decode_camera_info(message).distortion,
}


@pytest.mark.parametrize("name", MESSAGES)
def test_rosbags_and_rclpy_agree(name: str) -> None:
    serialization = pytest.importorskip("rclpy.serialization", reason="needs rclpy")
    ros = {
        f"{package}/msg/{kind}": getattr(pytest.importorskip(f"{package}.msg"), kind)
        for package, kinds in {
            "sensor_msgs": (*MESSAGES, "PointField", "RegionOfInterest"),
            "std_msgs": ("Header",),
            "builtin_interfaces": ("Time",),
        }.items()
        for kind in kinds
    }
    typesys = pytest.importorskip("rosbags.typesys")
    store = typesys.get_typestore(typesys.Stores.ROS2_JAZZY)
    type_name = f"sensor_msgs/msg/{name}"
    from_rosbags, from_rclpy = MESSAGES[name](store.types), MESSAGES[name](ros)
    wire = bytes(store.serialize_cdr(from_rosbags, type_name))
    read = serialization.deserialize_message(wire, ros[type_name])
    assert read == from_rclpy
    back = store.deserialize_cdr(serialization.serialize_message(from_rclpy), type_name)
    for message in (read, back):
        np.testing.assert_array_equal(DECODERS[name](message), DECODERS[name](from_rosbags))
