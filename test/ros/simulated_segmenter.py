"""A student whose labels follow from the points by a rule, so that tests can check every one of them.

Also a program: the node with this student, for tests that need the node in a process of its own.
"""

import time

import numpy as np

from ov_seg_ros.core.data_types import IGNORE_ID, SegmentedCloud
from ov_seg_ros.core.errors import ModelError
from ov_seg_ros.core.label_space import LabelSpace
from ov_seg_ros.core.student_description import StudentDescription
from ov_seg_ros.core.voxels import VoxelGrid

GRID = VoxelGrid("cartesian", (0.1, 0.1, 0.1), (-50.0, -50.0, -5.0), (50.0, 50.0, 5.0))
LABEL_SPACE = LabelSpace("simulated", ("road", "car", "tree"), ((10, 20, 30), (255, 0, 0), (0, 255, 0)))


def expected_class(points):
    """(N,) uint8: whole metres of x modulo 3, unknown where a coordinate is not finite."""
    valid = np.isfinite(points).all(axis=1)
    whole = np.floor(np.where(valid, points[:, 0], 0)).astype(np.int64)
    return np.where(valid, whole % 3, IGNORE_ID).astype(np.uint8)


def expected_probability(points):
    """(N,) float32: 0.5 left of the sensor, 0.9 right of it, 0 where unknown."""
    right = np.where(points[:, 1] < 0, 0.9, 0.5)
    return np.where(expected_class(points) == IGNORE_ID, 0, right).astype(np.float32)


class SimulatedSegmenter:
    """Counts its calls and can be slow, colour-loving or broken."""

    def __init__(self, delay_s=0.0, uses_color=False, fail=False):
        self.description = StudentDescription("simulated", LABEL_SPACE, GRID, ("height",), 1)
        self.sha256 = "0123456789abcdef" * 4
        self.provider = "CPUExecutionProvider"
        self.uses_color = uses_color
        self.delay_s = delay_s
        self.fail = fail
        self.calls = []
        self.warm_ups = 0
        self.warm_up_s = 0.0

    def warm_up(self):
        self.warm_ups += 1
        if self.warm_up_s:
            print("warming up", flush=True)
        time.sleep(self.warm_up_s)

    def segment(self, cloud, images=()):
        self.calls.append((cloud.stamp_ns, tuple(image.name for image in images)))
        time.sleep(self.delay_s)
        if self.fail:
            raise ModelError("the network failed on purpose")
        class_id = expected_class(cloud.points)
        entropy = np.where(class_id == IGNORE_ID, 0, 0.25).astype(np.float32)
        stage_ms = {"preprocess": 1.0, "inference": 2.0, "postprocess": 3.0, "total": 6.0}
        return SegmentedCloud(class_id, expected_probability(cloud.points), entropy, stage_ms)


if __name__ == "__main__":
    import os

    from ov_seg_ros.ros.segmentation_node import main

    def make(parameters):
        segmenter = SimulatedSegmenter()
        segmenter.warm_up_s = float(os.environ.get("WARM_UP_S", "0"))
        return segmenter

    raise SystemExit(main(segmenter_factory=make))
