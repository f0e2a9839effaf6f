"""nuScenes in its official layout: keyframes of one scene, of a split or of all scenes, LIDAR_TOP and six cameras.

Caesar et al., "nuScenes: A multimodal dataset for autonomous driving", CVPR 2020. The true labels are those of
lidarseg (Fong et al., "Panoptic nuScenes", RA-L 2022) where it is installed. The development kit is not needed.
"""

from __future__ import annotations

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
from training.fingerprint import fingerprint_values
from training.sources.label_mapping import LabelMapping
from training.sources.nuscenes_axes import SENSOR_FROM_LIDAR, turn_points
from training.sources.nuscenes_cache import load_index
from training.sources.nuscenes_splits import NuScenesSelection, version_of_split
from training.sources.nuscenes_tables import column, read_rows
from training.sources.point_files import check_index, load_image_file, load_point_file

LIDAR_CHANNEL = 0
RAW_CLASSES = "nuscenes_lidarseg"


def is_nuscenes(folder: Path) -> bool:
    """Whether a folder is a nuScenes root (``v1.0-*`` with tables), or such a version folder."""
    return bool(_versions(folder))


class NuScenes:
    """Keyframes (2 Hz) of the chosen scenes, scene by scene in the order of ``scene.json``, each in order of time.

    Attributes:
        name: "nuscenes_scene-0061", "nuscenes_train", "nuscenes_train_skip100".
        root: of the data set; the folder that holds ``samples``.
        scene_names: of the chosen scenes.
    """

    def __init__(
        self,
        folder: str | Path,
        scene: str | None = None,
        selection: NuScenesSelection | None = None,
        labels: str = "nuscenes16",
    ) -> None:
        """Reads the tables, or what the cache keeps of them.

        Args:
            folder: the data set's root or its ``v1.0-*`` folder.
            scene: name of one scene; None without a selection = the only one there is.
            selection: several scenes: a split, a subset of it, or ``NuScenesSelection()`` for all.
            labels: label space of ``Sample.class_id``.

        Raises:
            InputError: no tables or several versions, an unknown scene or split, or a choice of scenes.
            ConfigError: there is no mapping from the classes of lidarseg to ``labels``.
        """
        wanted = selection or NuScenesSelection(scenes=() if scene is None else (scene,))
        self._version = _choose_version(Path(folder), wanted)
        self.root = self._version.parent
        self._mapping = LabelMapping.load(f"{RAW_CLASSES}_to_{labels}")
        self._index = load_index(self._version)
        table = self._index.scene_names.tolist()
        chosen = (
            _one_scene(table, scene, self._version) if selection is None else selection.choose(table, self._version)
        )
        self.scene_names = tuple(table[number] for number in chosen)
        self.name = f"nuscenes_{table[chosen[0]]}" if selection is None else selection.name(self._version.name)
        self._keyframes = np.flatnonzero(np.isin(self._index.scene, chosen))
        if not len(self._keyframes):
            raise InputError(f"{self._version}: {self._whose_scenes} has no keyframe with LIDAR_TOP")
        first_of_scene = np.searchsorted(self._index.scene, self._index.scene[self._keyframes])
        self._number_in_scene = self._keyframes - first_of_scene

    @property
    def label_space(self) -> LabelSpace | None:
        """The label space asked for if lidarseg is installed, else None."""
        return self._mapping.target if self._label_files else None

    @property
    def base_from_lidar(self) -> NDArray[np.float64]:
        """(4, 4), base_link is the ego frame (rear axle, on the ground).

        Raises:
            InputError: there are several scenes, each with its own calibration.
        """
        return self._index.base_from_sensor(self._single_scene(), LIDAR_CHANNEL) @ SENSOR_FROM_LIDAR

    @property
    def base_from_camera(self) -> dict[str, NDArray[np.float64]]:
        """(4, 4) per camera; raises as ``base_from_lidar`` does."""
        first = self._single_scene()
        return {name: self._index.base_from_sensor(first, c) for c, name in self._cameras(first)}

    def __len__(self) -> int:
        return len(self._keyframes)

    def load_sample(self, index: int) -> Sample:
        """Loads a keyframe, points turned to x forward, y left, z up.

        Raises:
            InputError: the index is out of range, or a file is missing or corrupt.
        """
        check_index(index, len(self), self.name)
        keyframe = int(self._keyframes[index])
        columns = load_point_file(self._file(keyframe, LIDAR_CHANNEL), 5)
        world_from_lidar = self._index.world_from_sensor(keyframe, LIDAR_CHANNEL) @ SENSOR_FROM_LIDAR
        stamp_ns = self._stamp_ns(keyframe, LIDAR_CHANNEL)
        cloud = PointCloud(turn_points(columns[:, :3]), columns[:, 3].copy(), stamp_ns, "lidar")
        return Sample(
            key=self._key(index),
            cloud=cloud,
            images=tuple(self._load_image(keyframe, c, world_from_lidar) for c, _ in self._cameras(keyframe)),
            class_id=self._load_class_id(keyframe, len(cloud)),
            world_from_lidar=world_from_lidar,
        )

    def load_scan_fields(self, index: int) -> dict[str, NDArray[np.generic]]:
        """Further columns of the scan: ``ring`` (N,) uint16."""
        check_index(index, len(self), self.name)
        columns = load_point_file(self._file(int(self._keyframes[index]), LIDAR_CHANNEL), 5)
        return {"ring": columns[:, 4].astype(np.uint16)}

    def load_ring(self, index: int) -> NDArray[np.uint16]:
        """(N,) uint16 beam of each point; raises as ``load_sample`` does."""
        return self.load_scan_fields(index)["ring"].astype(np.uint16, copy=False)

    def describe(self) -> dict[str, Any]:
        """See ``Source``; the tokens stand for the files, which are never changed."""
        index, keyframes = self._index, self._keyframes
        mounted = index.calibration[keyframes]
        scans = index.tokens[keyframes, LIDAR_CHANNEL].tolist()
        return {
            "tokens": fingerprint_values(index.channels.tolist(), index.tokens[keyframes]),
            "calibration": fingerprint_values(index.poses[keyframes], index.mounts[mounted], index.intrinsics[mounted]),
            "truth": {
                "labelled": sum(token.decode() in self._label_files for token in scans),
                "mapping": self._mapping.fingerprint,
            },
        }

    def tokens(self, index: int) -> dict[str, str]:
        """The ``sample_data`` token of every channel: how others name what they export per image or scan."""
        check_index(index, len(self), self.name)
        keyframe = self._keyframes[index]
        row = zip(self._index.channels.tolist(), self._index.tokens[keyframe].tolist(), strict=True)
        return {channel: token.decode() for channel, token in row if token}

    @property
    def _whose_scenes(self) -> str:
        return f"scene {self.scene_names[0]}" if len(self.scene_names) == 1 else f"{len(self.scene_names)} scenes"

    def _key(self, index: int) -> str:
        number = self._number_in_scene[index]
        if self.name == f"nuscenes_{self.scene_names[0]}":
            return f"{self.name}/{number:06d}"
        scene = self._index.scene_names[self._index.scene[self._keyframes[index]]]
        return f"{self.name}/{scene}_{number:06d}"

    def _cameras(self, keyframe: int) -> list[tuple[int, str]]:
        names = self._index.channels.tolist()
        return [(c, names[c]) for c in range(LIDAR_CHANNEL + 1, len(names)) if self._index.has(keyframe, c)]

    def _file(self, keyframe: int, channel: int) -> Path:
        return self.root / self._index.files[keyframe, channel].decode()

    def _stamp_ns(self, keyframe: int, channel: int) -> int:
        return int(self._index.stamps_us[keyframe, channel]) * 1000

    def _load_image(self, keyframe: int, channel: int, world_from_lidar: NDArray[np.float64]) -> CameraImage:
        width, height = self._index.sizes[keyframe, channel].tolist()
        k = self._index.intrinsics[self._index.calibration[keyframe, channel]]
        return CameraImage(
            name=str(self._index.channels[channel]),
            image=load_image_file(self._file(keyframe, channel), (width, height)),
            camera=CameraModel(width, height, k[0, 0], k[1, 1], k[0, 2], k[1, 2]),
            camera_from_lidar=invert_transform(self._index.world_from_sensor(keyframe, channel)) @ world_from_lidar,
            stamp_ns=self._stamp_ns(keyframe, channel),
        )

    def _single_scene(self) -> int:
        if len(self.scene_names) != 1:
            raise InputError(
                f"{self.name} holds {len(self.scene_names)} scenes, each with its own calibration; "
                f"choose one: {self.root}:{self.scene_names[0]}"
            )
        return int(self._keyframes[0])

    @cached_property
    def _label_files(self) -> dict[str, str]:
        path = self._version / "lidarseg.json"
        rows = read_rows(path) if path.is_file() else ()
        return {column(r, "sample_data_token", path): column(r, "filename", path) for r in rows}

    def _load_class_id(self, keyframe: int, point_count: int) -> NDArray[np.uint8] | None:
        name = self._label_files.get(self._index.tokens[keyframe, LIDAR_CHANNEL].decode())
        if name is None:
            return None
        path = self.root / name
        if not path.is_file() or path.stat().st_size != point_count:
            size = path.stat().st_size if path.is_file() else "no"
            raise InputError(f"labels {path}: {size} bytes for {point_count} points; install nuScenes lidarseg again")
        return self._mapping.map_ids(np.fromfile(path, np.uint8), str(path))


