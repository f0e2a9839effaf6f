"""SemanticKITTI: scans of the KITTI odometry benchmark with a true label per point.

Behley et al., "SemanticKITTI: A Dataset for Semantic Scene Understanding of LiDAR Sequences", ICCV 2019.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.data_types import PointCloud, Sample
from ov_seg_ros.core.errors import InputError
from ov_seg_ros.core.label_space import LabelSpace
from training.fingerprint import fingerprint_files
from training.sources.kitti_calibration import VELODYNE_HEIGHT
from training.sources.kitti_odometry import OdometrySequence
from training.sources.label_mapping import LabelMapping
from training.sources.point_files import check_index, find_scans, load_point_file

RAW_CLASSES = "semantickitti"


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
    """One sequence; images, poses and stamps come along where their files lie in it (see ``OdometrySequence``).

    Axes are those of the Velodyne (x forward, y left, z up).

    Attributes:
        name: "semantickitti_00".
        folder: of the sequence.
        mapping: from raw ids to the label space; ``mapping.shared_class_ids`` are the classes to evaluate.
        base_from_lidar: (4, 4) float64, base_link is the point on the ground below the Velodyne.
    """

    def __init__(self, folder: str | Path, labels: str = "nuscenes16") -> None:
        """Opens a sequence.

        Args:
            folder: holds ``velodyne``.
            labels: label space of ``Sample.class_id``: "semantickitti19", "nuscenes16", or whatever else
                ``config/label_spaces/semantickitti_to_*.yaml`` maps to.

        Raises:
            InputError: no scans in it.
            ConfigError: there is no mapping to ``labels``.
        """
        self.folder = Path(folder)
        self.name = f"semantickitti_{self.folder.absolute().name}"
        self.mapping = LabelMapping.load(f"{RAW_CLASSES}_to_{labels}")
        self.base_from_lidar: NDArray[np.float64] = np.eye(4)
        self.base_from_lidar[2, 3] = VELODYNE_HEIGHT
        self._sequence = OdometrySequence(self.folder)
        self._scans = find_scans(self.folder, "velodyne", "SemanticKITTI sequence")

    @cached_property
    def label_space(self) -> LabelSpace | None:
        """The label space of ``Sample.class_id``, None for a sequence without labels (11 to 21)."""
        has_labels = next((self.folder / "labels").glob("*.label"), None) is not None
        return self.mapping.target if has_labels else None

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
        stamp_ns = self._sequence.stamp_ns(int(stem))
        cloud = PointCloud(np.ascontiguousarray(columns[:, :3]), columns[:, 3].copy(), stamp_ns, "lidar")
        raw_id = self.load_raw_class_id(index)
        return Sample(
            key=f"{self.name}/{stem}",
            cloud=cloud,
            images=self._sequence.load_images(stem, stamp_ns),
            class_id=None if raw_id is None else self.mapping.map_ids(raw_id, str(self._label_path(stem))),
            world_from_lidar=self._sequence.world_from_lidar(int(stem)),
        )

    def describe(self) -> dict[str, Any]:
        """See ``Source``."""
        stems = [path.stem for path in self._scans]
        labels = (self._label_path(stem) for stem in stems)
        return {
            "scans": fingerprint_files(self._scans),
            **self._sequence.describe(stems),
            "truth": {
                "files": fingerprint_files(path for path in labels if path.is_file()),
                "mapping": self.mapping.fingerprint,
            },
        }

    def scan_name(self, index: int) -> str:
        """Name of a scan's file without its suffix: "000012"."""
        return self._scans[index].stem

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
