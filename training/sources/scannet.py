"""ScanNet v2: reconstructed rooms with labels and the video they were made from.

Dai et al., "ScanNet: Richly-annotated 3D Reconstructions of Indoor Scenes", CVPR 2017. Read as downloaded: a folder
per scene with ``<scene>_vh_clean_2.ply`` and, where they exist, its labels, ``<scene>.txt`` and the video, either as
``<scene>.sens`` or exported by SensReader (``color/``, ``depth/``, ``pose/``, ``intrinsic/``).
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.data_types import CameraImage, PointCloud, Sample
from ov_seg_ros.core.errors import InputError
from ov_seg_ros.core.label_space import LabelSpace
from ov_seg_ros.core.transforms import check_transform, invert_transform
from training.fingerprint import fingerprint_files, fingerprint_values, spread
from training.sources.label_mapping import LabelMapping
from training.sources.point_files import check_index
from training.sources.rgbd_axes import move_points, place_on_floor
from training.sources.rgbd_frames import FrameFolder, RgbdFrames
from training.sources.rgbd_occlusion import DepthOcclusion
from training.sources.rgbd_views import ViewChoice, load_depth_occlusion, load_views, view_name
from training.sources.scannet_labels import has_labels, label_files, load_instances, load_nyu40
from training.sources.scannet_ply import load_ply_vertices, vertex_columns
from training.sources.scannet_sens import SensFrames

MAPPING = "nyu40_to_scannet20"
FIRST_STAMP_NS = 1_000_000_000
SCENE_PERIOD_NS = 1_000_000_000
"""Scenes have no stamps; these keep them in order."""

_SCENE_NAME = re.compile(r"scene\d{4}_\d{2}")
_FRAME_FOLDERS = ("", "frames", "sens", "exported")
_VIDEOS_LOOKED_AT = 4
"""For a fingerprint: a video has thousands of files, and finding the frames of a recording takes a while."""


@dataclass(frozen=True)
class ScanNetConfig:
    """How scenes become samples.

    Attributes:
        split: text file with one scene name per line (``scannetv2_val.txt``); "" = all scenes.
        axis_align: turn scenes so that walls follow the axes, by the matrix in ``<scene>.txt``.
        views: which frames of the video become cameras.
    """

    split: str = ""
    axis_align: bool = True
    views: ViewChoice = field(default_factory=ViewChoice)


def is_scannet(folder: Path) -> bool:
    """Whether a folder is a scene (``sceneXXXX_XX_vh_clean_2.ply``), or holds scenes, directly or in ``scans``."""
    return bool(_scene_folders(folder, first_only=True))


class ScanNet:
    """Scenes as samples: the vertices of the mesh, labels, and views of the video.

    The cloud has z up and its origin on the floor under the middle of the scene; ``world_from_lidar`` leads back to
    the frame of the mesh and the poses. ``intensity`` is zero; ``load_scan_fields`` gives the colours of the vertices.

    Attributes:
        name: "scannet".
        mapping: from NYU40 to the label space.
        scenes: folders, by name.
    """

    name = "scannet"

    def __init__(self, folder: str | Path, config: ScanNetConfig | None = None) -> None:
        """Opens one scene or a folder of scenes.

        Raises:
            InputError: no scenes, or the split names a scene that is not there.
        """
        self.config = config or ScanNetConfig()
        self.mapping = LabelMapping.load(MAPPING)
        self.scenes = _choose_scenes(Path(folder), self.config.split)
        self._has_labels = any(has_labels(scene) for scene in self.scenes)

    @property
    def label_space(self) -> LabelSpace | None:
        """The 20 classes of the benchmark, None if no scene has labels."""
        return self.mapping.target if self._has_labels else None

    def __len__(self) -> int:
        return len(self.scenes)

    def load_sample(self, index: int) -> Sample:
        """Loads a scene; without labels ``class_id`` is None, without a video there are no images.

        Raises:
            InputError: the index is out of range, or a file is corrupt.
        """
        check_index(index, len(self), self.name)
        scene = self.scenes[index]
        points, world_from_lidar = self._load_points(scene)
        nyu40 = load_nyu40(scene, len(points))
        stamp_ns = FIRST_STAMP_NS + index * SCENE_PERIOD_NS
        return Sample(
            key=f"{self.name}/{scene.resolve().name}",
            cloud=PointCloud(points, np.zeros(len(points), np.float32), stamp_ns, "lidar"),
            images=self._load_images(scene, world_from_lidar, stamp_ns),
            class_id=None if nyu40 is None else self.mapping.map_ids(nyu40, f"labels of {scene}"),
            world_from_lidar=world_from_lidar,
        )

    def load_occlusion(self, index: int) -> DepthOcclusion | None:
        """The occlusion test for the sample's cameras, by their depth images; None without a video."""
        check_index(index, len(self), self.name)
        scene = self.scenes[index]
        frames = open_frames(scene)
        if frames is None:
            return None
        return load_depth_occlusion(frames, self.config.views.choose(frames), self._load_points(scene)[1])

    def load_scan_fields(self, index: int) -> dict[str, NDArray[np.generic]]:
        """Further columns: ``red``, ``green``, ``blue`` (N,) uint8, ``instance_id`` (N,) uint16 where annotated."""
        check_index(index, len(self), self.name)
        path = _mesh(self.scenes[index])
        rgb = vertex_columns(load_ply_vertices(path), ("red", "green", "blue"), path)
        instance_id = load_instances(self.scenes[index], len(rgb))
        fields = {name: rgb[:, i].copy() for i, name in enumerate(("red", "green", "blue"))}
        return fields if instance_id is None else fields | {"instance_id": instance_id}

    def describe(self) -> dict[str, Any]:
        """See ``Source``."""
        alignments = (_about(scene) for scene in self.scenes)
        videos = [open_frames(scene) for scene in spread(self.scenes, _VIDEOS_LOOKED_AT)]
        labels = [path for scene in self.scenes for path in label_files(scene)]
        return {
            "scenes": fingerprint_files(_mesh(scene) for scene in self.scenes),
            "alignment": fingerprint_files(path for path in alignments if path.is_file()),
            "videos": fingerprint_values([None if video is None else video.describe() for video in videos]),
            "config": {"axis_align": self.config.axis_align, "views": asdict(self.config.views)},
            "truth": {"files": fingerprint_files(labels), "mapping": self.mapping.fingerprint},
        }

    def _load_points(self, scene: Path) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """(N, 3) points in the scan frame, and (4, 4) world_from_lidar."""
        path = _mesh(scene)
        points = vertex_columns(load_ply_vertices(path), ("x", "y", "z"), path).astype(np.float64)
        aligned_from_world = read_axis_alignment(scene) if self.config.axis_align else np.eye(4)
        aligned = move_points(aligned_from_world, points)
        aligned_from_lidar = place_on_floor(aligned)
        moved = move_points(invert_transform(aligned_from_lidar), aligned)
        return moved.astype(np.float32), invert_transform(aligned_from_world) @ aligned_from_lidar

    def _load_images(
        self, scene: Path, world_from_lidar: NDArray[np.float64], stamp_ns: int
    ) -> tuple[CameraImage, ...]:
        frames = open_frames(scene)
        if frames is None:
            return ()
        chosen = {view_name(frames.names[i]): i for i in self.config.views.choose(frames)}
        return load_views(frames, chosen, world_from_lidar, stamp_ns)


