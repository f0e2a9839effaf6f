"""The scans that everything is measured on: from a folder, from a recording, or made up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.bench.street import BEAMS_32, BEAMS_64, SpinningLidar, scan_street
from ov_seg_ros.core.data_types import PointCloud
from ov_seg_ros.core.errors import InputError
from ov_seg_ros.messages.cloud_buffer import encode_cloud
from ov_seg_ros.messages.pointcloud2 import decode_pointcloud2

SYNTHETIC = "synthetic"
BEAMS = (32, 64)
"""The two sizes that goals are written for: about 34,000 and about 125,000 points."""
_SYNTHETIC_LIDARS = {32: SpinningLidar(32, 1140, BEAMS_32), 64: SpinningLidar(64, 2040, BEAMS_64, height=1.73)}
_FEW_POINTS = 60_000  # fewer are a scan of 32 beams, more one of 64
_RECORDING_SUFFIXES = (".mcap", ".db3", ".bag")
_TYPES = dict.fromkeys(
    ("sensor_msgs/msg/PointCloud2", "sensor_msgs/msg/PointField", "std_msgs/msg/Header", "builtin_interfaces/msg/Time"),
    SimpleNamespace,
)


@dataclass(frozen=True)
class BenchScan:
    """One scan, as bytes and as numbers.

    Attributes:
        name: for tables ("synthetic 32", "kitti_raw 64"); unique within a run.
        beams: 32 or 64, which goals the scan counts for: that of the two its number of points is nearer to.
        message: any object with the attributes of sensor_msgs/PointCloud2, what a node receives.
        cloud: the same, decoded.
    """

    name: str
    beams: int
    message: Any
    cloud: PointCloud

    def __len__(self) -> int:
        return len(self.cloud)


def load_scans(sources: Sequence[str | Path]) -> tuple[BenchScan, ...]:
    """One scan of 32 and one of 64 beams of each source that has them; made-up ones for what none of them has.

    By beams; of the same number, made-up ones come first.

    Args:
        sources: folders with scans, recordings or "synthetic"; none at all is the same as "synthetic".

    Raises:
        InputError: a source does not exist or holds no scans.
    """
    scans: dict[str, BenchScan] = {}
    for source in sources:
        if str(source) != SYNTHETIC:
            found = _load_source(Path(source))
            scans |= {scan.name: scan for scan in found}
    have = {scan.beams for scan in scans.values()}
    for beams in BEAMS:
        if SYNTHETIC in map(str, sources) or beams not in have:
            scan = synthetic_scan(beams)
            scans[scan.name] = scan
    return tuple(sorted(scans.values(), key=lambda scan: (scan.beams, not scan.name.startswith(SYNTHETIC))))


def synthetic_scan(beams: int) -> BenchScan:
    """A made-up scan of 32 beams (about 34,000 points) or 64 beams (about 125,000)."""
    return as_scan(f"{SYNTHETIC} {beams}", scan_street(_SYNTHETIC_LIDARS[beams]))


def as_scan(name: str, cloud: PointCloud, ring: NDArray[np.uint16] | None = None) -> BenchScan:
    """A cloud as drivers send it: x, y, z, intensity in float32 and, if known, ring in uint16.

    Args:
        name: for tables.
        cloud: any number of points.
        ring: (N,) beam of each point.
    """
    x, y, z = (np.ascontiguousarray(column) for column in cloud.points.T)
    fields: dict[str, NDArray[Any]] = {"x": x, "y": y, "z": z, "intensity": cloud.intensity}
    if ring is not None:
        fields["ring"] = ring
    message = encode_cloud(fields, cloud.stamp_ns, cloud.frame_id or "lidar").to_message(_TYPES)
    return BenchScan(name, _nearest_size(len(cloud)), message, cloud)


def load_point_file(path: Path) -> tuple[PointCloud, NDArray[np.uint16] | None]:
    """Reads a .bin file of float32 rows: x, y, z, intensity (KITTI), and ring behind them (nuScenes).

    Which of the two it is, is seen from the fifth value: rings are whole numbers.

    Raises:
        InputError: the file's size is no whole number of points of either kind.
    """
    columns = _columns(path)
    rows = np.fromfile(path, "<f4").reshape(-1, columns)
    ring = rows[:, 4].astype(np.uint16) if columns == 5 else None
    return PointCloud(rows[:, :3].copy(), rows[:, 3].copy()), ring


def _columns(path: Path) -> int:
    """Values per point, seen from the first points."""
    size = path.stat().st_size
    first = np.fromfile(path, "<f4", min(size // 20, 200) * 5).reshape(-1, 5)[:, 4]
    if size and size % 20 == 0 and (first == np.round(first)).all() and 0 <= first.min() <= first.max() < 256:
        return 5
    if size and size % 16 == 0:
        return 4
    raise InputError(
        f"scan {path} holds {size} bytes; expected rows of 4 float32 (KITTI: x, y, z, intensity)"
        " or 5 (nuScenes: and the ring); copy it again, or convert it"
    )


def _nearest_size(points: int) -> int:
    return BEAMS[0] if points < _FEW_POINTS else BEAMS[1]


def _load_source(path: Path) -> list[BenchScan]:
    if path.suffix in _RECORDING_SUFFIXES or (path / "metadata.yaml").is_file():
        return [_load_recorded(path)]
    if not path.exists():
        raise InputError(
            f"{path} does not exist; expected a folder of .bin scans, a recording, or the word {SYNTHETIC}"
        )
    files = sorted(path.rglob("*.bin")) if path.is_dir() else [path]
    if not files:
        if path.is_dir() and any(path.glob("*.mcap")):
            return [_load_recorded(path)]
        raise InputError(
            f"{path} holds no .bin scans (float32 rows as of KITTI or nuScenes) and is no recording;"
            f" name another folder, a recording, or the word {SYNTHETIC}"
        )
    return _load_files(path, files)


def _load_files(source: Path, files: Sequence[Path]) -> list[BenchScan]:
    """The middle one of the small scans and of the large ones."""
    by_size: dict[int, list[Path]] = {}
    for file in files:
        by_size.setdefault(_nearest_size(file.stat().st_size // (4 * _columns(file))), []).append(file)
    scans = []
    for beams, group in by_size.items():
        cloud, ring = load_point_file(group[len(group) // 2])
        scans.append(as_scan(f"{source.name or source.resolve().name} {beams}", cloud, ring))
    return scans


def _load_recorded(path: Path) -> BenchScan:
    """The scan in the middle of a recording, as it was recorded."""
    from ov_seg_ros.bags.recording import Recording

    with Recording.open(path) as recording:
        topic = recording.find_lidar_topic()
        middle_ns = recording.start_ns + recording.duration_ns // 2
        found = next(iter(recording.iter_messages([topic], middle_ns)), None) or recording.first(topic)
        if found is None:
            raise InputError(f"{path} holds no scan on {topic}; name another recording")
        message = found.decode()
        cloud = decode_pointcloud2(message).cloud
        return BenchScan(f"{recording.name} {_nearest_size(len(cloud))}", _nearest_size(len(cloud)), message, cloud)
