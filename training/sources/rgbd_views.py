"""Posed frames as the cameras of a sample, with their depth images as its occlusion test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.camera import CameraModel
from ov_seg_ros.core.data_types import CameraImage
from ov_seg_ros.core.errors import ConfigError
from ov_seg_ros.core.transforms import invert_transform
from training.sources.rgbd_frames import RgbdFrames
from training.sources.rgbd_occlusion import DepthOcclusion, DepthView


@dataclass(frozen=True)
class ViewChoice:
    """Which frames of a scene become its cameras.

    Attributes:
        step: every how many frames one is considered (ScanNet records 30 per second).
        most: at most so many views, spread evenly over the considered ones.
    """

    step: int = 20
    most: int = 30

    def __post_init__(self) -> None:
        if self.step < 1 or self.most < 1:
            raise ConfigError(f"view step and most must be >= 1, got step {self.step}, most {self.most}")

    def choose(self, frames: RgbdFrames) -> list[int]:
        """Indices of the chosen frames, ascending; frames whose tracking was lost are passed over."""
        posed = [i for i in range(0, len(frames.names), self.step) if frames.world_from_camera(i) is not None]
        if len(posed) <= self.most:
            return posed
        return [posed[i] for i in np.linspace(0, len(posed) - 1, self.most).round().astype(int)]


def load_views(
    frames: RgbdFrames, chosen: Mapping[str, int], world_from_lidar: NDArray[np.float64], stamp_ns: int
) -> tuple[CameraImage, ...]:
    """Loads colour images as cameras of a sample.

    Args:
        frames: of the scene.
        chosen: index of the frame by camera name.
        world_from_lidar: (4, 4) pose of the sample's cloud in the world of the frames.
        stamp_ns: of the sample; a finished scene has no time.
    """
    return tuple(
        CameraImage(name, frames.load_image(i), frames.camera, camera_from_lidar(frames, i, world_from_lidar), stamp_ns)
        for name, i in chosen.items()
    )


def load_depth_occlusion(
    frames: RgbdFrames, chosen: Sequence[int], world_from_lidar: NDArray[np.float64]
) -> DepthOcclusion | None:
    """The occlusion test of the same views, or None if the sequence has no depth."""
    camera: CameraModel | None = frames.depth_camera
    if camera is None:
        return None
    return DepthOcclusion(
        tuple(DepthView(frames.load_depth(i), camera, camera_from_lidar(frames, i, world_from_lidar)) for i in chosen)
    )


def camera_from_lidar(frames: RgbdFrames, index: int, world_from_lidar: NDArray[np.float64]) -> NDArray[np.float64]:
    """(4, 4) from the sample's cloud to frame ``index``, which must have a pose."""
    pose = frames.world_from_camera(index)
    assert pose is not None, "views are chosen among the frames with a pose"
    return invert_transform(pose) @ world_from_lidar


def view_name(frame_name: str) -> str:
    """Camera name of a view of a scene: ``view_000020``."""
    return f"view_{frame_name.zfill(6)}"
