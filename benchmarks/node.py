"""The node itself, in its own process over real DDS: round trip, stages, start, idle, memory, cameras.

    python benchmarks/node.py [MODEL] [--parts round_trip student start idle cameras] [--scans SOURCE ...] [--json FILE]

A driver process sends scans at 10 Hz, the node labels them, a listener process receives them. For the round trip and
the cameras a stand-in that answers at once takes the place of the student, so that what is left is the node's own work
and the transport. Settings that are compared take turns, with new processes each time.
"""

from __future__ import annotations

import argparse
import importlib.util
import pickle
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.node_processes import SETTINGS, Stage, Trip
from ov_seg_ros.bench.scans import BenchScan, as_scan
from ov_seg_ros.bench.section import BenchOptions, Cell, Section, Table
from ov_seg_ros.bench.spread import median, summarize
from ov_seg_ros.core.data_types import PointCloud
from ov_seg_ros.messages.pointcloud2 import decode_pointcloud2

Result = tuple[Table, dict[str, float], dict[str, Any]]
LARGE, ROUND_TRIP_POINTS = "large data", 130_000
"""Of 20 bytes each: 2.6 MB."""
STAND_IN = ("--stand-in", "geometry")
NOTES = (
    "default: Fast DDS as it comes; large data: config/fastdds/large_data.xml in all processes.",
    "Round trip: from just before the driver publishes to the callback of the listener, both of them rclpy programs. "
    "Like the node they keep what they free (ov_seg_ros/ros/process_memory.py); plain: they do not; serialized: the "
    "listener takes bytes, as a recorder does, and makes no Python message of them.",
    "latency: stamp to publication, the transport from the driver included; take: reception to callback.",
    "idle: scans arrive at 10 Hz and nobody subscribes to an output; the goal is for large data.",
)
EXTRINSICS = """lidar_frame: lidar
cameras:
  front: {frame: camera, camera_from_lidar: {translation: [0, 0, 0], rotation_xyzw: [0.5, -0.5, 0.5, 0.5]}}
"""


def contest(options: BenchOptions, parts: Sequence[str] = ()) -> Section:
    """Measures the parts named, all if none is."""
    if importlib.util.find_spec("rclpy") is None:
        return Section("node", "The node", missing=("the node: not measured, rclpy is missing: pip install '.[ros]'",))
    stage = Stage(options.scratch, {"model_path": str(options.model), "num_threads": options.threads})
    tables: list[Table] = []
    measures: dict[str, float] = {}
    details: dict[str, Any] = {}
    for part in parts or PARTS:
        options.say(f"node: {part}")
        table, found, details[part] = PARTS[part](stage, options)
        tables.append(table)
        measures |= found
    return Section("node", "The node over DDS", tuple(tables), measures, notes=NOTES, details=details)


def measure_round_trip(stage: Stage, options: BenchOptions) -> Result:
    """Driver, node without a student, listener; transports and sizes take turns."""
    scans = 15 if options.quick else 40
    paths = {"2.6 MB": save(large_scan(options), options), "32 beams": save(scan_of(options, 32), options)}

    def run(size: str, setting: str, **words: Sequence[str]) -> Callable[[], Trip]:
        arguments = ["--scan", str(paths[size]), "--scans", str(scans)]
        return lambda: stage.trip(SETTINGS[setting], STAND_IN, arguments, **words)

    contenders = {(size, setting): run(size, setting) for size in paths for setting in SETTINGS}
    contenders["2.6 MB", "large data, plain"] = run("2.6 MB", LARGE, peers=["--plain"])
    contenders["2.6 MB", "large data, serialized"] = run("2.6 MB", LARGE, listener=["--serialized"])
    trips = in_turns(contenders, 1 if options.quick else 2)
    rows = tuple(trip_row({"cloud": size, "transport": how}, trips[size, how]) for size, how in contenders)
    samples = {f"{size}, {how}": joined(each, "round_trip_ms") for (size, how), each in trips.items()}
    lost = sum(trip.lost for each in trips.values() for trip in each)
    title = f"Round trip at 10 Hz without a student, {scans} scans per turn, p50 of all turns"
    return Table(title, rows), {"round_trip_p50_ms": median(samples[f"2.6 MB, {LARGE}"])}, {"ms": samples, "lost": lost}


