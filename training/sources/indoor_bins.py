"""ScanNet and S3DIS as prepared by mmdetection3d: a binary file of points, classes and instances per scene.

Layouts: ``points/NAME.bin`` (float32 x, y, z, r, g, b), ``semantic_mask/NAME.bin`` and ``instance_mask/NAME.bin``
(int64), the last two optional; or ``NAME_point.npy`` (S3DIS) or ``NAME_vert.npy`` (ScanNet) with ``NAME_sem_label.npy``
and ``NAME_ins_label.npy`` beside it. Classes are 0 to 12 for S3DIS and NYU40 ids for ScanNet; which it is, the names
tell (``scene0000_00``, ``Area_1_office_2``).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.data_types import PointCloud, Sample
from ov_seg_ros.core.errors import InputError
from ov_seg_ros.core.label_space import LabelSpace
from ov_seg_ros.core.transforms import invert_transform
from training.fingerprint import fingerprint_files
from training.sources import s3dis, scannet
from training.sources.label_mapping import LabelMapping
from training.sources.point_files import check_index, load_point_file
from training.sources.rgbd_axes import move_points, place_on_floor

_KINDS = (
    ("scannet", re.compile(r"scene\d{4}_\d{2}"), scannet.MAPPING),
    ("s3dis", re.compile(r"Area_\d_\w+"), s3dis.MAPPING),
)
_POINTS = ("points/*.bin", "*_point.npy", "*_vert.npy")
_SEMANTIC, _INSTANCE = ("semantic_mask", "sem_label"), ("instance_mask", "ins_label")


def is_indoor_bins(folder: Path) -> bool:
    """Whether a folder holds prepared scenes of ScanNet or S3DIS."""
    return any(_kind_of(_scene_name(path)) is not None for path in _find_points(folder))


class IndoorBins:
    """Prepared scenes as samples, without images.

    The cloud has z up and its origin on the floor under the middle of the scene. ``intensity`` is zero;
    ``load_scan_fields`` gives the colours.

    Attributes:
        name: "scannet" or "s3dis".
        mapping: from the stored ids to the label space.
    """

    def __init__(self, folder: str | Path) -> None:
        """Opens a folder of prepared scenes.

        Raises:
            InputError: none there, or of both data sets.
        """
        self.folder = Path(folder)
        self._points = _find_points(self.folder)
        kinds = {_kind_of(_scene_name(path)) for path in self._points}
        if len(kinds) != 1 or None in kinds:
            found = ", ".join(_scene_name(path) for path in self._points[:5]) or "none"
            raise InputError(
                f"{folder} must hold points/*.bin, *_point.npy or *_vert.npy of one data set, like "
                f"scene0000_00 or Area_1_office_2; found {found}"
            )
        (kind,) = kinds
        assert kind is not None
        self.name, mapping = kind
        self.mapping = LabelMapping.load(mapping)

    @property
    def label_space(self) -> LabelSpace | None:
        """Of ``Sample.class_id``, None if no scene has classes."""
        return self.mapping.target if any(self._mask(p, _SEMANTIC).is_file() for p in self._points) else None

    def __len__(self) -> int:
        return len(self._points)

    def load_sample(self, index: int) -> Sample:
        """Loads a scene.

        Raises:
            InputError: the index is out of range, or a file is corrupt.
        """
        check_index(index, len(self), self.name)
        path = self._points[index]
        scene_points = self._load_columns(path)[:, :3]
        world_from_lidar = place_on_floor(scene_points)
        points = move_points(invert_transform(world_from_lidar), scene_points).astype(np.float32)
        stamp_ns = scannet.FIRST_STAMP_NS + index * scannet.SCENE_PERIOD_NS
        raw_id = self._load_mask(path, _SEMANTIC, len(points))
        return Sample(
            key=f"{self.name}/{_scene_name(path)}",
            cloud=PointCloud(points, np.zeros(len(points), np.float32), stamp_ns, "lidar"),
            class_id=None if raw_id is None else self.mapping.map_ids(raw_id, str(self._mask(path, _SEMANTIC))),
            world_from_lidar=world_from_lidar,
        )

    def load_scan_fields(self, index: int) -> dict[str, NDArray[np.generic]]:
        """Further columns: ``red``, ``green``, ``blue`` (N,) uint8, ``instance_id`` (N,) uint16 where stored."""
        check_index(index, len(self), self.name)
        path = self._points[index]
        rgb = self._load_columns(path)[:, 3:6].clip(0, 255).astype(np.uint8)
        fields: dict[str, NDArray[np.generic]] = {n: rgb[:, i].copy() for i, n in enumerate(("red", "green", "blue"))}
        instance_id = self._load_mask(path, _INSTANCE, len(rgb))
        return fields if instance_id is None else fields | {"instance_id": instance_id.astype(np.uint16)}

    def describe(self) -> dict[str, Any]:
        """See ``Source``."""
        masks = (self._mask(path, _SEMANTIC) for path in self._points)
        return {
            "scenes": fingerprint_files(self._points),
            "truth": {
                "files": fingerprint_files(path for path in masks if path.is_file()),
                "mapping": self.mapping.fingerprint,
            },
        }

    def _load_columns(self, path: Path) -> NDArray[np.float32]:
        if path.suffix == ".bin":
            return load_point_file(path, 6)
        columns = _load_npy(path)
        if columns.ndim != 2 or columns.shape[1] < 6:
            raise InputError(f"{path} must be (N, 6) x, y, z, r, g, b, got {columns.shape}")
        return columns.astype(np.float32)

    def _load_mask(self, path: Path, kind: tuple[str, str], count: int) -> NDArray[np.int64] | None:
        mask = self._mask(path, kind)
        if not mask.is_file():
            return None
        if mask.suffix == ".npy":
            values = _load_npy(mask).reshape(-1).astype(np.int64)
        elif mask.stat().st_size == 8 * count:
            values = np.fromfile(mask, "<i8")
        else:
            raise InputError(f"{mask} holds {mask.stat().st_size} bytes, {count} points need {8 * count} (int64)")
        if len(values) != count or (count and values.min() < 0):
            raise InputError(f"{mask} must hold {count} ids >= 0, got {len(values)}; it belongs to another scene")
        return values

    def _mask(self, path: Path, kind: tuple[str, str]) -> Path:
        if path.suffix == ".bin":
            return self.folder / kind[0] / path.name
        return self.folder / f"{_scene_name(path)}_{kind[1]}.npy"


def _find_points(folder: Path) -> list[Path]:
    return sorted(path for pattern in _POINTS for path in folder.glob(pattern))


def _scene_name(path: Path) -> str:
    return path.stem.removesuffix("_point").removesuffix("_vert") if path.suffix == ".npy" else path.stem


def _kind_of(scene: str) -> tuple[str, str] | None:
    """Name of the data set and of its label mapping."""
    return next(((name, mapping) for name, pattern, mapping in _KINDS if pattern.fullmatch(scene)), None)


def _load_npy(path: Path) -> NDArray[Any]:
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path} cannot be read ({error}); copy it again") from error