def open_frames(scene: Path) -> RgbdFrames | None:
    """The video of a scene: exported frames (in its folder, or there in frames, sens or exported), else ``.sens``.

    Returns:
        None if there is neither.
    """
    for name in _FRAME_FOLDERS:
        if (scene / name / "pose").is_dir() and (scene / name / "color").is_dir():
            return FrameFolder(scene / name)
    recording = scene / f"{scene.resolve().name}.sens"
    return SensFrames(recording) if recording.is_file() else None


def read_axis_alignment(scene: Path) -> NDArray[np.float64]:
    """(4, 4) aligned_from_world from ``<scene>.txt``; identity for scenes without (those of the hidden test set).

    Raises:
        InputError: the matrix is damaged.
    """
    path = _about(scene)
    lines = path.read_text().splitlines() if path.is_file() else []
    for line in lines:
        key, _, values = line.partition("=")
        if key.strip() == "axisAlignment":
            try:
                return check_transform(np.array([float(v) for v in values.split()]).reshape(4, 4), f"{path}: {key}")
            except ValueError as error:
                raise InputError(f"{path}: axisAlignment must be 16 numbers, got {values.strip()!r}") from error
    return np.eye(4)


def _about(scene: Path) -> Path:
    return scene / f"{scene.resolve().name}.txt"


def _mesh(scene: Path) -> Path:
    return scene / f"{scene.resolve().name}_vh_clean_2.ply"


def _scene_folders(folder: Path, first_only: bool = False) -> list[Path]:
    if _SCENE_NAME.fullmatch(folder.resolve().name) and _mesh(folder).is_file():
        return [folder]
    scenes: list[Path] = []
    for place in (folder, folder / "scans", folder / "scans_test"):
        for scene in sorted(place.glob("scene????_??")):
            if _mesh(scene).is_file():
                scenes.append(scene)
                if first_only:
                    return scenes
    return scenes


def _choose_scenes(folder: Path, split: str) -> list[Path]:
    scenes = {scene.resolve().name: scene for scene in _scene_folders(folder)}
    if not scenes:
        raise InputError(
            f"{folder} holds no ScanNet scene; expected sceneXXXX_XX/sceneXXXX_XX_vh_clean_2.ply in it or in scans/"
        )
    if not split:
        return list(scenes.values())
    path = Path(split)
    if not path.is_file():
        raise InputError(f"ScanNet split {path} does not exist; expected a text file with a scene name per line")
    names = path.read_text().split()
    missing = [name for name in names if name not in scenes]
    if missing or not names:
        raise InputError(
            f"ScanNet split {path} names {len(names)} scenes, {len(missing)} of them are not in {folder}: "
            f"{', '.join(missing[:5])}"
        )
    return [scenes[name] for name in names]
