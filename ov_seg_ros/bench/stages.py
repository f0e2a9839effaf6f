"""From the bytes of a PointCloud2 to labels: every stage, for every provider at hand."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np

from ov_seg_ros.bench.engines import load_engines
from ov_seg_ros.bench.rounds import take_turns
from ov_seg_ros.bench.scans import BenchScan
from ov_seg_ros.bench.section import BenchOptions, Cell, Section, Table
from ov_seg_ros.bench.spread import median, paired_ratio, summarize
from ov_seg_ros.messages.pointcloud2 import decode_pointcloud2, encode_segmentation
from ov_seg_ros.runtime.segmenter import Segmenter

PARTS = ("decode", "voxels", "features", "pyramid", "inference", "postprocess", "encode")
LABELS, ROUND_TRIP = "bytes to labels", "bytes to bytes"


def contest(options: BenchOptions) -> Section:
    """Times the stages; providers and scans take turns."""
    engines = load_engines(options)
    contenders = {
        (scan.name, name): staged(segmenter, scan)
        for scan in options.scans
        for name, segmenter in engines.segmenters.items()
    }
    times = take_turns(contenders, options.rounds)
    grid = next(iter(engines.segmenters.values())).description.grid
    tables = []
    for scan in options.scans:
        voxels = len(grid.voxelize(scan.cloud.points))
        title = f"{scan.name} beams: {len(scan):,} points, {voxels:,} voxels; {LABELS}, and p50 ms of its stages"
        rows = {name: times[scan.name, name] for name in engines.segmenters}
        tables.append(Table(title, stage_rows(rows, "provider")))
    names = {name: segmenter.provider for name, segmenter in engines.segmenters.items()}
    return Section(
        name="stages",
        title=f"{LABELS}, {options.rounds} rounds, scans and providers taking turns",
        tables=tuple(tables),
        missing=engines.missing,
        details={"providers": names, "samples": {f"{scan}, {name}": rows for (scan, name), rows in times.items()}},
    )


def stage_rows(times: Mapping[str, list[dict[str, float]]], column: str) -> tuple[dict[str, Cell], ...]:
    """A row per contender: percentiles of the whole, medians of the stages, and its ratio to the first contender.

    Args:
        times: per contender, milliseconds by stage in every round.
        column: what the contenders are.
    """
    first, *_ = times
    reference = [row[LABELS] for row in times[first]]
    return tuple(
        {column: name, **_cells(rows), f"x {first}": paired_ratio([row[LABELS] for row in rows], reference)}
        for name, rows in times.items()
    )


def staged(segmenter: Segmenter, scan: BenchScan) -> Callable[[], dict[str, float]]:
    """A contender that labels ``scan`` once and returns milliseconds by stage."""

    def measure() -> dict[str, float]:
        begin = time.perf_counter_ns()
        decoded = decode_pointcloud2(scan.message)
        received = time.perf_counter_ns()
        segmented = segmenter.segment(decoded.cloud)
        labelled = time.perf_counter_ns()
        encode_segmentation(decoded, segmented, overwrite=True)
        end = time.perf_counter_ns()
        return {
            **segmented.stage_ms,
            "decode": (received - begin) * 1e-6,
            "encode": (end - labelled) * 1e-6,
            LABELS: (labelled - begin) * 1e-6,
            ROUND_TRIP: (end - begin) * 1e-6,
        }

    return measure


def _cells(rows: list[dict[str, float]]) -> dict[str, Cell]:
    """Percentiles of the whole, medians of the parts."""
    parts: dict[str, Cell] = {part: median([row[part] for row in rows if part in row] or [np.nan]) for part in PARTS}
    return {**summarize([row[LABELS] for row in rows]), **parts}
