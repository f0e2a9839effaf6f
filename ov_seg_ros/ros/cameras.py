"""The cameras of the node: subscriptions, matching to scans, and decoding into ``CameraImage``."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from ov_seg_ros.core.camera import CameraModel
from ov_seg_ros.core.data_types import CameraImage
from ov_seg_ros.core.errors import OvSegError
from ov_seg_ros.core.matching import Match, MatchedImage, ScanMatcher
from ov_seg_ros.messages.assembly import read_stamp_ns
from ov_seg_ros.messages.camera_info import decode_camera_info
from ov_seg_ros.messages.images import decode_image
from ov_seg_ros.ros.parameters import NodeParameters
from ov_seg_ros.ros.qos import SensorSubscription
from ov_seg_ros.ros.scan_job import ScanJob
from ov_seg_ros.ros.transforms import TransformQuery, TransformSource

DEADLINE_CHECK_S = 0.02


@dataclass
class CameraState:
    """What is known about one camera.

    Attributes:
        model: from the latest camera_info, None before and if that one was refused.
        refusal: why the latest camera_info was refused, empty if it was not.
        images_in: images received.
        problem: why the last scan got no image of it, empty if it got one.
        transform: "known", or why the latest lookup failed.
    """

    model: CameraModel | None = None
    refusal: str = ""
    calibration: tuple[Any, ...] = ()
    images_in: int = 0
    problem: str = "not looked at yet"
    transform: str = "not looked up yet"


class CameraInputs:
    """All cameras of the node. Subscribes only while somebody needs images."""

    def __init__(
        self,
        node: Node,
        parameters: NodeParameters,
        transforms: TransformSource,
        on_match: Callable[[Match[ScanJob]], None],
    ) -> None:
        """Prepares; ``set_wanted(True)`` subscribes.

        Args:
            node: owner of the subscriptions.
            parameters: cameras, their timing, deadline and history.
            transforms: where the cameras are.
            on_match: gets every match in the executor's thread.
        """
        self._node = node
        self._parameters = parameters
        self._transforms = transforms
        self._on_match = on_match
        self._matcher = self._new_matcher()
        self._subscriptions: list[SensorSubscription] = []
        steady = Clock(clock_type=ClockType.STEADY_TIME)  # deadlines must pass while a simulated clock stands still
        self._timer = node.create_timer(DEADLINE_CHECK_S, lambda: self._release(), clock=steady)
        self._timer.cancel()
        self._resets_seen = 0
        self.states = {name: CameraState() for name in parameters.cameras}

    @property
    def counters(self) -> dict[str, dict[str, int]]:
        """Paired, too_far, missing and stale per camera."""
        return self._matcher.counters

    @property
    def resets(self) -> int:
        """Backward jumps of the stamps so far."""
        return self._matcher.resets

    @property
    def wanted(self) -> bool:
        """Whether the image topics are subscribed."""
        return bool(self._subscriptions)

    def set_wanted(self, wanted: bool) -> None:
        """Subscribes to the cameras, or leaves them; does nothing if that is the case already."""
        if wanted and not self._subscriptions:
            for name in self.states:
                self._subscribe(name)
        if not wanted and self._subscriptions:
            self.close()

    def close(self) -> None:
        """Unsubscribes; scans that wait are released with the images they have."""
        for subscription in self._subscriptions:
            subscription.destroy()
        self._subscriptions = []
        self._release(now_ns=time.monotonic_ns() + self._parameters.deadline_ns)

    def destroy(self) -> None:
        """Unsubscribes and ends the timer."""
        self.close()
        self._node.destroy_timer(self._timer)

    def check(self) -> None:
        """Mends subscriptions; call now and then from the executor."""
        for subscription in self._subscriptions:
            subscription.check()

    def add_scan(self, job: ScanJob) -> None:
        """Starts to look for the images of a scan; ``on_match`` gets the result."""
        self._matcher.add_scan(job.stamp_ns, job, time.monotonic_ns())
        self._release()

    def decode(self, name: str, job: ScanJob, frame_id: str) -> CameraImage | None:
        """The image of one camera for a matched scan; None without image, calibration or transform.

        Args:
            name: of the camera.
            job: a scan; its match may be unknown.
            frame_id: frame of its points.
        """
        if job.match is None:
            return None
        if name not in job.images:
            job.images[name] = self._decode(name, job, job.match.images[name], frame_id)
        return job.images[name]

    def _decode(self, name: str, job: ScanJob, matched: MatchedImage, frame_id: str) -> CameraImage | None:
        state = self.states[name]
        state.problem = _why_unpaired(matched, state)
        if state.problem or state.model is None:
            return None
        header = matched.image.header
        query = TransformQuery(name, header.frame_id, read_stamp_ns(header), frame_id, job.stamp_ns)
        try:
            camera_from_lidar = self._look_up(state, query)
            pixels = decode_image(matched.image)
            return CameraImage(name, pixels, state.model, camera_from_lidar, query.camera_stamp_ns)
        except OvSegError as error:
            state.problem = str(error)
            self._warn(f"camera {name}: {error}")
            return None

    def _look_up(self, state: CameraState, query: TransformQuery) -> NDArray[np.float64]:
        try:
            camera_from_lidar = self._transforms.camera_from_lidar(query)
        except OvSegError as error:
            state.transform = str(error)
            raise
        state.transform = "known"
        return camera_from_lidar

    def _subscribe(self, name: str) -> None:
        depth = self._parameters.history
        for topic, kind, receive in (
            (f"~/input/{name}/camera_info", CameraInfo, self._receive_info),
            (f"~/input/{name}/image", Image, self._receive_image),
            (f"~/input/{name}/image/compressed", CompressedImage, self._receive_image),
        ):
            self._subscriptions.append(SensorSubscription(self._node, kind, topic, _bind(receive, name), depth))

    def _receive_info(self, name: str, message: CameraInfo) -> None:
        state = self.states[name]
        calibration = _calibration_of(message)
        if calibration == state.calibration:
            return
        state.calibration = calibration
        try:
            state.model, state.refusal = decode_camera_info(message, self._parameters.images_rectified), ""
        except OvSegError as error:
            state.model, state.refusal = None, str(error)
            self._warn(f"camera {name}: camera_info refused: {error}")

    def _receive_image(self, name: str, message: Image | CompressedImage) -> None:
        self.states[name].images_in += 1
        self._matcher.add_image(name, read_stamp_ns(message.header), message)
        self._release()

    def _release(self, now_ns: int | None = None) -> None:
        if self._matcher.resets != self._resets_seen:
            self._resets_seen = self._matcher.resets
            self._transforms.reset()
            self._node.get_logger().info("stamps jumped backward: the recording started over")
        for match in self._matcher.pop_ready(time.monotonic_ns() if now_ns is None else now_ns):
            self._on_match(match)
        if self._matcher.waiting and self._timer.is_canceled():
            self._timer.reset()
        elif not self._matcher.waiting:
            self._timer.cancel()

    def _new_matcher(self) -> ScanMatcher[ScanJob]:
        return ScanMatcher(self._parameters.cameras, self._parameters.deadline_ns, self._parameters.history)

    def _warn(self, text: str) -> None:
        self._node.get_logger().warning(text, throttle_duration_sec=1.0)


def _bind(receive: Callable[[str, Any], None], name: str) -> Callable[[Any], None]:
    return lambda message: receive(name, message)


def _calibration_of(message: CameraInfo) -> tuple[Any, ...]:
    """All that decides what a camera_info means."""
    roi = message.roi
    window = (roi.x_offset, roi.y_offset, roi.width, roi.height)
    size = (message.width, message.height, message.binning_x, message.binning_y, window)
    numbers = (tuple(values) for values in (message.k, message.d, message.r, message.p))
    return (size, message.distortion_model, *numbers)


def _why_unpaired(matched: MatchedImage, state: CameraState) -> str:
    """Why there is no image to decode; empty if there is one."""
    if matched.outcome == "missing":
        return "no image received yet" if state.images_in == 0 else "no image since the last reset"
    if matched.outcome != "paired":
        apart = abs(matched.gap_ns or 0) * 1e-9
        side = "the camera lags or has stopped" if matched.outcome == "stale" else "wrong offset or clock"
        return f"stamps {apart:.3f} s apart ({matched.outcome}: {side})"
    if state.model is None:
        return f"camera_info refused: {state.refusal}" if state.refusal else "no camera_info received yet"
    return ""
