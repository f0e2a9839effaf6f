"""The programs that ``node.py`` measures with, each in a process of its own: a LiDAR driver, the node, a listener.

They talk to ``node.py`` in lines: "ready" once they are, and one line of JSON when they end, which they do when their
input closes.
"""

from __future__ import annotations

import argparse
import array
import json
import pickle
import struct
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

NODE = "/segmentation_node"
INPUT, LABELLED = f"{NODE}/input/pointcloud", f"{NODE}/output/pointcloud/segmentation"
STAGES = ("decode", "preprocess", "inference", "postprocess", "encode", "total")
IMAGE_SIZE = (1600, 900)
SETTLE_S = 0.5
NS = 1_000_000_000


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the program named first."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("program", choices=("driver", "listener", "node"))
    parser.add_argument("--scan", type=Path, help="driver: pickled DecodedCloud to send")
    parser.add_argument("--scans", type=int, default=0, help="driver: how many to send, 0 = until its input closes")
    parser.add_argument("--rate", type=float, default=10.0, help="driver: scans (and images) per second")
    parser.add_argument("--no-wait", action="store_true", help="driver: begin before anybody listens")
    parser.add_argument("--camera", action="store_true", help="driver: send images of one camera too")
    parser.add_argument("--plain", action="store_true", help="driver, listener: leave their memory to the C library")
    parser.add_argument("--serialized", action="store_true", help="listener: take clouds as bytes, as a recorder does")
    parser.add_argument("--first", action="store_true", help="listener: end with the first cloud")
    parser.add_argument("--stand-in", choices=("geometry", "color"), help="node: answer at once, without a student")
    options, ros_arguments = parser.parse_known_args(arguments)
    if options.program == "node":
        raise SystemExit(run_node(options.stand_in, ros_arguments))
    if not options.plain:
        from ov_seg_ros.ros.process_memory import keep_freed_memory

        keep_freed_memory()
    if options.program == "driver":
        drive(options)
    else:
        listen(options.serialized, options.first)


def drive(options: argparse.Namespace) -> None:
    """Publishes a scan at a steady rate, stamped with the time just before; tells the stamps and how long it took."""
    import rclpy
    from sensor_msgs.msg import PointCloud2

    rclpy.init()
    node = rclpy.create_node("benchmark_driver")
    publisher = node.create_publisher(PointCloud2, INPUT, 5)
    publish_camera = camera_publisher(node) if options.camera else lambda stamp: None
    cloud = load_cloud(options.scan)
    while publisher.get_subscription_count() == 0 and not options.no_wait:
        time.sleep(0.02)
    time.sleep(SETTLE_S)
    print("ready", flush=True)
    stamps: list[int] = []
    publish_ms: list[float] = []
    closed, start = input_closed(), time.monotonic()
    while not closed.is_set() and not 0 < options.scans <= len(stamps):
        time.sleep(max(0.0, start + len(stamps) / options.rate - time.monotonic()))
        stamps.append(time.time_ns())
        cloud.header.stamp.sec, cloud.header.stamp.nanosec = divmod(stamps[-1], NS)
        publisher.publish(cloud)
        publish_ms.append((time.time_ns() - stamps[-1]) * 1e-6)
        publish_camera(cloud.header.stamp)
    time.sleep(SETTLE_S)
    print(json.dumps({"stamps": stamps, "publish_ms": publish_ms, "bytes": len(cloud.data)}), flush=True)


def load_cloud(path: Path) -> Any:
    """The scan as a message."""
    from ov_seg_ros.messages.cloud_buffer import pack_cloud
    from ov_seg_ros.ros.outputs import MESSAGE_TYPES

    decoded = pickle.loads(path.read_bytes())
    buffer = pack_cloud(decoded.fields, decoded.layout, decoded.shape, 0, "lidar", decoded.is_bigendian)
    return buffer.to_message(MESSAGE_TYPES)


def camera_publisher(node: Any) -> Callable[[Any], None]:
    """Publishes a raw image of a front camera and its calibration with the stamp given."""
    from sensor_msgs.msg import CameraInfo, Image

    image_out = node.create_publisher(Image, f"{NODE}/input/front/image", 5)
    info_out = node.create_publisher(CameraInfo, f"{NODE}/input/front/camera_info", 5)
    width, height = IMAGE_SIZE
    image = Image(width=width, height=height, encoding="rgb8", step=3 * width)
    image.data = array.array("B", bytes(3 * width * height))
    info = CameraInfo(width=width, height=height, distortion_model="plumb_bob", d=[0.0] * 5)
    info.k = [1200.0, 0.0, width / 2, 0.0, 1200.0, height / 2, 0.0, 0.0, 1.0]
    info.p = [1200.0, 0.0, width / 2, 0.0, 0.0, 1200.0, height / 2, 0.0, 0.0, 0.0, 1.0, 0.0]

    def publish(stamp: Any) -> None:
        for message, publisher in ((info, info_out), (image, image_out)):
            message.header.stamp, message.header.frame_id = stamp, "camera"
            publisher.publish(message)

    return publish


