"""Measures the stages of the segmenter on scans of 32 and 64 beams.

    python benchmarks/segmenter.py [--model student.onnx] [--threads 0] [--rounds 20] [--json segmenter.json]

The scans are synthetic, so everyone measures the same ones. Models and scans take turns round by round; the table holds
medians and 90th percentiles of all rounds but the first.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ov_seg_ros.core.data_types import PointCloud
from ov_seg_ros.runtime.model_file import shipped_model_path
from ov_seg_ros.runtime.segmenter import Segmenter
from training.sources.synthetic import HELD_OUT_SEEDS, DriveConfig, SyntheticDrive

STAGES = ("voxels", "features", "pyramid", "inference", "postprocess", "total")


def load_scans() -> dict[str, PointCloud]:
    """One scan per LiDAR, of drives that no recipe trains on."""
    scans = {}
    for lidar, seeds in HELD_OUT_SEEDS.items():
        drive = SyntheticDrive(DriveConfig(seeds[0], lidar, num_scans=1, cameras=()))
        scans[lidar] = drive.load_sample(0, with_images=False).cloud
    return scans


def measure(segmenter: Segmenter, scans: dict[str, PointCloud], rounds: int) -> dict[str, dict[str, dict[str, float]]]:
    """Per LiDAR and stage: median and p90 in milliseconds."""
    times: dict[str, list[dict[str, float]]] = {lidar: [] for lidar in scans}
    for _ in range(rounds + 1):
        for lidar, cloud in scans.items():
            times[lidar].append(dict(segmenter.segment(cloud).stage_ms))
    return {
        lidar: {stage: _summary([row[stage] for row in rows[1:]]) for stage in STAGES} for lidar, rows in times.items()
    }


def _summary(samples: list[float]) -> dict[str, float]:
    median, p90 = np.percentile(samples, (50, 90))
    return {"p50": float(median), "p90": float(p90)}


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table and writes the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, help="default: the shipped student")
    parser.add_argument("--provider", default="cpu")
    parser.add_argument("--threads", type=int, default=0, help="0 = one per physical core")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    segmenter = Segmenter.load(options.model or shipped_model_path(), options.provider, options.threads)
    scans = load_scans()
    result = measure(segmenter, scans, options.rounds)
    print(f"{'p50 / p90 ms':12} {'points':>8}", *(f"{stage:>15}" for stage in STAGES))
    for lidar, stages in result.items():
        cells = (f"{stages[s]['p50']:7.1f} /{stages[s]['p90']:6.1f}" for s in STAGES)
        print(f"{lidar:12} {len(scans[lidar]):8}", *cells)
    if options.json:
        about = {
            "machine": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "rounds": options.rounds,
        }
        about |= {"provider": segmenter.provider, "model_sha256": segmenter.sha256, "load": os.getloadavg()[0]}
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps({**about, "ms": result}, indent=1) + "\n")


if __name__ == "__main__":
    main()
