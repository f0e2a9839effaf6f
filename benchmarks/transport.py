"""One-way time of a LiDAR scan between two processes, for the Fast DDS transports of docs/transport.md.

    python benchmarks/transport.py [--discovery LOCALHOST SUBNET] [--bytes 2600000] [--json FILE]

Sender and receiver are rclpy programs; the settings take turns, with new processes each time.
"""

from __future__ import annotations

import argparse
import array
import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ov_seg_ros.bench.section import BenchOptions, Section, Table
from ov_seg_ros.bench.spread import summarize
from ov_seg_ros.commands.ros_domain import own_domain

PROFILE = Path(__file__).resolve().parents[1] / "config" / "fastdds" / "large_data.xml"
SETTINGS: dict[str, dict[str, str]] = {
    "default": {},
    "FASTDDS_BUILTIN_TRANSPORTS=LARGE_DATA": {"FASTDDS_BUILTIN_TRANSPORTS": "LARGE_DATA"},
    "config/fastdds/large_data.xml": {"FASTDDS_DEFAULT_PROFILES_FILE": str(PROFILE)},
}
TOPIC = "ov_seg_transport_benchmark"
SCAN_BYTES, SCANS = 2_600_000, 30
RANGES = ("LOCALHOST", "SUBNET")


def contest(options: BenchOptions, discovery: Sequence[str] = RANGES, size: int = SCAN_BYTES) -> Section:
    """Measures every setting for every range of discovery."""
    if importlib.util.find_spec("rclpy") is None:
        return Section(
            "transport", "Transport", missing=("transport: not measured, rclpy is missing: pip install '.[ros]'",)
        )
    scans, rounds = (15, 1) if options.quick else (SCANS, 2)
    delays: dict[tuple[str, str], list[float]] = {(where, how): [] for where in discovery for how in SETTINGS}
    missing = []
    for _ in range(rounds):
        for (where, how), found in delays.items():
            options.say(f"transport: {where}, {how}")
            found += measure(where, how, size, scans)
    rows = []
    for (where, how), found in delays.items():
        if found:
            rows.append({"discovery": where, "setting": how, **summarize(found)})
        else:
            missing.append(f"{how} with discovery range {where}: nothing was received")
    title = f"{size / 1e6:.1f} MB at 10 Hz, from just before publication to the callback"
    raw = {f"{where}, {how}": found for (where, how), found in delays.items()}
    return Section(
        "transport", "One way between two processes", (Table(title, tuple(rows)),), missing=tuple(missing), details=raw
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table; in the role of a sender or receiver, does its part."""
    from ov_seg_ros.commands.bench import run_contest

    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--bytes", type=int, default=SCAN_BYTES)
    parser.add_argument("--count", type=int, default=SCANS)
    parser.add_argument("--discovery", nargs="+", choices=RANGES, default=RANGES)
    parser.add_argument("--role", choices=("send", "receive"))
    args, rest = parser.parse_known_args(arguments)
    if args.role == "send":
        send(args.bytes)
    elif args.role == "receive":
        receive(args.count)
    else:

        def measure_chosen(options: BenchOptions) -> Section:
            return contest(options, args.discovery, args.bytes)

        run_contest(measure_chosen, __doc__, rest)


def measure(discovery: str, setting: str, size: int, scans: int) -> list[float]:
    """Runs a sender and a receiver; the delays in milliseconds."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("FASTDDS", "FASTRTPS"))}
    fixed = {"ROS_DOMAIN_ID": str(own_domain()), "ROS_AUTOMATIC_DISCOVERY_RANGE": discovery}
    environment = inherited | fixed | SETTINGS[setting]
    script = [sys.executable, __file__, "--count", str(scans), "--bytes", str(size), "--role"]
    receiver = subprocess.Popen([*script, "receive"], env=environment, stdout=subprocess.PIPE, text=True)
    sender = subprocess.Popen([*script, "send"], env=environment)
    output = receiver.communicate()[0]
    sender.terminate()
    sender.wait()
    return list(json.loads(output or "[]"))


def send(size: int) -> None:
    """Publishes clouds of ``size`` bytes at 10 Hz until it is stopped."""
    import rclpy
    from sensor_msgs.msg import PointCloud2

    rclpy.init()
    node = rclpy.create_node("benchmark_sender")
    publisher = node.create_publisher(PointCloud2, TOPIC, 2)
    cloud = PointCloud2()
    cloud.data = array.array("B", bytes(size))
    while rclpy.ok():
        now = time.time_ns()
        cloud.header.stamp.sec, cloud.header.stamp.nanosec = divmod(now, 1_000_000_000)
        publisher.publish(cloud)
        time.sleep(0.1)


def receive(scans: int) -> None:
    """Prints the delays of ``scans`` clouds as JSON; the first ten clouds do not count."""
    import rclpy
    from sensor_msgs.msg import PointCloud2

    rclpy.init()
    node = rclpy.create_node("benchmark_receiver")
    delays_ms: list[float] = []

    def on_cloud(cloud: PointCloud2) -> None:
        stamp = cloud.header.stamp.sec * 1_000_000_000 + cloud.header.stamp.nanosec
        delays_ms.append((time.time_ns() - stamp) / 1e6)

    node.create_subscription(PointCloud2, TOPIC, on_cloud, 2)
    deadline = time.monotonic() + 10 + 0.2 * scans
    while len(delays_ms) < scans + 10 and time.monotonic() < deadline:
        rclpy.spin_once(node, timeout_sec=0.5)
    print(json.dumps(delays_ms[10:]))


if __name__ == "__main__":
    main()
