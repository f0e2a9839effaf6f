"""The whole way of a scan on an NVIDIA GPU: points go in, labels come out, and the processor waits once, at the end.

Voxels, features, tables, network and labels are one CUDA graph. It has room for a number of points, and for a number of
voxels on each level; how many there are is known on the GPU alone. A scan that does not fit makes it be recorded anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import triton  # noqa: F401  what is missing is found before a GPU is looked for
from numpy.typing import NDArray

from ov_seg_ros.core.data_types import CameraImage, PointCloud
from ov_seg_ros.core.errors import ModelError
from ov_seg_ros.core.point_color import sample_colors
from ov_seg_ros.core.pyramid import build_pyramid
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
"""Points."""
SPARE_VOXELS = 1.5
"""A recording has room for so many times the voxels of the scan that it was made for: the next ones have more."""
_VOXEL_STEP = 256


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
        asked = torch.device("cuda" if device is None else device)
        # The current one is another one in other threads.
        self._device = _find_gpu() if asked == torch.device("cuda") else asked
        name = torch.cuda.get_device_name(self._device) if self._device.type == "cuda" else str(self._device)
        self.provider_note = f"runs on {TRITON} in {precision} on {name}, as asked"
        self._triton = make_network(model, self._device, precision)
        self._room = Room(0, (0,) * model.description.num_levels)
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
            if self._recording is not None and len(cloud) <= self._room.points:
                labels = self._recording.run(cloud, color)
                if not labels.overflowed:
                    return labels
            return self._record(cloud).run(cloud, color)
        except Exception as error:  # neither CUDA's exceptions nor Triton's have a common base class
            raise ModelError(
                f"model {self.description.name!r} failed on {TRITON} with {len(cloud)} points: {error}; provider cpu"
                " needs no GPU"
            ) from error

    def _record(self, cloud: PointCloud) -> Recording:
        """A recording with room for this scan, and for those that had room before."""
        self._recording = None  # its memory is given back before more is taken
        room = self._room.with_room_for(cloud, self.description)
        chain = ScanChain(self.description, self._triton, room, self._device)
        self._recording = Recording(chain, room.points, self.uses_color, self._device)
        self._room = room  # not before: a scan that is too large for the GPU must not enlarge the next one's recording
        return self._recording


@dataclass(frozen=True)
class Room:
    """How large a scan may be.

    Attributes:
        points: of the scan, those outside the grid included.
        voxels: of each level, finest first.
    """

    points: int
    voxels: tuple[int, ...]

    def with_room_for(self, cloud: PointCloud, description: StudentDescription) -> Room:
        """Enlarged where a scan of at least one point needs it; looked up on the CPU, in some milliseconds."""
        points = max(self.points, capacity_for(len(cloud)))
        coords = description.grid.voxelize(cloud.points).coords
        needed = [len(level) for level in build_pyramid(coords, description.num_levels).levels]
        enough = (-(-int(SPARE_VOXELS * number + 1) // _VOXEL_STEP) * _VOXEL_STEP for number in needed)
        return Room(points, tuple(min(points, max(pair)) for pair in zip(self.voxels, enough, strict=True)))


class ScanChain:
    """Launches all of a scan's steps, from points to labels, for scans of a limited size."""

    def __init__(
        self, description: StudentDescription, network: TritonNetwork, room: Room, device: torch.device
    ) -> None:
        grid, names = description.grid, description.point_features
        self._grid = DeviceGrid(grid, room.points, device, room.voxels[0])
        self._features = FeatureBuilder(grid, names, room.points, device, room.voxels[0])
        self._pyramid = PyramidBuilder(grid.shape, room.voxels, device)
        self._network = network
        network.prepare(room.voxels)

    def __call__(self, cloud: CloudBuffers) -> DeviceLabels:
        """Points to labels; waits for nothing."""
        voxels, features, pyramid = self.prepare(cloud)
        logits = self._network.run(features, pyramid)
        return label_points(logits, voxels.count, voxels.point_to_voxel, pyramid.overflowed)

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
