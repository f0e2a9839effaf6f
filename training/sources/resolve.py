"""What a user calls a source - a path or a short specification - as a ``Source``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ov_seg_ros.bags.extrinsics import load_extrinsics
from ov_seg_ros.bags.layout import TRUTH_TOPIC
from ov_seg_ros.bags.sample_stream import SampleStreamOptions
from ov_seg_ros.bags.storage import STORAGE_SUFFIXES, is_recording
from ov_seg_ros.core.errors import ConfigError, InputError
from training.sources.indoor_bins import IndoorBins, is_indoor_bins
from training.sources.joined import JoinedSource
from training.sources.kitti_object import KittiObject, is_kitti_object
from training.sources.kitti_raw import KittiRaw, is_kitti_raw
from training.sources.nuscenes import NuScenes, is_nuscenes
from training.sources.nuscenes_keyframe import NuScenesKeyframe, is_nuscenes_keyframe
from training.sources.nuscenes_splits import NuScenesSelection
from training.sources.protocol import Source
from training.sources.recording import RecordingSource
from training.sources.rgbd import RgbdConfig, RgbdSequence, is_rgbd
from training.sources.rgbd_scene import RgbdScene, RgbdSceneConfig
from training.sources.rgbd_views import ViewChoice
from training.sources.s3dis import S3dis, is_s3dis
from training.sources.scannet import ScanNet, ScanNetConfig, is_scannet
from training.sources.semantickitti import SemanticKitti, is_semantickitti
from training.sources.semantickitti_dataset import (
    SemanticKittiDataset,
    SemanticKittiSelection,
    is_semantickitti_root,
    only_sequence,
)
from training.sources.source_spec import SourceSpec

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
DEFAULT_LABELS = "nuscenes16"


@dataclass(frozen=True)
class _Kind:
    """One kind of source: the word before the colon, what it looks like, how it is recognised and opened."""

    word: str
    looks_like: str
    recognise: Callable[[Path], bool]
    open: Callable[[SourceSpec], Source]


def open_source(spec: str | Path) -> Source:
    """Opens whatever ``spec`` means.

    Args:
        spec: a recording or the folder of a data set; what it is is found out. Options follow a "?", and a word before
            the path says what it is: ``nuscenes:/data/nuscenes?split=train,skip=100``,
            ``semantickitti:/data/kitti?split=val,labels=semantickitti19``,
            ``recording:/data/drive?extrinsics=cameras.yaml`` (see ``ov_seg_ros.bags.extrinsics``).
            ``/data/nuscenes:scene-0061`` is one scene, ``synthetic:seed=7,scans=20,lidar=spinning32`` (also stride,
            layout, width, height, cameras=front+back) a drive that is drawn.

    Raises:
        InputError: nothing there, or nothing known; the message lists what was looked for.
        ConfigError: an option is unknown or wrong.
    """
    text = str(spec)
    if text.startswith(SYNTHETIC):
        return _open_synthetic(text)
    parts = SourceSpec.parse(text, {kind.word for kind in _KINDS})
    path, scene = _split_scene(parts.path) if parts.is_plain else (parts.path, None)
    if scene is not None:
        return NuScenes(path, scene)
    if not path.exists():
        raise InputError(f"{path} does not exist; expected {_expected()}")
    for kind in _KINDS:
        if kind.recognise(path) if parts.kind is None else kind.word == parts.kind:
            return kind.open(parts)
    raise InputError(f"{path} is nothing known; looked for {_expected()}")


def open_sources(specs: Sequence[str]) -> Source:
    """Opens one source, or several as one after another.

    Args:
        specs: see ``open_source``.

    Raises:
        InputError: one of them is nothing known.
        ConfigError: an option is wrong, or their ground truths are of different label spaces.
    """
    sources = [open_source(spec) for spec in specs]
    return sources[0] if len(sources) == 1 else JoinedSource(sources)


def _split_scene(path: Path) -> tuple[Path, str | None]:
    """``root:scene-0061`` as (root, "scene-0061"); a path that exists as it stands is not split."""
    head, separator, scene = str(path).rpartition(":")
    if path.exists() or not separator or not is_nuscenes(Path(head)):
        return path, None
    return Path(head), scene


def _expected() -> str:
    kinds = ", ".join(kind.looks_like for kind in _KINDS)
    return f"{kinds} or {SYNTHETIC}seed=7,scans=20,lidar=spinning32"


def _open_recording(spec: SourceSpec) -> Source:
    options, more = spec.take(SampleStreamOptions, extrinsics="")
    extrinsics = load_extrinsics(Path(more["extrinsics"])) if more["extrinsics"] else None
    truth_topic = options.truth_topic or TRUTH_TOPIC
    return RecordingSource(spec.path, replace(options, extrinsics=extrinsics, truth_topic=truth_topic))


def _looks_like_recording(path: Path) -> bool:
    # a compressed storage file alone is refused when it is opened, with the remedy
    return is_recording(path) or path.name.endswith(tuple(f"{suffix}.zstd" for suffix in STORAGE_SUFFIXES))


def _is_synthetic_folder(folder: Path) -> bool:
    return (folder / "drive.json").is_file()


def _open_synthetic_folder(spec: SourceSpec) -> Source:
    from training.sources.synthetic_folder import SyntheticFolder

    spec.refuse_unknown(())
    return SyntheticFolder(spec.path)


def _open_nuscenes(spec: SourceSpec) -> Source:
    if spec.is_plain:
        return NuScenes(spec.path)
    selection, more = spec.take(NuScenesSelection, labels=DEFAULT_LABELS)
    return NuScenes(spec.path, selection=selection, labels=more["labels"])


def _open_nuscenes_keyframe(spec: SourceSpec) -> Source:
    spec.refuse_unknown(())
    return NuScenesKeyframe(spec.path)


def _open_semantickitti(spec: SourceSpec) -> Source:
    selection, more = spec.take(SemanticKittiSelection, labels=DEFAULT_LABELS)
    if is_semantickitti(spec.path) and selection == SemanticKittiSelection():
        return SemanticKitti(spec.path, more["labels"])
    if spec.is_plain:
        return SemanticKitti(only_sequence(spec.path))
    return SemanticKittiDataset(spec.path, selection, more["labels"])


def _open_kitti_object(spec: SourceSpec) -> Source:
    spec.refuse_unknown(())
    return KittiObject(spec.path)


def _open_kitti_raw(spec: SourceSpec) -> Source:
    spec.refuse_unknown(())
    return KittiRaw(spec.path)


def _open_scannet(spec: SourceSpec) -> Source:
    return ScanNet(spec.path, spec.take(ScanNetConfig)[0])


@dataclass(frozen=True)
class _S3disOptions:
    areas: tuple[int, ...] = ()


def _open_s3dis(spec: SourceSpec) -> Source:
    return S3dis(spec.path, spec.take(_S3disOptions)[0].areas)


def _open_indoor_bins(spec: SourceSpec) -> Source:
    spec.refuse_unknown(())
    return IndoorBins(spec.path)


def _open_rgbd(spec: SourceSpec) -> Source:
    return RgbdSequence(spec.path, spec.take(RgbdConfig)[0])


@dataclass(frozen=True)
class _FusedOptions:
    """Of ``RgbdSceneConfig``, in one row."""

    voxel_size: float = RgbdSceneConfig.voxel_size
    min_measurements: int = RgbdSceneConfig.min_measurements
    frame_step: int = RgbdSceneConfig.frame_step
    pixel_step: int = RgbdConfig.pixel_step
    max_depth: float = RgbdConfig.max_depth
    depth_unit: float = RgbdConfig.depth_unit
    view_step: int = ViewChoice.step
    most_views: int = ViewChoice.most

    def config(self) -> RgbdSceneConfig:
        """What they mean."""
        depth = RgbdConfig(pixel_step=self.pixel_step, max_depth=self.max_depth, depth_unit=self.depth_unit)
        views = ViewChoice(self.view_step, self.most_views)
        return RgbdSceneConfig(self.voxel_size, self.min_measurements, self.frame_step, depth, views)


def _open_rgbd_scene(spec: SourceSpec) -> Source:
    return RgbdScene(spec.path, spec.take(_FusedOptions)[0].config())


_KINDS: tuple[_Kind, ...] = (
    _Kind("recording", "a recording (metadata.yaml, .mcap, .db3, .bag)", _looks_like_recording, _open_recording),
    _Kind("drive", "a synthetic drive (drive.json)", _is_synthetic_folder, _open_synthetic_folder),
    _Kind("nuscenes", "a nuScenes root (v1.0-*/sample_data.json)", is_nuscenes, _open_nuscenes),
    _Kind("keyframe", "a nuScenes keyframe (calib.json)", is_nuscenes_keyframe, _open_nuscenes_keyframe),
    _Kind("kitti_object", "a KITTI object folder (velodyne/*.bin, calib/*.txt)", is_kitti_object, _open_kitti_object),
    _Kind(
        "semantickitti",
        "SemanticKITTI or KITTI odometry (velodyne/*.bin, sequences/*/velodyne/*.bin)",
        lambda folder: is_semantickitti(folder) or is_semantickitti_root(folder),
        _open_semantickitti,
    ),
    _Kind(
        "kitti_raw",
        "a KITTI raw date or drive (velodyne_points/, *_drive_*/velodyne_points/)",
        is_kitti_raw,
        _open_kitti_raw,
    ),
    _Kind("scannet", "ScanNet (scene*/*_vh_clean_2.ply)", is_scannet, _open_scannet),
    _Kind("s3dis", "S3DIS (Annotations/*.txt of a room, an area or all)", is_s3dis, _open_s3dis),
    _Kind("indoor_bins", "prepared scenes of ScanNet or S3DIS (points/*.bin)", is_indoor_bins, _open_indoor_bins),
    _Kind("rgbd", "frames with depth and poses (color/, depth/, pose/, frame-*.depth.png)", is_rgbd, _open_rgbd),
    _Kind("rgbd_scene", "the same, fused to one scene (rgbd_scene:FRAMES)", lambda _: False, _open_rgbd_scene),
)


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
