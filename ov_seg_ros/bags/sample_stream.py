"""Scans of a recording with the images that belong to them, calibrated: ``Sample`` by ``Sample``."""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.bags.cameras import CameraTopics
from ov_seg_ros.bags.extrinsics import Extrinsics, TreeExtrinsics, Viewpoint
from ov_seg_ros.bags.layout import TRUTH_TOPIC as TRUTH_TOPIC
from ov_seg_ros.bags.messages import RecordedMessage
from ov_seg_ros.bags.recording import Recording
from ov_seg_ros.bags.unreadable_scans import UnreadableScan, on_one_line
from ov_seg_ros.core.camera import CameraModel
from ov_seg_ros.core.data_types import CameraImage, PointCloud, Sample
from ov_seg_ros.core.errors import ConfigError, InputError
from ov_seg_ros.core.matching import CameraTiming, Match, ScanMatcher
from ov_seg_ros.messages.camera_info import decode_camera_info
from ov_seg_ros.messages.images import decode_image
from ov_seg_ros.messages.pointcloud2 import decode_pointcloud2

DEFAULT_TOLERANCE_NS = 60_000_000
LONGEST_WAIT_NS = 1_000_000_000
"""How long, in the recording's time of reception, a scan waits for a camera that lags."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SampleStreamOptions:
    """What belongs together.

    Attributes:
        lidar_topic: None = find it.
        cameras: None = find them; an empty sequence = none.
        tolerance_ns: largest distance between scan and image, inclusive.
        offsets_ns: per camera name, added to the stamps of its images.
        extrinsics: None = tf of the recording.
        truth_topic: labelled clouds with the stamps of the scans; None = do not read them.
    """

    lidar_topic: str | None = None
    cameras: Sequence[CameraTopics] | None = None
    tolerance_ns: int = DEFAULT_TOLERANCE_NS
    offsets_ns: Mapping[str, int] = field(default_factory=dict)
    extrinsics: Extrinsics | None = None
    truth_topic: str | None = None


class SampleStream:
    """Iterates the samples of a recording once, in the order of its scans.

    Every scan comes out: as ``outcomes``, where one that cannot be read stands for itself and ground truth that does
    not fit is left out, or as ``samples``, where both are errors. An image that is missing, too far in time,
    undecodable or without a transform is left out and counted.
    Memory holds about a second of undecoded messages.

    Attributes:
        lidar_topic: the topic that is read.
        cameras: the cameras that are used.
        skipped_cameras: per camera that cannot be used at all, why.
        counters: per camera name, how many scans were "paired", "too_far", "stale", "missing" (the words of
            ``core.matching``), "no_transform" or "undecodable".
        unreadable: the scans that ``outcomes`` could not read so far.
        unfit_truth: why ``outcomes`` left out ground truth so far, one line for each scan.
    """

    def __init__(self, recording: Recording, options: SampleStreamOptions = SampleStreamOptions()) -> None:
        """Finds topics and reads what is constant.

        Raises:
            InputError: no LiDAR or several.
            ConfigError: an offset names a camera that does not exist.
        """
        self._recording = recording
        self.lidar_topic = recording.find_lidar_topic(options.lidar_topic)
        found = recording.find_cameras() if options.cameras is None else options.cameras
        self.skipped_cameras: dict[str, str] = {}
        self._models = self._load_models(found)
        self.cameras = [camera for camera in found if camera.name in self._models]
        unknown = sorted(set(options.offsets_ns) - {camera.name for camera in found})
        if unknown:
            names = ", ".join(camera.name for camera in found) or "none"
            raise ConfigError(f"offset for unknown camera {', '.join(unknown)}; the recording has: {names}")
        self._options = options
        self._extrinsics = options.extrinsics or TreeExtrinsics(recording.transform_tree())
        self._truth = options.truth_topic if options.truth_topic in recording.topics else None
        self.counters: dict[str, Counter[str]] = {camera.name: Counter() for camera in self.cameras}
        self.unreadable: list[UnreadableScan] = []
        self.unfit_truth: list[str] = []

    def __iter__(self) -> Iterator[Sample]:
        return self.samples()

    def samples(self, start_ns: int = 0) -> Iterator[Sample]:
        """Streams the samples.

        Args:
            start_ns: begin with the first scan received then or later.

        Raises:
            InputError: a cloud is malformed, ground truth does not fit its scan, or the recording cannot be read to
                its end.
        """
        for match, truth in self._matched(start_ns):
            cloud = _decode_cloud(match.scan)
            yield self._build(match, cloud, None if truth is None else read_class_id(truth, len(cloud)))

    def outcomes(self, start_ns: int = 0) -> Iterator[Sample | UnreadableScan]:
        """Streams one outcome per scan, in order; one that cannot be read is noted in ``unreadable`` as well.

        Args:
            start_ns: begin with the first scan received then or later.

        Raises:
            InputError: the recording cannot be read to its end.
        """
        for match, truth in self._matched(start_ns):
            try:
                cloud = _decode_cloud(match.scan)
            except InputError as error:
                self.unreadable.append(UnreadableScan(self.lidar_topic, match.stamp_ns, on_one_line(error)))
                yield self.unreadable[-1]
            else:
                yield self._build(match, cloud, self._fitting_truth(truth, len(cloud)))

    def readable(self, start_ns: int = 0) -> Iterator[Sample]:
        """The ``outcomes`` that are samples."""
        return (outcome for outcome in self.outcomes(start_ns) if isinstance(outcome, Sample))

    def _matched(self, start_ns: int) -> Iterator[tuple[Match[RecordedMessage], RecordedMessage | None]]:
        """Scans in order with their undecoded images and, if asked for, their undecoded ground truth."""
        options = self._options
        timing = {c.name: CameraTiming(options.offsets_ns.get(c.name, 0), options.tolerance_ns) for c in self.cameras}
        matcher: ScanMatcher[RecordedMessage] = ScanMatcher(timing, deadline_ns=LONGEST_WAIT_NS)
        camera_of = {camera.image_topic: camera.name for camera in self.cameras}
        queue = _InOrder(wait_for_truth=self._truth is not None)
        topics = [self.lidar_topic, *camera_of, *([self._truth] if self._truth else [])]
        now_ns = 0
        for message in self._recording.iter_messages(topics, start_ns - LONGEST_WAIT_NS if start_ns else None):
            now_ns = max(now_ns, message.received_ns)
            if message.topic == self.lidar_topic:
                if message.received_ns < start_ns:
                    continue
                queue.add(message)
                matcher.add_scan(message.stamp_or_received_ns, message, now_ns)
            elif message.topic == self._truth:
                queue.add_truth(message)
            else:
                matcher.add_image(camera_of[message.topic], message.stamp_or_received_ns, message)
            queue.finish(matcher.pop_ready(now_ns))
            yield from queue.pop(now_ns - LONGEST_WAIT_NS)
        queue.finish(matcher.pop_ready(now_ns + LONGEST_WAIT_NS))
        yield from queue.pop(now_ns)

    def _fitting_truth(self, truth: RecordedMessage | None, point_count: int) -> NDArray[np.uint8] | None:
        if truth is None:
            return None
        try:
            return read_class_id(truth, point_count)
        except InputError as error:
            self.unfit_truth.append(on_one_line(error))
            return None

    def _build(self, match: Match[RecordedMessage], cloud: PointCloud, class_id: NDArray[np.uint8] | None) -> Sample:
        lidar = Viewpoint("", cloud.frame_id, cloud.stamp_ns)
        images = (self._build_image(camera, match, lidar) for camera in self.cameras)
        return Sample(
            key=f"{self._recording.name}/{cloud.stamp_ns}",
            cloud=cloud,
            images=tuple(image for image in images if image is not None),
            class_id=class_id,
            world_from_lidar=self._extrinsics.world_from_lidar(lidar),
        )

    def _build_image(self, camera: CameraTopics, match: Match[RecordedMessage], lidar: Viewpoint) -> CameraImage | None:
        matched, counter = match.images[camera.name], self.counters[camera.name]
        if matched.outcome != "paired":
            counter[matched.outcome] += 1
            return None
        model, frame = self._models[camera.name]
        stamp_ns = matched.image.stamp_or_received_ns + self._options.offsets_ns.get(camera.name, 0)
        try:
            viewpoint = Viewpoint(camera.name, frame, stamp_ns)
            matrix = self._extrinsics.camera_from_lidar(viewpoint, lidar)
        except InputError as error:
            self._leave_out(camera.name, "no_transform", error)
            return None
        try:
            image = CameraImage(camera.name, decode_image(matched.image.decode()), model, matrix, stamp_ns)
        except InputError as error:
            self._leave_out(camera.name, "undecodable", error)
            return None
        counter["paired"] += 1
        return image

    def _leave_out(self, camera: str, outcome: str, error: InputError) -> None:
        if not self.counters[camera][outcome]:
            _log.warning("camera %s: image left out (%s): %s", camera, outcome, error)
        self.counters[camera][outcome] += 1

    def _load_models(self, cameras: Sequence[CameraTopics]) -> dict[str, tuple[CameraModel, str]]:
        """Intrinsics and tf frame per camera that can be used; why not is kept for the others."""
        models: dict[str, tuple[CameraModel, str]] = {}
        for camera in cameras:
            info = self._recording.first(camera.info_topic) if camera.info_topic else None
            image = self._recording.first(camera.image_topic)
            if info is None or image is None:
                self.skipped_cameras[camera.name] = f"no camera_info belongs to {camera.image_topic}"
                continue
            try:
                message = info.decode()
                model = decode_camera_info(message, rectified=camera.rectified)
                models[camera.name] = (model, image.decode().header.frame_id or message.header.frame_id)
            except (InputError, ConfigError) as error:
                self.skipped_cameras[camera.name] = f"{camera.info_topic}: {error}"
        for name, reason in self.skipped_cameras.items():
            _log.warning("camera %s is not used: %s", name, reason)
        return models


class _InOrder:
    """Hands scans out in the order they came, each when its images are decided and its ground truth is there."""

    def __init__(self, wait_for_truth: bool) -> None:
        self._waiting: deque[RecordedMessage] = deque()
        self._matches: dict[int, Match[RecordedMessage]] = {}
        self._truth: dict[int, RecordedMessage] = {}
        self._wait_for_truth = wait_for_truth

    def add(self, scan: RecordedMessage) -> None:
        self._waiting.append(scan)

    def add_truth(self, truth: RecordedMessage) -> None:
        self._truth[truth.stamp_or_received_ns] = truth

    def finish(self, matches: Sequence[Match[RecordedMessage]]) -> None:
        self._matches.update({id(match.scan): match for match in matches})

    def pop(self, give_up_ns: int) -> Iterator[tuple[Match[RecordedMessage], RecordedMessage | None]]:
        """Scans received before ``give_up_ns`` no longer wait for ground truth."""
        while self._waiting and id(self._waiting[0]) in self._matches:
            scan = self._waiting[0]
            stamp_ns = self._matches[id(scan)].stamp_ns
            has_truth = stamp_ns in self._truth
            if self._wait_for_truth and not has_truth and scan.received_ns > give_up_ns:
                return
            self._waiting.popleft()
            yield self._matches.pop(id(scan)), self._truth.pop(stamp_ns, None)
            self._truth = {stamp: t for stamp, t in self._truth.items() if stamp > stamp_ns}


def _decode_cloud(scan: RecordedMessage) -> PointCloud:
    return decode_pointcloud2(scan.decode()).cloud


def read_class_id(message: RecordedMessage, point_count: int) -> NDArray[np.uint8]:
    """The classes in a labelled cloud.

    Args:
        message: a PointCloud2 with a field ``class_id``.
        point_count: points of the scan that was labelled.

    Returns:
        (N,) uint8.

    Raises:
        InputError: there is no such field, another number of points, or an id that does not fit.
    """
    fields: Any = decode_pointcloud2(message.decode()).fields
    if "class_id" not in (fields.dtype.names or ()) or len(fields) != point_count:
        raise InputError(
            f"{message.topic} at {message.stamp_ns} ns has {len(fields)} points with fields {fields.dtype.names}; "
            f"expected class_id for each of the {point_count} points of the scan with the same stamp"
        )
    class_id = fields["class_id"]
    if class_id.dtype != np.uint8 and not np.isin(class_id, np.arange(256)).all():
        raise InputError(
            f"{message.topic} at {message.stamp_ns} ns has a class_id that is no whole number from 0 to 255: "
            f"{class_id.min()} to {class_id.max()}; write ids of that range, 255 for none"
        )
    return np.ascontiguousarray(class_id, np.uint8)