def measure_student(stage: Stage, options: BenchOptions) -> Result:
    """The node with its student: 32 beams at 10 Hz, 64 beams at 5 Hz."""
    scans = 20 if options.quick else 105
    rows: list[Mapping[str, Cell]] = []
    measures: dict[str, float] = {}
    details: dict[str, Any] = {}
    for beams, rate in ((32, 10), (64, 5)):
        path, setting = save(scan_of(options, beams), options), SETTINGS[LARGE]
        trip = stage.trip(setting, (), ["--scan", str(path), "--scans", str(scans), "--rate", str(rate)])
        rows.append({"beams": beams, "Hz": rate} | trip_row({}, [trip]) | summarize(trip.heard["latency"][5:], "ms"))
        measures[f"node_{beams}_lost"] = float(trip.lost)
        details[str(beams)] = {"latency_ms": trip.heard["latency"], "counters": trip.heard["counters"]}
        if beams == 32:
            measures["node_32_p99_ms"] = float(np.percentile(trip.heard["latency"][5:], 99))
        measures["node_memory_mib"] = max(measures.get("node_memory_mib", 0.0), trip.memory_mib[0])
    return Table(f"The node with the student, {scans} scans, p50; latency at the end", tuple(rows)), measures, details


def measure_start(stage: Stage, options: BenchOptions) -> Result:
    """From the start of the process to the first labelled scan, with a cold and a warm cache of compiled code."""
    path, cache = save(scan_of(options, 32), options), options.scratch / "numba_cache"
    variables = {**SETTINGS[LARGE], "NUMBA_CACHE_DIR": str(cache)}
    rows: list[Mapping[str, Cell]] = []
    for attempt in range(2 if options.quick else 4):
        listener = stage.start("listener", variables, "--first")
        listener.wait_ready()
        driver = stage.start("driver", variables, "--scan", str(path), "--no-wait")
        driver.wait_ready()
        node = stage.start_node(variables)
        node.wait_ready()
        resident, share = node.memory_mib
        heard, said = listener.report("wait"), node.report("interrupt")
        driver.report("close")
        marks = [node.started, *said["times"].values(), heard["arrivals"][0][1] * 1e-9]
        steps = dict(zip([f"{name} s" for name in (*said["times"], "first label")], np.diff(marks), strict=True))
        total = {"total s": marks[-1] - marks[0], "resident MiB": resident, "share MiB": share}
        rows.append({"cache": "warm" if attempt else "cold", **steps, **total})
    start_s = median([float(row["total s"] or 0) for row in rows[1:]])
    return Table("Start of the process to the first labelled scan", tuple(rows)), {"start_s": start_s}, {}


def measure_idle(stage: Stage, options: BenchOptions) -> Result:
    """Processor time while nobody subscribes to an output; 100 % is one core."""
    path, seconds = save(large_scan(options), options), 4.0 if options.quick else 10.0

    def run(setting: str, with_driver: bool) -> Callable[[], float]:
        def measure() -> float:
            node = stage.start_node(SETTINGS[setting], *STAND_IN)
            node.wait_ready()
            driver = stage.start("driver", SETTINGS[setting], "--scan", str(path)) if with_driver else None
            if driver is not None:
                driver.wait_ready()
            time.sleep(2.5)
            before_s, begin_s = node.cpu_s, time.monotonic()
            time.sleep(seconds)
            percent = 100 * (node.cpu_s - before_s) / (time.monotonic() - begin_s)
            if driver is not None:
                driver.report("close")
            node.report("interrupt")
            return percent

        return measure

    contenders = {(how, driver): run(how, driver) for how, driver in ((LARGE, False), (LARGE, True), ("default", True))}
    found = in_turns(contenders, 1 if options.quick else 2)
    names = {False: "none", True: "2.6 MB at 10 Hz"}
    rows = tuple(
        {"scans": names[driver], "transport": how, "core %": float(np.mean(values))}
        for (how, driver), values in found.items()
    )
    idle = float(np.mean(found[LARGE, True]))
    return Table(f"Idle, mean over {seconds:.0f} s per turn", rows), {"idle_percent": idle}, {}


