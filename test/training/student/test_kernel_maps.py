"""Maps of three voxels in a row, worked out by hand, and of random clouds against the default convolutions."""

import numpy as np
import pytest
import torch

from ov_seg_ros.core.pyramid import build_pyramid
from training.student.kernel_maps import KernelMap
from training.student.sparse_layers import DownConv, SubmanifoldConv, Tables, UpConv

# Row 1 is at offset (0, 0, 1) of row 0, kernel position 1 * 9 + 1 * 3 + 2 = 14; row 2 is at offset (0, 1, 1) of row 1,
# position 1 * 9 + 2 * 3 + 2 = 17; rows 0 and 2 do not touch.
COORDS = np.array([[0, 0, 0], [0, 0, 1], [0, 1, 2]], np.int32)


@pytest.fixture
def tables():
    return Tables.from_pyramid(build_pyramid(COORDS, 2))


def triples(kernel_map: KernelMap) -> set[tuple[int, int, int]]:
    return set(zip(kernel_map.into.tolist(), kernel_map.source.tolist(), kernel_map.position.tolist(), strict=True))


def test_level_by_hand(tables):
    kernel_map = KernelMap.of_level(tables.levels[0], 3)
    assert triples(kernel_map) == {(0, 0, 13), (1, 1, 13), (2, 2, 13), (0, 1, 14), (1, 0, 12), (1, 2, 17), (2, 1, 9)}
    assert (kernel_map.num_in, kernel_map.num_out, kernel_map.volume) == (3, 3, 27)


def test_stride_by_hand(tables):
    # Rows 0 and 1 lie in coarse cell (0, 0, 0) at corners 0 and 1, row 2 in (0, 0, 1) at corner 2 (y odd, z even).
    kernel_map = KernelMap.of_stride(tables.strides[0])
    assert triples(kernel_map) == {(0, 0, 0), (0, 1, 1), (1, 2, 2)}
    assert triples(kernel_map.reversed()) == {(0, 0, 0), (1, 0, 1), (2, 1, 2)}
    assert (kernel_map.num_in, kernel_map.num_out, kernel_map.volume) == (3, 2, 8)


def test_forms_by_hand(tables):
    kernel_map = KernelMap.of_stride(tables.strides[0])
    none = [-1] * 8
    assert kernel_map.table(4).tolist() == [[0, 1] + none[2:], [-1, -1, 2] + none[3:], none, none]
    assert kernel_map.table().dtype == torch.int32
    pairs, counts = kernel_map.pair_lists()
    assert counts.tolist() == [1, 1, 1, 0, 0, 0, 0, 0]
    assert pairs[0, :, 0].tolist() == [0, 1, 2, -1, -1, -1, -1, -1]  # read
    assert pairs[1, :, 0].tolist() == [0, 0, 1, -1, -1, -1, -1, -1]  # written


def convolve_triples(features: torch.Tensor, weight: torch.Tensor, kernel_map: KernelMap) -> torch.Tensor:
    """The definition, triple by triple."""
    out = torch.zeros(kernel_map.num_out, weight.shape[2], dtype=features.dtype)
    for into, source, position in triples(kernel_map):
        out[into] += features[source] @ weight[position]
    return out


@pytest.mark.parametrize("count", [1, 40, 150])
def test_maps_say_what_the_default_layers_do(count):
    coords = np.unique(np.random.default_rng(count).integers(0, 6, (count, 3)), axis=0).astype(np.int32)
    tables = Tables.from_pyramid(build_pyramid(coords, 2))
    level, stride = tables.levels[0], tables.strides[0]
    for layer, index_tables, kernel_map in (
        (SubmanifoldConv(2, 3), level, KernelMap.of_level(level, len(coords))),
        (DownConv(2, 3), stride, KernelMap.of_stride(stride)),
        (UpConv(2, 3), stride, KernelMap.of_stride(stride).reversed()),
    ):
        features = torch.randn(kernel_map.num_in, 2)
        with torch.no_grad():
            expected = layer(features, index_tables)
            torch.testing.assert_close(convolve_triples(features, layer.weight, kernel_map), expected)


@pytest.mark.parametrize("form", ["table", "pair lists"])
def test_forms_hold_all_triples(form):
    coords = np.unique(np.random.default_rng(5).integers(0, 6, (120, 3)), axis=0).astype(np.int32)
    kernel_map = KernelMap.of_level(Tables.from_pyramid(build_pyramid(coords, 1)).levels[0], len(coords))
    found = set()
    if form == "table":
        for into, row in enumerate(kernel_map.table().tolist()):
            found |= {(into, source, k) for k, source in enumerate(row) if source >= 0}
    else:
        pairs, counts = kernel_map.pair_lists()
        for k, count in enumerate(counts.tolist()):
            found |= {(pairs[1, k, i].item(), pairs[0, k, i].item(), k) for i in range(count)}
            assert (pairs[:, k, count:] == -1).all()
    assert found == triples(kernel_map)
