"""Measures forward passes and training steps of the student's networks under every sparse backend at hand.

    python benchmarks/training_backends.py [--networks small minkunet18] [--backends tables torchsparse spconv]
        [--scan scan.bin --columns 4] [--copies 2] [--precision fp32] [--threads 1] [--rounds 7] [--json backends.json]

One batch of ``--copies`` of a scan, by default a synthetic one. Backends take turns round by round; the table holds
medians of all rounds but the first. A step is a forward pass, the cross-entropy of random labels and the backward
pass. Every pass gets new tables, as in training, so a backend pays for the maps it derives from them. A backend has no
figure where it leaves the work to the default one, as spconv does on the CPU: always above one thread, and in the
backward pass unless torch has CUDA.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ov_seg_ros.bench.rounds import take_turns, timed
from ov_seg_ros.bench.section import BenchOptions, Cell, Section, Table
from ov_seg_ros.bench.spread import median, paired_ratio
from ov_seg_ros.core.data_types import PointCloud
from ov_seg_ros.core.errors import ConfigError, MissingDependencyError
from ov_seg_ros.core.point_features import GEOMETRY
from ov_seg_ros.core.pyramid import Pyramid, build_pyramid
from ov_seg_ros.core.voxels import VoxelGrid
from training.sources.point_files import load_point_file
from training.sources.synthetic import HELD_OUT_SEEDS, DriveConfig, SyntheticDrive
from training.student.augmentation import AugmentationConfig
from training.student.examples import LabelledScan
from training.student.label_objective import LabelledScans
from training.student.minkunet import NETWORKS, MinkUNet
from training.student.sparse_backends import BACKENDS, load_backend, use_backend
from training.student.sparse_layers import Tables
from training.student.trainer import PRECISIONS

IN_CHANNELS, NUM_CLASSES = 8, 16
RANGE_MIN, RANGE_MAX = (-51.2, -51.2, -5.0), (51.2, 51.2, 3.0)
PASSES = ("forward", "step")
VOXEL_SIZE = 0.1
OURS, LIBRARIES = "auto", ("torchsparse", "spconv")
"""What a training uses by itself, and whom it is compared with."""
SUITE_NETWORKS = ("small", "minkunet18")


def load_coords(options: argparse.Namespace) -> NDArray[np.int32]:
    """Cells of the copies of the scan, far enough apart."""
    if options.scan is None:
        drive = SyntheticDrive(DriveConfig(HELD_OUT_SEEDS["spinning32"][0], "spinning32", num_scans=1, cameras=()))
        points = drive.load_sample(0, with_images=False).cloud.points
    else:
        points = load_point_file(options.scan, options.columns)[:, :3]
    return batch_coords(points, options.voxel_size, options.copies)


def batch_coords(points: NDArray[np.float32], voxel_size: float, copies: int) -> NDArray[np.int32]:
    """Cells of ``copies`` of a scan (N, 3), far enough apart."""
    size = (voxel_size, voxel_size, voxel_size)
    cells = VoxelGrid("cartesian", size, RANGE_MIN, RANGE_MAX).voxelize(points).coords
    step = np.array([cells[:, 0].max() // 32 * 32 + 64, 0, 0], np.int32)
    return np.concatenate([cells + i * step for i in range(copies)])


def available(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """The backends that load, and why others do not."""
    found, missing = [], []
    for name in names:
        try:
            load_backend(name)
            found.append(name)
        except (ConfigError, MissingDependencyError) as error:
            missing.append(f"{name}: not measured, {error}")
    return found, missing


class Contest:
    """One network on one batch, under any backend."""

    def __init__(self, network: str, pyramid: Pyramid, device: torch.device, precision: str) -> None:
        torch.manual_seed(0)
        self.network = MinkUNet(NETWORKS[network], IN_CHANNELS, NUM_CLASSES).to(device)
        self.pyramid, self.device, self.dtype = pyramid, device, PRECISIONS[precision]
        voxels = len(pyramid.levels[0])
        self.features = torch.randn(voxels, IN_CHANNELS, device=device)
        self.label = torch.randint(NUM_CLASSES, (voxels,), device=device)

    def time_pass(self, backend: str, kind: str) -> float | None:
        """Milliseconds of one pass; None where the backend left it to the default one."""
        use_backend(self.network, backend)
        self.network.train(kind == "step").zero_grad()
        tables = Tables.from_pyramid(self.pyramid, self.device)
        self._wait()
        begin = time.perf_counter()
        with torch.set_grad_enabled(kind == "step"):
            with nullcontext() if self.dtype is None else torch.autocast(self.device.type, self.dtype):
                logits = self.network(self.features, tables)
                loss = nn.functional.cross_entropy(logits, self.label)
            if kind == "step":
                loss.backward()
        self._wait()
        elapsed = 1e3 * (time.perf_counter() - begin)
        # On a GPU the fastest one may be the default: then nothing is derived, and nothing was left to another one.
        return elapsed if backend in ("tables", OURS) or tables.levels[0].derived else None

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def measure(contest: Contest, backends: Sequence[str], rounds: int) -> dict[str, dict[str, float | None]]:
    """Median milliseconds by backend and kind of pass."""
    times: dict[tuple[str, str], list[float | None]] = {(b, kind): [] for b in backends for kind in PASSES}
    for _ in range(rounds + 1):
        for backend, kind in times:
            times[backend, kind].append(contest.time_pass(backend, kind))
    return {b: {kind: _median(times[b, kind][1:]) for kind in PASSES} for b in backends}


def _median(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return float(np.median(known)) if known else None


def print_table(name: str, result: dict[str, dict[str, float | None]]) -> None:
    """One line per backend, with its speed relative to the first."""
    first = next(iter(result.values()))["step"]
    for backend, row in result.items():
        forward, step = row["forward"], row["step"]
        cells = [f"{forward:12.1f}" if forward else f"{'-':>12}"]
        cells += [f"{step:9.1f}{1e3 / step:9.2f}" if step else f"{'-':>9}{'-':>9}"]
        cells += [f"{first / step:7.2f} x" if step and first else ""]
        print(f"{name:12}{backend:13}", *cells)


def about(options: argparse.Namespace, device: torch.device, pyramid: Pyramid) -> dict[str, Any]:
    """What the figures depend on."""
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "precision": options.precision,
        "voxels_by_level": [len(level) for level in pyramid.levels],
        "copies": options.copies,
        "voxel_size": options.voxel_size,
        "rounds": options.rounds,
        "load": os.getloadavg()[0],
    }


def contest(options: BenchOptions) -> Section:
    """The section of the suite: on one thread, where all libraries compute the same, or on the GPU."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    scan = next(scan for scan in options.scans if scan.beams == 32)
    copies = 1 if device.type == "cpu" else 4
    pyramid = build_pyramid(batch_coords(scan.cloud.points, VOXEL_SIZE, copies), 5)
    backends, missing = available(list(BACKENDS))
    networks = ("small",) if options.quick else SUITE_NETWORKS
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        precision = "fp32" if device.type == "cpu" else "fp16"
        tables, measures = _measure_networks(networks, pyramid, backends, device, precision, options.rounds)
        step = Contest(networks[0], pyramid, device, precision)
        load, measures["training_data_share"] = _measure_loading(step, scan.cloud, copies, options)
    finally:
        torch.set_num_threads(threads)
    if device.type == "cpu":
        missing.append("training step of spconv: not measured, its backward pass needs CUDA")
    return Section(
        name="training_backends",
        title=f"sparse layers in training, {device.type}, {precision}, one thread, {len(pyramid.levels[0]):,} voxels",
        tables=(*tables, load),
        measures=measures,
        missing=tuple(missing),
        notes=(f"x {OURS}: how many times the time of what training uses by itself, paired round by round",),
    )


