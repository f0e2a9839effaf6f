"""Every keyframe of a version of nuScenes in a few arrays, drawn from tables that are too big to be held as rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.errors import InputError
from ov_seg_ros.core.transforms import matrix_from_quaternion
from training.sources.nuscenes_tables import Row, column, read_rows

LIDAR = "LIDAR_TOP"
TABLES = ("scene", "sample", "sample_data", "calibrated_sensor", "ego_pose", "sensor")


@dataclass(frozen=True)
class KeyframeIndex:
    """K keyframes in the order of ``scene.json`` and of time, C channels (``LIDAR_TOP`` first, then the cameras).

    Attributes:
        channels: (C,) str.
        scene_names: (S,) str, in the order of ``scene.json``.
        scene: (K,) int32 index into ``scene_names``.
        tokens: (K, C) bytes, sample_data token; empty = the keyframe lacks this channel.
        files: (K, C) bytes, path below the root of the data set.
        stamps_us: (K, C) int64, microseconds.
        sizes: (K, C, 2) int32, (width, height) of images.
        calibration: (K, C) int32 index into ``mounts`` and ``intrinsics``.
        poses: (K, C, 7) float64, global_from_ego at the stamp: x, y, z, metres, and quaternion w, x, y, z.
        mounts: (M, 7) float64, ego_from_sensor, likewise.
        intrinsics: (M, 3, 3) float64, K of cameras, zero for others.
    """

    channels: NDArray[np.str_]
    scene_names: NDArray[np.str_]
    scene: NDArray[np.int32]
    tokens: NDArray[np.bytes_]
    files: NDArray[np.bytes_]
    stamps_us: NDArray[np.int64]
    sizes: NDArray[np.int32]
    calibration: NDArray[np.int32]
    poses: NDArray[np.float64]
    mounts: NDArray[np.float64]
    intrinsics: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.scene)

    def has(self, keyframe: int, channel: int) -> bool:
        """Whether a keyframe has data of a channel."""
        return bool(self.tokens[keyframe, channel])

    def base_from_sensor(self, keyframe: int, channel: int) -> NDArray[np.float64]:
        """(4, 4): where a sensor sits on the ego vehicle."""
        return _matrix(self.mounts[self.calibration[keyframe, channel]])

    def world_from_sensor(self, keyframe: int, channel: int) -> NDArray[np.float64]:
        """(4, 4) in the global frame, at the stamp of the sensor's own data."""
        return _matrix(self.poses[keyframe, channel]) @ self.base_from_sensor(keyframe, channel)

    @classmethod
    def build(cls, version: Path) -> KeyframeIndex:
        """Reads the tables once, row by row.

        Raises:
            InputError: a table is missing, damaged, or refers to a row that does not exist.
        """
        return _Build(version).index()


