"""Measures networks on an NVIDIA GPU: whole scans, the parts of one, and spconv on the same card and maps.

    python benchmarks/gpu.py [MODEL] [--scans SOURCE ...] [--rounds N] [--quick] [--json FILE]

The networks have random weights, so labels mean nothing and times are right; how far float16 is from float32 is told by
the share of points that keep their label. Scans of 32 beams have voxels of 0.1 m, those of 64 beams 0.05 m.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.networks import VOXEL_SIZES, write_student
from ov_seg_ros.bench.machine import has_nvidia_gpu
from ov_seg_ros.bench.rounds import take_turns
from ov_seg_ros.bench.scans import BenchScan
from ov_seg_ros.bench.section import BenchOptions, Cell, Section, Table
from ov_seg_ros.bench.spread import paired_ratio, summarize
from ov_seg_ros.bench.stages import LABELS, staged
from ov_seg_ros.commands.bench import run_contest
from ov_seg_ros.runtime.model_file import load_model_file
from ov_seg_ros.runtime.segmenter import Segmenter

NETWORKS, QUICK_NETWORKS = ("minkunet18", "minkunet34c"), ("minkunet18",)
ROUNDS, QUICK_ROUNDS = 200, 20
"""Of whole scans: p99 wants many. ``options.rounds`` counts where everybody takes turns."""
HALF, FLOAT, ONNX_RUNTIME = "triton, float16", "triton, float32", "ONNX Runtime CUDA, float32"
OURS, SPCONV = "ours, float16", "spconv, float16"
ENGINES = (HALF, FLOAT, ONNX_RUNTIME)
Contender = tuple[str, str]
"""Network and who computes it."""
Times = dict[Contender, list[float]]
REPLAYS = 10
"""Between two looks at the clock: the host's work to start one would count where the network is faster than that."""
Missing = dict[str, None]
"""Sentences on what could not be measured, each once."""
Result = TypeVar("Result")


def contest(options: BenchOptions) -> Section:
    """Everything that needs a GPU, or why there is nothing."""
    reason = why_not()
    if reason:
        return Section("gpu", "On an NVIDIA GPU", missing=(f"a GPU: not measured, {reason}",))
    tables: list[Table] = []
    missing: Missing = {}
    measures: dict[str, float] = {}
    networks = QUICK_NETWORKS if options.quick else NETWORKS
    for scan in {scan.beams: scan for scan in options.scans}.values():
        options.say(f"  whole scans, {scan.name} beams")
        times, agreement = whole_scans(networks, scan, options, missing)
        tables.append(Table(f"{LABELS}, {scan.name} beams: {len(scan):,} points", rows_of(times, agreement)))
        options.say(f"  parts of a scan, {scan.name} beams")
        parts = forward_passes(scan, options, missing)
        tables.append(Table(f"minkunet18, {scan.name} beams: parts of a scan, on the GPU", rows_of(parts)))
        measures |= goal_figures(scan.beams, times, parts)
    title = f"on {torch.cuda.get_device_name()}, torch {torch.__version__}, CUDA {torch.version.cuda}"
    return Section("gpu", title, tuple(tables), measures, tuple(missing))


def why_not() -> str:
    """What is missing for this contest, "" if nothing is."""
    if not has_nvidia_gpu():
        return "this machine has no NVIDIA GPU"
    if not torch.cuda.is_available():
        return f"torch {torch.__version__} does not see the GPU: install a CUDA build of it"
    return ""


def whole_scans(
    networks: Sequence[str], scan: BenchScan, options: BenchOptions, missing: Missing
) -> tuple[Times, dict[Contender, float]]:
    """Milliseconds from bytes to labels, and share of labels as on the CPU."""
    contenders, agreement = {}, {}
    for network in networks:
        path = options.scratch / f"{network}_{scan.beams}.onnx"
        write_student(network, VOXEL_SIZES[scan.beams], path)
        expected = Segmenter.load(path, "cpu").segment(scan.cloud).class_id
        for engine in ENGINES:
            with noting(engine, missing):
                segmenter = load(path, engine)
                found = segmenter.segment(scan.cloud).class_id
                contenders[network, engine] = staged(segmenter, scan)
                agreement[network, engine] = float(np.mean(found == expected))
    rows = in_turns(contenders, QUICK_ROUNDS if options.quick else ROUNDS, missing)
    return {contender: [row[LABELS] for row in of_one] for contender, of_one in rows.items()}, agreement


def load(path: Path, engine: str) -> Segmenter:
    """A student on one of ``ENGINES``."""
    from ov_seg_ros.runtime.triton_segmenter import TritonSegmenter

    if engine == ONNX_RUNTIME:
        return Segmenter.load(path, "cuda")
    return TritonSegmenter(load_model_file(path), None, "float16" if engine == HALF else "float32")