def _measure_loading(step: Contest, cloud: PointCloud, copies: int, options: BenchOptions) -> tuple[Table, float]:
    """Making a batch (read, change, voxels, features, tables, labels) by one loader against a step, in turns."""
    zeros = np.zeros(len(cloud), np.uint8)
    path = options.scratch / "scan.npz"
    ones = np.ones(len(cloud), np.float32)
    LabelledScan(cloud.points, cloud.intensity, zeros.astype(np.uint16), zeros, ones, None, zeros.astype(np.int8)).save(
        path
    )
    grid = VoxelGrid("cartesian", (VOXEL_SIZE,) * 3, RANGE_MIN, RANGE_MAX)
    scans = LabelledScans([path] * copies, grid, GEOMETRY, NUM_CLASSES, False, AugmentationConfig())
    generator = np.random.default_rng(0)
    times = take_turns(
        {
            "step": partial(step.time_pass, OURS, "step"),
            "batch": timed(lambda: scans.make_batch(range(copies), 5, generator)),
        },
        options.rounds,
    )
    steps = [value for value in times["step"] if value is not None]
    batches = [value for value in times["batch"] if value is not None]
    share = paired_ratio(batches, steps)
    rows: tuple[dict[str, Cell], ...] = (
        {"work": "training step", "p50 ms": median(steps), "x step": 1.0},
        {"work": "making its batch", "p50 ms": median(batches), "x step": share},
    )
    return Table(f"data loading by one loader, {copies} scans per batch", rows), share


