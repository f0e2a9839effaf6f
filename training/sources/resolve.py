"""What a user calls a source - a path or a short specification - as a ``Source``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ov_seg_ros.bags.storage import is_recording
from ov_seg_ros.core.errors import ConfigError, InputError
from training.sources.kitti_raw import KittiRaw, is_kitti_raw
from training.sources.nuscenes import NuScenes, is_nuscenes
from training.sources.nuscenes_keyframe import NuScenesKeyframe, is_nuscenes_keyframe
from training.sources.protocol import Source
from training.sources.recording import RecordingSource
from training.sources.semantickitti import SemanticKitti, is_semantickitti

SYNTHETIC = "synthetic:"
_SYNTHETIC_KEYS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "seed": ("seed", int),
    "scans": ("num_scans", int),
    "stride": ("scan_stride", int),
    "lidar": ("lidar", str),
    "layout": ("layout", str),
    "width": ("image_width", int),
    "height": ("image_height", int),
    "cameras": ("cameras", lambda text: tuple(filter(None, text.split("+")))),
}


def _is_synthetic_folder(folder: Path) -> bool:
    return (folder / "drive.json").is_file()


def _open_synthetic_folder(folder: Path) -> Source:
    from training.sources.synthetic_folder import SyntheticFolder

    return SyntheticFolder(folder)


_KINDS: tuple[tuple[str, Callable[[Path], bool], Callable[[Path], Source]], ...] = (
    ("a recording (metadata.yaml, .mcap, .db3, .bag)", is_recording, RecordingSource),
    ("a synthetic drive (drive.json)", _is_synthetic_folder, _open_synthetic_folder),
    ("a nuScenes root (v1.0-*/sample_data.json)", is_nuscenes, NuScenes),
    ("a nuScenes keyframe (calib.json)", is_nuscenes_keyframe, NuScenesKeyframe),
    ("a SemanticKITTI sequence (velodyne/*.bin)", is_semantickitti, SemanticKitti),
    ("a KITTI raw date or drive (velodyne_points/, *_drive_*/velodyne_points/)", is_kitti_raw, KittiRaw),
)


def open_source(spec: str | Path) -> Source:
    """Opens whatever ``spec`` means.

    Args:
        spec: a recording or the folder of a data set (what it is is found out), ``NUSCENES_ROOT:scene-0061`` for one
            scene of several, or ``synthetic:seed=7,scans=20,lidar=spinning32`` (also stride,
            layout, width, height, cameras=front+back) for a drive that is drawn.

    Raises:
        InputError: nothing there, or nothing known; the message lists what was looked for.
        ConfigError: the specification of a synthetic drive is wrong.
    """
    text = str(spec)
    if text.startswith(SYNTHETIC):
        return _open_synthetic(text)
    path, scene = _split_scene(Path(spec))
    if scene is not None:
        return NuScenes(path, scene)
    if not path.exists():
        raise InputError(f"{path} does not exist; expected {_expected()}")
    for _, recognise, open_kind in _KINDS:
        if recognise(path):
            return open_kind(path)
    raise InputError(f"{path} is nothing known; looked for {_expected()}")


def _split_scene(path: Path) -> tuple[Path, str | None]:
    """``root:scene-0061`` as (root, "scene-0061"); a path that exists as it stands is not split."""
    head, separator, scene = str(path).rpartition(":")
    if path.exists() or not separator or not is_nuscenes(Path(head)):
        return path, None
    return Path(head), scene


def _expected() -> str:
    return ", ".join(kind for kind, _, _ in _KINDS) + f" or {SYNTHETIC}seed=7,scans=20,lidar=spinning32"


def _open_synthetic(spec: str) -> Source:
    from training.sources.synthetic import DriveConfig, SyntheticDrive

    values: dict[str, Any] = {"seed": 0}
    for part in filter(None, spec.removeprefix(SYNTHETIC).split(",")):
        key, separator, value = part.partition("=")
        if not separator or key not in _SYNTHETIC_KEYS:
            raise ConfigError(f"{spec}: {part!r} is no key=value with one of the keys {', '.join(_SYNTHETIC_KEYS)}")
        name, convert = _SYNTHETIC_KEYS[key]
        try:
            values[name] = convert(value)
        except ValueError as error:
            raise ConfigError(f"{spec}: {key} must be a whole number, got {value!r}") from error
    return SyntheticDrive(DriveConfig(**values))
