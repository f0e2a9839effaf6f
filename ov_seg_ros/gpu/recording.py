"""A chain of launches from a cloud to labels, recorded once as a CUDA graph and replayed for every scan.

Uploading the cloud and downloading the answers belong to the recording. Host and GPU meet once per scan, at the end,
and the host waits asleep.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray

from ov_seg_ros.core.data_types import PointCloud
from ov_seg_ros.gpu.device_labels import DeviceLabels


@dataclass(frozen=True)
class CloudBuffers:
    """A cloud in buffers of a fixed capacity; rows from ``num_points`` on hold anything.

    Attributes:
        points: (capacity, 3) float32, metres.
        intensity: (capacity,) float32, in the sensor's scale.
        color: (capacity, 4) float32 red, green, blue in 0..1 and valid (0 or 1).
        num_points: (1,) int32.
    """

    points: torch.Tensor
    intensity: torch.Tensor
    color: torch.Tensor
    num_points: torch.Tensor

    @classmethod
    def empty(cls, capacity: int, with_color: bool, device: torch.device, pinned: bool = False) -> CloudBuffers:
        """Buffers without points; ``color`` has no rows without colours."""

        def zeros(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
            return torch.zeros(shape, dtype=dtype, device=device, pin_memory=pinned)

        return cls(
            zeros(capacity, 3),
            zeros(capacity),
            zeros(capacity if with_color else 0, 4),
            zeros(1, dtype=torch.int32),
        )


Chain = Callable[[CloudBuffers], DeviceLabels]
"""Launches everything from a cloud on the device to its labels, without waiting for anything."""

_ONE_AT_A_TIME = threading.Lock()
"""A recording waits for the whole device, which another thread's recording would not survive."""


class Recording:
    """Runs a chain on clouds of up to ``capacity`` points. On a device without CUDA graphs it is called every time.

    Args:
        chain: what is recorded; called twice, the first time to compile what has to be compiled.
        capacity: points, at most.
        with_color: whether clouds come with colours.
        device: where it runs.
    """

    def __init__(self, chain: Chain, capacity: int, with_color: bool, device: torch.device) -> None:
        self._chain = chain
        self._device = device
        self._on_gpu = device.type == "cuda"
        self._uploaded = CloudBuffers.empty(capacity, with_color, device)
        self._cloud = CloudBuffers.empty(capacity, with_color, torch.device("cpu"), pinned=self._on_gpu)
        self._labels = self._host_labels(capacity)
        self._graph: torch.cuda.CUDAGraph | None = None
        if self._on_gpu:
            self._done = torch.cuda.Event(blocking=True)
            self._graph = self._record()

    def run(self, cloud: PointCloud, color: NDArray[np.float32] | None = None) -> DeviceLabels:
        """Labels a cloud.

        Args:
            cloud: at most ``capacity`` points.
            color: (N, 4) float32 as in ``CloudBuffers``; None = no point has one.

        Returns:
            Answers in the host's memory, all rows; overwritten by the next run.
        """
        num_points = len(cloud)
        self._cloud.points[:num_points] = torch.from_numpy(cloud.points)
        self._cloud.intensity[:num_points] = torch.from_numpy(cloud.intensity)
        if len(self._cloud.color):
            self._cloud.color[:num_points] = 0 if color is None else torch.from_numpy(color)
        self._cloud.num_points.fill_(num_points)
        if self._graph is None:
            self._launch()
        else:
            with torch.cuda.device(self._device):  # another one may be this thread's: its end would say nothing
                self._graph.replay()
                self._done.record()
                self._done.synchronize()
        return self._labels

    def _launch(self) -> None:
        _copy(self._cloud, self._uploaded)
        _copy(self._chain(self._uploaded), self._labels)

    def _record(self) -> torch.cuda.CUDAGraph:
        with _ONE_AT_A_TIME, torch.cuda.device(self._device):
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                self._launch()
            stream.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
                self._launch()
        return graph

    def _host_labels(self, capacity: int) -> DeviceLabels:
        def zeros(rows: int, dtype: torch.dtype) -> torch.Tensor:
            return torch.zeros(rows, dtype=dtype, pin_memory=self._on_gpu)

        return DeviceLabels(
            zeros(capacity, torch.uint8),
            zeros(capacity, torch.float32),
            zeros(capacity, torch.float32),
            zeros(1, torch.int32),
            zeros(1, torch.int32),
            zeros(1, torch.bool),
        )


def _copy(source: CloudBuffers | DeviceLabels, target: CloudBuffers | DeviceLabels) -> None:
    for field in fields(source):
        getattr(target, field.name).copy_(getattr(source, field.name), non_blocking=True)
