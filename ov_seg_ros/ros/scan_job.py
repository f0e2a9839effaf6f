"""What travels from the subscription to the worker and back: one scan and what is known about it so far."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

from ov_seg_ros.core.data_types import CameraImage, PointCloud, SegmentedCloud
from ov_seg_ros.core.matching import Match
from ov_seg_ros.messages.assembly import read_stamp_ns


@dataclass
class ScanJob:
    """One scan on its way through the node.

    Its images (from the executor's thread) and its labels (from the worker's) come in either order; whoever
    brings the second of the two is told so, once.

    Attributes:
        message: sensor_msgs/PointCloud2 as it came.
        match: the images that belong to it, once known.
        cloud: decoded, once labelled.
        segmented: its labels, once known.
        images: decoded images by camera, once somebody needed them; None where there is none.
    """

    message: Any
    match: Match[ScanJob] | None = None
    cloud: PointCloud | None = None
    segmented: SegmentedCloud | None = None
    images: dict[str, CameraImage | None] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def stamp_ns(self) -> int:
        """Stamp of the scan."""
        return read_stamp_ns(self.message.header)

    def set_match(self, match: Match[ScanJob]) -> bool:
        """Notes the images; True if the labels were there already."""
        with self._lock:
            self.match = match
            return self.segmented is not None

    def set_labels(self, cloud: PointCloud, segmented: SegmentedCloud) -> bool:
        """Notes the labels; True if the images were there already."""
        with self._lock:
            self.cloud, self.segmented = cloud, segmented
            return self.match is not None
