"""KITTI raw recordings: a Velodyne HDL-64 and the left colour camera.

Geiger et al., "Vision meets robotics: The KITTI dataset", IJRR 2013: a point X of the Velodyne is seen by the
rectified camera 2 at P_rect_02 @ R_rect_00 @ velo_to_cam @ X. P_rect_02 = K [I | t], so with
camera_from_lidar = [I | t] @ R_rect_00 @ velo_to_cam the camera is a pinhole with matrix K and no distortion.
"""

from __future__ import annotations

from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.camera import CameraModel
from ov_seg_ros.core.data_types import CameraImage, PointCloud, Sample
from ov_seg_ros.core.errors import InputError
from ov_seg_ros.core.label_space import LabelSpace
from ov_seg_ros.core.transforms import invert_transform
from training.fingerprint import fingerprint_contents, fingerprint_files
from training.sources.kitti_calibration import VELODYNE_HEIGHT, homogeneous, read_calibration
from training.sources.oxts import world_from_imu_poses
from training.sources.point_files import check_index, find_scans, load_image_file, load_point_file

CAMERA = "image_02"
SCAN_PERIOD_NS = 100_000_000

CALIBRATION_FILES = ("calib_cam_to_cam.txt", "calib_velo_to_cam.txt")


def is_kitti_raw(folder: Path) -> bool:
    """Whether a folder is a date folder with one or more drives, or one of its drives."""
    return (folder / "velodyne_points").is_dir() or bool(_drives(folder))


class KittiRaw:
    """One drive: a scan and an image per frame.

    Axes are those of the Velodyne (x forward, y left, z up). Stamps come from ``timestamps.txt`` (UTC assumed);
    without that file frames are 0.1 s apart, beginning at midnight of the day in the folder's name. Ego poses come
    from ``oxts`` where it exists.

    Attributes:
        name: of the drive's folder.
        label_space: None; KITTI raw has no labels.
        base_from_lidar: (4, 4) float64, base_link is the point on the ground below the Velodyne.
        base_from_camera: (4, 4) float64 per camera.
    """

    label_space: LabelSpace | None = None

    def __init__(self, folder: str | Path) -> None:
        """Opens a drive.

        Args:
            folder: a drive (``2011_09_26_drive_0001_sync``) or a date folder with a single drive, or with
                ``velodyne_points`` directly in it.

        Raises:
            InputError: no drive or several, no scans, or no calibration.
        """
        self.folder = _choose_drive(Path(folder))
        self.name = self.folder.name
        self._scans = find_scans(self.folder, "velodyne_points/data", "KITTI raw drive")
        self._camera_from_lidar, self._camera = self._load_calibration()
        self.base_from_lidar: NDArray[np.float64] = np.eye(4)
        self.base_from_lidar[2, 3] = VELODYNE_HEIGHT
        self.base_from_camera = {CAMERA: self.base_from_lidar @ invert_transform(self._camera_from_lidar)}

    def __len__(self) -> int:
        return len(self._scans)

    def load_sample(self, index: int) -> Sample:
        """Loads a frame; one without an image file has no image.

        Raises:
            InputError: the index is out of range, or a file is corrupt.
        """
        check_index(index, len(self), self.name)
        path = self._scans[index]
        columns = load_point_file(path, 4)
        stamp_ns = self._stamp_ns("velodyne_points", path.stem)
        return Sample(
            key=f"{self.name}/{path.stem}",
            cloud=PointCloud(np.ascontiguousarray(columns[:, :3]), columns[:, 3].copy(), stamp_ns, "lidar"),
            images=self._load_images(path.stem),
            world_from_lidar=self._world_from_lidar(int(path.stem)),
        )

    def describe(self) -> dict[str, Any]:
        """See ``Source``."""
        images = (self._image_path(path.stem) for path in self._scans)
        return {
            "scans": fingerprint_files(self._scans),
            "images": fingerprint_files(path for path in images if path.is_file()),
            "calibration": fingerprint_contents(*(self._calibration_folder / name for name in CALIBRATION_FILES)),
            "stamps": fingerprint_contents(*self._stamp_files.values()),
        }

    def _image_path(self, stem: str) -> Path:
        return self.folder / CAMERA / "data" / f"{stem}.png"

    def _load_images(self, stem: str) -> tuple[CameraImage, ...]:
        path = self._image_path(stem)
        if not path.is_file():
            return ()
        return (
            CameraImage(
                name=CAMERA,
                image=load_image_file(path, (self._camera.width, self._camera.height)),
                camera=self._camera,
                camera_from_lidar=self._camera_from_lidar,
                stamp_ns=self._stamp_ns(CAMERA, stem),
            ),
        )

    def _load_calibration(self) -> tuple[NDArray[np.float64], CameraModel]:
        folder = self._calibration_folder
        cameras = read_calibration(folder / "calib_cam_to_cam.txt")
        velodyne = read_calibration(folder / "calib_velo_to_cam.txt")
        camera, shift = cameras.pinhole("P_rect_02", *cameras.size("S_rect_02"))
        rectify = homogeneous(cameras.matrix("R_rect_00", (3, 3)))
        reference_from_lidar = homogeneous(velodyne.matrix("R", (3, 3)), velodyne.matrix("T", (3,)))
        return shift @ rectify @ reference_from_lidar, camera

    @cached_property
    def _calibration_folder(self) -> Path:
        for folder in (self.folder, self.folder.parent):
            if all((folder / name).is_file() for name in CALIBRATION_FILES):
                return folder
        raise InputError(
            f"KITTI raw drive {self.folder} has no calibration: expected {' and '.join(CALIBRATION_FILES)} in it or in "
            f"{self.folder.parent}; download the calibration of that day from the KITTI raw data page"
        )

    def _stamp_ns(self, sensor: str, stem: str) -> int:
        stamps = self._stamps.get(sensor)
        if stamps is None:
            return self._day_ns + int(stem) * SCAN_PERIOD_NS
        stamp_ns = stamps[int(stem)] if int(stem) < len(stamps) else None
        if stamp_ns is None:
            raise InputError(
                f"{self.folder / sensor / 'timestamps.txt'} has {len(stamps)} lines, none for frame {stem}; "
                "copy it again"
            )
        return stamp_ns

    @property
    def _stamp_files(self) -> dict[str, Path]:
        return {sensor: self.folder / sensor / "timestamps.txt" for sensor in ("velodyne_points", CAMERA)}

    @cached_property
    def _stamps(self) -> dict[str, list[int | None]]:
        return {sensor: _read_stamps(path) for sensor, path in self._stamp_files.items() if path.is_file()}

    @cached_property
    def _day_ns(self) -> int:
        try:
            day = datetime.strptime(self.name[:10], "%Y_%m_%d").replace(tzinfo=timezone.utc)
        except ValueError:
            return SCAN_PERIOD_NS  # a folder without a date; stamp 0 would mean "no stamp"
        return int(day.timestamp()) * 1_000_000_000

    def _world_from_lidar(self, frame: int) -> NDArray[np.float64] | None:
        pose = self._world_from_imu.get(frame)
        return None if pose is None else pose @ self._imu_from_lidar

    @cached_property
    def _world_from_imu(self) -> dict[int, NDArray[np.float64]]:
        return world_from_imu_poses(self.folder / "oxts" / "data")

    @cached_property
    def _imu_from_lidar(self) -> NDArray[np.float64]:
        content = read_calibration(self._calibration_folder / "calib_imu_to_velo.txt")
        return invert_transform(homogeneous(content.matrix("R", (3, 3)), content.matrix("T", (3,))))


