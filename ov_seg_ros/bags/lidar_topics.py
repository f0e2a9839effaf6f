"""Which topic of a recording is the LiDAR."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ov_seg_ros.bags.message_types import POINT_CLOUD
from ov_seg_ros.bags.messages import TopicSummary
from ov_seg_ros.core.errors import InputError

if TYPE_CHECKING:
    from ov_seg_ros.bags.recording import Recording

OWN_PREFIXES = ("/ground_truth/", "/ov_seg/")
"""Namespaces this project writes itself."""

_OWN_OUTPUTS = ("/output/pointcloud/segmentation", "/output/pointcloud/visualization", "/output/pointcloud/filtered")
_PACKET_TYPES = ("VelodyneScan", "PacketMsg", "LaserScan", "HesaiScan", "UdpFrame", "CustomMsg", "RslidarPacket")
_RADAR_FIELDS = frozenset({"doppler", "rcs", "radial_speed", "v_doppler_mps"})
_COLOR_FIELDS = frozenset({"rgb", "rgba"})


def find_lidar_topic(recording: Recording, topic: str | None = None) -> str:
    """Finds the LiDAR, or checks the topic that was asked for.

    A LiDAR is a PointCloud2 topic with x, y, z and without a class id (our own output), colours (a depth camera) or
    Doppler fields (a radar). If only such clouds exist they count as well.

    Args:
        recording: where to look.
        topic: what the user asked for; None = find it.

    Raises:
        InputError: none or several candidates, or the topic asked for holds no clouds; the message holds the
            options to paste.
    """
    clouds = [t for t in recording.topics_of(POINT_CLOUD) if not _is_own(t.name)]
    if topic is not None:
        return _check_asked(recording, topic, clouds)
    candidates = [t for t in clouds if _looks_like_lidar(recording, t.name)] or [
        t for t in clouds if "class_id" not in _field_names(recording, t.name)
    ]
    if len(candidates) == 1:
        return candidates[0].name
    if not candidates:
        raise InputError(f"{recording.path} holds no LiDAR: {_what_else(recording)}")
    raise InputError(
        f"{recording.path} holds {len(candidates)} LiDAR topics; choose one:\n{_hints(recording, candidates)}"
    )


def describe_cloud_topic(recording: Recording, topic: TopicSummary) -> str:
    """One line to paste: ``--lidar-topic /x  (1,200 messages, 64k points, frame velodyne)``."""
    message = recording.first_decodable(topic.name)
    if message is None:
        return f"--lidar-topic {topic.name}  (no messages that can be read)"
    points = int(message.width) * int(message.height)
    size = f"{round(points / 1000)}k" if points >= 1000 else str(points)
    frame = message.header.frame_id or "(empty)"
    return f"--lidar-topic {topic.name}  ({topic.count:,} messages, {size} points, frame {frame})"


def _check_asked(recording: Recording, topic: str, clouds: list[TopicSummary]) -> str:
    found = recording.topics.get(topic) or recording.topics.get(f"/{topic}")
    if found is not None and found.type_name == POINT_CLOUD and found.count:
        return found.name
    if found is None:
        problem = "has no topic"
    elif found.type_name != POINT_CLOUD:
        problem = f"holds {found.type_name}, not {POINT_CLOUD}, on topic"
    else:
        problem = "has no messages on topic"
    options = f"; choose one:\n{_hints(recording, clouds)}" if clouds else f"; {_what_else(recording)}"
    raise InputError(f"{recording.path} {problem} {topic}{options}")


def _hints(recording: Recording, topics: list[TopicSummary]) -> str:
    return "\n".join(f"  {describe_cloud_topic(recording, t)}" for t in topics)


def _is_own(name: str) -> bool:
    return name.startswith(OWN_PREFIXES) or name.endswith(_OWN_OUTPUTS)


def _looks_like_lidar(recording: Recording, name: str) -> bool:
    fields = _field_names(recording, name)
    return {"x", "y", "z"} <= fields and not fields & (_COLOR_FIELDS | _RADAR_FIELDS | {"class_id"})


def _field_names(recording: Recording, name: str) -> frozenset[str]:
    first = recording.first_decodable(name)
    return frozenset(f.name for f in first.fields) if first else frozenset()


def _what_else(recording: Recording) -> str:
    """Why there is no LiDAR: what the recording holds instead, raw packets first."""
    packets = [t for t in recording.topics.values() if t.type_name.rsplit("/", 1)[-1] in _PACKET_TYPES]
    if packets:
        names = ", ".join(f"{t.name} ({t.type_name})" for t in packets)
        return f"it holds {names}; run the driver's conversion node and record its {POINT_CLOUD} topic"
    listed = ", ".join(f"{t.name} ({t.type_name}, {t.count:,})" for t in recording.topics.values())
    return f"expected a topic of type {POINT_CLOUD} with messages; it holds: {listed or 'nothing'}"