def forward_passes(scan: BenchScan, options: BenchOptions, missing: Missing) -> Times:
    """MinkUNet18 with ready maps, ours and spconv's, and what comes before it; milliseconds on the GPU."""
    from benchmarks.peers.case_maker import make_case
    from training.student.minkunet import NETWORKS as CONFIGS

    folder = options.scratch / f"case_{scan.beams}"
    case = make_case(folder, "minkunet18", CONFIGS["minkunet18"], scan.cloud, VOXEL_SIZES[scan.beams], scan.name)
    contenders: dict[str, Callable[[], Any]] = {}
    with noting(OURS, missing):
        contenders |= our_parts(case.model_path, scan)
    with noting(SPCONV, missing), torch.no_grad():
        from benchmarks.peers.spconv_gpu import implicit_gemm

        contenders[SPCONV] = recorded(implicit_gemm(case).run)
    on_gpu = {("minkunet18", name): on_the_clock(work) for name, work in contenders.items()}
    return in_turns(on_gpu, max(options.rounds, 20), missing)


@contextmanager
def noting(name: str, missing: Missing) -> Iterator[None]:
    """Who fails is left out by name: CUDA's errors, Triton's and those of libraries have no common base class."""
    try:
        yield
    except Exception as error:
        missing[f"{name}: not measured, {error}"] = None


def in_turns(
    contenders: Mapping[Contender, Callable[[], Result]], rounds: int, missing: Missing
) -> dict[Contender, list[Result]]:
    """``take_turns`` of those that do not fail."""
    failed: set[Contender] = set()

    def guarded(contender: Contender) -> Callable[[], Result | None]:
        def measure() -> Result | None:
            if contender not in failed:
                with noting(" ".join(contender), missing):
                    return contenders[contender]()
                failed.add(contender)
            return None

        return measure

    rows = take_turns({contender: guarded(contender) for contender in contenders}, rounds)
    return {
        contender: [r for r in of_one if r is not None] for contender, of_one in rows.items() if contender not in failed
    }


def our_parts(model: Path, scan: BenchScan) -> dict[str, Callable[[], Any]]:
    """Recorded parts of our chain, by name: the network, and what comes before it."""
    from ov_seg_ros.gpu.recording import CloudBuffers
    from ov_seg_ros.runtime.triton_segmenter import Room, ScanChain, make_network

    device, file, num_points = torch.device("cuda"), load_model_file(model), len(scan.cloud)
    network = make_network(file, device, "float16")
    room = Room(0, (0,) * file.description.num_levels).with_room_for(scan.cloud, file.description)
    chain = ScanChain(file.description, network, room, device)
    cloud = CloudBuffers.empty(room.points, False, device)
    cloud.points[:num_points] = torch.from_numpy(scan.cloud.points).to(device)
    cloud.intensity[:num_points] = torch.from_numpy(scan.cloud.intensity).to(device)
    cloud.num_points.fill_(num_points)
    _, features, pyramid = chain.prepare(cloud)
    return {
        OURS: recorded(lambda: network.run(features, pyramid)),
        "voxels, features and maps": recorded(lambda: chain.prepare(cloud)),
    }


def recorded(work: Callable[[], Any]) -> Callable[[], Any]:
    """Replays what ``work`` launches, as one CUDA graph; it runs three times before, to compile and choose kernels.

    A graph knows addresses alone: what comes out keeps ``work`` alive, and with it the memory that the graph reads.
    """
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())  # on which its inputs are still being made
    with torch.cuda.stream(stream):
        for _ in range(3):
            work()
    stream.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        kept = work()

    def replay() -> Any:
        graph.replay()
        return work, kept

    return replay


def on_the_clock(work: Callable[[], Any]) -> Callable[[], float]:
    """A contender that returns the milliseconds of one of ``REPLAYS`` between two events on the GPU."""

    def measure() -> float:
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        for _ in range(REPLAYS):
            work()
        end.record()
        end.synchronize()
        return float(begin.elapsed_time(end)) / REPLAYS

    return measure


def rows_of(times: Times, agreement: Mapping[Contender, float] | None = None) -> tuple[dict[str, Cell], ...]:
    """A row per contender."""
    rows = []
    for (network, name), ms in times.items():
        row: dict[str, Cell] = {"network": network, "contender": name, **summarize(ms)}
        rows.append(row | ({"same labels": agreement[network, name]} if agreement else {}))
    return tuple(rows)


def goal_figures(beams: int, whole: Times, parts: Times) -> dict[str, float]:
    """What goals are judged by."""
    found: dict[str, float] = {}
    for_18, for_34c = whole.get(("minkunet18", HALF)), whole.get(("minkunet34c", HALF))
    if for_18:
        found[f"gpu_{beams}_p99_ms"] = summarize(for_18)["p99 ms"]
    if for_18 and for_34c:
        found[f"gpu_{beams}_34c_ratio"] = paired_ratio(for_34c, for_18)
    ours, spconv = parts.get(("minkunet18", OURS)), parts.get(("minkunet18", SPCONV))
    if ours and spconv:
        found[f"gpu_{beams}_peer_ratio"] = paired_ratio(spconv, ours)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the tables and writes the JSON."""
    run_contest(contest, __doc__, arguments)


if __name__ == "__main__":
    main()
