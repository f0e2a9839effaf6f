"""Measure a student on this machine: stages, memory, sustained rate, start-up, scaling; tables and a JSON file.

Scans come from folders (.bin files of KITTI or nuScenes) and recordings; where none is named, they are made up:
    ov-seg bench --scans kitti/velodyne --scans drive.mcap
A checkout measures more, against other libraries as well: make bench, or python benchmarks/suite.py.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from ov_seg_ros.core.errors import ConfigError, OvSegError
from ov_seg_ros.core.output_paths import require_writable_file, require_writable_folder

if TYPE_CHECKING:
    from ov_seg_ros.bench.section import BenchOptions, Contest

DEFAULT_OUT = Path("benchmarks") / "results"
ROUNDS, QUICK_ROUNDS = 10, 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    add_measuring_arguments(parser)
    parser.add_argument("--only", action="append", metavar="SECTION", help="measure only this one; may be repeated")
    parser.add_argument(
        "--out", type=Path, default=DEFAULT_OUT, metavar="DIR", help=f"folder of <machine>/<date>.json ({DEFAULT_OUT})"
    )
    parser.add_argument(
        "--compare", nargs=2, type=Path, metavar=("OLD", "NEW"), help="measure nothing, compare two result files"
    )


def add_measuring_arguments(parser: argparse.ArgumentParser) -> None:
    """MODEL and the options of any contest."""
    parser.add_argument("model", type=Path, nargs="?", metavar="MODEL", help=".onnx file (default: the shipped one)")
    parser.add_argument(
        "--scans",
        action="append",
        metavar="SOURCE",
        help="folder of .bin scans, recording, or synthetic; may be repeated",
    )
    parser.add_argument("--rounds", type=int, metavar="N", help=f"of paired comparisons ({ROUNDS})")
    parser.add_argument(
        "--threads", type=int, default=0, metavar="N", help="CPU threads of the network (0, one per core)"
    )
    parser.add_argument("--cores", type=int, default=0, metavar="N", help="use only the first N cores (0, all)")
    parser.add_argument("--quick", action="store_true", help="about a minute: fewer sizes, shorter runs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")


def run(args: argparse.Namespace) -> None:
    """Measures, or compares two files.

    Raises:
        OvSegError: model, scans, options or files cannot be used.
    """
    from ov_seg_ros.bench.suite import INSTALLED

    if args.compare:
        from ov_seg_ros.bench.compare import compare_results

        print(compare_results(*args.compare))
    else:
        run_contests(args, INSTALLED)


def run_contests(args: argparse.Namespace, modules: Mapping[str, str]) -> None:
    """Runs contests and writes their file.

    Args:
        args: with the options of ``add_arguments``.
        modules: name of a section to the module with its ``contest``.

    Raises:
        OvSegError: model, scans or options cannot be used; what only one contest lacks is no error.
    """
    from datetime import date

    use_cores(args.cores)
    from ov_seg_ros.bench.machine import describe_machine
    from ov_seg_ros.bench.results import ResultFile, result_path
    from ov_seg_ros.bench.suite import choose, run_suite

    chosen = choose(modules, tuple(args.only or ()))
    machine = describe_machine()
    if args.json is None:
        require_writable_folder(args.out)
    path = args.json or result_path(args.out, machine, date.today())
    require_writable_file(path)
    with TemporaryDirectory(prefix="ov_seg_bench_") as scratch:
        options = bench_options(args, Path(scratch))
        file = ResultFile(path, _about(args, options, machine))
        print(_headline(machine, options))
        try:
            run_suite(chosen, options, file, lambda text: print(text, flush=True))
            file.finish(load_average_after=os.getloadavg())
        finally:
            print(f"\n{file.path}")


def run_contest(contest: Contest, description: str | None, arguments: Sequence[str] | None = None) -> None:
    """The ``main`` of one contest's module: parses options, measures, prints the section and writes ``--json``.

    Args:
        contest: to run.
        description: docstring of the module.
        arguments: without the program's name, None = those of the process.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_measuring_arguments(parser)
    args = parser.parse_args(arguments)
    name = contest.__module__.rsplit(".", 1)[-1]
    try:
        if args.json is not None:
            require_writable_file(args.json)
        use_cores(args.cores)
        from ov_seg_ros.bench.machine import describe_machine, machine_cores
        from ov_seg_ros.bench.machine_load import load_warning
        from ov_seg_ros.bench.results import ResultFile
        from ov_seg_ros.bench.suite import measure_section
        from ov_seg_ros.bench.text_tables import format_section

        with TemporaryDirectory(prefix="ov_seg_bench_") as scratch:
            options = bench_options(args, Path(scratch))
            machine = describe_machine()
            print(_headline(machine, options))
            section, seconds, others = measure_section(
                Path(sys.argv[0]).stem if name == "__main__" else name, lambda: contest, options
            )
    except OvSegError as error:
        parser.error(str(error))
    warning = load_warning(others, machine_cores())
    print(format_section(section, warning))
    if args.json:
        file = ResultFile(args.json, _about(args, options, machine))
        file.add(section, warning, seconds=seconds, cores_used_by_others=others)
        file.finish(load_average_after=os.getloadavg())


