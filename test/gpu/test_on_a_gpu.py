"""A GPU makes of a scan what the same steps make of it on the CPU, in every run and in every recording."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import pytest

pytest.importorskip("triton", reason="provider triton needs triton")

import torch
from triton_device import DEVICE

from ov_seg_ros.core.data_types import PointCloud
from ov_seg_ros.gpu.recording import CloudBuffers, Recording
from ov_seg_ros.runtime.model_file import load_model_file, shipped_model_path
from ov_seg_ros.runtime.onnx_graph import read_onnx_graph
from ov_seg_ros.runtime.triton_network import TritonNetwork
from ov_seg_ros.runtime.triton_segmenter import Room, ScanChain

pytestmark = pytest.mark.skipif(DEVICE == "cpu", reason="needs a CUDA GPU")
NO_ROOM = Room(0, (0,) * 5)


def cloud_of(kind: str) -> PointCloud:
    random = np.random.default_rng(0)
    count = {"one point": 1, "one voxel": 3000}.get(kind, 40_000)
    points = random.normal(0, 15, (count, 3)).astype(np.float32)
    points[:, 2] *= 0.1
    if kind == "one voxel":
        points = np.full((count, 3), 1.05, np.float32)
    elif kind == "with gaps":
        points[::5] = np.nan
    return PointCloud(points, random.gamma(2, 10, count).astype(np.float32))


def chain_on(device: str, room: Room, kernels: Any = "triton") -> ScanChain:
    model = load_model_file(shipped_model_path())
    graph, num_features = read_onnx_graph(model.content), len(model.description.point_features)
    network = TritonNetwork(graph, num_features, device, "float32", kernels)
    return ScanChain(model.description, network, room, torch.device(device))


def buffers_of(cloud: PointCloud, room: Room, device: str) -> CloudBuffers:
    buffers = CloudBuffers.empty(room.points, False, torch.device(device))
    buffers.points[: len(cloud)] = torch.from_numpy(cloud.points)
    buffers.intensity[: len(cloud)] = torch.from_numpy(cloud.intensity)
    buffers.num_points.fill_(len(cloud))
    return buffers


def tensors_in(value: Any) -> list[torch.Tensor]:
    """All of them, on the CPU, in the order of the fields."""
    if isinstance(value, torch.Tensor):
        return [value.cpu()]
    parts = [getattr(value, field.name) for field in fields(value)] if is_dataclass(value) else value
    return [tensor for part in parts for tensor in tensors_in(part)]


@pytest.mark.parametrize("kind", ["street", "with gaps", "one point", "one voxel"])
def test_voxels_and_tables_are_equal_and_features_nearly(kind: str) -> None:
    cloud, description = cloud_of(kind), load_model_file(shipped_model_path()).description
    room = NO_ROOM.with_room_for(cloud, description)
    expected = chain_on("cpu", room, "torch").prepare(buffers_of(cloud, room, "cpu"))
    found = chain_on(DEVICE, room).prepare(buffers_of(cloud, room, DEVICE))
    count = int(expected[0].count)
    for name in ("count", "point_to_voxel"):
        assert torch.equal(getattr(found[0], name).cpu(), getattr(expected[0], name))
    assert torch.equal(found[0].coords[:count].cpu(), expected[0].coords[:count])
    torch.testing.assert_close(found[1].cpu(), expected[1], rtol=1e-5, atol=1e-5)
    for table, same in zip(tensors_in(found[2]), tensors_in(expected[2]), strict=True):
        assert torch.equal(table, same)


@pytest.mark.parametrize("kind", ["street", "with gaps", "one point", "one voxel"])
def test_recorded_labels_are_those_of_the_cpu_and_never_change(kind: str) -> None:
    cloud, description = cloud_of(kind), load_model_file(shipped_model_path()).description
    room = NO_ROOM.with_room_for(cloud, description)
    chains = chain_on("cpu", room, "torch"), chain_on(DEVICE, room)
    devices = torch.device("cpu"), torch.device(DEVICE)
    on_cpu, on_gpu = (Recording(c, room.points, False, d) for c, d in zip(chains, devices, strict=True))
    expected = on_cpu.run(cloud)
    runs = [[tensor[: len(cloud)].clone() for tensor in tensors_in(on_gpu.run(cloud))] for _ in range(3)]
    found = runs[0]
    assert all(torch.equal(a, b) for later in runs[1:] for a, b in zip(found, later, strict=True))
    torch.testing.assert_close(found[1], expected.probability[: len(cloud)], rtol=1e-4, atol=1e-5)
    clear = expected.probability[: len(cloud)] > 0.501
    assert torch.equal(found[0][clear], expected.class_id[: len(cloud)][clear])
