"""How time and memory grow: with points, with beams, with LiDARs whose clouds are merged or labelled in turn."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from ov_seg_ros.bench.engines import load_engines
from ov_seg_ros.bench.fresh_process import ask, save_scan
from ov_seg_ros.bench.rounds import take_turns, timed
from ov_seg_ros.bench.section import BenchOptions, Cell, Section, Table
from ov_seg_ros.bench.spread import median, paired_ratio
from ov_seg_ros.bench.street import SpinningLidar, scan_of_size, scan_street
from ov_seg_ros.core.data_types import PointCloud
from ov_seg_ros.core.errors import OvSegError
from ov_seg_ros.runtime.segmenter import Segmenter

POINTS = (1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000, 2_000_000)
QUICK_POINTS = (1_000, 10_000, 100_000)
BEAMS, QUICK_BEAMS = (16, 32, 64, 128), (16, 64)
BEAM_COLUMNS = 1024
LIDARS, QUICK_LIDARS = (2, 4), (2,)
MOUNTS = ((1.0, 0.0), (-1.0, 0.0), (0.0, 0.6), (0.0, -0.6))
"""Where the LiDARs of one vehicle sit, (x, y) in metres."""
SECONDS_PER_ROW, SECONDS_PER_SCAN = 12.0, 60.0


def contest(options: BenchOptions) -> Section:
    """Measures the three on made-up scans; providers take turns, and dear sizes get fewer rounds."""
    engines = load_engines(options)
    missing = list(engines.missing)
    sizes = QUICK_POINTS if options.quick else POINTS
    beams = QUICK_BEAMS if options.quick else BEAMS
    by_size = {f"{size:,}": scan_of_size(size) for size in sizes}
    by_beams = {str(count): scan_street(SpinningLidar(count, BEAM_COLUMNS)) for count in beams}
    growth = [
        _measure_growth(engines.segmenters, by_size, "size", options, missing),
        _measure_growth(engines.segmenters, by_beams, "beams", options, missing),
    ]
    _add_memory(growth[0], by_size, options, missing)
    tables = (
        Table("points", tuple(growth[0])),
        Table(f"beams, {BEAM_COLUMNS} columns", tuple(growth[1])),
        Table("several LiDARs of 32 beams on one vehicle", tuple(_measure_batches(engines.segmenters, options))),
    )
    return Section(
        name="scaling",
        title="segment() of ever more points, beams and LiDARs, on made-up scans",
        tables=tables,
        missing=tuple(missing),
        notes=(
            "rise: peak of a fresh process while it labels that scan, less what the loaded student takes",
            "merged: the clouds as one; in turn: one after the other; ratio: in turn / merged, paired",
        ),
    )


def _measure_growth(
    segmenters: dict[str, Segmenter],
    clouds: dict[str, PointCloud],
    column: str,
    options: BenchOptions,
    missing: list[str],
) -> list[dict[str, Cell]]:
    """A row per cloud and provider."""
    rows: list[dict[str, Cell]] = []
    alive = dict(segmenters)
    for size, cloud in clouds.items():
        options.say(f"  {column} {size}")
        rounds = _affordable_rounds(alive, cloud, options, missing)
        times = take_turns({name: timed(partial(s.segment, cloud)) for name, s in alive.items()}, rounds)
        for name, samples in times.items():
            voxels = len(alive[name].description.grid.voxelize(cloud.points))
            cells: dict[str, Cell] = {column: size, "points": len(cloud), "voxels": voxels, "provider": name}
            p50 = median(samples)
            rows.append(
                {**cells, "rounds": rounds, "p50 ms": p50, "max ms": max(samples), "us/voxel": 1e3 * p50 / voxels}
            )
    return rows


def _affordable_rounds(
    alive: dict[str, Segmenter], cloud: PointCloud, options: BenchOptions, missing: list[str]
) -> int:
    """Rounds that fit into ``SECONDS_PER_ROW``; takes providers out that fail on this size or need too long."""
    spent = 0.0
    for name in tuple(alive):
        begin = time.perf_counter()
        try:
            alive[name].segment(cloud)
        except OvSegError as error:
            missing.append(f"{name} above {len(cloud):,} points: not measured, {error}")
            del alive[name]
            continue
        seconds = time.perf_counter() - begin
        if seconds > SECONDS_PER_SCAN:
            missing.append(f"{name} above {len(cloud):,} points: not measured, one scan takes {seconds:.0f} s")
            del alive[name]
        spent += seconds
    budget = SECONDS_PER_ROW / (6 if options.quick else 1)
    return int(np.clip(budget / max(spent, 1e-3) - 1, 1, options.rounds))


def _add_memory(
    rows: list[dict[str, Cell]], clouds: dict[str, PointCloud], options: BenchOptions, missing: list[str]
) -> None:
    """Adds the column "rise MiB": one process per provider that labels all sizes, small ones first."""
    paths = {size: save_scan(cloud, options.scratch / f"{len(cloud)}.npy") for size, cloud in clouds.items()}
    for name in dict.fromkeys(row["provider"] for row in rows):
        mine = [row for row in rows if row["provider"] == name]
        request = {"model": str(options.model.resolve()), "provider": name, "threads": options.threads, "repeats": 1}
        try:
            found = ask("memory", {**request, "scans": [paths[str(row["size"])] for row in mine]})
        except OvSegError as error:
            missing.append(f"memory by size on {name}: not measured, {error}")
            continue
        for row, peak in zip(mine, found["scans"], strict=True):
            row["rise MiB"] = peak["rise MiB"]


def _measure_batches(segmenters: dict[str, Segmenter], options: BenchOptions) -> list[dict[str, Cell]]:
    """A row per number of LiDARs and provider."""
    rows: list[dict[str, Cell]] = []
    for count in QUICK_LIDARS if options.quick else LIDARS:
        options.say(f"  {count} LiDARs")
        clouds = [scan_street(SpinningLidar(32, 1140, origin=mount), seed=0) for mount in MOUNTS[:count]]
        merged = merge_clouds(clouds)
        for name, segmenter in segmenters.items():
            times = take_turns(
                {
                    "merged": timed(partial(segmenter.segment, merged)),
                    "in turn": _one_by_one(segmenter, clouds),
                },
                options.rounds,
            )
            rows.append(
                {
                    "LiDARs": count,
                    "points": len(merged),
                    "provider": name,
                    "merged p50 ms": median(times["merged"]),
                    "in turn p50 ms": median(times["in turn"]),
                    "in turn / merged": paired_ratio(times["in turn"], times["merged"]),
                }
            )
    return rows


def _one_by_one(segmenter: Segmenter, clouds: Sequence[PointCloud]) -> Callable[[], float]:
    return timed(lambda: [segmenter.segment(cloud) for cloud in clouds])


def merge_clouds(clouds: Sequence[PointCloud]) -> PointCloud:
    """The clouds of the LiDARs at ``MOUNTS`` as one, in the frame between them."""
    moved = [c.points + np.array([*mount, 0], np.float32) for c, mount in zip(clouds, MOUNTS, strict=False)]
    return PointCloud(np.concatenate(moved), np.concatenate([cloud.intensity for cloud in clouds]), frame_id="vehicle")
