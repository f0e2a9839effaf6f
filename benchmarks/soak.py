"""Hours of the node in minutes: does its memory grow?

    python benchmarks/soak.py [MODEL] [--minutes 20] [--scans SOURCE ...] [--json FILE]

The real node in a process of its own, over real DDS, at 10 Hz: scans of ever another size, some of them empty or
truncated, a camera at 5 Hz, and a viewer of the coloured cloud, the filtered cloud and the overlay that comes and goes.
Memory, open files and threads of the node are read from /proc.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.node import EXTRINSICS, LARGE
from benchmarks.node_processes import SETTINGS, environment
from benchmarks.node_programs import INPUT, LABELLED, NODE, camera_publisher
from ov_seg_ros.bench.fresh_process import save_scan
from ov_seg_ros.bench.section import BenchOptions, Section, Table
from ov_seg_ros.core.errors import ConfigError

RATE_HZ, SAMPLE_S, ROWS = 10.0, 5.0, 10
ODD_EVERY, VIEW_EVERY = 50, 300
"""Scans between two empty or two truncated ones; scans between two comings or goings of the viewer."""
LEAST_MINUTES = 0.5
"""Shorter runs have too few samples for a line through them."""
SETTLED = 0.25
"""Share of the run before the growth is measured: buffers find their sizes."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table and writes the JSON."""
    from ov_seg_ros.commands.bench import run_contest

    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--minutes", type=float, default=20.0, help="how long (default: 20)")
    parser.add_argument("--role", choices=("tester",), help=argparse.SUPPRESS)
    parser.add_argument("--cloud", type=Path, help=argparse.SUPPRESS)
    args, rest = parser.parse_known_args(arguments)
    if args.role:
        print(json.dumps(exercise_node(np.load(args.cloud), args.minutes)), flush=True)
    else:
        run_contest(lambda options: contest(options, args.minutes), __doc__, rest)


def contest(options: BenchOptions, minutes: float) -> Section:
    """Runs node and tester, and watches the node.

    Raises:
        ConfigError: ``minutes`` is below ``LEAST_MINUTES``.
    """
    if importlib.util.find_spec("rclpy") is None:
        return Section("soak", "The node for long", missing=("the node: not measured, rclpy is missing",))
    if not minutes >= LEAST_MINUTES:
        raise ConfigError(f"--minutes must be >= {LEAST_MINUTES:g}, got {minutes:g}: growth needs some time to show")
    extrinsics = options.scratch / "extrinsics.yaml"
    extrinsics.write_text(EXTRINSICS)
    cloud = save_scan(options.scans[0].cloud, options.scratch / "scan.npy")
    parameters = {
        "model_path": options.model,
        "num_threads": options.threads,
        "cameras": "[front]",
        "extrinsics_file": extrinsics,
    }
    given = [word for name, value in parameters.items() for word in ("-p", f"{name}:={value}")]
    variables = environment(SETTINGS[LARGE])
    python = [sys.executable, "-m", "ov_seg_ros.ros.segmentation_node", "--ros-args", "--log-level", "error", *given]
    tester = [sys.executable, __file__, "--role", "tester", "--minutes", str(minutes), "--cloud", str(cloud)]
    with subprocess.Popen(python, env=variables) as node:
        try:
            with subprocess.Popen(tester, env=variables, stdout=subprocess.PIPE, text=True) as testing:
                samples, said = observe(node, testing)
        finally:
            node.terminate()
    return report(samples, said, minutes)


def observe(
    node: subprocess.Popen[Any], tester: subprocess.Popen[str]
) -> tuple[list[dict[str, float]], dict[str, Any]]:
    """What the node held until the tester ended, and what the tester said; it never outlives the node."""
    try:
        samples = watch(node, tester)
    finally:
        tester.kill()
    assert tester.stdout is not None
    if tester.returncode:
        raise RuntimeError(f"the tester ended with code {tester.returncode}; its error is above")
    return samples, json.loads(tester.stdout.read())


def watch(node: subprocess.Popen[Any], tester: subprocess.Popen[str]) -> list[dict[str, float]]:
    """Looks at the node until the tester ends."""
    samples: list[dict[str, float]] = []
    begin = time.monotonic()
    while True:
        time.sleep(SAMPLE_S)
        if tester.poll() is not None:
            return samples
        if node.poll() is not None:
            raise RuntimeError(f"the node ended with code {node.returncode}")
        status = dict(line.split(":", 1) for line in Path(f"/proc/{node.pid}/status").read_text().splitlines())
        samples.append(
            {
                "minute": (time.monotonic() - begin) / 60,
                "resident MiB": int(status["VmRSS"].split()[0]) / 1024,
                "open files": len(list(Path(f"/proc/{node.pid}/fd").iterdir())),
                "threads": int(status["Threads"]),
            }
        )


