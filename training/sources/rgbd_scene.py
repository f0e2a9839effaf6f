"""A posed RGB-D sequence as one scene: the depth images fused to one upright cloud, some frames as its cameras."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.data_types import PointCloud, Sample
from ov_seg_ros.core.errors import ConfigError, InputError
from ov_seg_ros.core.label_space import LabelSpace
from ov_seg_ros.core.transforms import invert_transform
from training.fingerprint import fingerprint_contents
from training.sources.point_files import check_index
from training.sources.rgbd import FIRST_STAMP_NS, RgbdConfig, require_depth, unproject_depth
from training.sources.rgbd_axes import move_points, place_on_floor, stand_upright
from training.sources.rgbd_frames import FrameFolder
from training.sources.rgbd_occlusion import DepthOcclusion
from training.sources.rgbd_views import ViewChoice, load_depth_occlusion, load_views, view_name

GRAVITY_FILE = "gravity-direction.txt"
_HALF_RANGE = 1 << 20  # cells
_MERGE_EVERY = 16  # frames; bounds the memory of a long sequence


@dataclass(frozen=True)
class RgbdSceneConfig:
    """How a sequence is fused.

    Attributes:
        voxel_size: measurements in one cell become their mean, metres.
        min_measurements: cells with fewer are noise and left out.
        frame_step: every how many frames one is fused.
        depth: how depth images become points.
        views: which frames become cameras.
    """

    voxel_size: float = 0.02
    min_measurements: int = 2
    frame_step: int = 1
    depth: RgbdConfig = field(default_factory=RgbdConfig)
    views: ViewChoice = field(default_factory=ViewChoice)

    def __post_init__(self) -> None:
        if not 0 < self.voxel_size < float("inf"):
            raise ConfigError(f"voxel_size must be > 0 m, got {self.voxel_size}")
        if self.frame_step < 1 or self.min_measurements < 1:
            raise ConfigError(
                f"frame_step and min_measurements must be >= 1, got {self.frame_step} and {self.min_measurements}"
            )


class RgbdScene:
    """One folder of frames as a source with a single sample.

    The cloud stands upright with its origin on the floor under its middle. Up is against ``gravity-direction.txt``
    where that file lies beside the frames (3 numbers, world axes), else the mean of the cameras' up axes, which is
    right for a camera held upright; forward is where the first camera looks.

    Attributes:
        name: "rgbd_scene_" and the folder's name.
        label_space: None; the frames have no labels.
        frames: the files.
    """

    label_space: LabelSpace | None = None

    def __init__(self, folder: str | Path, config: RgbdSceneConfig | None = None) -> None:
        """Opens a sequence.

        Raises:
            InputError: no frames, no depth, damaged poses or intrinsics, or not one frame with a pose.
        """
        self.config = config or RgbdSceneConfig()
        self.frames = FrameFolder(Path(folder), self.config.depth.depth_unit)
        self.name = f"rgbd_scene_{Path(folder).resolve().name}"
        self._depth_camera = require_depth(self.frames)
        self._poses = self._read_poses()

    def __len__(self) -> int:
        return 1

    def load_sample(self, index: int) -> Sample:
        """Fuses the sequence (once) and loads its views.

        Raises:
            InputError: the index is not 0, a file is corrupt, or no depth was measured.
        """
        check_index(index, 1, self.name)
        points, world_from_lidar = self._fused
        return Sample(
            key=f"{self.name}/000000",
            cloud=PointCloud(points, np.zeros(len(points), np.float32), FIRST_STAMP_NS, "lidar"),
            images=load_views(self.frames, self._cameras, world_from_lidar, FIRST_STAMP_NS),
            world_from_lidar=world_from_lidar,
        )

    def load_occlusion(self, index: int) -> DepthOcclusion | None:
        """The occlusion test for the sample's cameras, by their depth images."""
        check_index(index, 1, self.name)
        return load_depth_occlusion(self.frames, list(self._cameras.values()), self._fused[1])

    def describe(self) -> dict[str, Any]:
        """See ``Source``."""
        gravity = fingerprint_contents(self.frames.folder / GRAVITY_FILE)
        return {"frames": self.frames.describe(), "gravity": gravity, "config": asdict(self.config)}

    @cached_property
    def _cameras(self) -> dict[str, int]:
        return {view_name(self.frames.names[i]): i for i in self.config.views.choose(self.frames)}

    @cached_property
    def _fused(self) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """(N, 3) points in the scan frame, and world_from_lidar."""
        level_from_world = self._level_from_world()
        cells = _Cells(self.config.voxel_size)
        for i, pose in self._poses.items():
            if i % self.config.frame_step == 0:
                depth = self.frames.load_depth(i)
                cells.add(move_points(level_from_world @ pose, self._unproject(depth)))
        points = cells.means(self.config.min_measurements)
        if not len(points):
            raise InputError(f"{self.frames.folder}: the depth images hold no measurement up to the maximum depth")
        level_from_lidar = place_on_floor(points)
        points = move_points(invert_transform(level_from_lidar), points)
        return points.astype(np.float32), invert_transform(level_from_world) @ level_from_lidar

    def _unproject(self, depth: NDArray[np.float32]) -> NDArray[np.float64]:
        return unproject_depth(depth, self._depth_camera, self.config.depth)

    def _level_from_world(self) -> NDArray[np.float64]:
        path = self.frames.folder / GRAVITY_FILE
        first = next(iter(self._poses.values()))
        if not path.is_file():
            up = -np.mean([pose[:3, 1] for pose in self._poses.values()], axis=0)
            return stand_upright(up, first[:3, 2])
        try:
            down = np.array([float(value) for value in path.read_text().split()])
        except ValueError as error:
            raise InputError(f"{path} must hold 3 numbers, the direction of gravity: {error}") from error
        if down.shape != (3,):
            raise InputError(f"{path} must hold 3 numbers, the direction of gravity, got {len(down)}")
        return stand_upright(-down, first[:3, 2])

    def _read_poses(self) -> dict[int, NDArray[np.float64]]:
        poses = {i: self.frames.world_from_camera(i) for i in range(len(self.frames))}
        known = {i: pose for i, pose in poses.items() if pose is not None}
        if not known:
            raise InputError(f"{self.frames.folder}: none of the {len(poses)} frames has a finite pose")
        return known


