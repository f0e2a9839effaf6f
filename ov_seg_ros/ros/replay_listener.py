"""Hears everything a segmentation node says during a replay."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import Float64, String

from ov_seg_ros.core.label_space import LabelSpace
from ov_seg_ros.refinement.refined_segmenter import STAGE as REFINEMENT

DEPTH = 1000
STAGES = ("decode", "preprocess", "inference", "postprocess", REFINEMENT, "encode")
"""The stages a node may have; those that it never reports stay empty."""


@dataclass(frozen=True)
class NodeState:
    """What the node's latest diagnostics say.

    Attributes:
        values: key to text.
        message: its one sentence about itself.
        heard_s: monotonic time of reception.
    """

    values: dict[str, str]
    message: str
    heard_s: float

    def count(self, key: str) -> int:
        """A counter; 0 if the node does not have it."""
        return int(self.values.get(key, "0"))


class NodeListener:
    """Subscribes to the outputs of one segmentation node.

    Attributes:
        label_info: the node's class list as JSON content, None before it came.
        state: latest diagnostics, None before the first.
        latencies_ms: from header stamp to publication, in the order of publication.
        stages_ms: processing time per stage, likewise.
        last_output_s: monotonic time of the latest labelled scan.
    """

    def __init__(self, node: Node, target: str, on_labelled: Callable[[bytes], None]) -> None:
        """Subscribes.

        Args:
            node: owner of the subscriptions.
            target: name of the segmentation node ("/segmentation_node").
            on_labelled: gets every labelled scan, serialised, in the executor's thread.
        """
        self._target = target
        self._on_labelled = on_labelled
        self.label_info: dict[str, Any] | None = None
        self.state: NodeState | None = None
        self.latencies_ms: list[float] = []
        self.stages_ms: dict[str, list[float]] = {name: [] for name in STAGES}
        self.last_output_s = 0.0
        reliable = QoSProfile(depth=DEPTH, reliability=ReliabilityPolicy.RELIABLE)
        latched = QoSProfile(
            depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL
        )
        cloud_topic = f"{target}/output/pointcloud/segmentation"
        self._clouds = node.create_subscription(PointCloud2, cloud_topic, self._hear_cloud, reliable, raw=True)
        node.create_subscription(
            Float64, f"{target}/debug/pipeline_latency_ms", lambda m: self.latencies_ms.append(m.data), reliable
        )
        for name, values in self.stages_ms.items():
            topic = f"{target}/debug/processing_time/{name}_ms"
            node.create_subscription(Float64, topic, _append_to(values), reliable)
        node.create_subscription(String, f"{target}/label_info_json", self._hear_label_info, latched)
        node.create_subscription(DiagnosticArray, "/diagnostics", self._hear_diagnostics, reliable)

    @property
    def writers(self) -> int:
        """Publishers of labelled clouds that were discovered."""
        return int(self._clouds.get_publisher_count())

    @property
    def label_space(self) -> LabelSpace | None:
        """The node's classes."""
        if self.label_info is None:
            return None
        classes = self.label_info["classes"]
        names = tuple(str(entry["name"]) for entry in classes)
        palette = tuple((int(r), int(g), int(b)) for r, g, b in (entry["color"] for entry in classes))
        return LabelSpace(str(self.label_info["name"]), names, palette)

    def _hear_cloud(self, data: bytes) -> None:
        self.last_output_s = time.monotonic()
        self._on_labelled(data)

    def _hear_label_info(self, message: String) -> None:
        self.label_info = json.loads(message.data)

    def _hear_diagnostics(self, message: DiagnosticArray) -> None:
        name = f"{self._target.rsplit('/', 1)[-1]}: segmentation"
        for status in message.status:
            if status.name == name:
                values = {entry.key: entry.value for entry in status.values}
                self.state = NodeState(values, status.message, time.monotonic())


def _append_to(values: list[float]) -> Callable[[Float64], None]:
    return lambda message: values.append(message.data)
