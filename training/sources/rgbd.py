"""Posed RGB-D sequences (7-Scenes, ScanNet's exported frames): every depth image as a scan with cameras around it.

7-Scenes: Shotton et al., "Scene Coordinate Regression Forests for Camera Relocalization in RGB-D Images", CVPR 2013.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.camera import CameraModel
from ov_seg_ros.core.data_types import PointCloud, Sample
from ov_seg_ros.core.errors import ConfigError, InputError
from ov_seg_ros.core.label_space import LabelSpace
from ov_seg_ros.core.transforms import invert_transform
from training.sources.point_files import check_index
from training.sources.rgbd_axes import SENSOR_FROM_CAMERA, move_points
from training.sources.rgbd_files import MILLIMETRES
from training.sources.rgbd_frames import FrameFolder
from training.sources.rgbd_occlusion import DepthOcclusion
from training.sources.rgbd_views import load_depth_occlusion, load_views

FRAME_PERIOD_NS = 33_333_333
FIRST_STAMP_NS = 1_000_000_000
"""Stamps begin here: 0 means "no stamp" in ROS."""


@dataclass(frozen=True)
class RgbdConfig:
    """How depth images become points.

    Attributes:
        pixel_step: every how many pixels, across and down, a point is made.
        max_depth: farther measurements are left out, metres; the error of structured light grows with its square.
        depth_unit: metres per unit of the depth images.
        neighbors: so many frames before and after a frame are cameras of its sample as well.
        neighbor_step: how many frames lie between them.
    """

    pixel_step: int = 2
    max_depth: float = 6.0
    depth_unit: float = MILLIMETRES
    neighbors: int = 1
    neighbor_step: int = 1

    def __post_init__(self) -> None:
        for name in ("pixel_step", "neighbor_step"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be >= 1, got {getattr(self, name)}")
        if self.neighbors < 0:
            raise ConfigError(f"neighbors must be >= 0, got {self.neighbors}")
        for name in ("max_depth", "depth_unit"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ConfigError(f"{name} must be > 0 m, got {getattr(self, name)}")


def is_rgbd(folder: Path) -> bool:
    """Whether a folder holds posed frames with depth: ``color/``, ``depth/``, ``pose/``, or ``frame-N.depth.png``."""
    return next(folder.glob("frame-*.depth.png"), None) is not None or all(
        (folder / part).is_dir() for part in ("color", "depth", "pose")
    )


def unproject_depth(depth: NDArray[np.float32], camera: CameraModel, config: RgbdConfig) -> NDArray[np.float64]:
    """Points of a depth image.

    Args:
        depth: (h, w) metres along the optical axis, 0 = not measured.
        camera: of the depth image.
        config: which pixels are taken.

    Returns:
        (N, 3) metres, camera axes (x right, y down, z forward), row by row.
    """
    thin = depth[:: config.pixel_step, :: config.pixel_step]
    row, column = np.nonzero((thin > 0) & (thin <= config.max_depth))
    pixels = np.stack([column, row], axis=1) * float(config.pixel_step)
    rays = camera.unproject(pixels)
    return rays / rays[:, 2:] * thin[row, column, None].astype(np.float64)


class RgbdSequence:
    """One folder of frames; every frame with a known pose is a sample.

    The cloud has the origin of the camera and its axes turned to x forward, y left, z up (of the camera, which may
    look down). Cameras are the frame's own image ("own") and its neighbours ("before_1", "after_1", ...).

    Attributes:
        name: "rgbd_" and the folder's name.
        label_space: None; the frames have no labels.
        frames: the files.
    """

    label_space: LabelSpace | None = None

    def __init__(self, folder: str | Path, config: RgbdConfig | None = None) -> None:
        """Opens a sequence.

        Raises:
            InputError: no frames, no depth, damaged poses or intrinsics, or not one frame with a pose.
        """
        self.config = config or RgbdConfig()
        self.frames = FrameFolder(Path(folder), self.config.depth_unit)
        self.name = f"rgbd_{Path(folder).resolve().name}"
        self._depth_camera = require_depth(self.frames)
        self._posed = [i for i in range(len(self.frames)) if self.frames.world_from_camera(i) is not None]
        if not self._posed:
            raise InputError(f"{folder}: none of the {len(self.frames)} frames has a finite pose; tracking was lost")

    def __len__(self) -> int:
        return len(self._posed)

    def load_sample(self, index: int) -> Sample:
        """Loads a frame with its neighbouring images.

        Raises:
            InputError: the index is out of range, or a file is corrupt.
        """
        check_index(index, len(self), self.name)
        frame = self._posed[index]
        in_camera = unproject_depth(self.frames.load_depth(frame), self._depth_camera, self.config)
        points = move_points(SENSOR_FROM_CAMERA, in_camera).astype(np.float32)
        stamp_ns = FIRST_STAMP_NS + frame * FRAME_PERIOD_NS
        world_from_lidar = self._world_from_lidar(index)
        return Sample(
            key=f"{self.name}/{self.frames.names[frame]}",
            cloud=PointCloud(points, np.zeros(len(points), np.float32), stamp_ns, "lidar"),
            images=load_views(self.frames, self._cameras(index), world_from_lidar, stamp_ns),
            world_from_lidar=world_from_lidar,
        )

    def load_occlusion(self, index: int) -> DepthOcclusion | None:
        """The occlusion test for the sample's cameras, by their depth images."""
        check_index(index, len(self), self.name)
        return load_depth_occlusion(self.frames, list(self._cameras(index).values()), self._world_from_lidar(index))

    def describe(self) -> dict[str, Any]:
        """See ``Source``."""
        return {"frames": self.frames.describe(), "config": asdict(self.config)}

    def _cameras(self, index: int) -> dict[str, int]:
        """Frame index by camera name."""
        cameras = {"own": self._posed[index]}
        for distance in range(1, self.config.neighbors + 1):
            for name, step in (("before", -distance), ("after", distance)):
                other = index + step * self.config.neighbor_step
                if 0 <= other < len(self):
                    cameras[f"{name}_{distance}"] = self._posed[other]
        return cameras

    def _world_from_lidar(self, index: int) -> NDArray[np.float64]:
        pose = self.frames.world_from_camera(self._posed[index])
        assert pose is not None, "self._posed holds frames with a pose"
        return pose @ invert_transform(SENSOR_FROM_CAMERA)


def require_depth(frames: FrameFolder) -> CameraModel:
    """The depth camera of frames.

    Raises:
        InputError: they have none.
    """
    if frames.depth_camera is None:
        raise InputError(f"{frames.folder} has no depth images; points cannot be made without them")
    return frames.depth_camera
