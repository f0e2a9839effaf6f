"""A drive of a few scans with one camera and ground truth, made for ``tiny_model``: every figure follows by hand.

Each scan is a ring of 12 directions at 10 m; in each a point 1 m below ("low") and one 1 m above ("high") the sensor.
``tiny_model`` labels all of them rightly but for the low point straight ahead, whose truth is "high"; the truth of
the low point straight behind is unknown. The camera looks forward over 90 degrees: it sees 3 directions, 6 points.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ov_seg_ros.bags.convert import convert_source
from ov_seg_ros.bags.layout import LIDAR_TOPIC
from ov_seg_ros.bags.recording import Recording
from ov_seg_ros.bags.writer import RecordingWriter
from ov_seg_ros.core.camera import CameraModel
from ov_seg_ros.core.data_types import IGNORE_ID, CameraImage, PointCloud, Sample
from ov_seg_ros.core.label_space import LabelSpace

START_NS = 1_700_000_000_000_000_000
STEP_NS = 100_000_000
POINTS = 24
PREDICTION = np.array([0, 1] * 12, np.uint8)
"""What ``tiny_model`` says, point for point."""
IOU = {"low": 10 / 11, "high": 12 / 13}
IOU_SEEN = {"low": 2 / 3, "high": 3 / 4}
IOU_UNSEEN = {"low": 1.0, "high": 1.0}
LOOKING_FORWARD = np.array([[0.0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]])


def ring() -> np.ndarray:
    azimuth = np.deg2rad(np.repeat(np.arange(12) * 30.0, 2))
    height = np.tile([-1.0, 1.0], 12)
    return np.stack([10 * np.cos(azimuth), 10 * np.sin(azimuth), height], axis=1).astype(np.float32)


class SmallDrive:
    """A source for ``convert_source``."""

    name = "small"

    def __init__(self, scans: int, class_names: tuple[str, ...] | None) -> None:
        self.scans = scans
        self.class_names = class_names

    @property
    def label_space(self) -> LabelSpace | None:
        names = self.class_names
        return None if names is None else LabelSpace("small", names, tuple((9, 9, 9) for _ in names))

    def __len__(self) -> int:
        return self.scans

    def load_sample(self, index: int) -> Sample:
        stamp_ns = START_NS + index * STEP_NS
        camera = CameraModel(64, 48, 32.0, 32.0, 31.5, 23.5)
        image = np.full((48, 64, 3), 90, np.uint8)
        view = CameraImage("front", image, camera, LOOKING_FORWARD, stamp_ns + 5_000_000)
        cloud = PointCloud(ring(), np.full(POINTS, 0.5, np.float32), stamp_ns, "lidar")
        return Sample(f"small/{index}", cloud, (view,), self._truth())

    def _truth(self) -> np.ndarray | None:
        if self.class_names is None:
            return None
        truth = PREDICTION.copy()
        truth[0] = 1
        truth[12] = IGNORE_ID
        low, high = self.class_names.index("low"), self.class_names.index("high")
        return np.where(truth == IGNORE_ID, IGNORE_ID, np.where(truth == 0, low, high)).astype(np.uint8)


def write_small_drive(path: Path, scans: int = 3, class_names: tuple[str, ...] | None = ("low", "high")) -> Path:
    """Writes the drive as a recording; ``class_names`` None = without ground truth."""
    return convert_source(SmallDrive(scans, class_names), path)


def write_damaged_drive(path: Path, scans: int = 4, damaged: tuple[int, ...] = (0, 2)) -> Path:
    """Writes the drive with some scans that cannot be read: the first lacks bytes of its points, others their end."""
    whole = write_small_drive(path.with_name(f"{path.name}_whole"), scans)
    with Recording.open(whole) as recording, RecordingWriter(path) as writer:
        number = 0
        for message in recording.iter_messages():
            if message.topic != LIDAR_TOPIC:
                writer.copy(message)
                continue
            if number not in damaged:
                writer.copy(message)
            elif number == damaged[0]:
                cloud = message.decode()
                cloud.data = cloud.data[:-3]
                writer.write(LIDAR_TOPIC, cloud, message.received_ns)
            else:
                writer.write_raw(LIDAR_TOPIC, message.type_name, bytes(message.data)[:-30], message.received_ns)
            number += 1
    return path
