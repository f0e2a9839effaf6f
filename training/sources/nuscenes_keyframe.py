"""A folder with one nuScenes keyframe and its calibration in ``calib.json``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.camera import CameraModel
from ov_seg_ros.core.data_types import CameraImage, PointCloud, Sample
from ov_seg_ros.core.errors import InputError
from ov_seg_ros.core.label_space import LabelSpace
from training.fingerprint import fingerprint_contents, fingerprint_files
from training.sources.nuscenes_axes import SENSOR_FROM_LIDAR, Box3d, turn_points
from training.sources.point_files import check_index, load_image_file, load_point_file

CALIBRATION_FILE = "calib.json"


def is_nuscenes_keyframe(folder: Path) -> bool:
    """Whether a folder holds a keyframe as described in ``NuScenesKeyframe``."""
    return (folder / CALIBRATION_FILE).is_file()


class NuScenesKeyframe:
    """One sample: a scan of LIDAR_TOP and the images of up to six cameras, without poses.

    ``calib.json`` holds ``lidar`` {``file``: float32 x, y, z, intensity, ring}, ``cameras`` by name {``image``,
    ``width``, ``height``, ``timestamp`` s, ``cam2img`` (3, 3), ``lidar2cam`` (4, 4) with the ego motion between scan
    and image in it}, ``timestamp`` s of the scan and ``boxes`` in the axes of the sensor. Converted to a recording,
    ``lidar2cam`` becomes the static transform, which is exact for this one scan.

    Attributes:
        name: of the folder.
        label_space: None; a keyframe has boxes, not labels per point.
        boxes: the annotated objects, in our axes.
    """

    label_space: LabelSpace | None = None

    def __init__(self, folder: str | Path) -> None:
        """Reads the calibration.

        Raises:
            InputError: it is missing or does not hold what it should.
        """
        self.folder = Path(folder)
        self.name = self.folder.name
        self._path = self.folder / CALIBRATION_FILE
        try:
            self._content: dict[str, Any] = json.loads(self._path.read_text())
            self._scan_file = self.folder / self._content["lidar"]["file"]
            self._stamp_ns = _stamp_ns(self._content["timestamp"])
            self._cameras: dict[str, dict[str, Any]] = dict(self._content["cameras"])
            self.boxes = tuple(
                Box3d.from_sensor_axes(b["name"], tuple(b["box"]), int(b["num_lidar_pts"]))
                for b in self._content.get("boxes", [])
            )
        except FileNotFoundError as error:
            raise InputError(f"nuScenes keyframe {self.folder} has no {CALIBRATION_FILE}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{self._path} is no calibration of a nuScenes keyframe: {error!r}") from error

    def __len__(self) -> int:
        return 1

    def load_sample(self, index: int) -> Sample:
        """Loads the keyframe, points turned to x forward, y left, z up.

        Raises:
            InputError: the index is not 0, or a file is missing or corrupt.
        """
        check_index(index, 1, self.name)
        columns = load_point_file(self._scan_file, 5)
        return Sample(
            key=f"{self.name}/000000",
            cloud=PointCloud(turn_points(columns[:, :3]), columns[:, 3].copy(), self._stamp_ns, "lidar"),
            images=tuple(self._load_image(name, entry) for name, entry in self._cameras.items()),
        )

    def describe(self) -> dict[str, Any]:
        """See ``Source``."""
        images = [self.folder / str(entry.get("image")) for entry in self._cameras.values()]
        return {
            "files": fingerprint_files([self._scan_file, *images], self.folder),
            "calibration": fingerprint_contents(self._path),
        }

    def load_scan_fields(self, index: int) -> dict[str, NDArray[np.generic]]:
        """Further columns of the scan: ``ring`` (N,) uint16."""
        check_index(index, 1, self.name)
        return {"ring": load_point_file(self._scan_file, 5)[:, 4].astype(np.uint16)}

    def load_ring(self, index: int) -> NDArray[np.uint16]:
        """(N,) uint16 beam of each point; raises as ``load_sample`` does."""
        return self.load_scan_fields(index)["ring"].astype(np.uint16, copy=False)

    def _load_image(self, name: str, entry: dict[str, Any]) -> CameraImage:
        try:
            k = np.asarray(entry["cam2img"], np.float64)
            camera = CameraModel(int(entry["width"]), int(entry["height"]), k[0, 0], k[1, 1], k[0, 2], k[1, 2])
            camera_from_sensor = np.asarray(entry["lidar2cam"], np.float64).reshape(4, 4)
            path, stamp_ns = self.folder / entry["image"], _stamp_ns(entry["timestamp"])
        except (KeyError, IndexError, ValueError, TypeError) as error:
            raise InputError(f"{self._path}: camera {name} is incomplete: {error!r}") from error
        return CameraImage(name, load_image_file(path), camera, camera_from_sensor @ SENSOR_FROM_LIDAR, stamp_ns)


def _stamp_ns(seconds: float) -> int:
    """Stamps of nuScenes are whole microseconds; a float of this size is exact to 0.2 us."""
    return round(float(seconds) * 1e6) * 1000
