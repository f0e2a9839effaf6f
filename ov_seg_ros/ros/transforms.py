"""Where the cameras are: from tf at the stamps, or from a parameter file. Never guessed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import yaml
from numpy.typing import NDArray

from ov_seg_ros.core.errors import ConfigError, InputError
from ov_seg_ros.core.transforms import invert_transform, matrix_from_quaternion


@dataclass(frozen=True)
class TransformQuery:
    """Which pose is wanted.

    Attributes:
        camera: name of the camera.
        camera_frame: frame of its image.
        camera_stamp_ns: stamp of its image.
        lidar_frame: frame of the scan.
        lidar_stamp_ns: stamp of the scan.
    """

    camera: str
    camera_frame: str
    camera_stamp_ns: int
    lidar_frame: str
    lidar_stamp_ns: int


class TransformSource(Protocol):
    """Anything that knows where the cameras are."""

    def camera_from_lidar(self, query: TransformQuery) -> NDArray[np.float64]:
        """(4, 4), p_camera = camera_from_lidar @ p_lidar.

        Raises:
            InputError: it is not known; says which transform is missing.
        """
        ...

    def reset(self) -> None:
        """Forgets what moved, because time jumped backward."""
        ...

    def close(self) -> None:
        """Stops listening."""
        ...


class FileTransforms:
    """Fixed camera poses from the file named by the parameter ``extrinsics_file``.

    The file is YAML: ``{lidar_frame: F, cameras: {NAME: {frame: F, camera_from_lidar: {translation: [x, y, z],
    rotation_xyzw: [x, y, z, w]}}}}``; ``lidar_from_camera`` may stand in place of ``camera_from_lidar``.
    """

    def __init__(self, path: str | Path) -> None:
        """Reads the file.

        Raises:
            ConfigError: the file is missing or malformed.
        """
        self._path = str(path)
        try:
            content = yaml.safe_load(Path(path).read_text())
            self._lidar_frame = str(content["lidar_frame"])
            self._cameras = {
                str(name): (str(entry["frame"]), _pose(entry, f"{path}: cameras.{name}"))
                for name, entry in content["cameras"].items()
            }
        except OSError as error:
            raise ConfigError(f"extrinsics_file {path} cannot be read: {error.strerror}") from error
        except (KeyError, TypeError, AttributeError, ValueError, yaml.YAMLError, InputError) as error:
            raise ConfigError(
                f"extrinsics_file {path} must hold {{lidar_frame, cameras: {{name: {{frame, camera_from_lidar: "
                f"{{translation: [x, y, z], rotation_xyzw: [x, y, z, w]}}}}}}}}: {error!r}"
            ) from error

    def camera_from_lidar(self, query: TransformQuery) -> NDArray[np.float64]:
        """The pose in the file; the frames must be the ones the file speaks of."""
        if query.camera not in self._cameras:
            raise InputError(f"{self._path} holds no camera {query.camera!r}, only {', '.join(self._cameras)}")
        frame, matrix = self._cameras[query.camera]
        if (query.lidar_frame, query.camera_frame) != (self._lidar_frame, frame):
            raise InputError(
                f"{self._path} is for {self._lidar_frame!r} -> {frame!r}, "
                f"the messages are in {query.lidar_frame!r} and {query.camera_frame!r}"
            )
        return matrix

    def reset(self) -> None:
        """Nothing moves."""

    def close(self) -> None:
        """Nothing is open."""


class TfTransforms:
    """Camera poses from tf, at the stamps of scan and image."""

    def __init__(self, buffer: Any, fixed_frame: str = "", listener: Any = None) -> None:
        """Reads from a tf2_ros.Buffer that somebody fills.

        Args:
            buffer: tf2_ros.Buffer.
            fixed_frame: frame that does not move; given, the robot's motion between the two stamps is taken out.
            listener: tf2_ros.TransformListener that fills the buffer, ended with ``close``.
        """
        self._buffer = buffer
        self._listener = listener
        self._fixed_frame = fixed_frame

    def camera_from_lidar(self, query: TransformQuery) -> NDArray[np.float64]:
        """Looks the transform up, without waiting."""
        from rclpy.time import Time

        try:
            lidar_time = Time(nanoseconds=query.lidar_stamp_ns)
            if self._fixed_frame:
                camera_time = Time(nanoseconds=query.camera_stamp_ns)
                found = self._buffer.lookup_transform_full(
                    query.camera_frame, camera_time, query.lidar_frame, lidar_time, self._fixed_frame
                )
            else:
                found = self._buffer.lookup_transform(query.camera_frame, query.lidar_frame, lidar_time)
        except Exception as error:  # tf2's exceptions need tf2 to be named; a stamp may be negative: all mean the same
            raise InputError(f"tf {query.lidar_frame} -> {query.camera_frame} missing: {error}") from error
        t, q = found.transform.translation, found.transform.rotation
        return matrix_from_quaternion(np.array([t.x, t.y, t.z]), np.array([q.x, q.y, q.z, q.w]))

    def reset(self) -> None:
        """Empties the buffer; tf2 keeps static transforms."""
        self._buffer.clear()

    def close(self) -> None:
        """Stops listening."""
        if self._listener is not None:
            self._listener.unregister()


class FirstKnown:
    """Asks several sources in turn."""

    def __init__(self, sources: list[TransformSource], otherwise: str = "") -> None:
        """Takes the sources, best first; ``otherwise`` ends the error when none knows."""
        self._sources = sources
        self._otherwise = otherwise

    def camera_from_lidar(self, query: TransformQuery) -> NDArray[np.float64]:
        """The answer of the first source that knows."""
        reasons = []
        for source in self._sources:
            try:
                return source.camera_from_lidar(query)
            except InputError as error:
                reasons.append(str(error))
        raise InputError("; ".join([*reasons, self._otherwise] if self._otherwise else reasons))

    def reset(self) -> None:
        """Resets every source."""
        for source in self._sources:
            source.reset()

    def close(self) -> None:
        """Closes every source."""
        for source in self._sources:
            source.close()


def open_transforms(node: Any, extrinsics_file: str, fixed_frame: str) -> FirstKnown:
    """The sources a node has: tf if tf2_ros is installed, then the file if one is named.

    Raises:
        ConfigError: the file is missing or malformed.
    """
    sources: list[TransformSource] = []
    hints = []
    try:
        import tf2_ros
    except ImportError:
        hints.append("tf2_ros is not installed")
    else:
        buffer = tf2_ros.Buffer()
        sources.append(TfTransforms(buffer, fixed_frame, tf2_ros.TransformListener(buffer, node)))
    if extrinsics_file:
        sources.append(FileTransforms(extrinsics_file))
    else:
        hints.append("the parameter extrinsics_file is empty")
    return FirstKnown(sources, " and ".join(hints))


def _pose(entry: Any, where: str) -> NDArray[np.float64]:
    given = [key for key in ("camera_from_lidar", "lidar_from_camera") if key in entry]
    if len(given) != 1:
        raise ConfigError(f"{where} must hold exactly one of camera_from_lidar and lidar_from_camera")
    pose = entry[given[0]]
    translation = np.array(pose["translation"], np.float64)
    rotation = np.array(pose["rotation_xyzw"], np.float64)
    if translation.shape != (3,) or rotation.shape != (4,) or not 0.99 < np.linalg.norm(rotation) < 1.01:
        raise ConfigError(f"{where}: translation must be 3 numbers and rotation_xyzw a unit quaternion, got {pose}")
    matrix = matrix_from_quaternion(translation, rotation)
    return matrix if given[0] == "camera_from_lidar" else invert_transform(matrix)
