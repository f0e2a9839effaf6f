"""Forward passes of the student's networks: ours, other libraries, and what the machine could do at best.

    python benchmarks/forward.py [--networks small minkunet18 minkunet34c] [--scans SOURCE ...] [--beams 32 64]
        [--threads 1 2] [--entrants WORD ...] [--rounds 7] [--seconds 60] [--json FILE]

Everybody computes the same network (random weights) on the same voxels, once per round and in turns, each in a
process of its own; the first round is thrown away. Tables hold medians over the rounds and, as "spread %", the
distance of their quartiles. Times are compared round by round. Kernel maps are built before, except for those "with
maps". Scans of 32 beams have voxels of 0.1 m, those of 64 beams 0.05 m. A contender whose logits differ from those in
double precision by more than 1e-5 of the largest one in any round gets no time.

Below the contenders stand the floors: the matrix products alone, without moving a row; the bytes that have to be
moved at least (every layer's input, weights and output once) at the speed of a large copy; the multiply-adds at the
speed of a large matrix product. Speed of copy and product are measured in the same rounds.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.peers.contest import Rounds, hold_contest
from benchmarks.peers.entrants import ENTRANTS, FLOORS, Entrant
from benchmarks.peers.ranking import GOAL_NETWORK, VOXEL_SIZES, Found, Setting, as_section
from benchmarks.peers.workload import count_work, shapes_of
from benchmarks.suite import real_scans
from ov_seg_ros.bench.machine import usable_cores
from ov_seg_ros.bench.scans import BenchScan, load_scans
from ov_seg_ros.bench.section import BenchOptions, Section, section_to_dict
from ov_seg_ros.bench.text_tables import format_section
from ov_seg_ros.core.data_types import PointCloud

NETWORK_NAMES = ("small", "minkunet18", "minkunet34c")


def contest(options: BenchOptions) -> Section:
    """The section "forward" of the suite: all networks, at one thread and at ``options.threads`` (0 = two)."""
    networks = (GOAL_NETWORK,) if options.quick else NETWORK_NAMES
    threads = sorted({1, options.threads or min(2, usable_cores())})
    rounds = Rounds(options.rounds, seconds=15 if options.quick else 60)
    return as_section(measure(networks, options.scans, threads, ENTRANTS, rounds, options.scratch, options.say))


def measure(
    networks: Sequence[str],
    scans: Sequence[BenchScan],
    threads: Sequence[int],
    entrants: Sequence[Entrant],
    rounds: Rounds,
    scratch: Path,
    say: Callable[[str], None],
) -> list[Found]:
    """Holds one contest per network, scan and number of threads.

    Args:
        networks: keys of ``training.student.minkunet.NETWORKS``.
        scans: to compute on.
        threads: numbers of threads.
        entrants: who takes part.
        rounds: how many, per contest.
        scratch: an empty folder.
        say: shows one line of progress.
    """
    from benchmarks.peers.case_maker import make_case
    from training.student.minkunet import NETWORKS, NetworkConfig

    trial = make_case(scratch / "trial", "trial", NetworkConfig(8, (8, 8), (8, 8), (1, 1), (1, 1)), _small_cloud(), 0.1)
    found: list[Found] = []
    for network in networks:
        for scan in scans:
            say(f"forward: {network} on {scan.name}, the right answer ...")
            folder = scratch / f"{network}_{scan.name}".replace(" ", "_").replace("/", "_")
            case = make_case(folder, network, NETWORKS[network], scan.cloud, VOXEL_SIZES[scan.beams], scan.name)
            pyramid = case.pyramid()
            work = count_work(shapes_of(case.weights()), pyramid)
            for number in threads:
                say(f"forward: {network} on {scan.name}, {number} threads ...")
                outcomes = hold_contest(case, trial, entrants, number, rounds, scratch)
                setting, voxels = Setting(network, scan, number), tuple(len(level) for level in pyramid.levels)
                found.append(Found(setting, work, voxels, tuple(outcomes)))
    return found


def _small_cloud() -> PointCloud:
    random = np.random.default_rng(0)
    return PointCloud(random.uniform(-1, 1, (400, 3)).astype(np.float32), random.random(400, dtype=np.float32))


def choose_entrants(words: Sequence[str]) -> tuple[Entrant, ...]:
    """Those whose name holds one of the words, in any case, and the floors; all of them if there are no words."""
    if not words:
        return ENTRANTS
    return tuple(e for e in ENTRANTS if e in FLOORS or any(word.lower() in e.name.lower() for word in words))


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the tables and writes the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=NETWORK_NAMES, default=list(NETWORK_NAMES))
    parser.add_argument("--scans", nargs="+", default=real_scans(), help="folders, files, recordings, or 'synthetic'")
    parser.add_argument("--beams", nargs="+", type=int, choices=VOXEL_SIZES, default=list(VOXEL_SIZES))
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--entrants", nargs="+", default=[], help="words of their names; floors always take part")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=60, help="per contest, then no round begins beyond the third")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args(arguments)
    command = shlex.join(["python", "benchmarks/forward.py", *(sys.argv[1:] if arguments is None else arguments)])
    scans = [scan for scan in load_scans(options.scans) if scan.beams in options.beams]
    with tempfile.TemporaryDirectory() as scratch:
        found = measure(
            options.networks,
            scans,
            options.threads,
            choose_entrants(options.entrants),
            Rounds(options.rounds, seconds=options.seconds),
            Path(scratch),
            lambda line: print(line, file=sys.stderr),
        )
    section = as_section(found, command)
    print(format_section(section))
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(section_to_dict(section), indent=1) + "\n")


if __name__ == "__main__":
    main()
