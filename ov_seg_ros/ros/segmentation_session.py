"""All that lives between configure and cleanup: student, inputs, worker, outputs; and how they are wired."""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import time
from dataclasses import replace
from typing import Any

from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from sensor_msgs.msg import PointCloud2

from ov_seg_ros.core.errors import ConfigError
from ov_seg_ros.core.label_space import LabelSpace
from ov_seg_ros.core.matching import Match
from ov_seg_ros.refinement.refined_segmenter import SegmenterLike
from ov_seg_ros.ros.cameras import CameraInputs
from ov_seg_ros.ros.diagnostics import NodeReport, judge, judge_camera, values
from ov_seg_ros.ros.diagnostics_publisher import Status
from ov_seg_ros.ros.outputs import LabelInfoPublisher, Outputs
from ov_seg_ros.ros.parameters import NodeParameters
from ov_seg_ros.ros.qos import SensorSubscription
from ov_seg_ros.ros.scan_job import ScanJob
from ov_seg_ros.ros.scan_pipeline import OverlayTask, ScanPipeline
from ov_seg_ros.ros.transforms import open_transforms
from ov_seg_ros.ros.worker import LatestWorker

CHECK_PERIOD_S = 0.2
"""How often the inputs are looked at while somebody listens, seconds."""
MIN_DEPTH = 5
"""Clouds the middleware keeps while the executor is busy."""


