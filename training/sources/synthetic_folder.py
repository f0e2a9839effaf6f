"""A synthetic drive on disk: rendered once, read many times.

A drive folder holds

    drive.json                 format version, configuration, calibration, stamps and poses; written last
    scans/000012.npz           points, intensity, class_id, instance_id, ring, time of one scan
    images/<camera>/000012.jpg JPEG
    truth/<camera>/000012_class.png     8 bit class id, 255 = sky
    truth/<camera>/000012_instance.png  16 bit instance id
    truth/<camera>/000012_depth.png     16 bit depth in units of ``DEPTH_UNIT``, 65535 = sky
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ov_seg_ros.core.camera import CameraModel
from ov_seg_ros.core.data_types import CameraImage, PointCloud, Sample
from ov_seg_ros.core.errors import InputError
from ov_seg_ros.core.label_space import LabelSpace
from ov_seg_ros.core.transforms import interpolate_transform, invert_transform
from training.atomic_files import explain_full_disk, write_json
from training.fingerprint import fingerprint_contents, fingerprint_files
from training.sources.protocol import ImageTruth
from training.sources.synthetic import DriveConfig, SyntheticDrive
from training.worker_pool import WorkerPool

FORMAT = 1
"""Version of the layout above; a reader refuses others."""

DEPTH_UNIT = 0.004
"""Metres per step of the depth images."""

JPEG_QUALITY = 92
_SKY_DEPTH = 65535


def write_drive(
    drive: SyntheticDrive,
    folder: Path,
    processes: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> SyntheticFolder:
    """Renders a whole drive into ``folder``, which is created; files of an earlier run are overwritten.

    Args:
        drive: what to render.
        folder: of this drive alone.
        processes: that render side by side; the bytes do not depend on it.
        progress: called with (scans done, scans in all).

    Raises:
        StorageFullError: the disk is full.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "drive.json").unlink(missing_ok=True)
    report = progress or (lambda done, total: None)
    if processes == 1:
        for index in range(len(drive)):
            _write_scan(drive, folder, index)
            report(index + 1, len(drive))
    else:
        jobs = [(drive.config, folder, index) for index in range(len(drive))]
        with WorkerPool(processes) as pool:
            for done, _ in enumerate(pool.map(_write_in_worker, jobs), 1):
                report(done, len(drive))
    write_json(folder / "drive.json", _describe(drive))
    return SyntheticFolder(folder)


@lru_cache(maxsize=1)
def _worker_drive(config: DriveConfig) -> SyntheticDrive:
    return SyntheticDrive(config)


def _write_in_worker(job: tuple[DriveConfig, Path, int]) -> None:
    config, folder, index = job
    _write_scan(_worker_drive(config), folder, index)


def _write_scan(drive: SyntheticDrive, folder: Path, index: int) -> None:
    with explain_full_disk(folder / f"scan {index} with its images"):
        _write_scan_files(drive, folder, index)


def _write_scan_files(drive: SyntheticDrive, folder: Path, index: int) -> None:
    sample, fields = drive.load_sample(index, with_images=False), drive.load_scan_fields(index)
    path = _scan_path(folder, index)
    path.parent.mkdir(exist_ok=True)
    cloud = sample.cloud
    arrays: dict[str, Any] = {
        "points": cloud.points,
        "intensity": cloud.intensity,
        "class_id": sample.class_id,
        **fields,
    }
    np.savez(path, **arrays)
    for camera in drive.config.cameras:
        image, truth = drive.load_image(index, camera)
        for target in (_image_path(folder, index, camera), _truth_path(folder, index, camera, "class")):
            target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.image).save(_image_path(folder, index, camera), quality=JPEG_QUALITY, subsampling=0)
        steps = np.where(np.isfinite(truth.depth), np.rint(truth.depth / DEPTH_UNIT), _SKY_DEPTH)
        layers: dict[str, NDArray[Any]] = {
            "class": truth.class_id,
            "instance": truth.instance_id.astype(np.uint16),
            "depth": np.clip(steps, 0, _SKY_DEPTH).astype(np.uint16),
        }
        for layer, values in layers.items():
            Image.fromarray(values).save(_truth_path(folder, index, camera, layer), compress_level=1)