def report(samples: Sequence[dict[str, float]], said: dict[str, Any], minutes: float) -> Section:
    """Growth by least squares over the settled part of the run."""
    settled = [each for each in samples if each["minute"] >= SETTLED * minutes]
    per_minute = float(
        np.polyfit([each["minute"] for each in settled], [each["resident MiB"] for each in settled], 1)[0]
    )
    rows = [samples[i] for i in np.linspace(0, len(samples) - 1, min(ROWS, len(samples))).astype(int)]
    counters = {key: int(value) for key, value in said["counters"].items() if value.isdigit()}
    known = ("scans_labelled", "scans_dropped", "scans_unwanted", "bad_messages", "scans_missed")
    measures = {
        "soak_mib_per_hour": 60 * per_minute,
        "soak_resident_mib": max(each["resident MiB"] for each in samples),
        "soak_unexplained": float(said["sent"] - sum(counters[key] for key in known)),
    }
    notes = (
        f"{said['sent']} scans sent, {said['empty']} of them empty and {said['truncated']} truncated; "
        f"{said['labelled']} labelled, {counters['bad_messages']} refused, {counters['scans_dropped']} dropped; "
        f"{said['viewed']} coloured clouds and {said['overlays']} overlays seen in {said['visits']} visits",
        f"growth after the first {SETTLED:.0%}: {60 * per_minute:.2f} MiB per hour",
    )
    title = f"The node for {minutes:g} minutes at {RATE_HZ:g} Hz"
    return Section(
        "soak", title, (Table("what the node held", tuple(rows)),), measures, notes=notes, details={"said": said}
    )


def exercise_node(scan: Any, minutes: float) -> dict[str, Any]:
    """Sends what a robot may send, hears what the node says; what became of it."""
    import rclpy
    from diagnostic_msgs.msg import DiagnosticArray
    from sensor_msgs.msg import PointCloud2

    rclpy.init()
    node = rclpy.create_node("soak_tester")
    clouds = node.create_publisher(PointCloud2, INPUT, 5)
    publish_image = camera_publisher(node)
    said: dict[str, Any] = dict.fromkeys(
        ("sent", "empty", "truncated", "labelled", "viewed", "filtered", "overlays", "visits"), 0
    )
    said["counters"] = {}

    def count(name: str) -> Any:
        return lambda message: said.update({name: said[name] + 1})

    def hear(diagnostics: DiagnosticArray) -> None:
        said["counters"] = {value.key: value.value for value in diagnostics.status[0].values}

    def spin(until: float) -> None:
        while time.monotonic() < until:
            rclpy.spin_once(node, timeout_sec=max(0.0, until - time.monotonic()))

    node.create_subscription(PointCloud2, LABELLED, count("labelled"), 5)
    node.create_subscription(DiagnosticArray, "/diagnostics", hear, 5)
    while not clouds.get_subscription_count() or not said["counters"]:
        rclpy.spin_once(node, timeout_sec=0.1)
    viewer: list[Any] = []
    random, begin = np.random.default_rng(0), time.monotonic()
    while time.monotonic() < begin + 60 * minutes:
        spin(begin + said["sent"] / RATE_HZ)
        if said["sent"] % VIEW_EVERY == 0:
            viewer = switch_viewer(node, viewer, count)
            said["visits"] += bool(viewer)
        if said["sent"] % 2 == 0:
            publish_image(node.get_clock().now().to_msg())
        clouds.publish(next_cloud(node, scan, random, said))
        said["sent"] += 1
    spin(time.monotonic() + 3)  # one more round of diagnostics
    return said


def switch_viewer(node: Any, viewer: Sequence[Any], count: Any) -> list[Any]:
    """Ends the subscriptions of a viewer, or makes new ones."""
    from sensor_msgs.msg import Image, PointCloud2

    for subscription in viewer:
        node.destroy_subscription(subscription)
    if viewer:
        return []
    return [
        node.create_subscription(PointCloud2, f"{NODE}/output/pointcloud/visualization", count("viewed"), 5),
        node.create_subscription(PointCloud2, f"{NODE}/output/pointcloud/filtered", count("filtered"), 5),
        node.create_subscription(Image, f"{NODE}/output/image/overlay/front", count("overlays"), 5),
    ]


def next_cloud(node: Any, scan: Any, random: np.random.Generator, said: dict[str, Any]) -> Any:
    """A random share of the points; now and then none, or a message whose end is missing."""
    from ov_seg_ros.messages.cloud_buffer import encode_cloud
    from ov_seg_ros.ros.outputs import MESSAGE_TYPES

    turn = said["sent"] % ODD_EVERY
    points = scan[: 0 if turn == ODD_EVERY - 1 else random.integers(1, len(scan) + 1)]
    fields = dict(zip(("x", "y", "z", "intensity"), points.T, strict=True))
    message = encode_cloud(fields, node.get_clock().now().nanoseconds, "lidar").to_message(MESSAGE_TYPES)
    said["empty"] += len(points) == 0
    if turn == ODD_EVERY // 2:
        message.data = message.data[:-1]
        said["truncated"] += 1
    return message


if __name__ == "__main__":
    main()
