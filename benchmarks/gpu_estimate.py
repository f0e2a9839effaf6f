"""Estimates, without a GPU, how long the student's networks take on one, from multiply-adds and bytes of real scans.

    python benchmarks/gpu_estimate.py [--scans SOURCE ...] [--json FILE]

Nothing is measured but the counts. "At best" every array moves once per layer and the GPU reaches its data sheet; "at
worst" every gathered row comes from memory, products reach half the data sheet and every layer waits for its launch.
All of it in float16, maps and labels not included. Data sheets: dense float16 products, clocks of the highest mode.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.peers.case_maker import WHOLE_SCANS, fold
from benchmarks.peers.ranking import VOXEL_SIZES
from benchmarks.peers.workload import Workload, count_work, shapes_of
from benchmarks.suite import real_scans
from ov_seg_ros.bench.scans import BenchScan, load_scans
from ov_seg_ros.bench.section import Cell, Section, Table, section_to_dict
from ov_seg_ros.bench.text_tables import format_section
from ov_seg_ros.core.point_features import GEOMETRY
from ov_seg_ros.core.pyramid import build_pyramid
from ov_seg_ros.core.voxels import VoxelGrid
from ov_seg_ros.runtime.model_file import load_model_file, shipped_model_path
from training.student.minkunet import NETWORKS, MinkUNet

HALF_OF_FLOAT = 0.5
"""``Workload`` counts bytes of float32."""
REACHED = 0.5
"""Share of the data sheet's products that is reached at worst."""
LAUNCH_US = 10.0
"""What a launch costs at worst, microseconds."""
NUM_CLASSES = 17


@dataclass(frozen=True)
class Gpu:
    """A data sheet.

    Attributes:
        name: of the module.
        tflops: dense float16 products, 1e12 operations per second.
        gb_per_s: memory bandwidth, 1e9 bytes per second.
    """

    name: str
    tflops: float
    gb_per_s: float


GPUS = (
    Gpu("Jetson Orin Nano 8GB (MAXN Super)", 16.7, 102.4),
    Gpu("Jetson Orin NX 16GB", 15.0, 102.4),
    Gpu("Jetson AGX Orin 64GB", 42.5, 204.8),
    Gpu("H100 SXM", 989.0, 3350.0),
)
"""Jetson: 2,048 operations per multiprocessor and clock, 8 of them at 1.02 and 0.918 GHz, 16 at 1.3 GHz."""


def best_ms(work: Workload, gpu: Gpu) -> float:
    """Products or bytes, whichever takes longer, at the speed of the data sheet."""
    products_s = 2 * work.macs / (gpu.tflops * 1e12)
    return 1e3 * max(products_s, HALF_OF_FLOAT * work.bytes / (gpu.gb_per_s * 1e9))


def worst_ms(work: Workload, gpu: Gpu) -> float:
    """Layer after layer, with every gathered row read from memory."""
    seconds = len(work.layers) * LAUNCH_US * 1e-6
    for layer in work.layers:
        gathered = 2 * sum(layer.rows) * layer.c_in
        moved = gathered + 2 * layer.rows_out * layer.c_out
        seconds += max(2 * layer.macs / (REACHED * gpu.tflops * 1e12), moved / (gpu.gb_per_s * 1e9))
    return 1e3 * seconds


def count(network: str, scan: BenchScan) -> Workload:
    """The work of a network on a scan; "student" is the shipped one on its own grid."""
    config = NETWORKS["small" if network == "student" else network]
    shapes = shapes_of(
        {name: pair["weight"] for name, pair in fold(MinkUNet(config, len(GEOMETRY), NUM_CLASSES)).items()}
    )
    grid = VoxelGrid("cartesian", (VOXEL_SIZES[scan.beams],) * 3, *WHOLE_SCANS)
    if network == "student":
        grid = load_model_file(shipped_model_path()).description.grid
    return count_work(shapes, build_pyramid(grid.voxelize(scan.cloud.points).coords, config.num_levels))


def estimate(scans: Sequence[BenchScan]) -> Section:
    """A row per network and scan, a column per GPU."""
    rows: list[dict[str, Cell]] = []
    for network in ("student", "minkunet18", "minkunet34c"):
        for scan in scans:
            work = count(network, scan)
            row: dict[str, Cell] = {"network": network, "scan": scan.name, "GMAC": work.macs / 1e9}
            row["MB"] = HALF_OF_FLOAT * work.bytes / 1e6
            row |= {gpu.name: f"{best_ms(work, gpu):.2f} to {worst_ms(work, gpu):.1f}" for gpu in GPUS}
            rows.append(row)
    return Section(
        name="gpu_estimate",
        title="ESTIMATES of a forward pass in float16, milliseconds, at best to at worst; no GPU was measured",
        tables=(Table("multiply-adds of true neighbours; bytes that move at least", tuple(rows)),),
        details={"gpus": [asdict(gpu) for gpu in GPUS], "reached": REACHED, "launch_us": LAUNCH_US},
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table and writes the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", nargs="+", default=real_scans(), help="folders, files, recordings, or 'synthetic'")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args(arguments)
    scans = {scan.beams: scan for scan in load_scans(options.scans) if scan.beams in VOXEL_SIZES}
    section = estimate(tuple(scans.values()))
    print(format_section(section))
    if options.json:
        options.json.write_text(json.dumps(section_to_dict(section), indent=1) + "\n")


if __name__ == "__main__":
    main()