def _scan_path(folder: Path, index: int) -> Path:
    return folder / "scans" / f"{index:06d}.npz"


def _image_path(folder: Path, index: int, camera: str) -> Path:
    return folder / "images" / camera / f"{index:06d}.jpg"


def _truth_path(folder: Path, index: int, camera: str, layer: str) -> Path:
    return folder / "truth" / camera / f"{index:06d}_{layer}.png"


def _describe(drive: SyntheticDrive) -> dict[str, Any]:
    scans: list[dict[str, Any]] = []
    every: set[int] = set()
    for index in range(len(drive)):
        stamps = {name: drive.camera_stamp_ns(index, name) for name in drive.config.cameras}
        scans.append({"stamp_ns": drive.stamp_ns(index), "camera_stamp_ns": stamps})
        every |= {drive.stamp_ns(index), *stamps.values()}
    return {
        "format": FORMAT,
        "name": drive.name,
        "config": asdict(drive.config),
        "label_space": drive.label_space.to_dict(),
        "base_from_lidar": drive.base_from_lidar.tolist(),
        "base_from_camera": {name: matrix.tolist() for name, matrix in drive.base_from_camera.items()},
        "camera_models": {name: asdict(model) for name, model in drive.camera_models.items()},
        "scans": scans,
        "poses": {str(stamp): drive.ego_pose(stamp).tolist() for stamp in sorted(every)},
    }


