"""Folders in the layout of the KITTI object benchmark: unrelated frames, each with its own calibration.

Geiger et al., CVPR 2012. A point X of the Velodyne is seen at P2 @ R0_rect @ Tr_velo_to_cam @ X. The benchmark labels
boxes, not points, so there is no ground truth per point here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.data_types import CameraImage, PointCloud, Sample
from ov_seg_ros.core.errors import InputError
from ov_seg_ros.core.label_space import LabelSpace
from training.fingerprint import fingerprint_files
from training.sources.kitti_calibration import VELODYNE_HEIGHT, homogeneous, read_calibration
from training.sources.point_files import check_index, find_scans, load_image_file, load_point_file

CAMERA = "image_2"
FRAME_GAP_NS = 1_000_000_000
"""Frames are unrelated; stamps a second apart say no more than their order."""

_PARTS = ("training", "testing")


def is_kitti_object(folder: Path) -> bool:
    """Whether a folder holds ``velodyne/*.bin`` and ``calib/*.txt``, or ``training`` or ``testing`` which does."""
    return bool(_frame_folders(folder))


class KittiObject:
    """The frames of one part; axes are those of the Velodyne (x forward, y left, z up), there are no poses.

    Attributes:
        name: of the data set's folder and the part ("kitti_object_training").
        folder: of the part; holds ``velodyne``, ``calib`` and, where there are images, ``image_2``.
        label_space: None.
        base_from_lidar: (4, 4) float64, base_link is the point on the ground below the Velodyne.
    """

    label_space: LabelSpace | None = None

    def __init__(self, folder: str | Path) -> None:
        """Opens a part.

        Args:
            folder: ``training`` or ``testing``, or the folder above if there is only one of them in it.

        Raises:
            InputError: no such folder, both parts, or no scans.
        """
        self.folder = _choose_part(Path(folder))
        place = self.folder.absolute()
        self.name = f"{place.parent.name}_{place.name}" if place.name in _PARTS else f"kitti_object_{place.name}"
        self._scans = find_scans(self.folder, "velodyne", "KITTI object folder")
        self.base_from_lidar: NDArray[np.float64] = np.eye(4)
        self.base_from_lidar[2, 3] = VELODYNE_HEIGHT

    def __len__(self) -> int:
        return len(self._scans)

    def load_sample(self, index: int) -> Sample:
        """Loads a frame; one without an image file has no image.

        Raises:
            InputError: the index is out of range, or a file is missing or corrupt.
        """
        check_index(index, len(self), self.name)
        path = self._scans[index]
        columns = load_point_file(path, 4)
        stamp_ns = FRAME_GAP_NS * (1 + int(path.stem))
        return Sample(
            key=f"{self.name}/{path.stem}",
            cloud=PointCloud(np.ascontiguousarray(columns[:, :3]), columns[:, 3].copy(), stamp_ns, "lidar"),
            images=self._load_images(path.stem, stamp_ns),
        )

    def describe(self) -> dict[str, Any]:
        """See ``Source``."""
        names = [path.stem for path in self._scans]
        images = [self._image_path(stem) for stem in names]
        return {
            "scans": fingerprint_files(self._scans),
            "images": fingerprint_files(path for path in images if path.is_file()),
            "calibration": fingerprint_files(self._calibration_path(stem) for stem in names),
        }

    def _image_path(self, stem: str) -> Path:
        return self.folder / CAMERA / f"{stem}.png"

    def _calibration_path(self, stem: str) -> Path:
        return self.folder / "calib" / f"{stem}.txt"

    def _load_images(self, stem: str, stamp_ns: int) -> tuple[CameraImage, ...]:
        path = self._image_path(stem)
        if not path.is_file():
            return ()
        calibration = read_calibration(self._calibration_path(stem))
        image = load_image_file(path)
        height, width = image.shape[:2]
        camera, shift = calibration.pinhole("P2", width, height)
        rectify = homogeneous(calibration.matrix("R0_rect", (3, 3)))
        velo_to_cam = calibration.matrix("Tr_velo_to_cam", (3, 4))
        camera_from_lidar = shift @ rectify @ homogeneous(velo_to_cam[:, :3], velo_to_cam[:, 3])
        return (CameraImage(CAMERA, image, camera, camera_from_lidar, stamp_ns),)


def _frame_folders(folder: Path) -> list[Path]:
    candidates = [folder, *(folder / part for part in _PARTS)]
    return [f for f in candidates if all(any((f / n).glob(p)) for n, p in (("velodyne", "*.bin"), ("calib", "*.txt")))]


def _choose_part(folder: Path) -> Path:
    found = _frame_folders(folder)
    if not found:
        raise InputError(f"{folder} is no KITTI object folder: expected velodyne/*.bin and calib/*.txt in it")
    if len(found) > 1 and found[0] != folder:
        raise InputError(f"{folder} holds several parts; choose one:\n" + "\n".join(f"  {part}" for part in found))
    return found[0]
