"""Finds the fastest tiles of every convolution of a network on the GPU at hand, beside what ``choose_tile`` says.

    python benchmarks/gpu_tiles.py [--network minkunet18] [--beams 64] [--scans synthetic] [--processes N]

Every shape of ``gpu.tile_shapes.shapes_to_try`` that compiles is timed on the tables of one scan (medians of CUDA graph
replays, caches warm as in the network). The last lines say what all convolutions would take with each choice.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.networks import VOXEL_SIZES, write_student
from ov_seg_ros.bench.scans import load_scans
from ov_seg_ros.gpu.convolution_terms import ConvolutionWeights, Operands
from ov_seg_ros.gpu.device_maps import PyramidBuilder
from ov_seg_ros.gpu.device_tables import DevicePyramid, RowTable
from ov_seg_ros.gpu.tile_shapes import STEP, TileShape, shapes_to_try, tile_shape_of
from ov_seg_ros.runtime.buffer_plan import plan_buffers
from ov_seg_ros.runtime.layer_plan import Layer, TableKey, plan_layers
from ov_seg_ros.runtime.model_file import load_model_file
from ov_seg_ros.runtime.network_plan import Features, plan_network
from ov_seg_ros.runtime.onnx_graph import read_onnx_graph

DEVICE = "cuda"


@dataclass(frozen=True)
class Kind:
    """Convolutions that take the same time: same table, widths and flags."""

    table: TableKey
    c_in: int
    c_plain: int
    c_out: int
    residual: bool
    relu: bool

    @classmethod
    def of(cls, layer: Layer) -> Kind:
        """What a layer is like."""
        c_in, c_plain = (0 if factor is None else factor.columns for factor in (layer.gathered, layer.plain))
        return cls(layer.table, c_in, c_plain, len(layer.bias), layer.residual is not None, layer.relu)

    def weights(self) -> ConvolutionWeights:
        """Random matrices."""
        positions = 27 if self.table.kind == "neighbors" else 8
        gathered = _random(positions, self.c_in, self.c_out) if self.c_in else None
        plain = _random(self.c_plain, self.c_out) if self.c_plain else None
        return ConvolutionWeights(torch.zeros(self.c_out, device=DEVICE), gathered, plain, self.relu)

    def operands(self, capacity: int) -> Operands:
        """Random features."""
        widths = (self.c_out, self.c_in, self.c_plain, self.c_out if self.residual else 0)
        return Operands(*(_random(capacity, width) if width else None for width in widths))  # type: ignore[arg-type]


def _random(*shape: int) -> torch.Tensor:
    return torch.randn(shape, device=DEVICE, dtype=torch.float16)


def run_once(kind: Kind, shape: TileShape, table: RowTable, repeat: int = 0) -> float:
    """Compiles and runs a convolution; milliseconds, the median of what fits into ``repeat`` of them, 0 without."""
    from ov_seg_ros.gpu.convolution import convolve
    from ov_seg_ros.gpu.tile_table import empty_tile_table, fill_tile_table

    capacity, positions = table.rows.shape
    tiles = empty_tile_table(capacity, positions, shape.block_m, table.rows.device)
    fill_tile_table(tiles, table)
    weights, operands = kind.weights(), kind.operands(len(table.rows))
    convolve(weights, operands, tiles, shape)
    if not repeat:
        return 0.0
    from triton.testing import do_bench_cudagraph

    milliseconds = do_bench_cudagraph(
        lambda: convolve(weights, operands, tiles, shape), rep=repeat, return_mode="median"
    )
    return float(milliseconds)


def compile_shapes(task: tuple[Kind, list[TileShape]]) -> None:
    """Fills Triton's cache on disk; a shape that does not compile is found out again when it is timed."""
    kind, shapes = task
    positions = 27 if kind.table.kind == "neighbors" else 8
    nothing = torch.zeros((256, positions), dtype=torch.int32, device=DEVICE)
    table = RowTable(nothing, nothing[:, 0].contiguous(), torch.zeros(1, dtype=torch.int32, device=DEVICE))
    for shape in shapes:
        try:
            run_once(kind, shape, table)
        except Exception:  # of a compiler that meets a shape it cannot build
            continue


def load(network: str, beams: int, sources: Sequence[str]) -> tuple[Counter[Kind], DevicePyramid, list[int]]:
    """How often the network has which convolution, and the tables of a scan with the voxels of its levels."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "student.onnx"
        write_student(network, VOXEL_SIZES[beams], path)
        model = load_model_file(path)
    features = Features(len(model.description.point_features))
    steps = plan_network(read_onnx_graph(model.content), features)
    kinds = Counter(Kind.of(layer) for layer in plan_layers(steps, plan_buffers(steps, features, STEP), STEP))
    scan = next(scan for scan in load_scans(sources) if scan.beams == beams)
    grid = model.description.grid
    coords = torch.from_numpy(np.ascontiguousarray(grid.voxelize(scan.cloud.points).coords)).to(DEVICE)
    builder = PyramidBuilder(grid.shape, [len(coords)] * model.description.num_levels, DEVICE)
    pyramid = builder.build(coords, torch.tensor([len(coords)], dtype=torch.int32, device=DEVICE))
    return kinds, pyramid, [int(count) for count in pyramid.counts]


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints a line per kind of convolution and the sums."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="minkunet18")
    parser.add_argument("--beams", type=int, choices=VOXEL_SIZES, default=64)
    parser.add_argument("--scans", nargs="+", default=["synthetic"])
    parser.add_argument(
        "--processes", type=int, default=min(16, os.cpu_count() or 1), help="that compile (default: %(default)s)"
    )
    parser.add_argument("--rep", type=int, default=5, help="milliseconds of timing per shape")
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        parser.error("tiles are timed on an NVIDIA GPU, and torch sees none: run this where there is one")
    kinds, pyramid, voxels = load(options.network, options.beams, options.scans)
    print(f"{options.network}, {options.beams} beams, voxels {voxels}")
    tasks = [(kind, list(shapes_to_try(kind.weights()))) for kind in kinds]
    with multiprocessing.get_context("spawn").Pool(options.processes) as pool:
        pool.map(compile_shapes, tasks, chunksize=1)
    sums = np.zeros(2)
    for kind, shapes in tasks:
        times = time_shapes(kind, shapes, getattr(pyramid, kind.table.kind)[kind.table.index], options.rep)
        chosen, best = tile_shape_of(kind.weights()), min(times, key=lambda shape: times[shape])
        sums += kinds[kind] * np.array([times[chosen], times[best]])
        print(f"{kinds[kind]} x {kind}: {times[chosen]:.4f} ms, best {times[best]:.4f} ms with {best}", flush=True)
    print(f"all convolutions: {sums[0]:.3f} ms as chosen, {sums[1]:.3f} ms with the best shapes")


def time_shapes(kind: Kind, shapes: Sequence[TileShape], table: RowTable, repeat: int) -> dict[TileShape, float]:
    """Milliseconds of every shape that runs; names the others."""
    times = {}
    for shape in shapes:
        try:
            times[shape] = run_once(kind, shape, table, repeat)
        except Exception as error:  # of a compiler or a driver that refuses a shape
            print(f"  {shape}: {type(error).__name__}: {error}")
    return times


if __name__ == "__main__":
    main()