class SyntheticFolder:
    """A drive that ``write_drive`` has rendered; implements ``Source`` and offers the truth like ``SyntheticDrive``.

    Attributes:
        folder: where it lies.
        config: what it was made from.
        base_from_lidar: (4, 4).
        base_from_camera: (4, 4) by camera name.
        camera_models: intrinsics by camera name.
    """

    def __init__(self, folder: Path) -> None:
        """Reads ``drive.json``.

        Raises:
            InputError: it is missing, broken or of another format.
        """
        self.folder = Path(folder)
        about = _load_description(self.folder / "drive.json")
        config = {**about["config"], "cameras": tuple(about["config"]["cameras"])}
        self.config = DriveConfig(**config)
        self._name = str(about["name"])
        self._label_space = LabelSpace.from_dict(about["label_space"], where=str(self.folder / "drive.json"))
        self.base_from_lidar = np.array(about["base_from_lidar"], np.float64)
        self.base_from_camera = {n: np.array(m, np.float64) for n, m in about["base_from_camera"].items()}
        self.camera_models = {n: CameraModel(**m) for n, m in about["camera_models"].items()}
        self._scans: list[dict[str, Any]] = about["scans"]
        poses = {int(stamp): np.array(pose, np.float64) for stamp, pose in about["poses"].items()}
        self._pose_stamps = np.array(sorted(poses), np.int64)
        self._poses = np.stack([poses[int(stamp)] for stamp in self._pose_stamps])

    @property
    def name(self) -> str:
        """Of the drive."""
        return self._name

    @property
    def label_space(self) -> LabelSpace:
        """Of the ground truth."""
        return self._label_space

    def __len__(self) -> int:
        return len(self._scans)

    def describe(self) -> dict[str, Any]:
        """See ``Source``."""
        scans = range(len(self))
        images = (_image_path(self.folder, index, camera) for camera in self.config.cameras for index in scans)
        return {
            "drive": fingerprint_contents(self.folder / "drive.json"),
            "scans": fingerprint_files(_scan_path(self.folder, index) for index in scans),
            "images": fingerprint_files(images, self.folder),
        }

    def stamp_ns(self, index: int) -> int:
        """Stamp of scan ``index``.

        Raises:
            InputError: the drive has no such scan.
        """
        return int(self._scan_about(index)["stamp_ns"])

    def camera_stamp_ns(self, index: int, camera: str) -> int:
        """Stamp of the image of ``camera`` that belongs to scan ``index``."""
        self._check_camera(camera)
        return int(self._scan_about(index)["camera_stamp_ns"][camera])

    def ego_pose(self, stamp_ns: int) -> NDArray[np.float64]:
        """(4, 4) world_from_base; exact at the stamps of scans and images, interpolated between them.

        Raises:
            InputError: the stamp lies outside the drive.
        """
        stamps = self._pose_stamps
        after = int(np.searchsorted(stamps, stamp_ns))
        if after < len(stamps) and stamps[after] == stamp_ns:
            return self._poses[after]
        if not 0 < after < len(stamps):
            raise InputError(f"stamp {stamp_ns} is outside drive {self.name} ({stamps[0]} to {stamps[-1]} ns)")
        fraction = (stamp_ns - int(stamps[after - 1])) / (int(stamps[after]) - int(stamps[after - 1]))
        return interpolate_transform(self._poses[after - 1], self._poses[after], fraction)

    def load_sample(self, index: int, with_images: bool = True) -> Sample:
        """The scan with its ground truth; its images cost most of the time and can be left out.

        Raises:
            InputError: the drive has no such scan, or a file is missing or broken.
        """
        stamp = self.stamp_ns(index)
        scan = self._load_arrays(index, "points", "intensity", "class_id")
        cloud = PointCloud(scan["points"], scan["intensity"], stamp, "lidar")
        images = tuple(self._load_image(index, name) for name in self.config.cameras) if with_images else ()
        return Sample(
            f"{self.name}/{index:06d}", cloud, images, scan["class_id"], self.ego_pose(stamp) @ self.base_from_lidar
        )

    def load_scan_fields(self, index: int) -> dict[str, NDArray]:
        """``ring`` (N,) uint16, ``time`` (N,) float32 seconds after the stamp, ``instance_id`` (N,) int32."""
        return self._load_arrays(index, "ring", "time", "instance_id")

    def load_instance_id(self, index: int) -> NDArray[np.int32]:
        """(N,) int32 per point, 0 = stuff."""
        return self._load_arrays(index, "instance_id")["instance_id"]

    def load_image_truth(self, index: int, camera: str) -> ImageTruth:
        """Classes, instances and depth behind the pixels of one image; depth to ``DEPTH_UNIT``."""
        self._check_camera(camera)
        self._scan_about(index)
        class_id, instance_id, steps = (
            _load_picture(_truth_path(self.folder, index, camera, layer)) for layer in ("class", "instance", "depth")
        )
        depth = np.where(steps == _SKY_DEPTH, np.float32(np.inf), (steps * DEPTH_UNIT).astype(np.float32))
        return ImageTruth(class_id.astype(np.uint8), instance_id.astype(np.int32), depth)

    def _load_image(self, index: int, camera: str) -> CameraImage:
        stamp = self.camera_stamp_ns(index, camera)
        world_from_camera = self.ego_pose(stamp) @ self.base_from_camera[camera]
        world_from_lidar = self.ego_pose(self.stamp_ns(index)) @ self.base_from_lidar
        image = _load_picture(_image_path(self.folder, index, camera))
        camera_from_lidar = invert_transform(world_from_camera) @ world_from_lidar
        return CameraImage(camera, image, self.camera_models[camera], camera_from_lidar, stamp)

    def _load_arrays(self, index: int, *names: str) -> dict[str, NDArray]:
        self._scan_about(index)
        path = _scan_path(self.folder, index)
        try:
            with np.load(path) as stored:
                return {name: stored[name] for name in names}
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"{path} is no scan of a synthetic drive ({error}); render the drive again") from error

    def _scan_about(self, index: int) -> dict[str, Any]:
        if not 0 <= index < len(self):
            raise InputError(f"drive {self.name} has scans 0 to {len(self) - 1}, got {index}")
        return self._scans[index]

    def _check_camera(self, camera: str) -> None:
        if camera not in self.camera_models:
            names = ", ".join(self.camera_models) or "(none)"
            raise InputError(f"drive {self.name} has the cameras {names}, got {camera!r}")


def _load_description(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(f"{path} does not exist; expected the folder of a rendered synthetic drive")
    try:
        about = json.loads(path.read_text())
        version = about["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} describes no synthetic drive ({error!r}); render the drive again") from error
    if version != FORMAT:
        raise InputError(f"{path} has format {version}, this version reads {FORMAT}; render the drive again")
    return about


def _load_picture(path: Path) -> NDArray:
    try:
        with Image.open(path) as image:
            return np.asarray(image)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error}); render the drive again") from error
