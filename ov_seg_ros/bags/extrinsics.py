"""Where the cameras sit, from tf or from a file."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import yaml
from numpy.typing import NDArray

from ov_seg_ros.core.errors import ConfigError, InputError
from ov_seg_ros.core.transforms import TransformTree, check_transform, invert_transform, matrix_from_quaternion

FIXED_FRAMES = ("odom", "map", "world")
"""Frames that do not move with the vehicle, by preference (REP-105)."""

_log = logging.getLogger(__name__)


class Extrinsics(Protocol):
    """Answers where a camera was when it exposed an image, seen from a scan."""

    def camera_from_lidar(self, camera: Viewpoint, lidar: Viewpoint) -> NDArray[np.float64]:
        """(4, 4) from the scan to the image, ego motion between the two included where it is known.

        Raises:
            InputError: not known.
        """
        ...

    def world_from_lidar(self, lidar: Viewpoint) -> NDArray[np.float64] | None:
        """(4, 4) pose of the LiDAR in a frame that stands still, or None if not known."""
        ...


@dataclass(frozen=True)
class Viewpoint:
    """A sensor at a moment.

    Attributes:
        name: of the camera, empty for the LiDAR.
        frame_id: its tf frame.
        stamp_ns: when it measured.
    """

    name: str
    frame_id: str
    stamp_ns: int


@dataclass(frozen=True)
class TreeExtrinsics:
    """From tf: through a fixed frame if the LiDAR hangs from one, else by the transform at the scan's stamp.

    Attributes:
        tree: all transforms.
        fixed_frames: candidates for the fixed frame, by preference.
    """

    tree: TransformTree
    fixed_frames: Sequence[str] = FIXED_FRAMES
    _fixed: dict[str, str | None] = field(default_factory=dict, repr=False)

    def camera_from_lidar(self, camera: Viewpoint, lidar: Viewpoint) -> NDArray[np.float64]:
        """See ``Extrinsics``."""
        fixed = self.fixed_frame(lidar)
        if fixed is None:
            return self.tree.lookup(camera.frame_id, lidar.frame_id, lidar.stamp_ns)
        return self.tree.lookup_between(camera.frame_id, camera.stamp_ns, lidar.frame_id, lidar.stamp_ns, fixed)

    def world_from_lidar(self, lidar: Viewpoint) -> NDArray[np.float64] | None:
        """See ``Extrinsics``."""
        fixed = self.fixed_frame(lidar)
        try:
            return None if fixed is None else self.tree.lookup(fixed, lidar.frame_id, lidar.stamp_ns)
        except InputError:
            return None

    def fixed_frame(self, lidar: Viewpoint) -> str | None:
        """The first fixed frame the LiDAR is connected to, now or at another stamp; None if there is none."""
        if lidar.frame_id not in self._fixed:
            present = (f for f in self.fixed_frames if f in self.tree.frames)
            self._fixed[lidar.frame_id] = next((f for f in present if _connected(self.tree, f, lidar)), None)
        return self._fixed[lidar.frame_id]


@dataclass(frozen=True)
class FileExtrinsics:
    """From a file: one fixed transform per camera, no ego motion.

    Attributes:
        path: where they come from.
        matrices: ``camera_from_lidar`` (4, 4) by camera name.
        lidar_frame: frame the file speaks of; empty = any.
        frames: the same by camera name; a camera may be missing.
    """

    path: Path
    matrices: dict[str, NDArray[np.float64]]
    lidar_frame: str = ""
    frames: Mapping[str, str] = field(default_factory=dict)

    def camera_from_lidar(self, camera: Viewpoint, lidar: Viewpoint) -> NDArray[np.float64]:
        """See ``Extrinsics``."""
        if camera.name not in self.matrices:
            known = ", ".join(self.matrices) or "none"
            raise InputError(f"{self.path} has no entry cameras.{camera.name}; it has: {known}")
        wanted = self.lidar_frame or lidar.frame_id, self.frames.get(camera.name, camera.frame_id)
        if wanted != (lidar.frame_id, camera.frame_id):
            raise InputError(
                f"{self.path} is for {wanted[0]!r} -> {wanted[1]!r}, the messages are in {lidar.frame_id!r} and "
                f"{camera.frame_id!r}"
            )
        return self.matrices[camera.name]

    def world_from_lidar(self, lidar: Viewpoint) -> NDArray[np.float64] | None:
        """See ``Extrinsics``; a file knows no motion."""
        return None


def load_extrinsics(path: Path) -> FileExtrinsics:
    """Reads an extrinsics file, for recordings without tf; the file of the node's ``extrinsics_file`` will do.

    ::

        lidar_frame: velodyne
        cameras:
          front:
            frame: camera_front
            camera_from_lidar: {translation: [0.0, -0.3, -0.4], rotation_xyzw: [0.5, -0.5, 0.5, 0.5]}
          left:
            lidar_from_camera: [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]

    ``p_camera = camera_from_lidar @ p_lidar``: the same as ``ros2 run tf2_ros tf2_echo <camera> <lidar>`` prints.
    Metres; camera axes x right, y down, z forward. Frames may be left out; where they are given, those of the
    messages must be the same.

    Raises:
        ConfigError: the file is missing, or holds something else.
    """
    if not path.is_file():
        raise ConfigError(f"extrinsics file {path} does not exist")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"extrinsics file {path} is no YAML: {error}") from error
    cameras = content.get("cameras") if isinstance(content, dict) else None
    if not isinstance(cameras, dict) or set(content) - {"cameras", "lidar_frame"}:
        raise ConfigError(f"extrinsics file {path} must hold a mapping 'cameras' by camera name, and 'lidar_frame'")
    matrices = {str(name): _matrix(entry, f"{path}: cameras.{name}") for name, entry in cameras.items()}
    frames = {str(name): str(entry["frame"]) for name, entry in cameras.items() if "frame" in entry}
    return FileExtrinsics(path, matrices, str(content.get("lidar_frame", "")), frames)


def _matrix(entry: Any, where: str) -> NDArray[np.float64]:
    """camera_from_lidar of one entry."""
    keys = set(entry) - {"frame"} if isinstance(entry, dict) else set()
    if keys not in ({"camera_from_lidar"}, {"lidar_from_camera"}):
        raise ConfigError(
            f"{where} must hold camera_from_lidar or lidar_from_camera, and may hold frame, got {entry!r}"
        )
    (key,) = keys
    value, where = entry[key], f"{where}.{key}"
    try:
        if isinstance(value, dict):
            if set(value) != {"translation", "rotation_xyzw"}:
                raise ConfigError(f"{where} must hold translation and rotation_xyzw, got {', '.join(map(str, value))}")
            matrix = matrix_from_quaternion(value["translation"], value["rotation_xyzw"])
        else:
            matrix = check_transform(np.asarray(value, np.float64), where)
    except (ValueError, TypeError, InputError) as error:
        raise ConfigError(f"{where}: {error}") from error
    return matrix if key == "camera_from_lidar" else invert_transform(matrix)


def _connected(tree: TransformTree, fixed: str, lidar: Viewpoint) -> bool:
    from ov_seg_ros.core.transforms import ExtrapolationError

    try:
        tree.lookup(fixed, lidar.frame_id, lidar.stamp_ns)
    except ExtrapolationError:
        return True
    except InputError:
        return False
    return True
