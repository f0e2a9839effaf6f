"""Any source of samples as a recording, in the layout of ``bags.layout``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.bags.build_messages import cloud_message, message_types, odometry_message, transforms_message
from ov_seg_ros.bags.layout import (
    BASE_FRAME,
    LIDAR_FRAME,
    LIDAR_TOPIC,
    ODOM_FRAME,
    ODOMETRY_TOPIC,
    STATIC_TRANSFORM_TOPIC,
    TRANSFORM_TOPIC,
    TRUTH_INFO_TOPIC,
    TRUTH_TOPIC,
    camera_frame,
    camera_info_topic,
    image_topic,
)
from ov_seg_ros.bags.sensor_rig import SensorRig
from ov_seg_ros.bags.unreadable_scans import UnreadableScan, UnreadableScans, none_readable, on_one_line
from ov_seg_ros.bags.writer import RecordingWriter
from ov_seg_ros.core.data_types import CameraImage, Sample
from ov_seg_ros.core.errors import ConfigError, InputError
from ov_seg_ros.core.label_space import LabelSpace
from ov_seg_ros.messages.camera_info import encode_camera_info
from ov_seg_ros.messages.images import encode_compressed_image
from ov_seg_ros.messages.label_info import encode_label_info

JPEG_QUALITY = 92

Progress = Callable[[int, int], None]


class SampleSource(Protocol):
    """What a source must offer; see ``sensor_rig`` and ``load_scan_fields`` for what it may offer besides."""

    @property
    def name(self) -> str:
        """Short name."""
        ...

    @property
    def label_space(self) -> LabelSpace | None:
        """Of the ground truth, or None."""
        ...

    def __len__(self) -> int: ...

    def load_sample(self, index: int) -> Sample:
        """Sample ``index``."""
        ...


def convert_source(
    source: SampleSource,
    out: str | Path,
    storage: str = "mcap",
    progress: Progress | None = None,
    overwrite: bool = False,
    unreadable: UnreadableScans | None = None,
) -> Path:
    """Writes a source as a recording.

    A method ``load_scan_fields(index)`` of the source, if it has one, gives further columns of the scan (``ring``
    uint16, ``time`` float32 seconds after the stamp, ``instance_id``).

    Args:
        source: what to write.
        out: a folder, or a file ending with .mcap or .db3.
        storage: "mcap" or "sqlite3".
        progress: called with (samples done, samples in all).
        overwrite: whether a recording at ``out`` is replaced.
        unreadable: gets the samples that are left out, because they cannot be read or what belongs to their points has
            another length; None = the first of them is an error.

    Returns:
        ``out``.

    Raises:
        InputError: the source is empty or cannot be read, none or too few of its samples can, or something lies at
            ``out``.
        ConfigError: the storage is not known.
    """
    if not len(source):
        raise InputError(f"source {source.name} holds no samples; nothing to convert")
    with RecordingWriter(out, storage, overwrite) as writer:
        conversion = _Conversion(writer, source)
        for index in range(len(source)):
            try:
                scan = conversion.read(index)
            except InputError as error:
                if unreadable is None:
                    raise
                place = f"sample {index} of {source.name}"
                unreadable.leave_out(UnreadableScan(place, None, on_one_line(error)), index + 1)
            else:
                conversion.write(scan)
            if progress is not None:
                progress(index + 1, len(source))
        if unreadable is not None and len(unreadable.scans) == len(source):
            raise InputError(none_readable(f"source {source.name}", unreadable.scans, "copy or record it again"))
    return Path(out)


@dataclass(frozen=True)
class _Scan:
    """All of a sample that is written.

    Attributes:
        sample: itself.
        fields: further columns of its cloud.
        instance_id: (N,) uint16; zeros where the source knows none.
    """

    sample: Sample
    fields: Mapping[str, NDArray[Any]]
    instance_id: NDArray[np.uint16]


class _Conversion:
    """One run of ``convert_source``."""

    def __init__(self, writer: RecordingWriter, source: SampleSource) -> None:
        self._writer = writer
        self._source = source
        self._rig = SensorRig(source)
        self._load_scan_fields: Callable[[int], Mapping[str, NDArray[Any]]] | None = getattr(
            source, "load_scan_fields", None
        )
        self._last_ns = 0
        self._pose_stamps: set[int] = set()

    def read(self, index: int) -> _Scan:
        """Reads a sample, and makes sure that what it says about its points is said about all of them.

        Raises:
            InputError: it cannot be read, or some lengths differ.
        """
        try:
            sample = self._source.load_sample(index)
            fields = dict(self._load_scan_fields(index)) if self._load_scan_fields else {}
        except OSError as error:
            place = f"{error.filename}: " if error.filename else ""
            raise InputError(f"{place}{error.strerror or error}") from error
        count = len(sample.cloud)
        if sample.class_id is not None:
            _check_length("ground truth", sample.class_id, count)
        for name, values in fields.items():
            _check_length(name, values, count)
        instance_id = fields.pop("instance_id", np.zeros(count, np.uint16))
        return _Scan(sample, fields, _as_uint16(instance_id, sample.key))

    def write(self, scan: _Scan) -> None:
        """All messages of a sample, by their stamps."""
        sample = scan.sample
        self._check_stamp(sample)
        begin_ns = min([sample.cloud.stamp_ns, *(image.stamp_ns for image in sample.images)])
        self._write_mounts(sample, begin_ns)
        steps: list[tuple[int, Callable[[], None]]] = [
            (image.stamp_ns, partial(self._write_image, sample, image)) for image in sample.images
        ]
        steps.append((sample.cloud.stamp_ns, partial(self._write_scan, scan)))
        for _, write in sorted(steps, key=lambda step: step[0]):
            write()

    def _check_stamp(self, sample: Sample) -> None:
        if sample.cloud.stamp_ns <= self._last_ns:
            raise InputError(
                f"{sample.key}: stamp {sample.cloud.stamp_ns} ns is not after {self._last_ns} ns of the sample before; "
                "a recording needs stamps that grow"
            )
        self._last_ns = sample.cloud.stamp_ns

    def _write_mounts(self, sample: Sample, stamp_ns: int) -> None:
        """/tf_static, again in full when a camera appears for the first time: a late reader gets the last message."""
        is_first = self._writer.message_count == 0
        new = [self._rig.add_camera(sample, image) for image in sample.images]
        if not is_first and not any(new):
            return
        mounts = [(BASE_FRAME, LIDAR_FRAME, self._rig.base_from_lidar)]
        mounts += [(BASE_FRAME, camera_frame(name), matrix) for name, matrix in self._rig.base_from_camera.items()]
        self._writer.write(STATIC_TRANSFORM_TOPIC, transforms_message(mounts, stamp_ns), stamp_ns)
        if is_first and self._source.label_space is not None:
            message = encode_label_info(self._source.label_space, message_types(), stamp_ns, LIDAR_FRAME)
            self._writer.write(TRUTH_INFO_TOPIC, message, stamp_ns)

    def _write_scan(self, scan: _Scan) -> None:
        sample, cloud, writer = scan.sample, scan.sample.cloud, self._writer
        x, y, z = cloud.points.T
        columns = {"x": x, "y": y, "z": z, "intensity": cloud.intensity.astype(np.float32), **scan.fields}
        self._write_pose(self._rig.odom_from_base(sample), cloud.stamp_ns, with_odometry=True)
        writer.write(LIDAR_TOPIC, cloud_message(columns, cloud.stamp_ns, LIDAR_FRAME), cloud.stamp_ns)
        if sample.class_id is not None:
            truth = {"x": x, "y": y, "z": z, "class_id": sample.class_id, "instance_id": scan.instance_id}
            writer.write(TRUTH_TOPIC, cloud_message(truth, cloud.stamp_ns, LIDAR_FRAME), cloud.stamp_ns)

    def _write_image(self, sample: Sample, image: CameraImage) -> None:
        _check_name(image.name)
        frame, stamp_ns, writer = camera_frame(image.name), image.stamp_ns, self._writer
        self._write_pose(self._rig.odom_from_base_at(sample, image), stamp_ns)
        info = encode_camera_info(image.camera, message_types(), stamp_ns, frame)
        writer.write(camera_info_topic(image.name), info, stamp_ns)
        jpeg = encode_compressed_image(image.image, message_types(), stamp_ns, frame, JPEG_QUALITY)
        writer.write(image_topic(image.name), jpeg, stamp_ns)

    def _write_pose(self, pose: NDArray[np.float64] | None, stamp_ns: int, with_odometry: bool = False) -> None:
        if pose is None:
            return
        if stamp_ns not in self._pose_stamps:  # a second transform at a stamp makes tf complain
            message = transforms_message([(ODOM_FRAME, BASE_FRAME, pose)], stamp_ns)
            self._writer.write(TRANSFORM_TOPIC, message, stamp_ns)
            self._pose_stamps.add(stamp_ns)
        if with_odometry:
            self._writer.write(ODOMETRY_TOPIC, odometry_message(pose, stamp_ns, ODOM_FRAME, BASE_FRAME), stamp_ns)


def _check_length(name: str, values: NDArray[Any], count: int) -> None:
    if values.shape != (count,):
        raise InputError(f"{count} points, but {name} of shape {values.shape}; both must be of one length")


def _as_uint16(instance_id: NDArray[np.integer], key: str) -> NDArray[np.uint16]:
    if instance_id.size and (instance_id.min() < 0 or instance_id.max() > 0xFFFF):
        raise InputError(f"{key}: instance_id must fit 16 bits, got {instance_id.min()} to {instance_id.max()}")
    return instance_id.astype(np.uint16)


def _check_name(name: str) -> None:
    if not name.replace("_", "a").isalnum() or not name.isascii():
        raise ConfigError(f"camera name {name!r} is no part of a topic name; use letters, digits and underscores")