@dataclass
class _Build:
    """The tables of one version while they are read."""

    version: Path
    channels: list[str] = field(default_factory=lambda: [LIDAR])
    calibrations: dict[str, tuple[int, int]] = field(default_factory=dict)  # token: (row, channel)

    def index(self) -> KeyframeIndex:
        mounts, intrinsics = self._read_calibrations()
        scene_names, samples, scene = self._read_samples()
        columns = self._read_keyframes(samples)
        poses = self._read_poses(columns.pop("pose"))
        with_lidar = columns["tokens"][:, 0] != b""
        return KeyframeIndex(
            channels=np.array(self.channels),
            scene_names=np.array(scene_names),
            scene=scene[with_lidar],
            poses=poses[with_lidar],
            mounts=mounts,
            intrinsics=intrinsics,
            **{name: values[with_lidar] for name, values in columns.items()},
        )

    def _read_calibrations(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Fills ``channels`` and ``calibrations``; returns mounts (M, 7) and intrinsics (M, 3, 3)."""
        path, names = self._path("sensor"), {}
        for row in read_rows(path):
            names[column(row, "token", path)] = str(column(row, "channel", path))
        self.channels += sorted(name for name in set(names.values()) if name.startswith("CAM_"))
        mounts: list[Any] = []
        intrinsics: list[Any] = []
        path = self._path("calibrated_sensor")
        for row in read_rows(path):
            channel = names.get(column(row, "sensor_token", path))
            if channel in self.channels:
                self.calibrations[row["token"]] = len(mounts), self.channels.index(channel)
                mounts.append(_seven_numbers(row, path))
                intrinsics.append(_intrinsic(row, path, channel))
        return np.array(mounts).reshape(-1, 7), np.array(intrinsics).reshape(-1, 3, 3)

    def _read_samples(self) -> tuple[list[str], dict[str, int], NDArray[np.int32]]:
        """Scene names, keyframe number by sample token, and the scene of every keyframe."""
        path = self._path("scene")
        names: list[str] = []
        numbers: dict[str, int] = {}
        for row in read_rows(path):
            numbers[column(row, "token", path)] = len(names)
            names.append(str(column(row, "name", path)))
        path, samples = self._path("sample"), []
        for row in read_rows(path):
            scene = column(row, "scene_token", path)
            if scene not in numbers:
                raise InputError(f"{path}: sample {row['token']} is of scene {scene}, which scene.json does not have")
            samples.append((numbers[scene], int(column(row, "timestamp", path)), str(row["token"])))
        samples.sort()
        scenes = np.array([scene for scene, _, _ in samples], np.int32)
        return names, {token: number for number, (_, _, token) in enumerate(samples)}, scenes

    def _read_keyframes(self, samples: dict[str, int]) -> dict[str, NDArray[np.generic]]:
        """The columns of ``sample_data`` as (K, C) arrays; ``pose`` holds tokens of ``ego_pose``."""
        shape = len(samples), len(self.channels)
        text: dict[str, list[str]] = {name: [""] * (shape[0] * shape[1]) for name in ("tokens", "files", "pose")}
        stamps_us, calibration = np.zeros(shape, np.int64), np.zeros(shape, np.int32)
        sizes = np.zeros((*shape, 2), np.int32)
        for keyframe, channel, mount, row in self._keyframe_rows(samples):
            cell = keyframe * shape[1] + channel
            text["tokens"][cell], text["files"][cell] = str(row["token"]), str(row["filename"])
            text["pose"][cell] = str(row["ego_pose_token"])
            stamps_us[keyframe, channel], calibration[keyframe, channel] = row["timestamp"], mount
            sizes[keyframe, channel] = row.get("width") or 0, row.get("height") or 0
        columns: dict[str, NDArray[np.generic]] = {
            n: np.char.encode(np.array(t, np.str_), "utf-8").reshape(shape) for n, t in text.items()
        }
        return columns | {"stamps_us": stamps_us, "calibration": calibration, "sizes": sizes}

    def _keyframe_rows(self, samples: dict[str, int]) -> Iterator[tuple[int, int, int, Row]]:
        path = self._path("sample_data")
        for row in read_rows(path):
            if not column(row, "is_key_frame", path):
                continue
            calibration = self.calibrations.get(column(row, "calibrated_sensor_token", path))
            keyframe = samples.get(column(row, "sample_token", path))
            if calibration is not None and keyframe is not None:
                for name in ("token", "filename", "ego_pose_token", "timestamp"):
                    column(row, name, path)
                yield keyframe, calibration[1], calibration[0], row

    def _read_poses(self, tokens: NDArray[np.generic]) -> NDArray[np.float64]:
        """(K, C, 7) of the (K, C) tokens; zero where there is none."""
        cells: dict[str, list[int]] = {}
        for cell, token in enumerate(tokens.ravel().tolist()):
            if token:
                cells.setdefault(token.decode(), []).append(cell)
        poses, path = np.zeros((tokens.size, 7)), self._path("ego_pose")
        for row in read_rows(path):
            if (wanted := cells.pop(column(row, "token", path), None)) is not None:
                poses[wanted] = _seven_numbers(row, path)
        if cells:
            raise InputError(f"{path} lacks {len(cells)} poses, the first is {next(iter(cells))}; unpack it again")
        return poses.reshape(*tokens.shape, 7)

    def _path(self, table: str) -> Path:
        return self.version / f"{table}.json"


def _seven_numbers(row: Row, path: Path) -> list[float]:
    numbers = [*column(row, "translation", path), *column(row, "rotation", path)]
    if len(numbers) != 7:
        raise InputError(f"{path}: row {row['token']}: expected translation x, y, z and rotation w, x, y, z")
    return [float(number) for number in numbers]


def _intrinsic(row: Row, path: Path, channel: str) -> NDArray[np.float64]:
    values = np.asarray(row.get("camera_intrinsic") or np.zeros((3, 3)), np.float64)
    if values.shape != (3, 3) or (channel != LIDAR and not values.any()):
        raise InputError(f"{path}: row {row['token']} of {channel} must have camera_intrinsic (3, 3)")
    return values


def _matrix(numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    x, y, z, qw, qx, qy, qz = numbers
    return matrix_from_quaternion((x, y, z), (qx, qy, qz, qw))
