"""Voxels, kernel maps, features and classes of scans: ours against plain constructions and other libraries.

    python benchmarks/maps.py [MODEL] [--scans SOURCE ...] [--rounds N] [--quick] [--json FILE]

Everything that happens around the network on the CPU, one step at a time, each contender once per round and in turns.
All run on one thread. Maps have five levels. Before anything is timed, ours is compared with the plain construction on
clouds of every kind and on the scans; "unequal" counts those where any value of any array differs.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import maps_references as plain
from benchmarks.maps_clouds import CARTESIAN, CYLINDRICAL, Cloud, hard_clouds, large_cloud
from ov_seg_ros.bench.rounds import take_turns, timed
from ov_seg_ros.bench.scans import BEAMS
from ov_seg_ros.bench.section import BenchOptions, Cell, Section, Table
from ov_seg_ros.bench.spread import median, paired_ratio, summarize
from ov_seg_ros.bench.street import scan_of_size
from ov_seg_ros.core.class_distribution import classify_logits, spread_to_points
from ov_seg_ros.core.data_types import PointCloud
from ov_seg_ros.core.point_features import GEOMETRY, voxel_features
from ov_seg_ros.core.pyramid import build_pyramid
from ov_seg_ros.core.voxels import VoxelGrid

OURS, PLAIN = "ours", "NumPy"
STEPS = ("voxels", "maps", "voxels + maps", "features", "classes")
LEVELS, CLASSES = 5, 16
POINTS = (1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000, 2_000_000)
QUICK_POINTS = (1_000, 10_000, 100_000)
SCALING_ROUNDS = 5
GRIDS = {
    "0.1 m": CARTESIAN,
    "0.05 m": VoxelGrid("cartesian", (0.05, 0.05, 0.05), CARTESIAN.range_min, CARTESIAN.range_max),
    "cylindrical 0.1 m": CYLINDRICAL,
}
QUICK_GRIDS = ("0.1 m", "0.05 m")

Contenders: TypeAlias = dict[str, Callable[[], object]]
Samples: TypeAlias = dict[tuple[str, str], list[float]]


@dataclass(frozen=True)
class Case:
    """One scan in one grid.

    Attributes:
        scan: its name.
        beams: 32 or 64.
        grid_name: key of GRIDS.
        cloud: the points.
    """

    scan: str
    beams: int
    grid_name: str
    cloud: PointCloud

    @property
    def grid(self) -> VoxelGrid:
        """The grid."""
        return GRIDS[self.grid_name]


def contest(options: BenchOptions) -> Section:
    """The section "maps" of the suite."""
    chosen = QUICK_GRIDS if options.quick else tuple(GRIDS)
    cases = [Case(s.name, s.beams, name, s.cloud) for s in options.scans for name in chosen]
    options.say("maps: comparing with the plain construction ...")
    unequal, compared = compare_all(cases, large=not options.quick)
    others, missing = other_libraries()
    tables, measured = [], []
    with one_torch_thread():
        for case in cases:
            options.say(f"maps: {case.scan}, voxels of {case.grid_name} ...")
            samples = time_steps(case, others, options.rounds)
            tables.append(Table(title_of(case), tuple(rows_of(samples))))
            measured.append((case, samples))
    options.say("maps: from small to large clouds ...")
    sizes = QUICK_POINTS if options.quick else POINTS
    growth = [scaling_row(size, min(options.rounds, SCALING_ROUNDS)) for size in sizes]
    tables.append(Table("points, voxels of 0.1 m; p50 ms", tuple(growth)))
    return Section(
        name="maps",
        title="Voxels, kernel maps, features and classes, one thread",
        tables=tuple(tables),
        measures=goal_measures(measured) | {"maps_unequal": float(len(unequal))},
        missing=tuple(missing),
        notes=(
            f"ours equals the plain construction bit for bit on {compared - len(unequal)} of {compared} clouds"
            + (f"; it differs on {', '.join(unequal)}" if unequal else ""),
            "x ours: how many times as long as ours, the median of the ratios of each round",
            f"maps: pairs of 13 offsets on {LEVELS} levels and families on {LEVELS - 1} strides; torch only looks up"
            " the 26 neighbours of each voxel; spconv builds its own pairs from hash tables, strides included",
            f"classes: of {CLASSES} logits per voxel, and their spreading to the points",
        ),
        details={"samples_ms": {title_of(c): {f"{s}: {w}": v for (s, w), v in x.items()} for c, x in measured}},
    )


def compare_all(cases: Sequence[Case], large: bool) -> tuple[list[str], int]:
    """Names of the clouds on which ours differs from the plain construction, and the number of clouds."""
    clouds = [*hard_clouds(), *(Cloud(title_of(case), case.grid, case.cloud.points) for case in cases)]
    clouds += [large_cloud()] if large else []
    return [cloud.name for cloud in clouds if differs(cloud)], len(clouds)


def differs(cloud: Cloud) -> bool:
    """Whether any array of voxels or maps differs."""
    found, expected = cloud.grid.voxelize(cloud.points), plain.voxelize(cloud.grid, cloud.points)
    if not plain.same(found.coords, expected.coords) or not plain.same(found.point_to_voxel, expected.point_to_voxel):
        return True
    return bool(plain.differences(build_pyramid(found.coords, LEVELS), plain.build_pyramid(expected.coords, LEVELS)))


def other_libraries() -> tuple[tuple[str, ...], list[str]]:
    """Libraries that can be measured, and what is missing."""
    missing = [
        f"{name}: not measured, it is not installed: pip install {name}"
        for name in ("torch", "spconv")
        if importlib.util.find_spec(name) is None
    ]
    return tuple(n for n in ("torch", "spconv") if not any(line.startswith(n) for line in missing)), missing


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Torch on one thread, if it is installed: spconv is wrong on more, and ours takes one."""
    if importlib.util.find_spec("torch") is None:
        yield
        return
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def time_steps(case: Case, others: Sequence[str], rounds: int) -> Samples:
    """Milliseconds of every round, by step and contender."""
    turns = {
        (step, who): timed(work)
        for step, contenders in steps_of(case, others).items()
        for who, work in contenders.items()
    }
    return take_turns(turns, rounds)


