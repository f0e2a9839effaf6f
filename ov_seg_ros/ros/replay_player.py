"""Publishes a recording to the inputs of a segmentation node, at its recorded pace."""

from __future__ import annotations

import re
import time
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2

from ov_seg_ros.bags.cameras import CameraTopics
from ov_seg_ros.bags.message_types import TF, standard_typestore
from ov_seg_ros.bags.messages import RecordedMessage
from ov_seg_ros.bags.recording import Recording
from ov_seg_ros.core.errors import InputError
from ov_seg_ros.ros.replay_clock import ReplayClock, restamp_transforms, stamp_shift, with_stamp

DEPTH = 100
"""Messages the middleware keeps per topic until the node has acknowledged them."""
HEAD_START_NS = 200_000_000
NODE_CAMERA = re.compile(r"^[A-Za-z][A-Za-z0-9_]*$")
"""Camera names that a segmentation node takes."""


@dataclass(frozen=True)
class PublishedScan:
    """A scan of the recording that was published.

    Attributes:
        stamp_ns: its stamp in the recording.
        received_ns: its reception in the recording.
    """

    stamp_ns: int
    received_ns: int


class Player:
    """Publishes clouds, images, calibrations and, where tf2_msgs is installed, transforms.

    Attributes:
        lidar_topic: of the recording.
        cameras: of the recording that are played.
        scans: published scans by the stamp they were published with.
        published: how many.
        worst_lateness_ns: of a scan behind its schedule.
        unplayable: why each message that could not be published was left out, by its topic.
        stamp_shift_ns: added to the stamps of the recording because they are of another clock; 0 = they are not.
    """

    def __init__(
        self, node: Node, target: str, recording: Recording, lidar_topic: str, cameras: Sequence[CameraTopics]
    ) -> None:
        """Creates the publishers.

        Args:
            node: their owner.
            target: name of the segmentation node ("/segmentation_node").
            recording: a rosbag2.
            lidar_topic: its LiDAR.
            cameras: its cameras; one without a calibration, or whose name the node does not take, is left out.

        Raises:
            InputError: a ROS 1 bag, whose messages are serialised differently.
        """
        if recording.is_ros1:
            raise InputError(
                f"{recording.path} is a ROS 1 bag; convert it first: rosbags-convert --src {recording.path} --dst NEW"
            )
        self._node = node
        self._recording = recording
        self.lidar_topic = lidar_topic
        self.cameras = [camera for camera in cameras if camera.info_topic and NODE_CAMERA.match(camera.name)]
        reliable = QoSProfile(depth=DEPTH, reliability=ReliabilityPolicy.RELIABLE)
        self._clouds = node.create_publisher(PointCloud2, f"{target}/input/pointcloud", reliable)
        self._publishers: dict[str, Publisher] = {lidar_topic: self._clouds}
        self._infos: dict[str, CameraTopics] = {}
        for camera in self.cameras:
            self._add_camera(camera, f"{target}/input/{camera.name}", reliable)
        self._transforms = self._transform_publishers()
        self.scans: dict[int, deque[PublishedScan]] = defaultdict(deque)
        self.published = 0
        self.worst_lateness_ns = 0
        self.unplayable: dict[str, list[str]] = defaultdict(list)
        self.stamp_shift_ns = 0

    @property
    def readers(self) -> int:
        """Subscriptions to the clouds."""
        return int(self._clouds.get_subscription_count())

    @property
    def topics(self) -> list[str]:
        """Topics of the recording that are played."""
        return [*self._publishers, *self._infos, *self._transforms]

    def play(self, rate: float = 1.0) -> Iterator[PublishedScan]:
        """Publishes everything once and hands out each scan after it was published.

        Every message has its own moment on one absolute schedule, so delays do not add up.

        Args:
            rate: recorded seconds per second.

        Raises:
            InputError: the recording cannot be read to its end; a message that cannot be decoded is ``unplayable``.
        """
        clock = self._new_clock(rate)
        self._send_first_infos(clock)
        for message in self._recording.iter_messages(self.topics):
            try:
                scan = self._send_in_time(message, clock)
            except InputError as error:
                self.unplayable[message.topic].append(str(error))
                continue
            if scan is not None:
                yield scan

    def _new_clock(self, rate: float) -> ReplayClock:
        first = self._recording.first(self.lidar_topic)
        if first is None:
            raise InputError(f"{self._recording.path}: topic {self.lidar_topic} holds no messages")
        self.stamp_shift_ns = stamp_shift(first.received_ns, first.stamp_or_received_ns)
        start_ns = self._recording.start_ns
        return ReplayClock(start_ns, time.time_ns() + HEAD_START_NS, rate, self.stamp_shift_ns)

    def _send_in_time(self, message: RecordedMessage, clock: ReplayClock) -> PublishedScan | None:
        is_scan = message.topic == self.lidar_topic
        if is_scan:
            message.decode()  # what is no cloud at all would vanish in the middleware without a trace
        due_ns = clock.publish_ns(message.received_ns)
        time.sleep(max(0.0, (due_ns - time.time_ns()) * 1e-9))
        if is_scan:
            self.worst_lateness_ns = max(self.worst_lateness_ns, time.time_ns() - due_ns)
            return self._send_scan(message, clock)
        if message.topic in self._transforms:
            self._send_transforms(message, clock)
        else:
            self._send(message, clock)
        return None

    def _send_scan(self, message: RecordedMessage, clock: ReplayClock) -> PublishedScan:
        scan = PublishedScan(message.stamp_ns, message.received_ns)
        stamp_ns = clock.stamp_ns(scan.stamp_ns)
        self.scans[stamp_ns].append(scan)  # before publishing: the answer may come at once
        self._clouds.publish(with_stamp(message.data, stamp_ns))
        self.published += 1
        return scan

    def _send(self, message: RecordedMessage, clock: ReplayClock) -> None:
        camera = self._infos.get(message.topic)
        data = message.data if camera is None or not camera.rectified else _rectified_info(message)
        publisher = self._publishers[message.topic]
        if publisher.get_subscription_count():
            publisher.publish(with_stamp(data, clock.stamp_ns(message.stamp_ns)))

    def _send_first_infos(self, clock: ReplayClock) -> None:
        """Calibrations go ahead, so that the first image can be used."""
        for topic in self._infos:
            first = self._recording.first(topic)
            if first is not None:
                with suppress(InputError):  # it is met again, and counted, on the way
                    self._send(first, clock)

    def _send_transforms(self, message: RecordedMessage, clock: ReplayClock) -> None:
        decoded = message.decode()
        restamp_transforms(decoded, clock)
        self._transforms[message.topic].publish(bytes(standard_typestore().serialize_cdr(decoded, TF)))

    def _add_camera(self, camera: CameraTopics, prefix: str, qos: QoSProfile) -> None:
        kind: Any = CompressedImage if camera.compressed else Image
        topic = f"{prefix}/image/compressed" if camera.compressed else f"{prefix}/image"
        self._publishers[camera.image_topic] = self._node.create_publisher(kind, topic, qos)
        if camera.info_topic is not None:
            self._infos[camera.info_topic] = camera
            self._publishers[camera.info_topic] = self._node.create_publisher(CameraInfo, f"{prefix}/camera_info", qos)

    def _transform_publishers(self) -> dict[str, Publisher]:
        try:
            from tf2_msgs.msg import TFMessage
        except ImportError:
            return {}
        found = [t.name for t in self._recording.topics_of(TF) if t.name in ("/tf", "/tf_static")]
        latched = DurabilityPolicy.TRANSIENT_LOCAL
        return {
            name: self._node.create_publisher(
                TFMessage,
                name,
                QoSProfile(depth=DEPTH, durability=latched if name == "/tf_static" else DurabilityPolicy.VOLATILE),
            )
            for name in found
        }


def _rectified_info(message: RecordedMessage) -> bytes:
    """The calibration of images that are undistorted already: K from P, no distortion."""
    info = message.decode()
    info.k[:] = info.p.reshape(3, 4)[:, :3].ravel()
    info.d = info.d[:0]
    return bytes(standard_typestore().serialize_cdr(info, message.type_name))
