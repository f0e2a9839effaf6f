"""The whole way of a scan on an NVIDIA GPU: points go in, labels come out, and the processor waits once, at the end.

Voxels, features, tables, network and labels are one CUDA graph. It has room for a number of points; how many there are,
and how many voxels they fill, are numbers on the GPU. A larger scan than any before makes it be recorded anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
import triton  # noqa: F401  what is missing is found before a GPU is looked for
from numpy.typing import NDArray

from ov_seg_ros.core.data_types import CameraImage, PointCloud
from ov_seg_ros.core.errors import ModelError
from ov_seg_ros.core.point_color import sample_colors
from ov_seg_ros.core.student_description import StudentDescription
from ov_seg_ros.gpu.device_features import FeatureBuilder
from ov_seg_ros.gpu.device_labels import DeviceLabels, label_points
from ov_seg_ros.gpu.device_maps import PyramidBuilder
from ov_seg_ros.gpu.device_tables import DevicePyramid
from ov_seg_ros.gpu.device_voxels import DeviceGrid, DeviceVoxels
from ov_seg_ros.gpu.recording import CloudBuffers, Recording
from ov_seg_ros.runtime.model_file import ModelFile
from ov_seg_ros.runtime.network import TRITON, check_graph
from ov_seg_ros.runtime.network_plan import NotPlannableError
from ov_seg_ros.runtime.onnx_graph import read_onnx_graph
from ov_seg_ros.runtime.segmenter import PointLabels, Segmenter
from ov_seg_ros.runtime.stage_timer import StageTimer
from ov_seg_ros.runtime.triton_network import TritonNetwork

SMALLEST_CAPACITY = 1 << 14


class TritonSegmenter(Segmenter):
    """A student whose every step runs on one GPU; otherwise a ``Segmenter`` as any other.

    Stages: "preprocess" finds colours, "inference" is everything on the GPU with the ways there and back, voxels and
    labels included, "postprocess" takes the answers.

    Args:
        model: the student.
        device: None = the current CUDA device. With Triton's interpreter a CPU will do, for tests.
        precision: of features and weights on the GPU; sums are float32 either way.

    Raises:
        ModelError: no NVIDIA GPU, or the student's graph is not what this provider computes.
    """

    def __init__(
        self,
        model: ModelFile,
        device: torch.device | str | None = None,
        precision: Literal["float16", "float32"] = "float16",
    ) -> None:
        check_graph(model)
        self.description, self.sha256, self.provider = model.description, model.sha256, TRITON
        self._device = _find_gpu() if device is None else torch.device(device)
        name = torch.cuda.get_device_name(self._device) if self._device.type == "cuda" else str(self._device)
        self.provider_note = f"runs on {TRITON} in {precision} on {name}, as asked"
        self._triton = make_network(model, self._device, precision)
        self._recording: Recording | None = None

    def _label(self, cloud: PointCloud, images: Sequence[CameraImage], timer: StageTimer) -> PointLabels:
        """Everything on the GPU; a scan without points does not get there."""
        num_points, color = len(cloud), None
        with timer.stage("preprocess"):
            if self.uses_color and images and num_points:
                with timer.stage("color"):
                    color = sample_colors(cloud.points, images)
        with timer.stage("inference"):
            labels = self._run(cloud, color) if num_points else None
        with timer.stage("postprocess"):
            if labels is None:
                return np.zeros(0, np.uint8), np.zeros(0, np.float32), np.zeros(0, np.float32)
            class_id = labels.class_id[:num_points].numpy().copy()
            probability = labels.probability[:num_points].numpy().copy()
            entropy = labels.entropy[:num_points].numpy().copy()
        self._refuse_broken(int(labels.broken), int(labels.voxels))
        return class_id, probability, entropy

    def _run(self, cloud: PointCloud, color: NDArray[np.float32] | None) -> DeviceLabels:
        try:
            if self._recording is None or self._recording.capacity < len(cloud):
                self._recording = None  # its memory is given back before more is taken
                self._recording = self._record(capacity_for(len(cloud)))
            return self._recording.run(cloud, color)
        except Exception as error:  # neither CUDA's exceptions nor Triton's have a common base class
            raise ModelError(
                f"model {self.description.name!r} failed on {TRITON} with {len(cloud)} points: {error}"
            ) from error

    def _record(self, capacity: int) -> Recording:
        chain = ScanChain(self.description, self._triton, capacity, self._device)
        return Recording(chain, capacity, self.uses_color, self._device)


class ScanChain:
    """Launches all of a scan's steps, from points to labels, for scans of up to ``capacity`` points."""

    def __init__(
        self, description: StudentDescription, network: TritonNetwork, capacity: int, device: torch.device
    ) -> None:
        grid, names = description.grid, description.point_features
        self._grid = DeviceGrid(grid, capacity, device)
        self._features = FeatureBuilder(grid, names, capacity, device)
        self._pyramid = PyramidBuilder(grid.shape, [capacity] * description.num_levels, device)
        self._network = network
        network.prepare([capacity] * description.num_levels)

    def __call__(self, cloud: CloudBuffers) -> DeviceLabels:
        """Points to labels; waits for nothing."""
        voxels, features, pyramid = self.prepare(cloud)
        logits = self._network.run(features, pyramid)
        return label_points(logits, voxels.count, voxels.point_to_voxel)

    def prepare(self, cloud: CloudBuffers) -> tuple[DeviceVoxels, torch.Tensor, DevicePyramid]:
        """What the network takes: voxels, their features (capacity, F) float32, and the tables of all levels."""
        voxels = self._grid.voxelize(cloud.points, cloud.num_points)
        color = cloud.color if len(cloud.color) else None
        features = self._features.build(cloud.points, cloud.intensity, cloud.num_points, voxels, color)
        return voxels, features, self._pyramid.build(voxels.coords, voxels.count)


def make_network(model: ModelFile, device: torch.device, precision: Literal["float16", "float32"]) -> TritonNetwork:
    """The network of a student.

    Raises:
        ModelError: its graph holds something else than sparse convolutions.
    """
    graph, num_features = read_onnx_graph(model.content), len(model.description.point_features)
    try:
        return TritonNetwork(graph, num_features, device, precision)
    except NotPlannableError as error:
        raise ModelError(
            f"{model.path} cannot run on {TRITON}, its graph holds {error}; provider cuda or cpu may run it"
        ) from error


def capacity_for(num_points: int) -> int:
    """Points that a recording for such a scan has room for: a power of two, or one and a half of one."""
    capacity = SMALLEST_CAPACITY
    while capacity < num_points:
        is_power = capacity & (capacity - 1) == 0
        capacity = capacity * 3 // 2 if is_power else capacity * 4 // 3
    return capacity


def _find_gpu() -> torch.device:
    if not torch.cuda.is_available():
        built_for = torch.version.cuda
        reason = f"torch {torch.__version__} was built without CUDA" if built_for is None else "torch sees no GPU"
        raise ModelError(
            f"provider triton needs an NVIDIA GPU, but {reason}: install the driver and a CUDA build of torch, or"
            " choose provider auto"
        )
    return torch.device("cuda", torch.cuda.current_device())
