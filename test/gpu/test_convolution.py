"""The kernels compute what a loop over rows and kernel positions computes, whatever lies around the rows that exist."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from device_pyramid import row_table
from numpy.typing import NDArray
from triton_device import DEVICE

from ov_seg_ros.core.errors import InputError
from ov_seg_ros.gpu.convolution_reference import convolve_by_torch
from ov_seg_ros.gpu.convolution_terms import ConvolutionWeights, Operands
from ov_seg_ros.gpu.device_tables import RowTable
from ov_seg_ros.gpu.tile_shapes import TileShape, choose_tile, shapes_to_try, tile_shape_of

pytest.importorskip("triton")
from ov_seg_ros.gpu.convolution import convolve
from ov_seg_ros.gpu.tile_table import TileTable, empty_tile_table, fill_tile_table

pytestmark = pytest.mark.xdist_group("triton")

SMALL = TileShape(block_m=16, block_n=16, tail_n=0, block_k=16, num_warps=4, num_stages=2)


def random_rows(rng: np.random.Generator, count: int, positions: int, sources: int, share: float) -> NDArray[np.int32]:
    rows = rng.integers(0, max(sources, 1), (count, positions))
    return np.where(rng.random((count, positions)) < share, rows, -1).astype(np.int32)


def tiles_of(table: RowTable, block_m: int) -> TileTable:
    tiles = empty_tile_table(*table.rows.shape, block_m, table.rows.device)
    fill_tile_table(tiles, table)
    return tiles


def columns(rng: np.random.Generator, rows: int, exist: int, width: int, dtype: torch.dtype) -> torch.Tensor:
    """Columns in the middle of a wider buffer that is NaN everywhere else, as in the rows that do not exist."""
    buffer = np.full((rows, width + 48), np.nan, np.float32)
    buffer[:exist, 16 : 16 + width] = rng.normal(size=(exist, width))
    return torch.from_numpy(buffer).to(DEVICE, dtype)[:, 16 : 16 + width]


def make(
    rng: np.random.Generator,
    table: RowTable,
    sources: int,
    c_in: int,
    c_out: int,
    c_plain: int = 0,
    residual: bool = False,
    relu: bool = False,
    dtype: torch.dtype = torch.float32,
) -> tuple[ConvolutionWeights, Operands]:
    capacity, positions = table.rows.shape
    count = int(table.count)

    def matrices(*shape: int) -> torch.Tensor:
        return torch.from_numpy(rng.normal(size=shape).astype(np.float32) * shape[-2] ** -0.5).to(DEVICE, dtype)

    weights = ConvolutionWeights(
        torch.from_numpy(rng.normal(size=c_out).astype(np.float32)).to(DEVICE),
        matrices(positions, c_in, c_out) if c_in else None,
        matrices(c_plain, c_out) if c_plain else None,
        relu,
    )
    operands = Operands(
        columns(rng, capacity, 0, c_out, dtype),
        columns(rng, sources + 5, sources, c_in, dtype) if c_in else None,
        columns(rng, capacity, count, c_plain, dtype) if c_plain else None,
        columns(rng, capacity, count, c_out, dtype) if residual else None,
    )
    return weights, operands


def literal(weights: ConvolutionWeights, operands: Operands, table: RowTable) -> NDArray[np.float64]:
    """Row by row, position by position, in double precision."""

    def array(tensor: torch.Tensor) -> NDArray[np.float64]:
        return tensor.double().cpu().numpy()

    rows = table.rows.cpu().numpy()
    result = np.tile(array(weights.bias), (int(table.count), 1))
    for row in range(len(result)):
        if weights.gathered is not None and operands.gathered is not None:
            for k, source in enumerate(rows[row]):
                if source >= 0:
                    result[row] += array(operands.gathered[source]) @ array(weights.gathered[k])
        if weights.plain is not None and operands.plain is not None:
            result[row] += array(operands.plain[row]) @ array(weights.plain)
        if operands.residual is not None:
            result[row] += array(operands.residual[row])
    return np.maximum(result, 0) if weights.relu else result


def assert_equal(weights: ConvolutionWeights, operands: Operands, table: RowTable, shape: TileShape) -> None:
    expected, count = literal(weights, operands, table), int(table.count)
    half = operands.target.dtype == torch.float16
    for compute in ("triton", "torch"):
        operands.target.fill_(float("nan"))
        if compute == "triton":
            convolve(weights, operands, tiles_of(table, shape.block_m), shape)
        else:
            convolve_by_torch(weights, operands, table)
        found = operands.target.float().cpu().numpy()
        assert np.isnan(found[count:]).all(), f"{compute} wrote rows that do not exist"
        scale = np.abs(expected).max(initial=1)
        # float16 keeps 11 bits: half a unit in the last place of the largest result.
        assert np.abs(found[:count] - expected).max(initial=0) <= (2**-11 + 1e-5 if half else 1e-5) * scale, compute


CASES = [  # rows, capacity, positions, taken share, c_in, c_out, c_plain, residual, relu
    (0, 40, 27, 0.3, 16, 16, 0, False, False),
    (1, 40, 27, 0.3, 16, 16, 0, False, True),
    (40, 40, 27, 0.2, 16, 32, 0, True, True),
    (37, 64, 27, 0.0, 16, 16, 0, False, False),
    (37, 64, 27, 1.0, 16, 16, 0, False, False),
    (33, 50, 8, 0.3, 32, 48, 0, False, True),
    (33, 50, 8, 0.1, 48, 16, 16, False, True),
    (20, 50, 27, 0.1, 96, 96, 128, False, True),
    (20, 21, 27, 0.1, 64, 80, 48, True, False),
    (15, 16, 27, 0.1, 256, 128, 0, True, True),
    (17, 40, 27, 0.5, 0, 32, 96, False, False),
    (40, 40, 1, 0.5, 32, 16, 0, False, True),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=["float32", "float16"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_kernel_and_reference_equal_the_literal_loop(case: tuple, dtype: torch.dtype) -> None:
    count, capacity, positions, share, c_in, c_out, c_plain, residual, relu = case
    rng = np.random.default_rng(0)
    table = row_table(random_rows(rng, count, positions, 30, share), capacity, DEVICE)
    weights, operands = make(rng, table, 30, c_in, c_out, c_plain, residual, relu, dtype)
    assert_equal(weights, operands, table, tile_shape_of(weights))


SHAPES = [
    SMALL,
    replace(SMALL, block_m=32, block_n=32, tail_n=16, block_k=32),
    replace(SMALL, block_m=128, block_n=64, tail_n=32, block_k=16),
    replace(SMALL, block_m=64, block_n=32, tail_n=0, block_k=32),
]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_neither_shape_nor_order_of_tiles_changes_anything(shape: TileShape) -> None:
    rng = np.random.default_rng(1)
    table = row_table(random_rows(rng, 40, 27, 70, 0.1), 50, DEVICE)
    weights, operands = make(rng, table, 70, 32, 96, 16, residual=True, relu=True)
    assert_equal(weights, operands, table, shape)
    shuffled = replace(table, order=torch.from_numpy(rng.permutation(40).astype(np.int32)).to(DEVICE))
    first = operands.target[:40].clone()
    operands.target.fill_(float("nan"))
    convolve(weights, operands, tiles_of(shuffled, 32), replace(SMALL, block_m=32, block_n=32, block_k=shape.block_k))
    assert torch.allclose(operands.target[:40], first, rtol=0, atol=1e-5)


def test_every_tile_knows_its_positions() -> None:
    """Two tiles of two rows and an empty one, worked out by hand."""
    rows = np.array([[-1, 4, -1], [7, -1, -1], [-1, 5, -1], [2, -1, 6]], np.int32)
    order = torch.tensor([2, 0, 3, 1, 99, 99], dtype=torch.int32)
    padded = torch.from_numpy(np.concatenate([rows, np.full((2, 3), 99, np.int32)]))
    tiles = tiles_of(RowTable(padded.to(DEVICE), order.to(DEVICE), torch.tensor([4], dtype=torch.int32).to(DEVICE)), 2)
    assert tiles.steps.tolist() == [1, 2, -1]
    assert tiles.taken[:2].tolist() == [0b010, 0b101]
    assert tiles.targets[:2].tolist() == [[2, 0], [3, 1]]
    assert tiles.sources[0, :1].tolist() == [[5, 4]]
    assert tiles.sources[1, :2].tolist() == [[2, 7], [6, -1]]


def test_a_tile_that_is_not_full_has_rows_that_are_nowhere() -> None:
    tiles = tiles_of(row_table(np.array([[0], [1], [2]], np.int32), 4, DEVICE), 2)
    assert tiles.targets[1].tolist() == [2, -1]
    assert tiles.sources[1, 0].tolist() == [2, -1]


def test_a_count_beyond_the_capacity_counts_as_the_capacity() -> None:
    table = row_table(np.array([[0], [1]], np.int32), 2, DEVICE)
    tiles = tiles_of(replace(table, count=torch.tensor([1000], dtype=torch.int32, device=DEVICE)), 2)
    assert tiles.steps.tolist() == [1]
    assert tiles.targets.tolist() == [[0, 1]]


def test_nan_in_a_source_reaches_exactly_the_rows_made_of_it() -> None:
    """Nothing turns it into zero on the way, nor spreads it to rows that only share a tile."""
    rng = np.random.default_rng(2)
    rows = random_rows(rng, 30, 27, 30, 0.1)
    table = row_table(rows, 32, DEVICE)
    weights, operands = make(rng, table, 30, 16, 16, relu=True)
    assert operands.gathered is not None
    operands.gathered[11] = float("nan")
    convolve(weights, operands, tiles_of(table, 16), SMALL)
    is_nan = torch.isnan(operands.target[:30]).cpu().numpy()
    assert (is_nan.all(1) == (rows == 11).any(1)).all()
    assert (is_nan.any(1) == is_nan.all(1)).all()


@pytest.mark.parametrize(
    ("c_out", "expected"),
    [(16, (16, 0)), (48, (32, 16)), (80, (64, 16)), (96, (64, 32)), (256, (128, 0)), (112, (16, 0))],
)
def test_columns_are_split_without_waste(c_out: int, expected: tuple[int, int]) -> None:
    shape = choose_tile(64, c_out, is_half=True)
    assert (shape.block_n, shape.tail_n) == expected
    assert c_out % shape.columns == 0


def test_steps_divide_the_channels() -> None:
    assert [choose_tile(c, 32, is_half=True).block_k for c in (16, 48, 96, 64, 384)] == [16, 16, 32, 64, 64]


@pytest.mark.parametrize(("c_in", "c_out", "c_plain"), [(96, 96, 128), (256, 256, 0), (0, 32, 96), (48, 80, 16)])
def test_shapes_for_benchmarks_fit(c_in: int, c_out: int, c_plain: int) -> None:
    rng = np.random.default_rng(4)
    table = row_table(random_rows(rng, 5, 27, 5, 0.5), 8, DEVICE)
    weights, _ = make(rng, table, 5, c_in, c_out, c_plain, dtype=torch.float16)
    shapes = list(shapes_to_try(weights))
    assert len(shapes) == len(set(shapes)) > 10
    assert all(c_out % shape.columns == 0 and (c_in or c_plain) % shape.block_k == 0 for shape in shapes)
    assert tile_shape_of(weights) in shapes


def test_operands_that_do_not_fit_are_refused() -> None:
    rng = np.random.default_rng(3)
    table = row_table(random_rows(rng, 5, 27, 5, 0.5), 8, DEVICE)
    weights, operands = make(rng, table, 5, 16, 16)
    tiles = tiles_of(table, 16)
    assert operands.gathered is not None
    with pytest.raises(InputError, match="needs both"):
        convolve(weights, replace(operands, gathered=None), tiles, SMALL)
    with pytest.raises(InputError, match="16 columns"):
        convolve(weights, replace(operands, gathered=operands.gathered[:, :8]), tiles, SMALL)
    with pytest.raises(InputError, match="tiles of 32 rows"):
        convolve(weights, operands, tiles, replace(SMALL, block_m=32))
    with pytest.raises(InputError, match="no multiple"):
        convolve(weights, operands, tiles, replace(SMALL, block_n=32))
    with pytest.raises(InputError, match="do not fit"):
        convolve(weights, operands, tiles, replace(SMALL, block_k=32))
