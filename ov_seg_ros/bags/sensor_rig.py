"""Where the sensors of a source sit on the vehicle, and where the vehicle is."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.data_types import CameraImage, Sample
from ov_seg_ros.core.errors import InputError
from ov_seg_ros.core.transforms import invert_transform

_SAME = 1e-6
"""Metres and matrix entries up to which two calibrations are the same."""


class SensorRig:
    """Turns the transforms of samples into those of tf: fixed mounts, and poses of the vehicle.

    Reads what a source may offer beyond the Source protocol: ``base_from_lidar`` (4, 4) (else base_link is the
    LiDAR), ``base_from_camera`` (4, 4) by camera name, ``ego_pose(stamp_ns)`` (4, 4) world_from_base. The world begins
    at the first pose.

    With poses, those at the stamps of images are such that a lookup from the scan through the world to the image gives
    the sample's ``camera_from_lidar`` again. Without poses a camera's transform is that of its first sample, the ego
    motion in it included; then it must be the same in all samples.
    """

    def __init__(self, source: Any) -> None:
        self._ego_pose = getattr(source, "ego_pose", None)
        self.base_from_lidar: NDArray[np.float64] = np.asarray(
            getattr(source, "base_from_lidar", np.eye(4)), np.float64
        )
        self._lidar_from_base = invert_transform(self.base_from_lidar)
        self.base_from_camera: dict[str, NDArray[np.float64]] = dict(getattr(source, "base_from_camera", {}))
        self._odom_from_world: NDArray[np.float64] | None = None

    def add_camera(self, sample: Sample, image: CameraImage) -> bool:
        """Learns where a camera sits from the first sample it appears in.

        Returns:
            Whether the camera is new.
        """
        if image.name in self.base_from_camera:
            return False
        base_from_camera = self.base_from_lidar @ invert_transform(image.camera_from_lidar)
        if self._ego_pose is not None:
            base_then, base_now = self._ego_pose(sample.cloud.stamp_ns), self._ego_pose(image.stamp_ns)
            base_from_camera = invert_transform(base_now) @ base_then @ base_from_camera
        self.base_from_camera[image.name] = base_from_camera
        return True

    def odom_from_base(self, sample: Sample) -> NDArray[np.float64] | None:
        """(4, 4) pose of the vehicle at the scan's stamp, or None if the source has no poses."""
        if sample.world_from_lidar is None:
            return None
        world_from_base = sample.world_from_lidar @ self._lidar_from_base
        if self._odom_from_world is None:
            self._odom_from_world = invert_transform(world_from_base)
        return self._odom_from_world @ world_from_base

    def odom_from_base_at(self, sample: Sample, image: CameraImage) -> NDArray[np.float64] | None:
        """(4, 4) pose of the vehicle at the image's stamp, or None if the source has no poses.

        Raises:
            InputError: there are no poses, and the camera's transform is not that of the first sample.
        """
        odom_from_base = self.odom_from_base(sample)
        lidar_from_camera = invert_transform(image.camera_from_lidar)
        if odom_from_base is None:
            self._check_constant(sample, image, self.base_from_lidar @ lidar_from_camera)
            return None
        camera_from_base = invert_transform(self.base_from_camera[image.name])
        return odom_from_base @ self.base_from_lidar @ lidar_from_camera @ camera_from_base

    def _check_constant(self, sample: Sample, image: CameraImage, base_from_camera: NDArray[np.float64]) -> None:
        change = float(np.abs(base_from_camera - self.base_from_camera[image.name]).max())
        if change > _SAME:
            raise InputError(
                f"{sample.key}: camera {image.name} has moved by {change:.3g} against its first transform, and the "
                "source has no ego poses: such a drive cannot be written with static transforms; give world_from_lidar"
            )
