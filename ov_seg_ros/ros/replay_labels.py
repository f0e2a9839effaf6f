"""Keeps the labelled scans of a replay on disk as they come, and puts them beside their scans afterwards."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from ov_seg_ros.bags.labelled import LABEL_TOPICS, LABELS_TOPIC, write_label_info
from ov_seg_ros.bags.message_types import POINT_CLOUD
from ov_seg_ros.bags.recording import Recording
from ov_seg_ros.bags.writer import RecordingWriter
from ov_seg_ros.core.label_space import LabelSpace
from ov_seg_ros.ros.replay_clock import read_stamp, with_stamp
from ov_seg_ros.ros.replay_player import PublishedScan


class LabelSpool:
    """Takes labelled scans in any number and order; a context manager.

    Attributes:
        path: of the spool, a recording of its own.
        received: the scans that were labelled, in the order in which their labels came.
        strangers: labelled scans with a stamp that was never published.
    """

    def __init__(self, path: Path, published: Mapping[int, deque[PublishedScan]]) -> None:
        """Prepares the spool.

        Args:
            path: an .mcap file to write; an old one is replaced.
            published: scans by the stamp they were published with; grows while the replay runs.
        """
        self.path = path
        self.received: list[PublishedScan] = []
        self.strangers = 0
        self._published = published
        self._writer = RecordingWriter(path, overwrite=True)

    def __enter__(self) -> LabelSpool:
        self._writer.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.__exit__(kind, error, trace)

    def take(self, data: bytes) -> None:
        """Writes one serialised labelled scan, with the stamp of the recording back in its header."""
        waiting = self._published.get(read_stamp(data))
        if not waiting:
            self.strangers += 1
            return
        scan = waiting.popleft()
        self._writer.write_raw(LABELS_TOPIC, POINT_CLOUD, with_stamp(data, scan.stamp_ns), scan.received_ns)
        self.received.append(scan)


def write_labelled(recording: Recording, lidar_topic: str, spool: Path, out: Path, label_space: LabelSpace) -> None:
    """Writes the recording again, each labelled scan followed by its labels.

    Args:
        recording: what was played.
        lidar_topic: its LiDAR.
        spool: what ``LabelSpool`` wrote.
        out: recording to write; an old one is replaced.
        label_space: of the labels.

    Raises:
        InputError: a recording cannot be read, or ``out`` cannot be written.
    """
    with Recording.open(spool) as labelled, RecordingWriter(out, overwrite=True) as writer:
        write_label_info(writer, label_space, recording.start_ns)
        labels = labelled.iter_messages()
        pending = next(labels, None)
        for message in writer.copy_all(recording, leave_out=LABEL_TOPICS):
            if (
                message.topic == lidar_topic
                and pending is not None
                and pending.stamp_ns == message.stamp_or_received_ns
            ):
                writer.copy(pending)
                pending = next(labels, None)