def _drives(folder: Path) -> list[Path]:
    return sorted(p.parent for p in folder.glob("*_drive_*/velodyne_points"))


def _choose_drive(folder: Path) -> Path:
    if (folder / "velodyne_points").is_dir():
        return folder
    drives = _drives(folder)
    if len(drives) == 1:
        return drives[0]
    if not drives:
        raise InputError(
            f"{folder} is no KITTI raw folder: expected velodyne_points/ or *_drive_*/velodyne_points/ in it"
        )
    options = "\n".join(f"  {drive}" for drive in drives)
    raise InputError(f"{folder} holds {len(drives)} drives; choose one:\n{options}")


def _read_stamps(path: Path) -> list[int | None]:
    """By frame; None where the line is empty: frames that a sensor lost (177 to 180 of 2011_09_26_drive_0009)."""
    lines = path.read_text().splitlines()
    return [_parse_stamp(line, path, number) if line.strip() else None for number, line in enumerate(lines, 1)]


def _parse_stamp(line: str, path: Path, number: int) -> int:
    """``2011-09-26 13:02:25.951199337`` in nanoseconds, exactly."""
    try:
        seconds, _, fraction = line.strip().partition(".")
        moment = datetime.strptime(seconds, "%Y-%m-%d %H:%M:%S").replace(tzinfo=timezone.utc)
        return int(moment.timestamp()) * 1_000_000_000 + int(fraction.ljust(9, "0")[:9])
    except ValueError as error:
        raise InputError(f"{path}, line {number}: expected YYYY-MM-DD hh:mm:ss.nnnnnnnnn, got {line!r}") from error
