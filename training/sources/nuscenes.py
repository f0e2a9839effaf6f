"""nuScenes in its official layout: one scene's keyframes, LIDAR_TOP and six cameras.

Caesar et al., "nuScenes: A multimodal dataset for autonomous driving", CVPR 2020. Only the tables that are needed
are read; the annotations are those of lidarseg where it is installed.
"""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.camera import CameraModel
from ov_seg_ros.core.data_types import CameraImage, PointCloud, Sample
from ov_seg_ros.core.errors import InputError
from ov_seg_ros.core.label_space import LabelSpace
from ov_seg_ros.core.transforms import invert_transform, matrix_from_quaternion
from training.sources.label_mapping import LabelMapping
from training.sources.nuscenes_axes import SENSOR_FROM_LIDAR, turn_points
from training.sources.point_files import check_index, load_image_file, load_point_file

LIDAR = "LIDAR_TOP"
MAPPING = "nuscenes_lidarseg_to_nuscenes16"
TABLES = ("scene", "sample", "sample_data", "calibrated_sensor", "ego_pose", "sensor")

Row = dict[str, Any]


def is_nuscenes(folder: Path) -> bool:
    """Whether a folder is a nuScenes root (``v1.0-*`` with tables), or such a version folder."""
    return bool(_versions(folder))


class NuScenes:
    """One scene of nuScenes, a sample per keyframe (2 Hz).

    Attributes:
        name: "nuscenes_scene-0061".
        base_from_lidar: (4, 4) float64, base_link is the ego frame (rear axle, on the ground).
        base_from_camera: (4, 4) float64 per camera.
    """

    def __init__(self, folder: str | Path, scene: str | None = None) -> None:
        """Reads the tables.

        Args:
            folder: the data set's root or its ``v1.0-*`` folder.
            scene: name of the scene; None = the only one.

        Raises:
            InputError: no tables or several versions, an unknown scene, or a choice of scenes.
        """
        version = _choose_version(Path(folder))
        self.root = version.parent
        tables = {name: _load_table(version / f"{name}.json") for name in TABLES}
        self._version = version
        self._scene = _choose_scene(tables["scene"], scene, version)
        self.name = f"nuscenes_{self._scene['name']}"
        self._calibrations = {row["token"]: row for row in tables["calibrated_sensor"]}
        self._sensors = {row["token"]: row["channel"] for row in tables["sensor"]}
        self._keyframes = self._join(tables)
        self._poses = self._poses_of_keyframes(tables["ego_pose"])
        first = self._keyframes[0]
        self.base_from_lidar = self._base_from_sensor(first[LIDAR]) @ SENSOR_FROM_LIDAR
        self.base_from_camera = {c: self._base_from_sensor(r) for c, r in first.items() if c.startswith("CAM_")}

    @property
    def label_space(self) -> LabelSpace | None:
        """nuscenes16 if lidarseg is installed, else None."""
        return self._mapping.target if self._label_files else None

    def __len__(self) -> int:
        return len(self._keyframes)

    def load_sample(self, index: int) -> Sample:
        """Loads a keyframe, points turned to x forward, y left, z up.

        Raises:
            InputError: the index is out of range, or a file is missing or corrupt.
        """
        check_index(index, len(self), self.name)
        channels = self._keyframes[index]
        row = channels[LIDAR]
        columns = load_point_file(self.root / row["filename"], 5)
        world_from_lidar = self._world_from_sensor(row) @ SENSOR_FROM_LIDAR
        cloud = PointCloud(turn_points(columns[:, :3]), columns[:, 3].copy(), row["timestamp"] * 1000, "lidar")
        return Sample(
            key=f"{self.name}/{index:06d}",
            cloud=cloud,
            images=tuple(
                self._load_image(channel, camera, world_from_lidar)
                for channel, camera in sorted(channels.items())
                if channel.startswith("CAM_")
            ),
            class_id=self._load_class_id(row["token"], len(cloud)),
            world_from_lidar=world_from_lidar,
        )

    def load_scan_fields(self, index: int) -> dict[str, NDArray[np.generic]]:
        """Further columns of the scan: ``ring`` (N,) uint16."""
        check_index(index, len(self), self.name)
        columns = load_point_file(self.root / self._keyframes[index][LIDAR]["filename"], 5)
        return {"ring": columns[:, 4].astype(np.uint16)}

    def _load_image(self, channel: str, row: Row, world_from_lidar: NDArray[np.float64]) -> CameraImage:
        k = np.asarray(self._calibrations[row["calibrated_sensor_token"]]["camera_intrinsic"], np.float64)
        return CameraImage(
            name=channel,
            image=load_image_file(self.root / row["filename"]),
            camera=CameraModel(int(row["width"]), int(row["height"]), k[0, 0], k[1, 1], k[0, 2], k[1, 2]),
            camera_from_lidar=invert_transform(self._world_from_sensor(row)) @ world_from_lidar,
            stamp_ns=row["timestamp"] * 1000,
        )

    def _world_from_sensor(self, row: Row) -> NDArray[np.float64]:
        return _matrix(self._poses[row["ego_pose_token"]]) @ self._base_from_sensor(row)

    def _base_from_sensor(self, row: Row) -> NDArray[np.float64]:
        return _matrix(self._calibrations[row["calibrated_sensor_token"]])

    def _join(self, tables: dict[str, list[Row]]) -> list[dict[str, Row]]:
        """Per keyframe of the scene in time order, the sample_data row of every channel."""
        samples = {row["token"]: row for row in tables["sample"] if row["scene_token"] == self._scene["token"]}
        channels: dict[str, dict[str, Row]] = {token: {} for token in samples}
        for row in tables["sample_data"]:
            if row["is_key_frame"] and row["sample_token"] in channels:
                sensor = self._calibrations[row["calibrated_sensor_token"]]["sensor_token"]
                channels[row["sample_token"]][self._sensors[sensor]] = row
        ordered = sorted(channels, key=lambda token: int(samples[token]["timestamp"]))
        joined = [channels[token] for token in ordered if LIDAR in channels[token]]
        if not joined:
            raise InputError(f"{self._version}: scene {self._scene['name']} has no keyframe with {LIDAR}")
        return joined

    def _poses_of_keyframes(self, table: list[Row]) -> dict[str, Row]:
        needed = {row["ego_pose_token"] for channels in self._keyframes for row in channels.values()}
        return {row["token"]: row for row in table if row["token"] in needed}

    @cached_property
    def _mapping(self) -> LabelMapping:
        return LabelMapping.load(MAPPING)

    @cached_property
    def _label_files(self) -> dict[str, str]:
        path = self._version / "lidarseg.json"
        return {r["sample_data_token"]: r["filename"] for r in _load_table(path)} if path.is_file() else {}

    def _load_class_id(self, token: str, point_count: int) -> NDArray[np.uint8] | None:
        name = self._label_files.get(token)
        if name is None:
            return None
        path = self.root / name
        if not path.is_file() or path.stat().st_size != point_count:
            size = path.stat().st_size if path.is_file() else "no"
            raise InputError(f"labels {path}: {size} bytes for {point_count} points; install nuScenes lidarseg again")
        return self._mapping.map_ids(np.fromfile(path, np.uint8), str(path))


