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

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.peers.case import MODEL
from benchmarks.peers.case_maker import make_case
from benchmarks.peers.ranking import VOXEL_SIZES
from ov_seg_ros.bench.engines import load_engines
from ov_seg_ros.bench.rounds import take_turns
from ov_seg_ros.bench.scans import BenchScan
from ov_seg_ros.bench.section import BenchOptions, Section, Table
from ov_seg_ros.bench.spread import paired_ratio, summarize
from ov_seg_ros.bench.stages import LABELS, stage_rows, staged
from ov_seg_ros.commands.bench import run_contest
from training.student.minkunet import NETWORKS

CONTENDERS, QUICK_CONTENDERS = ("small", "minkunet18", "minkunet34c"), ("small",)
Times = dict[tuple[str, str], list[dict[str, float]]]


def contest(options: BenchOptions) -> Section:
    """Times all networks on all providers, in turns."""
    names = QUICK_CONTENDERS if options.quick else CONTENDERS
    tables, missing, measures = [], {}, {}
    for scan in {scan.beams: scan for scan in options.scans}.values():
        times, absent = measure(scan, names, options)
        missing |= dict.fromkeys(absent)
        measures |= gpu_figures(scan.beams, times)
        rows = stage_rows({f"{name}, {provider}": times[name, provider] for name, provider in times}, "network")
        tables.append(
            Table(f"{scan.name} beams: {len(scan):,} points, voxels of {VOXEL_SIZES[scan.beams]} m, fp32", rows)
        )
    missing["SPVCNN: not measured, there is no such network here yet"] = None
    missing["fp16, bf16 and int8: not measured, students are exported in fp32"] = None
    return Section(
        name="networks",
        title=f"{LABELS}, networks and providers taking turns, p50 ms of the stages",
        tables=tuple(tables),
        measures=measures,
        missing=tuple(missing),
    )


def measure(scan: BenchScan, names: Sequence[str], options: BenchOptions) -> tuple[Times, tuple[str, ...]]:
    """Milliseconds by stage of every network and provider in every round, and which providers did not start."""
    contenders, missing = {}, {}
    for name in names:
        options.say(f"  {name}, {scan.name} beams")
        folder = options.scratch / f"{scan.beams}_{name}"
        make_case(folder, name, NETWORKS[name], scan.cloud, VOXEL_SIZES[scan.beams], scan.name)
        engines = load_engines(replace(options, model=folder / MODEL))
        missing |= dict.fromkeys(engines.missing)
        contenders |= {(name, provider): staged(s, scan) for provider, s in engines.segmenters.items()}
    return take_turns(contenders, options.rounds), tuple(missing)


def gpu_figures(beams: int, times: Times) -> dict[str, float]:
    """What goals for a GPU are judged by, if there is one; in fp32, slower than the fp16 they are meant for."""
    found: dict[str, float] = {}
    for_18, for_34c = times.get(("minkunet18", "cuda")), times.get(("minkunet34c", "cuda"))
    if for_18:
        found[f"gpu_{beams}_p99_ms"] = summarize([row[LABELS] for row in for_18])["p99 ms"]
    if for_18 and for_34c:
        found["gpu_34c_ratio"] = paired_ratio([row[LABELS] for row in for_34c], [row[LABELS] for row in for_18])
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the tables and writes the JSON."""
    run_contest(contest, __doc__, arguments)


if __name__ == "__main__":
    main()
