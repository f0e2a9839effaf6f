"""Sets of synthetic drives: which ones, where they lie, and rendering those that are not there yet."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ov_seg_ros import __version__
from training.progress import Progress
from training.sources.synthetic import REVISION, DriveConfig, SyntheticDrive
from training.sources.synthetic_folder import write_drive
from training.worker_pool import WorkerPool


@dataclass(frozen=True)
class DriveSet:
    """Synthetic drives of one kind.

    Attributes:
        lidar: "spinning32" or "spinning64".
        seeds: one drive each.
        scans: per drive.
        scan_stride: every how many LiDAR revolutions a scan is kept; 10 = 1 s apart.
    """

    lidar: str
    seeds: tuple[int, ...]
    scans: int = 40
    scan_stride: int = 5


def drive_configs(drive_sets: Sequence[DriveSet]) -> Iterator[DriveConfig]:
    """Every drive of the sets."""
    for drives in drive_sets:
        for seed in drives.seeds:
            yield DriveConfig(seed, drives.lidar, drives.scans, drives.scan_stride)


def drive_folder(root: Path, config: DriveConfig) -> Path:
    """Of one drive below ``root``; its name carries a hash of all that made the drive."""
    made_by = {"revision": REVISION, **asdict(config)}
    return root / f"{config.seed:04d}-{short_hash(made_by)}"


def render_drives(root: Path, configs: Sequence[DriveConfig], processes: int, progress: Progress) -> None:
    """Renders the drives that are not there yet, one process per drive."""
    todo = [c for c in configs if not (drive_folder(root, c) / "drive.json").exists()]
    todo.sort(key=lambda config: -config.num_scans)  # the longest first, so that no process ends alone with one
    done = len(configs) - len(todo)
    progress("drives", done, len(configs))
    with WorkerPool(processes) as pool:
        for _ in pool.map(_render, todo, [drive_folder(root, c) for c in todo]):
            done += 1
            progress("drives", done, len(configs))


def short_hash(settings: Any) -> str:
    """Ten hex digits that change with the settings and with the version of this package."""
    text = json.dumps({"version": __version__, "settings": settings}, sort_keys=True, default=list)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def _render(config: DriveConfig, folder: Path) -> None:
    write_drive(SyntheticDrive(config), folder)
