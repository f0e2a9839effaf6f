"""Measures what AFI gains on the labels of a student, and what it costs.

    python benchmarks/afi.py [--source SPEC ...] [--scans 5] [--rounds 10] [--json afi.json]

By default on four synthetic drives that no student learns from; ``--source`` adds anything that ``python -m training``
reads. Released and default settings take turns round by round; times are medians of all rounds but the first. AFI runs
on one thread; its processor time tells what the wall time would be if nothing else ran.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ov_seg_ros.core.data_types import Sample
from ov_seg_ros.core.label_space import LabelSpace
from ov_seg_ros.core.metrics import ConfusionMatrix
from ov_seg_ros.refinement.afi import refine_afi
from ov_seg_ros.refinement.afi_config import AfiConfig
from ov_seg_ros.runtime.model_file import shipped_model_path
from ov_seg_ros.runtime.segmenter import Segmenter
from training.sources.resolve import open_source
from training.sources.synthetic import HELD_OUT_SEEDS

HELD_OUT = tuple(
    f"synthetic:seed={seed},lidar={lidar},scans=30,stride=8,cameras="
    for lidar, seeds in HELD_OUT_SEEDS.items()
    for seed in seeds
)
CONFIGS = {"released": AfiConfig.released(), "default": AfiConfig.default()}


@dataclass(frozen=True)
class Labelled:
    """Some scans of one source with the labels of the student, and the settings for its sensor by name."""

    name: str
    samples: list[Sample]
    labels: list[NDArray[np.uint8]]
    configs: dict[str, AfiConfig]


def label(spec: str, segmenter: Segmenter, scans: int) -> Labelled:
    """Reads scans spread over a source and labels them."""
    source = open_source(spec)
    samples = [source.load_sample(int(i)) for i in np.unique(np.linspace(0, len(source) - 1, scans).astype(int))]
    base_from_lidar = getattr(source, "base_from_lidar", None)
    height = AfiConfig.sensor_height if base_from_lidar is None else float(base_from_lidar[2, 3])
    configs = {name: replace(config, sensor_height=height) for name, config in CONFIGS.items()}
    return Labelled(source.name, samples, [segmenter.segment(s.cloud).class_id for s in samples], configs)


def score(data: Labelled, space: LabelSpace) -> dict[str, dict[str, Any]]:
    """Per method mIoU, point accuracy and share of changed labels in percent; nothing without ground truth."""
    result = {}
    for name in ("student", *CONFIGS):
        matrix, changed, points = ConfusionMatrix(len(space)), 0, 0
        for sample, labels in zip(data.samples, data.labels, strict=True):
            if sample.class_id is None:
                continue
            config = data.configs.get(name)
            refined = labels if config is None else refine_afi(sample.cloud.points, labels, space, config)
            matrix.update(sample.class_id, refined)
            changed, points = changed + int((refined != labels).sum()), points + len(labels)
        if matrix.points:
            iou = {c: v for c, v in matrix.to_dict(space.class_names)["iou"].items() if v is not None}
            accuracy = float(np.diagonal(matrix.counts).sum() / matrix.points)
            result[name] = {
                "miou": 100 * matrix.miou(),
                "accuracy": 100 * accuracy,
                "changed": 100 * changed / points,
                "iou": {c: 100 * v for c, v in iou.items()},
            }
    return result


def measure(data: Labelled, space: LabelSpace, rounds: int) -> dict[str, dict[str, float]]:
    """Median milliseconds per configuration on the first scan: wall and processor time."""
    points, labels = data.samples[0].cloud.points, data.labels[0]
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in CONFIGS}
    for _ in range(rounds + 1):
        for name, config in data.configs.items():
            start = time.perf_counter(), time.process_time()
            refine_afi(points, labels, space, config)
            times[name].append((time.perf_counter() - start[0], time.process_time() - start[1]))
    medians = {name: 1000 * np.median(samples[1:], axis=0) for name, samples in times.items()}
    return {name: {"wall": float(wall), "cpu": float(cpu)} for name, (wall, cpu) in medians.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table and writes the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, help="default: the shipped student")
    parser.add_argument("--source", action="append", default=[], help="another source in the student's classes")
    parser.add_argument("--scans", type=int, default=5, help="per source")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    segmenter = Segmenter.load(options.model or shipped_model_path(), "cpu")
    space = segmenter.description.label_space
    rows = []
    columns = f"{'mIoU':>7} {'accuracy':>9} {'changed':>8} {'wall ms':>8} {'cpu ms':>7}"
    print(f"{'source':24} {'labels':9} {'points':>7} {columns}")
    for spec in (*HELD_OUT, *options.source):
        data = label(spec, segmenter, options.scans)
        scores, milliseconds = score(data, space), measure(data, space, options.rounds)
        points = len(data.labels[0])
        for name in ("student", *CONFIGS):
            values = scores.get(name, {})
            cells = "".join(
                f" {values.get(k, np.nan):{w}.2f}" for k, w in (("miou", 7), ("accuracy", 9), ("changed", 8))
            )
            took = milliseconds.get(name, {"wall": np.nan, "cpu": np.nan})
            print(f"{data.name:24} {name:9} {points:7}{cells} {took['wall']:8.0f} {took['cpu']:7.0f}")
        rows.append({"source": data.name, "points": points, "ms": milliseconds, "scores": scores})
    if options.json:
        about = {"machine": platform.processor() or platform.machine(), "cores": os.cpu_count(), "threads": 1}
        about |= {"scans": options.scans, "rounds": options.rounds, "model_sha256": segmenter.sha256}
        about |= {"load": os.getloadavg()[0]}
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
