"""Labelled recordings: the scans of a recording and, beside them, what a student said about them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.bags.build_messages import message_types
from ov_seg_ros.bags.convert import TRUTH_INFO_TOPIC
from ov_seg_ros.bags.message_types import LABEL_INFO
from ov_seg_ros.bags.recording import Recording
from ov_seg_ros.bags.sample_stream import SampleStream, SampleStreamOptions, read_class_id
from ov_seg_ros.bags.writer import RecordingWriter
from ov_seg_ros.core.data_types import Sample
from ov_seg_ros.core.errors import InputError
from ov_seg_ros.core.label_space import LabelSpace
from ov_seg_ros.messages.label_info import encode_label_info

LABELS_TOPIC, LABEL_INFO_TOPIC = "/ov_seg/points", "/ov_seg/label_info"
LABEL_TOPICS = (LABELS_TOPIC, LABEL_INFO_TOPIC)
"""What is added to a recording when it is labelled; replaced when it is labelled again."""


def write_label_info(writer: RecordingWriter, label_space: LabelSpace, stamp_ns: int) -> None:
    """Writes the names of the classes, latched, at the beginning of a labelled recording."""
    writer.write(LABEL_INFO_TOPIC, encode_label_info(label_space, message_types(), stamp_ns), stamp_ns)


def find_topic_to_label(recording: Recording, topic: str | None = None) -> str:
    """The LiDAR of a recording that is to be labelled; see ``Recording.find_lidar_topic``.

    Args:
        recording: where to look.
        topic: what the user asked for; None = find it.

    Raises:
        InputError: as there, or the topic holds labels, which are replaced when a recording is labelled.
    """
    found = recording.find_lidar_topic(topic)
    if found in LABEL_TOPICS:
        raise InputError(
            f"{recording.path}: {found} holds labels, and labels are replaced when a recording is labelled; "
            "give the topic of the LiDAR itself, or none to have it found"
        )
    return found


def truth_class_names(recording: Recording) -> tuple[str, ...] | None:
    """Names of the classes of the ground truth by id; None if the recording does not tell.

    Raises:
        InputError: the ids are not 0, 1, 2 ...
    """
    first = recording.first(TRUTH_INFO_TOPIC)
    if first is None or first.type_name != LABEL_INFO:
        return None
    names = {int(entry.class_id): str(entry.class_name) for entry in first.decode().class_map}
    if sorted(names) != list(range(len(names))):
        raise InputError(f"{recording.path}: {TRUTH_INFO_TOPIC} must list ids from 0 on, got {sorted(names)}")
    return tuple(names[class_id] for class_id in range(len(names)))


def iter_labelled(recording: Recording, stream: SampleStream) -> Iterator[tuple[Sample, NDArray[np.uint8]]]:
    """Streams the labelled scans of a recording, each with its (N,) uint8 labels; the others are passed over.

    Args:
        recording: a labelled one.
        stream: of its scans; says afterwards what was left out.

    Raises:
        InputError: labels do not belong to the scans, or the recording cannot be read.
    """
    labels = recording.iter_messages([LABELS_TOPIC] if LABELS_TOPIC in recording.topics else [])
    pending = next(labels, None)
    for sample in stream.readable():
        if pending is not None and pending.stamp_ns == sample.cloud.stamp_ns:
            yield sample, read_class_id(pending, len(sample.cloud))
            pending = next(labels, None)
    if pending is not None:
        raise InputError(
            f"{recording.path}: {LABELS_TOPIC} at {pending.stamp_ns} ns belongs to no scan, or out of order"
        )


def find_sample(recording: Recording, options: SampleStreamOptions, stamp_ns: int) -> Sample | None:
    """The first sample with that stamp, read without visiting the images of the others; None if there is none.

    Args:
        recording: where to look.
        options: what to read.
        stamp_ns: of the scan.
    """
    stream = SampleStream(recording, options)
    for message in recording.iter_messages([stream.lidar_topic]):
        if message.stamp_or_received_ns == stamp_ns:
            candidates = stream.readable(message.received_ns)
            return next((sample for sample in candidates if sample.cloud.stamp_ns == stamp_ns), None)
    return None