def steps_of(case: Case, others: Sequence[str]) -> dict[str, Contenders]:
    """The contenders of every step."""
    grid, cloud = case.grid, case.cloud
    voxels = grid.voxelize(cloud.points)
    pyramid = build_pyramid(voxels.coords, LEVELS)
    logits = np.random.default_rng(0).normal(0, 3, (len(voxels), CLASSES)).astype(np.float32)
    maps: Contenders = {
        OURS: partial(build_pyramid, voxels.coords, LEVELS),
        PLAIN: partial(plain.build_pyramid, voxels.coords, LEVELS),
    }
    if "torch" in others:
        maps["torch searchsorted"] = partial(plain.torch_tables, pyramid)
    if "spconv" in others:
        maps["spconv"] = partial(plain.spconv_maps, voxels.coords, LEVELS)
    return {
        "voxels": {OURS: partial(grid.voxelize, cloud.points), PLAIN: partial(plain.voxelize, grid, cloud.points)},
        "maps": maps,
        "voxels + maps": {OURS: partial(_ours, grid, cloud), PLAIN: partial(_plain, grid, cloud)},
        "features": {
            OURS: partial(voxel_features, cloud, voxels, grid, GEOMETRY),
            PLAIN: partial(plain.geometry, cloud, voxels, grid),
        },
        "classes": {
            OURS: lambda: spread_to_points(classify_logits(logits), voxels.point_to_voxel),
            PLAIN: lambda: plain.spread(plain.classify(logits), voxels.point_to_voxel),
        },
    }


def _ours(grid: VoxelGrid, cloud: PointCloud) -> object:
    return build_pyramid(grid.voxelize(cloud.points).coords, LEVELS)


def _plain(grid: VoxelGrid, cloud: PointCloud) -> object:
    return plain.build_pyramid(plain.voxelize(grid, cloud.points).coords, LEVELS)


def rows_of(samples: Samples) -> list[dict[str, Cell]]:
    """One row per step and contender."""
    return [
        {"step": step, "by": who, **summarize(ms), "x ours": paired_ratio(ms, samples[step, OURS])}
        for (step, who), ms in samples.items()
    ]


def scaling_row(size: int, rounds: int) -> dict[str, Cell]:
    """Ours and plain on a cloud of so many points."""
    cloud = scan_of_size(size)
    turns = {
        OURS: timed(partial(_ours, CARTESIAN, cloud)),
        PLAIN: timed(partial(_plain, CARTESIAN, cloud)),
    }
    samples = take_turns(turns, rounds)
    row: dict[str, Cell] = {"points": f"{size:,}", "voxels": len(CARTESIAN.voxelize(cloud.points))}
    row |= {f"voxels + maps, {who}": median(ms) for who, ms in samples.items()}
    row["ns / point"] = 1e6 * median(samples[OURS]) / size
    return row | {f"{PLAIN} / ours": paired_ratio(samples[PLAIN], samples[OURS])}


def goal_measures(measured: Sequence[tuple[Case, Samples]]) -> dict[str, float]:
    """Median of voxels + maps per number of beams: of the slowest scan and grid."""
    found: dict[str, float] = {}
    for beams in BEAMS:
        medians = [median(samples["voxels + maps", OURS]) for case, samples in measured if case.beams == beams]
        if medians:
            found[f"maps_{beams}_ms"] = max(medians)
    return found


def title_of(case: Case) -> str:
    """Scan and grid, for tables."""
    return f"{case.scan}, voxels of {case.grid_name}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, prints the tables and writes the JSON."""
    from ov_seg_ros.commands.bench import run_contest

    run_contest(contest, __doc__, arguments)


if __name__ == "__main__":
    main()
