"""What the worker does with a scan: decode, segment, publish; and with a labelled one in spare time: overlays."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from rclpy.node import Node

from ov_seg_ros.core.errors import OvSegError
from ov_seg_ros.core.overlay import overlay_labels
from ov_seg_ros.messages.pointcloud2 import decode_pointcloud2
from ov_seg_ros.refinement.refined_segmenter import STAGE as REFINEMENT
from ov_seg_ros.refinement.refined_segmenter import SegmenterLike
from ov_seg_ros.ros.cameras import CameraInputs
from ov_seg_ros.ros.diagnostics import ScanCounters, Timing
from ov_seg_ros.ros.outputs import Outputs
from ov_seg_ros.ros.parameters import NodeParameters
from ov_seg_ros.ros.scan_job import ScanJob
from ov_seg_ros.runtime.stage_timer import StageTimer


@dataclass(frozen=True)
class OverlayTask:
    """One overlay to draw: small enough that the next scan does not wait long for it.

    Attributes:
        job: a labelled scan whose match is known.
        camera: whose image to draw on.
    """

    job: ScanJob
    camera: str


class ScanPipeline:
    """Labels scans, one at a time, in the worker's thread.

    Attributes:
        counters: where the scans went.
        timing: how long the latest took.
    """

    def __init__(
        self, node: Node, segmenter: SegmenterLike, outputs: Outputs, cameras: CameraInputs, parameters: NodeParameters
    ) -> None:
        """Joins the parts."""
        self._node = node
        self._segmenter = segmenter
        self._outputs = outputs
        self._cameras = cameras
        self.parameters = parameters
        self.counters = ScanCounters()
        self.timing = Timing()

    def label(self, job: ScanJob) -> bool:
        """Labels and publishes one scan; a message that cannot be labelled is counted and reported.

        Returns:
            Whether the labels came after the images, so that overlays can be drawn now.
        """
        try:
            return self._label(job)
        except OvSegError as error:
            self.reject(str(error))
            return False

    def draw(self, task: OverlayTask) -> None:
        """Draws and publishes the overlay of one camera, if it has an image for the scan."""
        job = task.job
        if job.cloud is None or job.segmented is None or job.match is None:
            return
        image = self._cameras.decode(task.camera, job, job.cloud.frame_id)
        if image is None:
            return
        colors = self._segmenter.description.label_space.colors
        drawn = overlay_labels(image, job.cloud, job.segmented, colors, self.parameters.point_radius)
        self._outputs.publish_overlay(image, drawn, job.match.images[task.camera].image.header.frame_id)

    def reject(self, reason: str) -> None:
        """Counts a scan that was not labelled."""
        self.counters.bad_messages += 1
        self.counters.last_bad_reason = reason
        self.counters.last_bad_s = time.monotonic()
        self._node.get_logger().warning(f"scan dropped: {reason}", throttle_duration_sec=1.0)

    def _label(self, job: ScanJob) -> bool:
        timer = StageTimer()
        with timer.stage("total"):
            with timer.stage("decode"):
                decoded = decode_pointcloud2(job.message)
                images = self._images(job, decoded.cloud.frame_id)
            segmented = self._segmenter.segment(decoded.cloud, images)
            with timer.stage("encode"):
                self._outputs.publish_clouds(decoded, segmented)
        self.counters.scans_labelled += 1
        self.counters.points += len(segmented)
        self._account({**segmented.stage_ms, **timer.stage_ms}, job)
        return job.set_labels(decoded.cloud, segmented)

    def _images(self, job: ScanJob, frame_id: str) -> tuple[Any, ...]:
        if not self._segmenter.uses_color:
            return ()
        found = [self._cameras.decode(name, job, frame_id) for name in self.parameters.cameras]
        return tuple(image for image in found if image is not None)

    def _account(self, stage_ms: dict[str, float], job: ScanJob) -> None:
        now_s = time.monotonic()
        latency_ms = (self._node.get_clock().now().nanoseconds - job.stamp_ns) * 1e-6
        timing, slow = self.timing, stage_ms["total"] > self.parameters.max_processing_time_ms
        timing.processing_ms = stage_ms["total"]
        timing.latency_ms = latency_ms
        timing.refinement_ms = stage_ms.get(REFINEMENT)
        timing.negative_latencies += latency_ms < 0
        if not slow:
            timing.slow_since_s = None
        elif timing.slow_since_s is None:
            timing.slow_since_s = now_s
        self._outputs.publish_times(stage_ms, latency_ms if latency_ms >= 0 else None)