def _versions(folder: Path) -> list[Path]:
    """Those of a root, or the one that the folder is. A root may be called like a version, after its archive."""
    if folder.name.startswith("v1.0-") and _has_tables(folder):
        return [folder]
    return [version for version in sorted(folder.glob("v1.0-*")) if _has_tables(version)]


def _has_tables(version: Path) -> bool:
    return (version / "sample_data.json").is_file()


def _choose_version(folder: Path, wanted: NuScenesSelection) -> Path:
    versions = _versions(folder)
    if not versions:
        raise InputError(f"{folder} is no nuScenes root: expected v1.0-*/sample_data.json in it")
    name = wanted.version or (None if wanted.split is None else version_of_split(wanted.split))
    chosen = [version for version in versions if name in (None, version.name)]
    if len(chosen) == 1:
        return chosen[0]
    there = "\n".join(f"  {version}" for version in versions)
    if chosen:
        raise InputError(f"{folder} holds several versions; choose one:\n{there}")
    why = "" if wanted.version else f" (split {wanted.split} belongs to it)"
    raise InputError(f"{folder} has no version {name}{why}; download it, or choose one of\n{there}")


def _one_scene(table: list[str], name: str | None, version: Path) -> list[int]:
    chosen = [number for number, scene in enumerate(table) if name in (None, scene)]
    if len(chosen) == 1:
        return chosen
    problem = f"has no scene {name!r}" if not chosen else f"holds {len(chosen)} scenes"
    options = "\n".join(f"  {version}:{scene}" for scene in table[:20])
    more = f"\n  ... and {len(table) - 20} more" if len(table) > 20 else ""
    many = f"\nor many: nuscenes:{version.parent}?split=train"
    raise InputError(f"{version} {problem}; choose one:\n{options}{more}{many if len(table) > 1 else ''}")
