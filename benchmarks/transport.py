"""One-way time of a LiDAR scan between two processes, for the Fast DDS transports of docs/transport.md.

python benchmarks/transport.py                    the settings as they are in your shell
ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST python benchmarks/transport.py
"""

from __future__ import annotations

import argparse
import array
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

PROFILE = Path(__file__).resolve().parents[1] / "config" / "fastdds" / "large_data.xml"
SETTINGS: dict[str, dict[str, str]] = {
    "default": {},
    "FASTDDS_BUILTIN_TRANSPORTS=LARGE_DATA": {"FASTDDS_BUILTIN_TRANSPORTS": "LARGE_DATA"},
    "config/fastdds/large_data.xml": {"FASTDDS_DEFAULT_PROFILES_FILE": str(PROFILE)},
}
TOPIC, DOMAIN = "ov_seg_transport_benchmark", "97"


def main() -> None:
    """Prints a table; in the role of a sender or receiver, does its part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--bytes", type=int, default=2_600_000, help="size of a scan (default: 130 000 points of 20 bytes)"
    )
    parser.add_argument("--scans", type=int, default=50, help="scans per setting, at 10 Hz (default: 50)")
    parser.add_argument("--discovery", choices=("LOCALHOST", "SUBNET"), default="LOCALHOST", help="discovery range")
    parser.add_argument("--role", choices=("send", "receive"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.role == "send":
        send(args.bytes)
    elif args.role == "receive":
        receive(args.scans)
    else:
        measure(args)


def measure(args: argparse.Namespace) -> None:
    """Runs a sender and a receiver per setting."""
    print(f"{args.bytes / 1e6:.1f} MB at 10 Hz, discovery range {args.discovery}, {os.cpu_count()} cores")
    for setting, variables in SETTINGS.items():
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("FASTDDS", "FASTRTPS"))
        }
        environment |= {"ROS_DOMAIN_ID": DOMAIN, "ROS_AUTOMATIC_DISCOVERY_RANGE": args.discovery, **variables}
        script = [sys.executable, __file__, "--scans", str(args.scans), "--bytes", str(args.bytes), "--role"]
        receiver = subprocess.Popen([*script, "receive"], env=environment, stdout=subprocess.PIPE, text=True)
        sender = subprocess.Popen([*script, "send"], env=environment)
        output = receiver.communicate()[0]
        sender.terminate()
        sender.wait()
        print(f"  {setting:40} {output.strip()}")


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
    """Prints the percentiles of the delay of ``scans`` clouds; the first ten do not count."""
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
    if len(delays_ms) <= 10:
        print("nothing received")
        return
    p50, p90, p99 = np.percentile(delays_ms[10:], [50, 90, 99])
    print(f"p50 {p50:5.1f} ms   p90 {p90:5.1f} ms   p99 {p99:5.1f} ms")


if __name__ == "__main__":
    main()
