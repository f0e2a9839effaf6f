"""SemanticKITTI: scans of the KITTI odometry benchmark with a true label per point.

Behley et al., "SemanticKITTI: A Dataset for Semantic Scene Understanding of LiDAR Sequences", ICCV 2019.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.data_types import CameraImage, PointCloud, Sample
from ov_seg_ros.core.errors import InputError
from ov_seg_ros.core.label_space import LabelSpace
from training.sources.kitti_calibration import VELODYNE_HEIGHT, Calibration, homogeneous, pinhole_of, read_calibration
from training.sources.label_mapping import LabelMapping
from training.sources.point_files import check_index, load_image_file, load_point_file

CAMERA = "image_2"
MAPPING = "semantickitti_to_nuscenes16"
SCAN_PERIOD_NS = 100_000_000
FIRST_STAMP_NS = 1_000_000_000
"""Stamps of a sequence begin here: 0 means "no stamp" in ROS."""


def is_semantickitti(folder: Path) -> bool:
    """Whether a folder is a sequence (``velodyne/*.bin``)."""
    return next((folder / "velodyne").glob("*.bin"), None) is not None


def load_label_file(path: Path, point_count: int) -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
    """Reads a ``.label`` file.

    Args:
        path: one uint32 per point: low 16 bits the class, high 16 bits the instance.
        point_count: points of the scan.

    Returns:
        (N,) raw class ids and (N,) instance ids.

    Raises:
        InputError: the file holds another number of labels than the scan has points.
    """
    size = path.stat().st_size
    if size != 4 * point_count:
        raise InputError(
            f"labels {path} hold {size} bytes, the scan has {point_count} points and needs {4 * point_count}; "
            "it was cut off or belongs to another scan, copy it again"
        )
    values = np.fromfile(path, "<u4")
    return (values & 0xFFFF).astype(np.uint16), (values >> 16).astype(np.uint16)


class SemanticKitti:
    """One sequence; images come along where ``image_2`` and ``calib.txt`` lie beside the scans.

    Axes are those of the Velodyne (x forward, y left, z up). Stamps come from ``times.txt``, else scans are 0.1 s
    apart; poses (of camera 0) from ``poses.txt``, where they exist.

    Attributes:
        name: "semantickitti_00".
        mapping: from raw ids to the label space; ``mapping.shared_class_ids`` are the classes to evaluate.
        base_from_lidar: (4, 4) float64, base_link is the point on the ground below the Velodyne.
    """

    def __init__(self, folder: str | Path) -> None:
        """Opens a sequence.

        Raises:
            InputError: no scans in it.
        """
        self.folder = Path(folder)
        self.name = f"semantickitti_{self.folder.name}"
        self.mapping = LabelMapping.load(MAPPING)
        self.base_from_lidar: NDArray[np.float64] = np.eye(4)
        self.base_from_lidar[2, 3] = VELODYNE_HEIGHT
        self._scans = sorted((self.folder / "velodyne").glob("*.bin"))
        if not self._scans:
            raise InputError(f"SemanticKITTI sequence {self.folder} holds no velodyne/*.bin")

    @property
    def label_space(self) -> LabelSpace:
        """The label space of ``Sample.class_id``, not SemanticKITTI's own."""
        return self.mapping.target

    def __len__(self) -> int:
        return len(self._scans)

    def load_sample(self, index: int) -> Sample:
        """Loads a scan; without a label file ``class_id`` is None.

        Raises:
            InputError: the index is out of range, or a file is corrupt.
        """
        check_index(index, len(self), self.name)
        stem = self._scans[index].stem
        columns = load_point_file(self._scans[index], 4)
        stamp_ns = self._stamp_ns(int(stem))
        cloud = PointCloud(np.ascontiguousarray(columns[:, :3]), columns[:, 3].copy(), stamp_ns, "lidar")
        raw_id = self.load_raw_class_id(index)
        return Sample(
            key=f"{self.name}/{stem}",
            cloud=cloud,
            images=self._load_images(stem, stamp_ns),
            class_id=None if raw_id is None else self.mapping.map_ids(raw_id, str(self._label_path(stem))),
            world_from_lidar=self._world_from_lidar(int(stem)),
        )

    def load_raw_class_id(self, index: int) -> NDArray[np.uint16] | None:
        """(N,) labels in SemanticKITTI's own ids, or None for a scan without labels."""
        path = self._label_path(self._scans[index].stem)
        if not path.is_file():
            return None
        return load_label_file(path, self._scans[index].stat().st_size // 16)[0]

    def load_scan_fields(self, index: int) -> dict[str, NDArray[np.generic]]:
        """Further columns of the scan: ``instance_id`` (N,) uint16 where there are labels."""
        path = self._label_path(self._scans[index].stem)
        if not path.is_file():
            return {}
        return {"instance_id": load_label_file(path, self._scans[index].stat().st_size // 16)[1]}

    def _label_path(self, stem: str) -> Path:
        return self.folder / "labels" / f"{stem}.label"

    def _load_images(self, stem: str, stamp_ns: int) -> tuple[CameraImage, ...]:
        path = self.folder / CAMERA / f"{stem}.png"
        if not path.is_file() or self._calibration is None:
            return ()
        image = load_image_file(path)
        height, width = image.shape[:2]
        camera, shift = pinhole_of(self._calibration.matrix("P2", (3, 4)), width, height)
        return (CameraImage(CAMERA, image, camera, shift @ self._camera_0_from_lidar, stamp_ns),)

    @cached_property
    def _calibration(self) -> Calibration | None:
        path = self.folder / "calib.txt"
        return read_calibration(path) if path.is_file() else None

    @cached_property
    def _camera_0_from_lidar(self) -> NDArray[np.float64]:
        if self._calibration is None:
            raise InputError(
                f"{self.folder} has poses.txt but no calib.txt; both come with the odometry calibration files"
            )
        tr = self._calibration.matrix("Tr", (3, 4))
        return homogeneous(tr[:, :3], tr[:, 3])

    @cached_property
    def _times(self) -> list[float] | None:
        path = self.folder / "times.txt"
        return [float(line) for line in path.read_text().split()] if path.is_file() else None

    def _stamp_ns(self, number: int) -> int:
        if self._times is None:
            return FIRST_STAMP_NS + number * SCAN_PERIOD_NS
        if number >= len(self._times):
            raise InputError(f"{self.folder / 'times.txt'} has {len(self._times)} lines, none for scan {number}")
        return FIRST_STAMP_NS + round(self._times[number] * 1e9)

    def _world_from_lidar(self, number: int) -> NDArray[np.float64] | None:
        path = self.folder / "poses.txt"
        if not path.is_file():
            return None
        if number >= len(self._poses):
            raise InputError(f"{path} has {len(self._poses)} lines, none for scan {number}")
        world_from_camera_0 = homogeneous(self._poses[number][:, :3], self._poses[number][:, 3])
        return np.linalg.inv(self._camera_0_from_lidar) @ world_from_camera_0 @ self._camera_0_from_lidar

    @cached_property
    def _poses(self) -> NDArray[np.float64]:
        return np.loadtxt(self.folder / "poses.txt", ndmin=2).reshape(-1, 3, 4)
