"""Synthetic street drives: ray-cast LiDAR scans and camera images with ground truth, drawn from a seed."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.camera import CameraModel
from ov_seg_ros.core.data_types import CameraImage, PointCloud, Sample
from ov_seg_ros.core.errors import ConfigError, InputError
from ov_seg_ros.core.label_space import LabelSpace
from training.sources.protocol import ImageTruth
from training.sources.synthetic_cameras import MOUNTS, CameraMount
from training.sources.synthetic_layout import LAYOUTS, draw_street
from training.sources.synthetic_lidar import LIDARS, detected, intensity, noisy_range
from training.sources.synthetic_meshes import Mesh
from training.sources.synthetic_motion import EgoMotion, EgoProgress, draw_movers
from training.sources.synthetic_raycast import RayScene, trace
from training.sources.synthetic_rendering import render
from training.sources.synthetic_shading import Weather
from training.sources.synthetic_world import build_world

HELD_OUT_SEEDS: dict[str, tuple[int, ...]] = {"spinning32": (101, 103), "spinning64": (102, 104)}
"""Drives for benchmarks and tests, by LiDAR: no recipe of ``config/recipes`` learns from them."""

REVISION = 1
"""Of the generator: raised when equal configurations begin to give other bytes, so that drives are rendered anew."""

START_NS = 1_700_000_000_000_000_000
"""Stamp of the first scan of every drive."""

LABEL_SPACE_FILE = Path(__file__).resolve().parents[2] / "config" / "label_spaces" / "nuscenes16.yaml"


@dataclass(frozen=True)
class DriveConfig:
    """What decides a drive; equal configurations give equal bytes.

    Attributes:
        seed: of everything random.
        lidar: "spinning32" (nuScenes-like) or "spinning64" (KITTI-like).
        num_scans: length of the drive.
        scan_stride: revolutions per delivered scan; 1 = every one (10 Hz), 10 = one per second.
        scan_rate_hz: revolutions per second.
        layout: a name of ``synthetic_layout.LAYOUTS``, None = drawn from the seed.
        cameras: names out of ``synthetic_cameras.MOUNTS``; () = LiDAR only.
        image_width: pixels.
        image_height: pixels.
    """

    seed: int
    lidar: str = "spinning32"
    num_scans: int = 40
    scan_stride: int = 1
    scan_rate_hz: float = 10.0
    layout: str | None = None
    cameras: tuple[str, ...] = tuple(MOUNTS)
    image_width: int = 480
    image_height: int = 270

    def __post_init__(self) -> None:
        if self.lidar not in LIDARS:
            raise ConfigError(f"lidar must be one of {', '.join(LIDARS)}, got {self.lidar!r}")
        if self.layout is not None and self.layout not in LAYOUTS:
            raise ConfigError(f"layout must be one of {', '.join(LAYOUTS)} or None, got {self.layout!r}")
        unknown = [name for name in self.cameras if name not in MOUNTS]
        if unknown:
            raise ConfigError(f"cameras must be out of {', '.join(MOUNTS)}, got {', '.join(unknown)}")
        for name in ("num_scans", "scan_stride", "image_width", "image_height"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.scan_rate_hz > 0:
            raise ConfigError(f"scan_rate_hz must be > 0 Hz, got {self.scan_rate_hz}")
        if self.seed < 0:
            raise ConfigError(f"seed must be 0 or more, got {self.seed}")

    @property
    def duration(self) -> float:
        """Seconds from the first to the last scan."""
        return (self.num_scans - 1) * self.scan_stride / self.scan_rate_hz


class SyntheticDrive:
    """A drive through a street that never existed; implements ``Source``.

    Attributes:
        config: what it was made from.
        lidar: the model of its LiDAR.
        street: the layout of its ground.
        base_from_lidar: (4, 4); the base frame lies on the ground under the rear axle, x forward.
        base_from_camera: (4, 4) by camera name.
        camera_models: intrinsics by camera name.
    """

    def __init__(self, config: DriveConfig) -> None:
        """Builds the world, which takes about two seconds."""
        self.config = config
        self.lidar = LIDARS[config.lidar]
        self.base_from_lidar = np.eye(4)
        self.base_from_lidar[:3, 3] = (0.95, 0.0, self.lidar.height)
        size = (config.image_width, config.image_height)
        self.camera_models: dict[str, CameraModel] = {name: MOUNTS[name].model(*size) for name in config.cameras}
        self.base_from_camera = {name: MOUNTS[name].base_from_camera for name in config.cameras}
        self._weather = Weather.draw(self._stream("weather"))
        self._gain = float(np.exp(self._stream("gain").normal(0, 0.25)))
        self._progress = EgoProgress(self._stream("progress"), config.duration)
        self.street = draw_street(self._stream("street"), -100.0, self._progress.end + 100.0, config.layout)
        self._ego = EgoMotion(self._stream("ego"), self._progress, self.street)
        world = build_world(self._stream("world"), self.street)
        self._static = RayScene(world.mesh, world.instance_id)
        self._movers = draw_movers(self._stream("traffic"), self.street, config.duration, world.instances + 1)
        self._latest_scan: tuple[int, dict[str, NDArray]] | None = None
        self._latest_images: tuple[int, dict[str, tuple[CameraImage, ImageTruth]]] = (-1, {})

    def _stream(self, purpose: str, index: int = 0) -> np.random.Generator:
        """An independent random stream per purpose and scan, so that order and process count do not matter."""
        return np.random.default_rng([self.config.seed, int.from_bytes(purpose.encode(), "little"), index])

    @property
    def name(self) -> str:
        """Of the drive, usable as a folder name."""
        return f"drive_{self.config.seed:04d}_{self.config.lidar}"

    @property
    def label_space(self) -> LabelSpace:
        """The 16 classes of nuScenes."""
        return _label_space()

    def __len__(self) -> int:
        return self.config.num_scans

    def describe(self) -> dict[str, Any]:
        """See ``Source``."""
        return {"revision": REVISION, **asdict(self.config)}

    def stamp_ns(self, index: int) -> int:
        """Stamp of scan ``index``.

        Raises:
            InputError: the drive has no such scan.
        """
        if not 0 <= index < len(self):
            raise InputError(f"drive {self.name} has scans 0 to {len(self) - 1}, got {index}")
        return START_NS + round(index * self.config.scan_stride * 1e9 / self.config.scan_rate_hz)

    def ego_pose(self, stamp_ns: int) -> NDArray[np.float64]:
        """(4, 4) world_from_base at a stamp."""
        return self._ego.pose((stamp_ns - START_NS) / 1e9)

    def camera_stamp_ns(self, index: int, camera: str) -> int:
        """Stamp of the image of ``camera`` that belongs to scan ``index``, at most half a revolution off its stamp."""
        delay = self._mount(camera).trigger_delay(self.config.scan_rate_hz)
        jitter = self._stream(f"trigger_{camera}", index).uniform(-0.001, 0.001)
        limit = 0.5 / self.config.scan_rate_hz
        return self.stamp_ns(index) + round(1e9 * float(np.clip(delay + jitter, -limit, limit)))

    def load_sample(self, index: int, with_images: bool = True) -> Sample:
        """The scan with its ground truth, and an image of every camera.

        Args:
            index: of the scan.
            with_images: without them a sample takes a small part of the time.

        Raises:
            InputError: the drive has no such scan.
        """
        scan, stamp = self._scan(index), self.stamp_ns(index)
        cloud = PointCloud(scan["points"], scan["intensity"], stamp, "lidar")
        images = tuple(self.load_image(index, name)[0] for name in self.config.cameras) if with_images else ()
        return Sample(f"{self.name}/{index:06d}", cloud, images, scan["class_id"], self._world_from_lidar(stamp))

    def load_image(self, index: int, camera: str) -> tuple[CameraImage, ImageTruth]:
        """One image and its truth, rendered at its own stamp: ego vehicle and movers are where they are then."""
        if self._latest_images[0] != index:
            self._latest_images = (index, {})
        rendered = self._latest_images[1]
        if camera not in rendered:
            rendered[camera] = self._render(index, camera)
        return rendered[camera]

    def load_image_truth(self, index: int, camera: str) -> ImageTruth:
        """Classes, instances and depth behind the pixels of one image."""
        return self.load_image(index, camera)[1]

    def load_scan_fields(self, index: int) -> dict[str, NDArray]:
        """Per point: ``ring`` (N,) uint16, ``time`` (N,) float32 seconds after the stamp, ``instance_id`` (N,) int32.

        ``time`` is 0 throughout: every ray leaves at the stamp.
        """
        scan = self._scan(index)
        return {key: scan[key] for key in ("ring", "time", "instance_id")}

    def load_instance_id(self, index: int) -> NDArray[np.int32]:
        """(N,) int32 per point, 0 = stuff."""
        return self._scan(index)["instance_id"]

    def _scenes(self, stamp_ns: int, view: CameraMount | None = None) -> list[RayScene]:
        """The static scene, and the movers where they are at a stamp: all, or those that a camera may see."""
        time = (stamp_ns - START_NS) / 1e9
        ego_s, world_from_base = self._progress.at(time), self.ego_pose(stamp_ns)
        meshes, numbers = [], []
        for mover in self._movers:
            world_from_mover = mover.pose(time, ego_s, self.street)
            if world_from_mover is None:
                continue
            if view is not None and not view.may_see(world_from_base, world_from_mover[:3, 3]):
                continue
            mesh = mover.frame(time).moved(world_from_mover)
            meshes.append(mesh)
            numbers.append(np.full(len(mesh), mover.instance_id, np.int32))
        if not meshes:
            return [self._static]
        return [self._static, RayScene(Mesh.join(meshes), np.concatenate(numbers))]

    def _mount(self, camera: str) -> CameraMount:
        if camera not in self.config.cameras:
            raise InputError(
                f"drive {self.name} has the cameras {', '.join(self.config.cameras) or '(none)'}, got {camera!r}"
            )
        return MOUNTS[camera]

    def _world_from_lidar(self, stamp_ns: int) -> NDArray[np.float64]:
        return self.ego_pose(stamp_ns) @ self.base_from_lidar

    def _render(self, index: int, camera: str) -> tuple[CameraImage, ImageTruth]:
        stamp, model = self.camera_stamp_ns(index, camera), self.camera_models[camera]
        world_from_camera = self.ego_pose(stamp) @ MOUNTS[camera].base_from_camera
        rng = self._stream(f"image_{camera}", index)
        image, truth = render(self._scenes(stamp, MOUNTS[camera]), model, world_from_camera, self._weather, rng)
        camera_from_lidar = np.linalg.inv(world_from_camera) @ self._world_from_lidar(self.stamp_ns(index))
        return CameraImage(camera, image, model, camera_from_lidar, stamp), truth

    def _scan(self, index: int) -> dict[str, NDArray]:
        stamp = self.stamp_ns(index)
        if self._latest_scan is None or self._latest_scan[0] != index:
            self._latest_scan = (index, self._cast(stamp, self._stream("lidar", index)))
        return self._latest_scan[1]

    def _cast(self, stamp_ns: int, rng: np.random.Generator) -> dict[str, NDArray]:
        world_from_lidar, rays = self._world_from_lidar(stamp_ns), self.lidar.directions
        directions = (rays @ world_from_lidar[:3, :3].T).astype(np.float32)
        origins = np.broadcast_to(world_from_lidar[:3, 3].astype(np.float32), rays.shape).copy()
        hits = trace(self._scenes(stamp_ns), origins, directions, self.lidar.max_range)
        kept = detected(hits, rng)
        measured, strength = noisy_range(self.lidar, hits, rng), intensity(self.lidar, hits, self._gain, rng)
        return {
            "points": rays[kept] * measured[kept, None],
            "intensity": strength[kept],
            "class_id": hits.class_id[kept],
            "instance_id": hits.instance_id[kept],
            "ring": self.lidar.ring[kept],
            "time": np.zeros(int(kept.sum()), np.float32),
        }


@lru_cache(maxsize=1)
def _label_space() -> LabelSpace:
    return LabelSpace.load(LABEL_SPACE_FILE)
