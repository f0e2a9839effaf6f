"""The inner loop for every width, tile and number of rows, also in the shapes of processors that are not here."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import njit

from ov_seg_ros.kernels.gemm_tile import multiply_rows
from ov_seg_ros.kernels.tile_shapes import AVX2, AVX512, COLUMN_STEP, NEON, SHAPES, SSE, panel_widths

CASES = [(i, width) for i, shape in enumerate(SHAPES) for width in range(COLUMN_STEP, shape.panel + 1, COLUMN_STEP)]


def compile_for(shape: int, width: int):
    @njit
    def multiply(source, read, target, into, begin, end, matrix, first_column):
        multiply_rows(
            shape,
            width,
            source.ctypes.data,
            source.shape[1],
            read.ctypes.data,
            target.ctypes.data + 4 * first_column,
            target.shape[1],
            into.ctypes.data,
            begin,
            end,
            matrix.ctypes.data,
            matrix.shape[0],
        )

    return multiply


@pytest.mark.parametrize(("shape", "width"), CASES)
def test_rows_are_multiplied_and_added_where_they_lie(shape: int, width: int) -> None:
    multiply = compile_for(shape, width)
    rng = np.random.default_rng(width)
    for num_rows in (*range(18), 31, 40):  # every split into whole tiles and rests
        inner = 4 * rng.integers(1, 12)
        source = rng.normal(size=(60, inner + 3)).astype(np.float32)  # rows longer than what is read
        target = rng.normal(size=(50, width + 16)).astype(np.float32)
        matrix = rng.normal(size=(inner, width)).astype(np.float32)
        read, into = rng.integers(60, size=num_rows + 2), rng.permutation(50)[: num_rows + 2]
        expected = target.astype(np.float64)
        expected[into[1 : num_rows + 1], 8 : 8 + width] += source[read[1 : num_rows + 1], :inner] @ matrix.astype(float)
        multiply(source, read, target, into, 1, num_rows + 1, matrix, 8)
        np.testing.assert_allclose(target, expected, atol=1e-5 * max(1, np.abs(expected).max()))
        untouched = np.ones(target.shape, bool)
        untouched[into[1 : num_rows + 1], 8 : 8 + width] = False
        np.testing.assert_array_equal(target[untouched], expected[untouched].astype(np.float32))


@pytest.mark.parametrize(
    ("columns", "widths"),
    [(8, [8]), (16, [16]), (24, [24]), (64, [64]), (80, [48, 32]), (96, [48, 48]), (72, [32, 40])],
)
def test_panels_of_avx512(columns: int, widths: list[int]) -> None:
    assert panel_widths(columns, AVX512) == widths


@given(st.integers(1, 130), st.sampled_from([AVX512, AVX2, NEON, SSE]))
def test_panels_cover_all_columns_in_steps(steps: int, shape) -> None:
    widths = panel_widths(COLUMN_STEP * steps, shape)
    assert sum(widths) == COLUMN_STEP * steps
    assert all(0 < width <= shape.panel and width % COLUMN_STEP == 0 for width in widths)