def listen(serialized: bool, only_first: bool) -> None:
    """Notes when labelled scans arrive, and what the node says about its stages and its counters."""
    import rclpy
    from diagnostic_msgs.msg import DiagnosticArray
    from sensor_msgs.msg import PointCloud2
    from std_msgs.msg import Float64

    rclpy.init()
    node = rclpy.create_node("benchmark_listener")
    heard: dict[str, Any] = {"arrivals": [], "counters": {}, "bytes": 0}

    def on_bytes(cloud: bytes) -> None:
        now_ns, (sec, nanosec) = time.time_ns(), struct.unpack_from("<iI", cloud, 4)  # behind the CDR header
        heard["arrivals"].append((sec * NS + nanosec, now_ns))
        heard["bytes"] = len(cloud)

    def on_cloud(cloud: PointCloud2) -> None:
        now_ns, stamp = time.time_ns(), cloud.header.stamp
        heard["arrivals"].append((stamp.sec * NS + stamp.nanosec, now_ns))
        heard["bytes"] = len(cloud.data)

    def on_diagnostics(report: DiagnosticArray) -> None:
        heard["counters"] = {value.key: value.value for value in report.status[0].values}

    def collect(name: str) -> Callable[[Float64], None]:
        values = heard.setdefault(name, [])
        return lambda message: values.append(message.data)

    node.create_subscription(PointCloud2, LABELLED, on_bytes if serialized else on_cloud, 5, raw=serialized)
    node.create_subscription(DiagnosticArray, "/diagnostics", on_diagnostics, 5)
    node.create_subscription(Float64, f"{NODE}/debug/pipeline_latency_ms", collect("latency"), 20)
    for stage in STAGES:
        node.create_subscription(Float64, f"{NODE}/debug/processing_time/{stage}_ms", collect(stage), 20)
    closed = input_closed()
    while not (only_first or heard["counters"] or closed.is_set()):
        rclpy.spin_once(node, timeout_sec=0.1)  # until the node and this listener have found each other
    print("ready", flush=True)
    while not closed.is_set() and not (only_first and heard["arrivals"]):
        rclpy.spin_once(node, timeout_sec=0.1)
    print(json.dumps(heard), flush=True)


def run_node(stand_in: str | None, ros_arguments: list[str]) -> int:
    """Runs the real node and notes the time of every step of its start, and how its scans came in; its exit code."""
    times = {"python": time.time()}
    from ov_seg_ros.ros import qos, segmentation_node

    times["imports"] = time.time()
    arrivals: list[tuple[int, int, int]] = []

    def load(parameters: Any) -> Any:
        times["node"] = time.time()
        segmenter = make_stand_in(stand_in) if stand_in else segmentation_node.load_segmenter(parameters)
        times["model"] = time.time()
        warm_up = segmenter.warm_up
        segmenter.warm_up = lambda: (warm_up(), times.update(warm=time.time()))
        return segmenter

    class Node(segmentation_node.SegmentationNode):
        def autostart(self) -> bool:
            done = super().autostart()
            times["active"] = time.time()
            print("ready", flush=True)
            return done

    class Subscription(qos.SensorSubscription):
        def _receive_with_info(self, message: Any, info: Any) -> None:
            if self.topic == INPUT:
                arrivals.append((info["source_timestamp"], info["received_timestamp"], time.time_ns()))
            super()._receive_with_info(message, info)

    segmentation_node.SegmentationNode = Node
    sys.modules["ov_seg_ros.ros.segmentation_session"].SensorSubscription = Subscription
    code = segmentation_node.main(["node", *ros_arguments], load)
    print(json.dumps({"times": times, "arrivals": arrivals}), flush=True)
    return code


def make_stand_in(kind: str) -> Any:
    """A segmenter that answers at once: what remains is the node's own work."""
    from ov_seg_ros.core.data_types import PointCloud, SegmentedCloud
    from ov_seg_ros.core.label_space import LabelSpace

    answers: dict[int, SegmentedCloud] = {}

    def segment(cloud: PointCloud, images: Any = ()) -> SegmentedCloud:
        if len(cloud) not in answers:
            zeros = np.zeros(len(cloud), np.float32)
            stage_ms = {"preprocess": 0.0, "inference": 0.0, "postprocess": 0.0}
            answers[len(cloud)] = SegmentedCloud(np.zeros(len(cloud), np.uint8), zeros, zeros, stage_ms)
        return answers[len(cloud)]

    return SimpleNamespace(
        description=SimpleNamespace(label_space=LabelSpace("stand-in", ("road", "other"), ((90,) * 3, (9,) * 3))),
        sha256="0" * 64,
        provider="none",
        uses_color=kind == "color",
        warm_up=lambda: None,
        segment=segment,
    )


def input_closed() -> threading.Event:
    """An event that is set when the standard input of this process closes."""
    event = threading.Event()

    def wait() -> None:
        sys.stdin.read()
        event.set()

    threading.Thread(target=wait, daemon=True).start()
    return event


if __name__ == "__main__":
    main()
