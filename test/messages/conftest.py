"""The message classes every encoder and decoder is tried with."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest


def _rclpy_types() -> dict[str, Any]:
    sensor_msgs = pytest.importorskip("sensor_msgs.msg", reason="needs the ROS message packages")
    std_msgs = pytest.importorskip("std_msgs.msg")
    geometry_msgs = pytest.importorskip("geometry_msgs.msg")
    builtin_interfaces = pytest.importorskip("builtin_interfaces.msg")
    names = ("PointCloud2", "PointField", "Image", "CompressedImage", "CameraInfo", "RegionOfInterest")
    types = {f"sensor_msgs/msg/{name}": getattr(sensor_msgs, name) for name in names}
    for name in ("TransformStamped", "Transform", "Vector3", "Quaternion"):
        types[f"geometry_msgs/msg/{name}"] = getattr(geometry_msgs, name)
    return types | {"std_msgs/msg/Header": std_msgs.Header, "builtin_interfaces/msg/Time": builtin_interfaces.Time}


def _rosbags_types() -> Any:
    typesys = pytest.importorskip("rosbags.typesys")
    return typesys.get_typestore(typesys.Stores.ROS2_JAZZY).types


class _Anything(dict):
    """Holds every type name: messages become plain objects."""

    def __contains__(self, name: object) -> bool:
        return True

    def __missing__(self, name: str) -> Any:
        return SimpleNamespace


@pytest.fixture(scope="session", params=["plain", "rosbags", "rclpy"])
def types(request: pytest.FixtureRequest) -> Any:
    """Message classes by ROS name, of three makers."""
    return {"plain": _Anything, "rosbags": _rosbags_types, "rclpy": _rclpy_types}[request.param]()