class SegmentationSession:
    """A configured node: scans come in from the executor, a worker labels the latest.

    ``receive`` -> (matcher, if the student wants colour) -> worker -> clouds -> (match known) -> overlays.
    """

    def __init__(self, node: Node, parameters: NodeParameters, segmenter: SegmenterLike) -> None:
        """Creates the outputs and tells the classes; nothing is received before ``activate``.

        Raises:
            ConfigError: a class to filter does not exist, or the extrinsics file is missing or malformed.
        """
        check_filter_classes(parameters, segmenter.description.label_space)
        self._node = node
        self._parameters = parameters
        self._segmenter = segmenter
        self._transforms = open_transforms(node, parameters.extrinsics_file, parameters.fixed_frame)
        self._cameras = CameraInputs(node, parameters, self._transforms, self._on_match)
        self._outputs = Outputs(node, parameters, segmenter.description.label_space, lambda: self.check_inputs())
        self._label_info = LabelInfoPublisher(node)
        self._pipeline = ScanPipeline(node, segmenter, self._outputs, self._cameras, parameters)
        self._worker: LatestWorker[ScanJob, OverlayTask] = LatestWorker(
            urgent=self._label,
            spare=self._pipeline.draw,
            queue_size=parameters.queue_size,
            spare_size=parameters.queue_size * max(1, len(parameters.cameras)),
            on_error=self._on_error,
        )
        self._subscription: SensorSubscription | None = None
        self._timer = node.create_timer(CHECK_PERIOD_S, lambda: self.check_inputs(), clock=_steady_clock())
        self._timer.cancel()
        self._label_info.publish(segmenter.description.label_space, _version(segmenter, parameters))

    def activate(self) -> None:
        """Subscribes to the clouds and starts the worker."""
        self._worker.start()
        depth = max(MIN_DEPTH, self._parameters.queue_size + 2)
        self._subscription = SensorSubscription(self._node, PointCloud2, "~/input/pointcloud", self._receive, depth)
        self._timer.reset()
        self.check_inputs()

    def deactivate(self) -> None:
        """Unsubscribes; waits for the scan in work."""
        self._timer.cancel()
        if self._subscription is not None:
            self._subscription.destroy()
            self._subscription = None
        self._cameras.set_wanted(False)
        if not self._worker.stop():
            self._node.get_logger().error("the student did not finish its scan within 10 s; going on without it")

    def destroy(self) -> None:
        """Frees everything."""
        self.deactivate()
        self._node.destroy_timer(self._timer)
        self._cameras.destroy()
        self._transforms.close()
        self._outputs.destroy()
        self._label_info.destroy()

    def change_parameters(self, parameters: NodeParameters) -> None:
        """Takes over what may change while the node runs.

        Raises:
            ConfigError: a class to filter does not exist.
        """
        check_filter_classes(parameters, self._segmenter.description.label_space)
        self._parameters = parameters
        self._pipeline.parameters = parameters
        self._outputs.change_parameters(parameters)

    def statuses(self, state: str) -> tuple[list[Status], str]:
        """Diagnostics of the node and each camera, and the name of the model."""
        report = self._report(state)
        level, message = judge(report)
        lines = [Status("segmentation", level, message, values(report))]
        counters = self._cameras.counters
        for name, camera in self._cameras.states.items():
            level, message = judge_camera(camera.problem, camera.images_in, self._cameras.wanted)
            facts = {
                **counters[name],
                "images_in": camera.images_in,
                "has_camera_info": camera.model is not None,
                "transform": camera.transform,
            }
            lines.append(Status(f"camera {name}", level, message, {key: str(fact) for key, fact in facts.items()}))
        return lines, self._segmenter.description.label_space.name

    def check_inputs(self) -> None:
        """Listens to what somebody needs, and to nothing else; call once a second, for while nobody listens."""
        if self._subscription is None:
            return
        is_read = self._outputs.cloud_subscribers + self._outputs.overlay_subscribers > 0
        is_idle = self._outputs.tells_readers and not is_read
        unwanted = self._subscription.set_wanted(not is_idle)
        self._pipeline.counters.scans_in += unwanted
        self._pipeline.counters.scans_unwanted += unwanted
        self._subscription.check()
        wants_color = self._segmenter.uses_color and self._outputs.cloud_subscribers > 0
        self._cameras.set_wanted(wants_color or self._outputs.overlay_subscribers > 0)
        self._cameras.check()
        if is_idle:  # then once a second is enough
            self._timer.cancel()
        elif self._timer.is_canceled():
            self._timer.reset()

    def _receive(self, message: PointCloud2) -> None:
        self._pipeline.counters.scans_in += 1
        if self._outputs.cloud_subscribers + self._outputs.overlay_subscribers == 0:
            self._pipeline.counters.scans_unwanted += 1
            return
        job = ScanJob(message)
        if self._segmenter.uses_color and self._cameras.wanted:
            self._cameras.add_scan(job)
            return
        self._worker.submit(job)
        if self._cameras.wanted:
            self._cameras.add_scan(job)

    def _on_match(self, match: Match[ScanJob]) -> None:
        is_labelled = match.scan.set_match(match)
        if self._segmenter.uses_color:
            self._worker.submit(match.scan)
        elif is_labelled:
            self._request_overlays(match.scan)

    def _label(self, job: ScanJob) -> None:
        if self._pipeline.label(job):
            self._request_overlays(job)

    def _request_overlays(self, job: ScanJob) -> None:
        for name in self._parameters.cameras:
            if self._outputs.wants_overlay(name):
                self._worker.submit_spare(OverlayTask(job, name))

    def _on_error(self, error: Exception) -> None:
        if self._node.context.ok():  # publishers are gone after a shutdown
            self._pipeline.reject(f"{type(error).__name__}: {error} (a defect of this node, please report it)")

    def _report(self, state: str) -> NodeReport:
        now_s = time.monotonic()
        report = NodeReport(
            state=state,
            subscribers=self._outputs.cloud_subscribers + self._outputs.overlay_subscribers,
            counters=self._pipeline.counters,
            dropped=self._worker.dropped,
            timing=self._pipeline.timing,
            facts=self._facts(),
            max_processing_time_ms=self._parameters.max_processing_time_ms,
            max_consecutive_delay_ms=self._parameters.max_consecutive_delay_ms,
            now_s=now_s,
        )
        if self._subscription is None:
            return report
        return replace(
            report,
            missed=self._subscription.missed,
            topic=self._subscription.topic,
            publishers=self._subscription.publishers,
            qos_problem=self._subscription.problem,
            silence_s=None if self._subscription.latest_s is None else now_s - self._subscription.latest_s,
            transport_ms=self._subscription.transport_ms,
            has_large_data=_has_large_data(),
        )

    def _facts(self) -> dict[str, Any]:
        description = self._segmenter.description
        return {
            "provider": self._segmenter.provider,
            "model_sha256": self._segmenter.sha256,
            "classes": ", ".join(description.label_space.class_names),
            "uses_color": self._segmenter.uses_color,
            "refinement": self._parameters.refinement,
            "class_map": self._parameters.class_map or "none",
            "scans_waiting": self._worker.waiting,
            "overlays_dropped": self._worker.spare_dropped,
            "stamp_resets": self._cameras.resets,
        }


def check_filter_classes(parameters: NodeParameters, label_space: LabelSpace) -> None:
    """Makes sure that every class of ``filter.classes`` is one of the student.

    Raises:
        ConfigError: one is not; names the nearest.
    """
    known = label_space.class_names
    for name in parameters.filter_classes:
        if name not in known:
            nearest = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {nearest[0]!r}?" if nearest else f"its classes are {', '.join(known)}"
            raise ConfigError(f"filter.classes: the student has no class {name!r}: {hint}")


def _version(segmenter: SegmenterLike, parameters: NodeParameters) -> str:
    """Another one for other classes: the hash of the model, with a class map also that of the classes."""
    if not parameters.class_map:
        return segmenter.sha256
    classes = json.dumps(segmenter.description.label_space.to_dict())
    return f"{segmenter.sha256}+{hashlib.sha256(classes.encode()).hexdigest()}"


def _steady_clock() -> Clock:
    """Goes on while a simulated clock stands still."""
    return Clock(clock_type=ClockType.STEADY_TIME)


def _has_large_data() -> bool:
    """Whether this process was started with a transport for large messages, as far as the environment tells."""
    profiles = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")
    return "LARGE_DATA" in os.environ.get("FASTDDS_BUILTIN_TRANSPORTS", "") or any(map(os.environ.get, profiles))
