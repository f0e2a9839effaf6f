"""Measures networks of the literature from the bytes of a scan to labels, on every provider at hand.

    python benchmarks/networks.py [MODEL] [--scans SOURCE ...] [--rounds N] [--json FILE]

The networks have random weights, so labels mean nothing and times are right. Scans of 32 beams have voxels of 0.1 m,
those of 64 beams 0.05 m.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ov_seg_ros.bench.engines import load_engines
from ov_seg_ros.bench.rounds import take_turns
from ov_seg_ros.bench.scans import BenchScan
from ov_seg_ros.bench.section import BenchOptions, Cell, Section, Table
from ov_seg_ros.bench.stages import LABELS, stage_rows, staged
from ov_seg_ros.commands.bench import run_contest
from ov_seg_ros.core.label_space import LabelSpace
from ov_seg_ros.core.point_features import GEOMETRY
from ov_seg_ros.core.student_description import StudentDescription
from ov_seg_ros.core.voxels import VoxelGrid
from training.export import export_student
from training.student.minkunet import NETWORKS, MinkUNet

CONTENDERS, QUICK_CONTENDERS = ("small", "minkunet18", "minkunet34c"), ("small",)
MOST_ROUNDS = 5
VOXEL_SIZES = {32: 0.1, 64: 0.05}
"""Metres, by beams."""
RANGE_MIN, RANGE_MAX, NUM_CLASSES = (-120.0, -120.0, -30.0), (120.0, 120.0, 30.0), 16
Times = dict[tuple[str, str], list[dict[str, float]]]


def contest(options: BenchOptions) -> Section:
    """Times all networks on all providers, in turns."""
    names = QUICK_CONTENDERS if options.quick else CONTENDERS
    tables, missing = [], {}
    for scan in {scan.beams: scan for scan in options.scans}.values():
        times, absent = measure(scan, names, options)
        missing |= dict.fromkeys(absent)
        rows = tuple(row for name in names for row in network_rows(name, times))
        tables.append(Table(f"{scan.name} beams: {len(scan):,} points, voxels of {VOXEL_SIZES[scan.beams]} m", rows))
    missing["SPVCNN: not measured, there is no such network here yet"] = None
    return Section(
        name="networks",
        title=f"{LABELS}, networks and providers taking turns, p50 ms of the stages; float32, triton float16",
        tables=tuple(tables),
        missing=tuple(missing),
    )


def measure(scan: BenchScan, names: Sequence[str], options: BenchOptions) -> tuple[Times, tuple[str, ...]]:
    """Milliseconds by stage of every network and provider in every round, and which providers did not start."""
    contenders, missing = {}, {}
    for name in names:
        options.say(f"  {name}, {scan.name} beams")
        path = options.scratch / f"{name}_{scan.beams}.onnx"
        write_student(name, VOXEL_SIZES[scan.beams], path)
        engines = load_engines(replace(options, model=path))
        missing |= dict.fromkeys(engines.missing)
        contenders |= {(name, provider): staged(s, scan) for provider, s in engines.segmenters.items()}
    return take_turns(contenders, min(options.rounds, MOST_ROUNDS)), tuple(missing)


def network_rows(name: str, times: Times) -> list[dict[str, Cell]]:
    """A row per provider of one network, compared with the first of them."""
    mine = {provider: rows for (network, provider), rows in times.items() if network == name}
    return [{"network": name, **row} for row in stage_rows(mine, "provider")]


def write_student(name: str, voxel_size: float, path: Path) -> None:
    """Exports a network of ``NETWORKS`` with seeded random weights."""
    config = NETWORKS[name]
    grid = VoxelGrid("cartesian", (voxel_size,) * 3, RANGE_MIN, RANGE_MAX)
    space = LabelSpace(name, tuple(f"class {i}" for i in range(NUM_CLASSES)), ((128, 128, 128),) * NUM_CLASSES)
    torch.manual_seed(0)
    network = MinkUNet(config, len(GEOMETRY), NUM_CLASSES).eval()
    export_student(network, StudentDescription(name, space, grid, GEOMETRY, config.num_levels), path)


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the tables and writes the JSON."""
    run_contest(contest, __doc__, arguments)


if __name__ == "__main__":
    main()
