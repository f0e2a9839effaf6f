"""Everything the node publishes about scans: clouds, overlays, times, and the class list. Nothing that nobody reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import builtin_interfaces.msg
import numpy as np
import sensor_msgs.msg
import std_msgs.msg
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.publisher import Publisher

from ov_seg_ros.core.data_types import CameraImage, SegmentedCloud
from ov_seg_ros.core.label_space import LabelSpace
from ov_seg_ros.messages.cloud_memory import CloudMemory
from ov_seg_ros.messages.images import encode_image
from ov_seg_ros.messages.label_info import encode_label_info, encode_label_info_json
from ov_seg_ros.messages.pointcloud2 import (
    DecodedCloud,
    encode_filtered,
    encode_segmentation,
    encode_visualization,
)
from ov_seg_ros.refinement.refined_segmenter import STAGE as REFINEMENT
from ov_seg_ros.ros.parameters import NodeParameters
from ov_seg_ros.ros.qos import LATCHED, create_output

MESSAGE_TYPES: Mapping[str, Any] = {
    "builtin_interfaces/msg/Time": builtin_interfaces.msg.Time,
    "std_msgs/msg/Header": std_msgs.msg.Header,
    "sensor_msgs/msg/PointField": sensor_msgs.msg.PointField,
    "sensor_msgs/msg/PointCloud2": sensor_msgs.msg.PointCloud2,
    "sensor_msgs/msg/Image": sensor_msgs.msg.Image,
}
STAGES = ("decode", "preprocess", "inference", "postprocess", REFINEMENT, "encode", "total")


class Outputs:
    """The publishers of one configured node."""

    def __init__(
        self, node: Node, parameters: NodeParameters, label_space: LabelSpace, on_readers: Callable[[], None]
    ) -> None:
        """Creates the publishers.

        Args:
            node: their owner.
            parameters: profile, filter, cameras.
            label_space: of the student.
            on_readers: called in the executor's thread when somebody subscribes to a cloud or an overlay, or leaves;
                only if ``tells_readers``.
        """
        self._node = node
        self._label_space = label_space
        self._on_readers = on_readers
        self._is_told: list[bool] = []
        cloud = sensor_msgs.msg.PointCloud2
        self._segmentation = self._watched_publisher(cloud, "~/output/pointcloud/segmentation")
        self._visualization = self._watched_publisher(cloud, "~/output/pointcloud/visualization")
        self._filtered = self._watched_publisher(cloud, "~/output/pointcloud/filtered")
        self._memories = {each: CloudMemory(MESSAGE_TYPES) for each in (self._segmentation, self._visualization)}
        self._overlays = {
            name: self._watched_publisher(sensor_msgs.msg.Image, f"~/output/image/overlay/{name}")
            for name in parameters.cameras
        }
        stages = [name for name in STAGES if name != REFINEMENT or parameters.refinement != "none"]
        self._stages = {name: self._number_publisher(f"~/debug/processing_time/{name}_ms") for name in stages}
        self._latency = self._number_publisher("~/debug/pipeline_latency_ms")
        self.change_parameters(parameters)

    @property
    def tells_readers(self) -> bool:
        """Whether nobody comes or goes without ``on_readers`` being called; else ask for the subscribers."""
        return all(self._is_told)

    def change_parameters(self, parameters: NodeParameters) -> None:
        """Takes over what may change while the node runs."""
        names = self._label_space.class_names
        self._profile = parameters.output_profile
        self._filter_ids = frozenset(names.index(name) for name in parameters.filter_classes)
        self._filter_threshold = parameters.filter_threshold

    @property
    def cloud_subscribers(self) -> int:
        """Subscribers of the three cloud topics."""
        return sum(p.get_subscription_count() for p in (self._segmentation, self._visualization, self._filtered))

    @property
    def overlay_subscribers(self) -> int:
        """Subscribers of all overlay topics."""
        return sum(publisher.get_subscription_count() for publisher in self._overlays.values())

    def wants_overlay(self, camera: str) -> bool:
        """Whether somebody looks at the overlay of a camera."""
        return self._overlays[camera].get_subscription_count() > 0

    def publish_clouds(self, decoded: DecodedCloud, segmented: SegmentedCloud) -> None:
        """Publishes the labelled cloud in each of the forms that are subscribed to.

        Label fields that the input has get the new values, which is said once.
        """
        if _is_read(self._segmentation):
            if decoded.label_fields and self._profile == "full":
                names = ", ".join(decoded.label_fields)
                self._node.get_logger().warning(
                    f"labels of the input are replaced by the student's: {names}", once=True
                )
            memory = self._memories[self._segmentation]
            cloud = encode_segmentation(decoded, segmented, self._profile, overwrite=True, allocate=memory.allocate)
            self._segmentation.publish(memory.to_message(cloud))
        if _is_read(self._visualization):
            memory = self._memories[self._visualization]
            cloud = encode_visualization(decoded, segmented.class_id, self._label_space.colors, memory.allocate)
            self._visualization.publish(memory.to_message(cloud))
        if _is_read(self._filtered):
            cloud = encode_filtered(decoded, segmented, self._filter_ids, self._filter_threshold)
            self._filtered.publish(cloud.to_message(MESSAGE_TYPES))

    def publish_times(self, stage_ms: Mapping[str, float], latency_ms: float | None) -> None:
        """Publishes how long the stages took, and the latency unless it is None."""
        for name, publisher in self._stages.items():
            if name in stage_ms and _is_read(publisher):
                publisher.publish(std_msgs.msg.Float64(data=stage_ms[name]))
        if latency_ms is not None and _is_read(self._latency):
            self._latency.publish(std_msgs.msg.Float64(data=latency_ms))

    def publish_overlay(self, image: CameraImage, drawn: NDArray[np.uint8], frame_id: str) -> None:
        """Publishes the overlay of one camera, with the stamp and frame of its image."""
        message = encode_image(drawn, MESSAGE_TYPES, image.stamp_ns, frame_id)
        self._overlays[image.name].publish(message)

    def destroy(self) -> None:
        """Removes the publishers."""
        every = (self._segmentation, self._visualization, self._filtered, self._latency)
        for publisher in (*every, *self._overlays.values(), *self._stages.values()):
            self._node.destroy_publisher(publisher)

    def _watched_publisher(self, message_type: Any, topic: str) -> Publisher:
        publisher, is_told = create_output(self._node, message_type, topic, self._on_readers)
        self._is_told.append(is_told)
        return publisher

    def _number_publisher(self, topic: str) -> Publisher:
        return create_output(self._node, std_msgs.msg.Float64, topic)[0]


class LabelInfoPublisher:
    """Publishes the class list once, latched: JSON always, vision_msgs/LabelInfo where it is installed."""

    def __init__(self, node: Node) -> None:
        """Creates the latched publishers."""
        self._node = node
        self._json = node.create_publisher(std_msgs.msg.String, "~/label_info_json", LATCHED)
        label_info = _vision_types().get("vision_msgs/msg/LabelInfo")
        self._label_info = node.create_publisher(label_info, "~/label_info", LATCHED) if label_info else None

    def publish(self, label_space: LabelSpace, version: str) -> None:
        """Tells the classes; the version stands in the JSON."""
        self._json.publish(std_msgs.msg.String(data=encode_label_info_json(label_space, version)))
        if self._label_info is not None:
            types = {**MESSAGE_TYPES, **_vision_types()}
            now_ns = self._node.get_clock().now().nanoseconds
            self._label_info.publish(encode_label_info(label_space, types, now_ns))

    def destroy(self) -> None:
        """Removes the publishers."""
        for publisher in (self._json, self._label_info):
            if publisher is not None:
                self._node.destroy_publisher(publisher)


def _vision_types() -> dict[str, Any]:
    """Classes of vision_msgs, none where it is not installed (the wheels on PyPI lack it)."""
    try:
        from vision_msgs.msg import LabelInfo, VisionClass
    except ImportError:
        return {}
    return {"vision_msgs/msg/LabelInfo": LabelInfo, "vision_msgs/msg/VisionClass": VisionClass}


def _is_read(publisher: Publisher) -> bool:
    return publisher.get_subscription_count() > 0
