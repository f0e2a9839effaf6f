"""From points to tables and features nothing waits for the device, nothing depends on chance, launches are few.

The chain runs on torch's device "meta", where tensors have no values: an operation that needs one fails. A tensor of
the host that an operation meets there would be copied to a GPU, which a recorded CUDA graph must not do.
"""

import numpy as np
import pytest

pytest.importorskip("torch", reason="provider triton needs torch")

import torch
from device_scan import scan_on_device
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ov_seg_ros.core.point_features import COLOR, GEOMETRY
from ov_seg_ros.core.voxels import VoxelGrid
from ov_seg_ros.gpu.device_features import FeatureBuilder
from ov_seg_ros.gpu.device_maps import PyramidBuilder
from ov_seg_ros.gpu.device_voxels import DeviceGrid

CARTESIAN = VoxelGrid("cartesian", (0.05, 0.05, 0.05), (-51.2, -51.2, -5.0), (51.2, 51.2, 3.0))
CYLINDRICAL = VoxelGrid("cylindrical", (0.1, np.pi / 180, 0.1), (0.0, -np.pi, -5.0), (51.2, np.pi + 1e-6, 3.0))
WAITS = {"_local_scalar_dense", "item", "nonzero", "masked_select", "_unique2", "unique_dim", "unique_consecutive"}
WAITS |= {"repeat_interleave", "equal", "bincount", "_assert_async"}
ADDS = {"index_add", "scatter_add", "cumsum", "cumprod", "_index_put_impl", "index_put", "put", "histc", "index_copy"}
INDEXES = {"index", "index_put", "_index_put_impl", "_unsafe_index"}
REDUCES = {"scatter_reduce", "index_reduce"}


class LaunchRecorder(TorchDispatchMode):
    """Lists the operations of a device that do work, and refuses those that a recorded graph must not contain."""

    def __init__(self, device):
        super().__init__()
        self.device = device
        self.launches = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = func._schema.name.removeprefix("aten::").removesuffix("_")
        result = func(*args, **kwargs)
        tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, torch.Tensor)]
        masks = [t for t in tree_leaves(args[1:]) if isinstance(t, torch.Tensor) and t.dtype == torch.bool]
        assert name not in WAITS, f"{func} waits for the device"
        assert name not in INDEXES or not masks, f"{func} waits for the number of rows in a mask"
        assert all(tensor.device.type == self.device for tensor in tensors), f"{func} copies from or to the host"
        if name in ADDS or (name in REDUCES and not {"amax", "amin"} & set(args)):
            assert not any(tensor.is_floating_point() for tensor in tensors), f"{func} adds in any order"
        first = func._schema.returns[:1]
        is_view = bool(first) and first[0].alias_info is not None and not first[0].alias_info.is_write
        if not is_view and not name.startswith(("empty", "_unsafe_view", "detach")) and "prim::" not in name:
            self.launches.append(str(func))
        return result


def launches(device, grid=CARTESIAN, names=GEOMETRY, num_levels=5, same_room=False):
    """Number of launches of voxels, features and pyramid."""
    random = np.random.default_rng(0)
    scan = scan_on_device(random.normal(0, 9, (900, 3)).astype(np.float32), padding=2**10 - 900)
    points, intensity, num_points, color = (
        tensor.to(device) for tensor in (scan.points, scan.intensity, scan.num_points, scan.color)
    )
    room = [scan.capacity if same_room else 700 >> level for level in range(num_levels)]
    device_grid = DeviceGrid(grid, scan.capacity, device, room[0])
    features = FeatureBuilder(grid, names, scan.capacity, device, room[0])
    pyramid = PyramidBuilder(grid.shape, room, device)
    numbers = []
    with LaunchRecorder(device) as recorder:
        voxels = device_grid.voxelize(points, num_points)
        numbers.append(len(recorder.launches))
        features.build(points, intensity, num_points, voxels, color)
        numbers.append(len(recorder.launches) - sum(numbers))
        pyramid.build(voxels.coords, voxels.count)
        numbers.append(len(recorder.launches) - sum(numbers))
    return numbers


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("same_room", [False, True])
def test_a_scan_takes_few_launches(device, same_room):
    voxels, features, pyramid = launches(device, same_room=same_room)
    assert voxels <= 29
    assert features <= 35
    assert pyramid <= 60


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("names", [GEOMETRY + COLOR, ("count",), ("blue", "intensity")])
def test_any_student_runs_without_waiting(device, names):
    for num_levels in (1, 2, 7):
        launches(device, CYLINDRICAL, names, num_levels)


def test_more_levels_take_one_launch_each():
    assert launches("meta", num_levels=6)[2] - launches("meta", num_levels=5)[2] == 1


@pytest.mark.parametrize(
    "wrong",
    [
        lambda t: t.sum().item(),
        lambda t: t[t > 0],
        lambda t: t.nonzero(),
        lambda t: t.cumsum(0),
        lambda t: t.index_add(0, t.long(), t),
        lambda t: t.unique(),
        lambda t: t.scatter_reduce(0, t.long(), t, "sum"),
        lambda t: bool((t > 0).all()),
    ],
)
def test_what_must_not_happen_is_noticed(wrong):
    with LaunchRecorder("cpu"), pytest.raises(AssertionError, match=r"waits|any order"):
        wrong(torch.ones(3))
    with LaunchRecorder("meta"), pytest.raises(AssertionError, match="host"):
        torch.ones(3, device="meta") + torch.tensor(1.0)