def _versions(folder: Path) -> list[Path]:
    folders = [folder] if folder.name.startswith("v1.0-") else sorted(folder.glob("v1.0-*"))
    return [f for f in folders if (f / "sample_data.json").is_file()]


def _choose_version(folder: Path) -> Path:
    versions = _versions(folder)
    if len(versions) == 1:
        return versions[0]
    if not versions:
        raise InputError(f"{folder} is no nuScenes root: expected v1.0-*/sample_data.json in it")
    raise InputError(f"{folder} holds several versions; choose one:\n" + "\n".join(f"  {v}" for v in versions))


def _choose_scene(scenes: list[Row], name: str | None, version: Path) -> Row:
    chosen = [row for row in scenes if name in (None, row["name"])]
    if len(chosen) == 1:
        return chosen[0]
    problem = f"has no scene {name!r}" if not chosen else f"holds {len(chosen)} scenes"
    options = "\n".join(f"  {version}:{row['name']}" for row in scenes[:20])
    more = f"\n  ... and {len(scenes) - 20} more" if len(scenes) > 20 else ""
    raise InputError(f"{version} {problem}; choose one:\n{options}{more}")


def _load_table(path: Path) -> list[Row]:
    try:
        rows: list[Row] = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise InputError(f"nuScenes table {path} is missing; unpack the metadata archive again") from error
    except ValueError as error:
        raise InputError(f"nuScenes table {path} is damaged ({error}); unpack the metadata archive again") from error
    return rows


def _matrix(row: Row) -> NDArray[np.float64]:
    """Tables hold rotations as w, x, y, z."""
    w, x, y, z = row["rotation"]
    return matrix_from_quaternion(row["translation"], (x, y, z, w))
