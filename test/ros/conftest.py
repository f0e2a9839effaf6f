"""The node and a test node over real DDS: same process and executor, a domain of its own."""

import importlib.util
import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from ov_seg_ros.commands.ros_domain import own_domain

DOMAIN_ID = own_domain()
os.environ["ROS_DOMAIN_ID"] = str(DOMAIN_ID)
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"

rclpy = pytest.importorskip("rclpy", reason="the ROS 2 wheels are not installed (pip install 'ov_seg_ros[ros]')")

from diagnostic_msgs.msg import DiagnosticArray  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy  # noqa: E402
from sensor_msgs.msg import PointCloud2  # noqa: E402

from ov_seg_ros.messages.pointcloud2 import encode_cloud  # noqa: E402
from ov_seg_ros.ros.outputs import MESSAGE_TYPES  # noqa: E402
from ov_seg_ros.ros.segmentation_node import SegmentationNode  # noqa: E402

HERE = Path(__file__).parent
CLOUD = "/segmentation_node/output/pointcloud/"
RELIABLE = QoSProfile(depth=100)
BEST_EFFORT = QoSProfile(depth=100, reliability=ReliabilityPolicy.BEST_EFFORT)
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def _load(name):
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


simulated = _load("simulated_segmenter")


class Rig:
    """A running node, and what a test needs to talk to it."""

    CLOUD = CLOUD
    BEST_EFFORT = BEST_EFFORT
    LATCHED = LATCHED
    simulated = simulated

    def __init__(self, context, start=True, delay_s=0.0, uses_color=False, free_memory=None, **parameters):
        self.segmenter = simulated.SimulatedSegmenter(delay_s, uses_color)
        overrides = [rclpy.Parameter(name.replace("__", "."), value=value) for name, value in parameters.items()]
        options = {"context": context, "parameter_overrides": overrides}
        self.node = SegmentationNode(lambda _: self.segmenter, free_memory, **options)
        self.tester = rclpy.create_node("tester", context=context)
        self.executor = SingleThreadedExecutor(context=context)
        self.executor.add_node(self.node)
        self.executor.add_node(self.tester)
        self.received = {}
        if start:
            assert self.node.autostart()
        self.clouds = self.tester.create_publisher(PointCloud2, "/segmentation_node/input/pointcloud", RELIABLE)

    def close(self):
        self.node.close()
        self.executor.shutdown()
        self.node.destroy_node()
        self.tester.destroy_node()

    def listen(self, topic, message_type=PointCloud2, qos=RELIABLE):
        """Collects the messages of a topic; returns the list that grows."""
        messages = self.received.setdefault(topic, [])
        self.tester.create_subscription(message_type, topic, messages.append, qos)
        self.spin_until(lambda: self.tester.count_publishers(topic) > 0)
        self.spin(0.05)
        return messages

    def diagnostics(self):
        """The latest diagnostics, as {name: (level, message, values)}."""
        heard = self.listen("/diagnostics", DiagnosticArray)
        heard.clear()
        self.node._diagnostics.publish()
        self.spin_until(lambda: heard)
        return {
            status.name.split(": ")[1]: (status.level[0], status.message, {v.key: v.value for v in status.values})
            for status in heard[-1].status
        }

    def numbers(self):
        return self.diagnostics()["segmentation"][2]

    def spin(self, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.executor.spin_once(timeout_sec=0.01)

    def spin_until(self, condition, timeout_s=15.0):
        end = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < end, f"nothing within {timeout_s} s"
            self.executor.spin_once(timeout_sec=0.01)

    def now_ns(self):
        return time.time_ns()

    def cloud(self, points, stamp_ns=None, frame_id="lidar", **fields):
        """A PointCloud2 of x, y, z and more fields."""
        points = np.asarray(points, np.float32).reshape(-1, 3)
        columns = dict(zip("xyz", points.T, strict=True), **fields)
        return encode_cloud(columns, self.now_ns() if stamp_ns is None else stamp_ns, frame_id).to_message(
            MESSAGE_TYPES
        )

    def send(self, points, **options):
        """Publishes a cloud; returns the message."""
        message = self.cloud(points, **options)
        self.clouds.publish(message)
        return message

    def label(self, message, topic=f"{CLOUD}segmentation"):
        """Publishes a cloud and waits for the answer with its stamp."""
        heard = self.received.get(topic)
        if heard is None:
            heard = self.listen(topic)
        self.clouds.publish(message)
        self.spin_until(lambda: any(answer.header == message.header for answer in heard))
        return next(answer for answer in heard if answer.header == message.header)


@pytest.fixture
def context():
    context = rclpy.Context()
    context.init(args=[], domain_id=DOMAIN_ID)
    yield context
    context.try_shutdown()


@pytest.fixture
def start(context):
    """Starts a node with a simulated student: ``start(delay_s=..., **parameters)``, a dot written ``__``."""
    rigs = []

    def make(**options):
        rigs.append(Rig(context, **options))
        return rigs[-1]

    yield make
    for rig in rigs:
        rig.close()