def _measure_networks(
    networks: Sequence[str],
    pyramid: Pyramid,
    backends: Sequence[str],
    device: torch.device,
    precision: str,
    rounds: int,
) -> tuple[tuple[Table, ...], dict[str, float]]:
    """A table per network, and the figures of the last one that goals are judged by."""
    tables, measures = [], {}
    for network in networks:
        passes = Contest(network, pyramid, device, precision)
        times = take_turns({(b, kind): partial(passes.time_pass, b, kind) for b in backends for kind in PASSES}, rounds)
        known = {key: [v for v in values if v is not None] for key, values in times.items()}
        ratios = {key: paired_ratio(values, known[OURS, key[1]]) for key, values in known.items() if values}
        tables.append(Table(network, tuple(_row(backend, known, ratios) for backend in backends)))
        if device.type == "cpu" and ("spconv", "forward") in ratios:
            measures["training_cpu_ratio"] = ratios["spconv", "forward"]
        rivals = [ratios[library, "step"] for library in LIBRARIES if (library, "step") in ratios]
        if device.type == "cuda" and rivals:
            measures["training_gpu_ratio"] = min(rivals)
    return tuple(tables), measures


def _row(
    backend: str, times: Mapping[tuple[str, str], list[float]], ratios: Mapping[tuple[str, str], float]
) -> dict[str, Cell]:
    row: dict[str, Cell] = {"backend": backend}
    for kind in PASSES:
        samples = times[backend, kind]
        row[f"{kind} p50 ms"] = median(samples) if samples else None
        row[f"{kind} x {OURS}"] = ratios.get((backend, kind))
    return row


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table and writes the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=["small", "minkunet18"])
    parser.add_argument("--backends", nargs="+", choices=BACKENDS, default=list(BACKENDS))
    parser.add_argument("--scan", type=Path, help="float32 points; default: a synthetic scan")
    parser.add_argument("--columns", type=int, default=4, help="values per point of --scan")
    parser.add_argument("--voxel-size", type=float, default=VOXEL_SIZE)
    parser.add_argument("--copies", type=int, default=2, help="of the scan in the batch")
    parser.add_argument("--precision", choices=PRECISIONS, default="fp32")
    parser.add_argument("--threads", type=int, default=0, help="of torch on the CPU; 0 = as torch chooses")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    pyramid, figures = build_pyramid(load_coords(options), 5), {}
    backends, missing = available(options.backends)
    print("".join(f"{sentence}\n" for sentence in missing), file=sys.stderr, end="")
    print(f"{'network':12}{'backend':13}{'forward ms':>13}{'step ms':>10}{'steps/s':>9}")
    for name in options.networks:
        figures[name] = measure(Contest(name, pyramid, device, options.precision), backends, options.rounds)
        print_table(name, figures[name])
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps({**about(options, device, pyramid), "ms": figures}, indent=1) + "\n")


if __name__ == "__main__":
    main()
