"""The floor's counts against counts by hand."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="contests compare with torch")

from benchmarks.peers.case import Case
from benchmarks.peers.floors import GemmOnly
from benchmarks.peers.workload import Workload, count_work, level_rows, shapes_of, stride_rows
from ov_seg_ros.core.pyramid import Pyramid, build_pyramid

SHAPES = {
    "stem": (27, 1, 2),
    "down.0": (8, 2, 2),
    "encoder.0.0.first": (27, 2, 3),
    "encoder.0.0.second": (27, 3, 3),
    "encoder.0.0.shortcut": (1, 2, 3),
    "up.0": (8, 3, 4),
    "decoder.0.0.first": (27, 6, 4),  # 4 of the coarser level, 2 of the stem
    "decoder.0.0.second": (27, 4, 4),
    "decoder.0.0.shortcut": (1, 6, 4),
    "head": (1, 4, 5),
}


@pytest.fixture
def pyramid() -> Pyramid:
    """Two voxels that touch and one far away: 3 + 2 products of rows; their two parents do not touch."""
    return build_pyramid(np.array([[0, 0, 0], [0, 0, 1], [4, 0, 0]], np.int32), 2)


@pytest.fixture
def work(pyramid: Pyramid) -> Workload:
    return count_work(SHAPES, pyramid)


def test_rows(pyramid: Pyramid) -> None:
    rows = level_rows(pyramid.levels[0])
    assert len(rows) == 27
    assert rows[13] == 3
    assert rows[14] == rows[12] == 1  # +z and -z
    assert sum(rows) == 5
    assert sum(level_rows(pyramid.levels[1])) == 2
    assert stride_rows(pyramid.strides[0]) == (2, 1, 0, 0, 0, 0, 0, 0)


def test_multiply_adds_of_every_layer(work: Workload) -> None:
    macs = {layer.layer: layer.macs for layer in work.layers}
    assert macs == {
        "stem": 5 * 1 * 2,
        "down.0": 3 * 2 * 2,
        "encoder.0.0.first": 2 * 2 * 3,
        "encoder.0.0.second": 2 * 3 * 3,
        "encoder.0.0.shortcut": 2 * 2 * 3,
        "up.0": 3 * 3 * 4,
        "decoder.0.0.first": 5 * 6 * 4,
        "decoder.0.0.second": 5 * 4 * 4,
        "decoder.0.0.shortcut": 3 * 6 * 4,
        "head": 3 * 4 * 5,
    }
    assert work.macs == 432


def test_bytes_of_layers(work: Workload) -> None:
    found = {layer.layer: layer.bytes for layer in work.layers}
    assert found["stem"] == 4 * (3 * 1 + (27 * 1 * 2 + 2) + 3 * 2)
    assert found["up.0"] == 4 * (2 * 3 + (8 * 3 * 4 + 4) + 3 * 4)
    assert found["head"] == 4 * (3 * 4 + (4 * 5 + 5) + 3 * 5)
    assert work.added_bytes == 4 * (2 * 3 + 3 * 4)
    assert work.bytes == sum(found.values()) + 72


def test_matrix_products_of_the_floor_are_those_of_the_network(case: Case) -> None:
    work = count_work(shapes_of(case.weights()), case.pyramid())
    floor = GemmOnly(case, 1)
    floor.run()
    assert sum(left.shape[0] * left.shape[1] * right.shape[1] for left, right, _ in floor.products) == work.macs
    assert all(out.shape == (left.shape[0], right.shape[1]) for left, right, out in floor.products)
    assert all(left.is_contiguous() and out.is_contiguous() for left, _, out in floor.products)
