"""The sparse layers against dense convolution on the active sites, and against spconv's CPU layers."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from ov_seg_ros.core.pyramid import Pyramid, build_pyramid
from training.student.minkunet import NETWORKS, MinkUNet, NetworkConfig
from training.student.sparse_layers import DownConv, SubmanifoldConv, Tables, UpConv

SIZE = 16
CLOUDS = {"one voxel": 1, "sparse": 60, "crowded": 1500}


def random_pyramid(count: int, seed: int = 0) -> Pyramid:
    rng = np.random.default_rng(seed)
    coords = np.unique(rng.integers(0, SIZE, (count, 3)), axis=0).astype(np.int32)
    return build_pyramid(coords, 5)


@pytest.fixture(params=CLOUDS.values(), ids=CLOUDS.keys())
def pyramid(request):
    return random_pyramid(request.param)


def scatter_dense(features: torch.Tensor, coords: np.ndarray, size: int) -> torch.Tensor:
    """(V, C) rows into a (1, C, X, Y, Z) volume, zero where no voxel is active."""
    volume = torch.zeros(1, features.shape[1], size, size, size, dtype=features.dtype)
    x, y, z = torch.from_numpy(coords.astype(np.int64)).T
    volume[0, :, x, y, z] = features.T
    return volume


def gather_dense(volume: torch.Tensor, coords: np.ndarray) -> torch.Tensor:
    x, y, z = torch.from_numpy(coords.astype(np.int64)).T
    return volume[0, :, x, y, z].T


def dense_kernel(weight: torch.Tensor, edge: int) -> torch.Tensor:
    """(K, C_in, C_out) to (C_out, C_in, k, k, k)."""
    return weight.permute(2, 1, 0).reshape(weight.shape[2], weight.shape[1], edge, edge, edge)


def double(module: torch.nn.Module) -> torch.nn.Module:
    torch.manual_seed(1)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter)
    return module.double()


def test_submanifold_equals_dense_on_active_sites(pyramid):
    layer = double(SubmanifoldConv(4, 6))
    features = torch.randn(len(pyramid.levels[0]), 4, dtype=torch.float64)
    coords = pyramid.levels[0].coords
    dense = functional.conv3d(scatter_dense(features, coords, SIZE), dense_kernel(layer.weight, 3), padding=1)
    torch.testing.assert_close(layer(features, Tables.from_pyramid(pyramid).levels[0]), gather_dense(dense, coords))


def test_down_equals_dense_stride_two(pyramid):
    layer = double(DownConv(4, 6))
    features = torch.randn(len(pyramid.levels[0]), 4, dtype=torch.float64)
    volume = scatter_dense(features, pyramid.levels[0].coords, SIZE)
    dense = functional.conv3d(volume, dense_kernel(layer.weight, 2), stride=2)
    out = layer(features, Tables.from_pyramid(pyramid).strides[0])
    torch.testing.assert_close(out, gather_dense(dense, pyramid.levels[1].coords))
    assert out.shape[0] == len(np.unique(pyramid.levels[0].coords // 2, axis=0))


def test_up_equals_dense_transpose_on_active_sites(pyramid):
    layer = double(UpConv(4, 6))
    features = torch.randn(len(pyramid.levels[1]), 4, dtype=torch.float64)
    volume = scatter_dense(features, pyramid.levels[1].coords, SIZE // 2)
    kernel = dense_kernel(layer.weight, 2).transpose(0, 1)  # conv_transpose wants (C_in, C_out, k, k, k)
    dense = functional.conv_transpose3d(volume, kernel, stride=2)
    out = layer(features, Tables.from_pyramid(pyramid).strides[0])
    torch.testing.assert_close(out, gather_dense(dense, pyramid.levels[0].coords))


class DenseUNet:
    """MinkUNet (Choy et al., CVPR 2019) in training mode by dense convolutions, read at the active voxels."""

    def __init__(self, pyramid: Pyramid) -> None:
        self.coords = [level.coords for level in pyramid.levels]

    def submanifold(self, rows, layer, level):
        volume = scatter_dense(rows, self.coords[level], SIZE >> level)
        dense = functional.conv3d(volume, dense_kernel(layer.conv.weight, 3), padding=1)
        return self.norm(gather_dense(dense, self.coords[level]), layer.norm)

    def down(self, rows, layer, level):
        volume = scatter_dense(rows, self.coords[level], SIZE >> level)
        dense = functional.conv3d(volume, dense_kernel(layer.conv.weight, 2), stride=2)
        return self.norm(gather_dense(dense, self.coords[level + 1]), layer.norm)

    def up(self, rows, layer, level):
        volume = scatter_dense(rows, self.coords[level + 1], SIZE >> (level + 1))
        kernel = dense_kernel(layer.conv.weight, 2).transpose(0, 1)
        return self.norm(
            gather_dense(functional.conv_transpose3d(volume, kernel, stride=2), self.coords[level]), layer.norm
        )

    def norm(self, rows, norm):
        spread = torch.sqrt(rows.var(dim=0, unbiased=False) + norm.eps)
        return (rows - rows.mean(dim=0)) / spread * norm.weight + norm.bias

    def block(self, rows, block, level):
        straight = rows
        if block.shortcut is not None:
            straight = self.norm(rows @ block.shortcut[0].weight.T, block.shortcut[1])
        inner = self.submanifold(rows, block.first, level).relu()
        return (self.submanifold(inner, block.second, level) + straight).relu()

    def __call__(self, network, rows):
        """One stride each way and back with the skips of every level."""
        fine = self.submanifold(rows, network.stem, 0).relu()
        middle = self.down(fine, network.down[0], 0).relu()
        for block in network.encoder[0]:
            middle = self.block(middle, block, 1)
        rows = self.down(middle, network.down[1], 1).relu()
        for block in network.encoder[1]:
            rows = self.block(rows, block, 2)
        for i, skip in enumerate((middle, fine)):
            rows = torch.cat([self.up(rows, network.up[i], 1 - i).relu(), skip], dim=1)
            for block in network.decoder[i]:
                rows = self.block(rows, block, 1 - i)
        return rows @ network.head.weight.T + network.head.bias


def test_the_network_equals_dense_convolutions():
    pyramid = random_pyramid(300)
    network = double(MinkUNet(NetworkConfig(4, (5, 6), (5, 4), (1, 2), (1, 2)), 3, 4)).train()
    rows = torch.randn(len(pyramid.levels[0]), 3, dtype=torch.float64)
    torch.testing.assert_close(network(rows, Tables.from_pyramid(pyramid)), DenseUNet(pyramid)(network, rows))


def test_gradients_are_those_of_finite_differences():
    pyramid = random_pyramid(40)
    tables = Tables.from_pyramid(pyramid)
    for layer, index_tables, rows in (
        (double(SubmanifoldConv(2, 3)), tables.levels[0], len(pyramid.levels[0])),
        (double(DownConv(2, 3)), tables.strides[0], len(pyramid.levels[0])),
        (double(UpConv(2, 3)), tables.strides[0], len(pyramid.levels[1])),
    ):
        features = torch.randn(rows, 2, dtype=torch.float64, requires_grad=True)
        weight = layer.weight.detach().clone().requires_grad_(True)

        def run(x, w, layer=layer, index_tables=index_tables):
            return torch.func.functional_call(layer, {"weight": w}, (x, index_tables))

        assert torch.autograd.gradcheck(run, (features, weight))


def test_scans_of_a_batch_do_not_see_each_other():
    torch.manual_seed(0)
    network = MinkUNet(NETWORKS["small"], 3, 4).double().eval()
    first, second = random_pyramid(200, seed=1), random_pyramid(300, seed=2)
    shifted = second.levels[0].coords + np.array([3 * SIZE, 0, 0], np.int32)
    both = build_pyramid(np.concatenate([first.levels[0].coords, shifted]), 5)
    features = torch.randn(len(both.levels[0]), 3, dtype=torch.float64)
    split = len(first.levels[0])
    together = network(features, Tables.from_pyramid(both))
    alone = (
        network(features[:split], Tables.from_pyramid(first)),
        network(features[split:], Tables.from_pyramid(second)),
    )
    torch.testing.assert_close(together, torch.cat(alone))


@pytest.mark.parametrize("num_threads", [1, 2])
def test_results_do_not_depend_on_threads(num_threads):
    pyramid = random_pyramid(2000)
    torch.manual_seed(0)
    network = MinkUNet(NETWORKS["small"], 3, 4).eval()
    features = torch.randn(len(pyramid.levels[0]), 3)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(num_threads)
        single = network(features, Tables.from_pyramid(pyramid))
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(single, network.double()(features.double(), Tables.from_pyramid(pyramid)).float())


@pytest.mark.parametrize(("name", "millions"), [("small", 1.43), ("minkunet18", 21.7), ("minkunet34c", 37.85)])
def test_widths_of_the_literature(name, millions):
    network = MinkUNet(NETWORKS[name], 8, 16)
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.01)


@pytest.fixture
def spconv():
    module = pytest.importorskip("spconv.pytorch", reason="spconv (CPU) is not installed")
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # spconv 2.3.8 races above one thread
    yield module
    torch.set_num_threads(before)


@pytest.mark.parametrize("seed", range(3))
def test_layers_equal_spconv(spconv, seed):
    pyramid = random_pyramid(500, seed)
    tables = Tables.from_pyramid(pyramid)
    coords = pyramid.levels[0].coords
    indices = torch.from_numpy(np.concatenate([np.zeros((len(coords), 1), np.int32), coords], axis=1))
    features = torch.randn(len(coords), 5)
    native = spconv.ConvAlgo.Native
    cloud = spconv.SparseConvTensor(features, indices, [SIZE] * 3, 1)
    theirs = spconv.SubMConv3d(5, 7, 3, bias=False, indice_key="sub", algo=native)
    down = spconv.SparseConv3d(5, 6, 2, stride=2, bias=False, indice_key="down", algo=native)
    up = spconv.SparseInverseConv3d(6, 4, 2, bias=False, indice_key="down", algo=native)
    ours = SubmanifoldConv(5, 7), DownConv(5, 6), UpConv(6, 4)
    with torch.no_grad():
        for mine, other in zip(ours, (theirs, down, up), strict=True):
            mine.weight.copy_(other.weight.permute(1, 2, 3, 4, 0).reshape(mine.weight.shape))
        torch.testing.assert_close(ours[0](features, tables.levels[0]), theirs(cloud).features)
        coarse = down(cloud)
        row = {tuple(index[1:]): i for i, index in enumerate(coarse.indices.tolist())}
        order = [row[tuple(c)] for c in pyramid.levels[1].coords.tolist()]
        mine = ours[1](features, tables.strides[0])
        torch.testing.assert_close(mine, coarse.features[order])
        torch.testing.assert_close(ours[2](mine, tables.strides[0]), up(coarse).features)
