"""Measures what every stage of AFOV's chain costs: processor time, wall time and disk per 1,000 scans.

    python benchmarks/stage_costs.py [--recipes synthetic_afov afov] [--lidar spinning32] [--scans 2] [--rounds 5]
        [--source SPEC --teacher YAML [--set KEY=VALUE ...]] [--work FOLDER [--seconds 60]] [--json stage_costs.json]

By default on a synthetic drive that no student learns from; ``--source`` adds another one, with a teacher that needs no
network (masks that are there, see docs/teachers.md; if they have no features, random ones are drawn). Stages are those
of ``training.pipeline``, each in a new folder and on one thread; sparse convolutions are computed by the backend that a
training takes by itself. A first round compiles and is not counted. Processor time is that of this process alone, and
its least round is what the work costs on a processor that nobody else uses; beside other work every figure is too high,
the median and wall time more so than the least processor time. How much else the machine did is in every row.

Files come from the cache of the disk, and sizes count in blocks of 4 kB. A training step is a forward and a backward
pass of one scan and its share of the update of the weights; making the batch (reading, augmentation, voxels, tables) is
a row of its own, because it stays on the CPU where the step goes to a GPU. With ``--work`` a run can be cut into
pieces: each call goes on where the last one ended, ``--seconds`` ends it before the next row, and ``--again`` measures
rows anew that were disturbed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"  # before NumPy is loaded

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.stage_costs_material import Material, real_material, synthetic_material
from benchmarks.stage_costs_stages import BACKEND, DataStages, NetworkStages, Part, Work, describe_scans
from ov_seg_ros.bench.machine import describe_machine
from training.atomic_files import write_json
from training.chain import recipe_path
from training.commands.options import positive
from training.recipe import Recipe
from training.teacher_choice import parse_changes

FIGURES = {
    "cpu_s": "processor time of the round that took least of it, per 1,000 scans (of an export: per student)",
    "cpu_s_median": "processor time, median of the rounds",
    "wall_s": "wall time of the round that took least of it",
    "disk_mb": "what is written, in blocks of 4 kB, 10 ** 6 bytes; null where nothing is",
    "others": "processors that other processes kept busy meanwhile, mean",
}
STATE = "measured.json"
LONG_ENOUGH = 1.0
"""Short actions are repeated for so many seconds."""

MOST_ROUNDS = 50
_STAT = Path("/proc/stat")


@dataclass(frozen=True)
class Cost:
    """One row; see ``FIGURES``."""

    source: str
    stage: str
    network: str
    cpu_s: float
    cpu_s_median: float
    wall_s: float
    disk_mb: float | None
    rounds: int
    others: float | None


@dataclass(frozen=True)
class Timing:
    """Seconds of each round of an action: of the processor, and of the clock."""

    cpu: Sequence[float]
    wall: Sequence[float]


def time_rounds(part: Part, rounds: int) -> Timing:
    """Times an action at least so many times, and more often if it is short; a first round is not counted."""
    cpu: list[float] = []
    wall: list[float] = []
    while len(cpu) <= rounds or (sum(wall[1:]) < LONG_ENOUGH and len(cpu) <= MOST_ROUNDS):
        part.before()
        start = time.process_time(), time.perf_counter()
        part.action()
        cpu.append(time.process_time() - start[0])
        wall.append(time.perf_counter() - start[1])
    return Timing(cpu[1:], wall[1:])


def measure(work: Work, rounds: int) -> Cost:
    """The costs of all parts of a row, per 1,000 scans."""
    parts = work.parts()
    begin = time.perf_counter(), time.process_time(), busy_seconds()
    timings = [(time_rounds(part, rounds), 1000 / part.scans) for part in parts]
    elapsed = time.perf_counter() - begin[0]
    others = None
    if begin[2] is not None and (end := busy_seconds()) is not None:
        others = round(max(0.0, end - begin[2] - (time.process_time() - begin[1])) / elapsed, 2)
    return Cost(
        *work.key,
        cpu_s=sum(min(timing.cpu) * per for timing, per in timings),
        cpu_s_median=sum(float(np.median(timing.cpu)) * per for timing, per in timings),
        wall_s=sum(min(timing.wall) * per for timing, per in timings),
        disk_mb=work.disk_mb(),
        rounds=min(len(timing.cpu) for timing, _ in timings),
        others=others,
    )


def busy_seconds() -> float | None:
    """Of all processors together since the start of the machine; None where the system does not say."""
    try:
        user, nice, system, _idle, _wait, interrupts, soft, *_ = map(int, _STAT.read_text().split("\n")[0].split()[1:])
    except (OSError, ValueError):
        return None
    return (user + nice + system + interrupts + soft) / os.sysconf("SC_CLK_TCK")


class Measured:
    """The rows so far, on the disk: what a run that is cut into pieces goes on with."""

    def __init__(self, folder: Path, asked: dict[str, Any]) -> None:
        """Opens or begins a run.

        Raises:
            SystemExit: the folder is of another one.
        """
        self._path = folder / STATE
        self.rows: list[dict[str, Any]] = []
        self.scans: list[dict[str, Any]] = []
        self._asked = asked
        if self._path.exists():
            content = json.loads(self._path.read_text())
            if content["asked"] != asked:
                raise SystemExit(f"{folder} holds a run with {content['asked']}, not {asked}; choose another folder")
            self.rows, self.scans = content["rows"], content["scans"]

    def find(self, key: tuple[str, str, str]) -> dict[str, Any] | None:
        """The row of this source, stage and network."""
        return next((row for row in self.rows if (row["source"], row["stage"], row["network"]) == key), None)

    def add(self, row: Cost) -> None:
        """Keeps a row; of two for the same, the one beside which others did less."""
        before, new = self.find((row.source, row.stage, row.network)), asdict(row)
        if before is None:
            self.rows.append(new)
        elif (new["others"] or 0) < (before["others"] or 0):
            self.rows[self.rows.index(before)] = new
        self._save()

    def describe(self, material: Material, lifted: Path) -> None:
        """Keeps what is worth knowing of the scans of a material, once it is lifted."""
        if all(each["source"] != material.name for each in self.scans):
            self.scans.append(describe_scans(material, lifted))
            self._save()

    def _save(self) -> None:
        write_json(self._path, {"asked": self._asked, "rows": self.rows, "scans": self.scans})


def print_row(row: Cost) -> None:
    """One line."""
    disk = "" if row.disk_mb is None else f"{row.disk_mb:,.1f}"
    times = f"{row.cpu_s:9,.1f} {row.cpu_s_median:9,.1f} {row.wall_s:9,.1f}"
    others = "?" if row.others is None else f"{row.others:.2f}"
    print(f"{row.source:26} {row.stage:24} {row.network:12} {times} {disk:>10} {others:>7}", flush=True)


def materials(options: argparse.Namespace, folder: Path) -> Iterator[Material]:
    """The synthetic drive, and what ``--source`` asks for."""
    if options.lidar != "none":
        yield synthetic_material(folder, options.lidar, options.scans)
    if options.source:
        yield real_material(options.source, options.teacher, parse_changes(options.set), options.scans)


def run(options: argparse.Namespace, folder: Path) -> Measured | None:
    """Measures what is not measured yet; None where time ran out before."""
    begin = time.perf_counter()
    recipes = [Recipe.load(recipe_path(name)) for name in options.recipes]
    asked = {name: str(getattr(options, name)) for name in ("recipes", "lidar", "source", "teacher", "set", "scans")}
    found = Measured(folder, asked)
    for number, material in enumerate(materials(options, folder)):
        place = folder / str(number)
        data = DataStages(material, place, recipes[0])
        networks = [NetworkStages(material, place, recipe) for recipe in recipes]
        for work in chain.from_iterable((data.works(), *(stages.works() for stages in networks))):
            if is_settled(found.find(work.key), options.again):
                continue
            if options.seconds and time.perf_counter() - begin > options.seconds:
                print(f"{len(found.rows)} rows are measured, {work.stage} is next: run the same command again")
                return None
            row = measure(work, options.rounds)
            found.add(row)
            print_row(row)
        found.describe(material, data.chain.folder("lift"))
    return found


def is_settled(row: dict[str, Any] | None, again: float | None) -> bool:
    """Whether a row needs no measurement: it is there, and other work has not disturbed it more than is borne."""
    return row is not None and (again is None or row["others"] is None or row["others"] <= again)


def write(path: Path, options: argparse.Namespace, found: Measured) -> None:
    """Writes what was measured, and on what."""
    content = {
        "machine": describe_machine(),
        "threads": 1,
        "torch": torch.__version__,
        "backend": f"{BACKEND}; on a CPU: compiled",
        "least_rounds": options.rounds,
        "figures": FIGURES,
        "scans": found.scans,
        "rows": found.rows,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", nargs="+", default=["synthetic_afov", "afov"], help="names or YAML files")
    parser.add_argument("--lidar", choices=("spinning32", "spinning64", "none"), default="spinning32")
    parser.add_argument("--source", help="another source, as `python -m training label --source`")
    parser.add_argument(
        "--teacher", type=Path, default=Path("config/teachers/cityscapes_masks.yaml"), help="of --source"
    )
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of the teacher")
    parser.add_argument("--scans", type=positive, default=2, help="per source (default: %(default)s)")
    parser.add_argument("--rounds", type=positive, default=5, help="at least (default: %(default)s)")
    parser.add_argument("--work", type=Path, help="keep what is measured here, and go on with it")
    parser.add_argument("--seconds", type=float, help="begin no row after so many; needs --work")
    parser.add_argument(
        "--again",
        type=float,
        metavar="PROCESSORS",
        help="measure rows anew beside which others kept more than so many busy",
    )
    parser.add_argument("--json", type=Path, help="write the figures to this file when all are measured")
    options = parser.parse_args(arguments)
    if options.work is None and (options.seconds or options.again is not None):
        parser.error("--seconds and --again need --work, to go on from")
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table and writes the JSON."""
    options = parse(arguments)
    torch.set_num_threads(1)
    columns = f"{'CPU s':>9} {'median':>9} {'wall s':>9} {'disk MB':>10} {'others':>7}"
    print(f"{'per 1,000 scans':51} {'network':12} {columns}")
    with tempfile.TemporaryDirectory() as temporary:
        found = run(options, options.work or Path(temporary))
    if found is not None and options.json:
        write(options.json, options, found)


if __name__ == "__main__":
    main()