def measure_cameras(stage: Stage, options: BenchOptions) -> Result:
    """What images of one camera cost (1600 x 900 raw at 10 Hz): nobody wants them, or a student that uses colour."""
    path, scans = save(scan_of(options, 32), options), 15 if options.quick else 40
    extrinsics = options.scratch / "extrinsics.yaml"
    extrinsics.write_text(EXTRINSICS)
    send = ["--scan", str(path), "--scans", str(scans)]
    rig = {"cameras": "[front]", "extrinsics_file": str(extrinsics)}
    color = ("--stand-in", "color")

    def run(node: Sequence[str], driver: Sequence[str], **parameters: str) -> Callable[[], Trip]:
        return lambda: stage.trip(SETTINGS[LARGE], node, driver, **parameters)

    contenders = {
        "no camera": run(STAND_IN, send),
        "a camera, nobody looks at overlays": run(STAND_IN, [*send, "--camera"], **rig),
        "a camera, matched and decoded for colour": run(color, [*send, "--camera"], **rig),
    }
    trips = in_turns(contenders, 1 if options.quick else 2)
    rows = tuple(trip_row({"cameras": what}, each) for what, each in trips.items())
    return Table(f"Cameras beside 32 beams at 10 Hz without a student, {scans} scans per turn, p50", rows), {}, {}


PARTS: dict[str, Callable[[Stage, BenchOptions], Result]] = {
    "round_trip": measure_round_trip,
    "student": measure_student,
    "start": measure_start,
    "idle": measure_idle,
    "cameras": measure_cameras,
}


def in_turns(contenders: Mapping[Any, Callable[[], Any]], rounds: int) -> dict[Any, list[Any]]:
    """Calls every contender once per round; every call has new processes, so no round is thrown away."""
    results: dict[Any, list[Any]] = {key: [] for key in contenders}
    for _ in range(rounds):
        for key, measure in contenders.items():
            results[key].append(measure())
    return results


def trip_row(what: Mapping[str, Cell], trips: Sequence[Trip]) -> dict[str, Cell]:
    """One row: what was measured, and the medians of all its turns."""
    heard = [trip.heard for trip in trips]
    stages = {name: [ms for each in heard for ms in each[name][5:]] for name in ("decode", "encode", "latency")}
    values = {
        "driver publish": [ms for trip in trips for ms in trip.publish_ms[5:]],
        "transport": joined(trips, "transport_ms"),
        "take": joined(trips, "take_ms"),
        "decode": stages["decode"],
        "segment": joined(trips, "segment_ms"),
        "encode + publish": stages["encode"],
        "latency": stages["latency"],
        "round trip": joined(trips, "round_trip_ms"),
    }
    first = trips[0]
    cells: dict[str, Cell] = {**what, "MB in": first.sent_mb, "MB out": first.heard["bytes"] / 1e6}
    cells |= {f"{name} ms": median(samples) if samples else None for name, samples in values.items()}
    sent_s = sum(len(trip.sent) for trip in trips) / first.rate
    cells["node core %"] = 100 * sum(trip.node_cpu_s for trip in trips) / sent_s
    cells["lost"] = sum(trip.lost for trip in trips)
    cells["unexplained"] = sum(trip.unexplained for trip in trips)
    resident, share = first.memory_mib
    return cells | {"resident MiB": resident, "share MiB": share}


def joined(trips: Sequence[Trip], name: str) -> list[float]:
    """The samples of all turns."""
    return [value for trip in trips for value in getattr(trip, name)]


def scan_of(options: BenchOptions, beams: int) -> BenchScan:
    """The scan of so many beams, a real one if there is one."""
    return {scan.beams: scan for scan in options.scans}[beams]


def large_scan(options: BenchOptions) -> BenchScan:
    """A scan of 130 000 points of 20 bytes: that of 64 beams, its points repeated to that number, with rings."""
    cloud = scan_of(options, 64).cloud
    points = np.resize(cloud.points, (ROUND_TRIP_POINTS, 3))
    filled = PointCloud(points, np.resize(cloud.intensity, ROUND_TRIP_POINTS))
    return as_scan("2.6 MB", filled, np.zeros(ROUND_TRIP_POINTS, np.uint16))


def save(scan: BenchScan, options: BenchOptions) -> Path:
    """Writes a scan for the driver."""
    path = options.scratch / f"{scan.name.replace(' ', '_')}.pickle"
    if not path.exists():
        path.write_bytes(pickle.dumps(decode_pointcloud2(scan.message)))
    return path


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the tables and writes the JSON."""
    from ov_seg_ros.commands.bench import run_contest

    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=tuple(PARTS))
    chosen, rest = parser.parse_known_args(arguments)

    def measure(options: BenchOptions) -> Section:
        return contest(options, chosen.parts)

    run_contest(measure, __doc__, rest)


if __name__ == "__main__":
    main()