class _Cells:
    """Sums of the measurements in each cell of a grid, merged every few frames."""

    def __init__(self, size: float) -> None:
        self._size = size
        self._keys = np.zeros(0, np.int64)
        self._sums = np.zeros((0, 4))  # x, y, z, count
        self._waiting: list[NDArray[np.float64]] = []

    def add(self, points: NDArray[np.float64]) -> None:
        """Adds the (N, 3) points of one frame."""
        self._waiting.append(points)
        if len(self._waiting) >= _MERGE_EVERY:
            self._merge()

    def means(self, min_count: int) -> NDArray[np.float64]:
        """(V, 3) mean point of every cell with at least ``min_count`` measurements."""
        self._merge()
        kept = self._sums[self._sums[:, 3] >= min_count]
        return kept[:, :3] / kept[:, 3:]

    def _merge(self) -> None:
        points = np.concatenate([np.zeros((0, 3)), *self._waiting])
        self._waiting = []
        keys = np.concatenate([self._keys, _cell_keys(points, self._size)])
        sums = np.concatenate([self._sums, np.c_[points, np.ones(len(points))]])
        self._keys, cell = np.unique(keys, return_inverse=True)
        self._sums = np.stack([np.bincount(cell, column, len(self._keys)) for column in sums.T], axis=1)


def _cell_keys(points: NDArray[np.float64], size: float) -> NDArray[np.int64]:
    """(N,) one number per cell: 21 bits for each axis."""
    cells = np.floor(points / size).astype(np.int64) + _HALF_RANGE
    if len(cells) and (cells.min() < 0 or cells.max() >= 2 * _HALF_RANGE):
        raise InputError(f"points lie farther than {_HALF_RANGE * size:g} m from the origin; the poses are damaged")
    return (cells[:, 0] << 42) | (cells[:, 1] << 21) | cells[:, 2]