def bench_options(args: argparse.Namespace, scratch: Path) -> BenchOptions:
    """Checked options of a run.

    Args:
        args: with the options of ``add_measuring_arguments``.
        scratch: an empty folder.

    Raises:
        OvSegError: model, scans or options cannot be used.
    """
    from ov_seg_ros.bench.scans import load_scans
    from ov_seg_ros.bench.section import BenchOptions
    from ov_seg_ros.commands.options import model_path
    from ov_seg_ros.runtime.model_file import load_model_file

    rounds = args.rounds if args.rounds is not None else QUICK_ROUNDS if args.quick else ROUNDS
    if rounds < 1:
        raise ConfigError(f"--rounds must be at least 1, got {rounds}")
    if args.threads < 0:
        raise ConfigError(f"--threads must be >= 0, got {args.threads}")
    model = model_path(args)
    load_model_file(model)
    scans = load_scans(args.scans or ())
    threads = args.threads or args.cores  # ONNX Runtime's own choice counts the cores of the machine
    return BenchOptions(
        model, scans, threads, rounds, args.quick, scratch, lambda line: print(line, file=sys.stderr, flush=True)
    )


def use_cores(count: int) -> None:
    """Restricts this process and its children to the first cores it may use; before libraries start their threads.

    Args:
        count: how many, 0 = no restriction.

    Raises:
        ConfigError: there are fewer.
    """
    if count == 0:
        return
    usable = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if not 0 < count <= len(usable):
        raise ConfigError(f"--cores must lie between 1 and {len(usable)}, the cores of this process, got {count}")
    os.sched_setaffinity(0, usable[:count])


def _about(args: argparse.Namespace, options: BenchOptions, machine: Mapping[str, Any]) -> dict[str, Any]:
    """What the figures depend on."""
    from ov_seg_ros.bench.machine import describe_commit, describe_versions
    from ov_seg_ros.runtime.model_file import load_model_file

    model = load_model_file(options.model)
    return {
        "command": _command_line(sys.argv),
        "machine": dict(machine),
        "versions": describe_versions(),
        **describe_commit(),
        "load_average_before": os.getloadavg(),
        "model": {"name": model.description.name, "file": options.model.name, "sha256": model.sha256},
        "scans": [{"name": scan.name, "beams": scan.beams, "points": len(scan)} for scan in options.scans],
        "options": {"rounds": options.rounds, "threads": options.threads, "quick": options.quick, "cores": args.cores},
    }


def _headline(machine: Mapping[str, Any], options: BenchOptions) -> str:
    gpus = ", ".join(machine["gpus"]) or "no GPU"
    scans = ", ".join(f"{scan.name} beams ({len(scan):,} points)" for scan in options.scans)
    return (
        f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB, {gpus};"
        f" load average {os.getloadavg()[0]:.1f}\nscans: {scans}"
    )


def _command_line(argv: Sequence[str]) -> str:
    """What repeats this run, from the folder it was started in."""
    program = Path(argv[0])
    script = os.path.relpath(program) if program.suffix == ".py" else program.name
    return shlex.join([*(["python"] if program.suffix == ".py" else []), script, *argv[1:]])
