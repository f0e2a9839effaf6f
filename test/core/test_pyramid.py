import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ov_seg_ros.core.errors import InputError
from ov_seg_ros.core.pyramid import build_pyramid, kernel_offset


def reference_table(coords):
    """Neighbour table by dictionary look-up."""
    row = {tuple(c): i for i, c in enumerate(coords.tolist())}
    offsets = [kernel_offset(k) for k in range(27)]
    return [[row.get((x + dx, y + dy, z + dz), len(coords)) for dx, dy, dz in offsets] for x, y, z in coords.tolist()]


def distinct(coords):
    return np.unique(coords, axis=0).astype(np.int32).reshape(-1, 3)


@given(hnp.arrays(np.int32, st.tuples(st.integers(1, 60), st.just(3)), elements=st.integers(0, 5)))
def test_tables_equal_the_definition_on_every_level(coords):
    pyramid = build_pyramid(distinct(coords), 4)
    for level in pyramid.levels:
        np.testing.assert_array_equal(level.neighbor_table(), reference_table(level.coords))


@given(hnp.arrays(np.int32, st.tuples(st.integers(1, 60), st.just(3)), elements=st.integers(0, 40)))
def test_strides_lead_to_the_parent_and_back(coords):
    pyramid = build_pyramid(distinct(coords), 3)
    for fine, coarse, stride in zip(pyramid.levels, pyramid.levels[1:], pyramid.strides, strict=False):
        np.testing.assert_array_equal(coarse.coords, distinct(fine.coords // 2))
        np.testing.assert_array_equal(coarse.coords[stride.parent], fine.coords[stride.child] // 2)
        np.testing.assert_array_equal(stride.child[stride.position], np.arange(len(fine)))
        for corner in range(8):
            rows = stride.child[stride.starts[corner] : stride.starts[corner + 1]]
            x, y, z = (fine.coords[rows] % 2).T
            assert (4 * x + 2 * y + z == corner).all()


def test_pairs_of_one_offset_are_distinct():
    coords = distinct(np.random.default_rng(0).integers(0, 12, (900, 3)))
    level = build_pyramid(coords, 1).levels[0]
    for k in range(13):
        pairs = slice(level.pair_starts[k], level.pair_starts[k + 1])
        for rows in (level.pair_centre[pairs], level.pair_neighbor[pairs]):
            assert len(np.unique(rows)) == len(rows)


def test_cells_at_the_rim_of_an_axis_are_not_neighbours_of_the_next_row():
    last = 2**20 - 4
    coords = np.array([[0, 0, last], [0, 1, 0], [0, last, last], [1, 0, 0]], np.int32)
    table = build_pyramid(coords, 1).levels[0].neighbor_table()
    np.testing.assert_array_equal(np.delete(table, 13, axis=1), np.where(np.eye(4, 26) > 2, 0, reference_off(coords)))


def reference_off(coords):
    return np.delete(np.array(reference_table(coords)), 13, axis=1)


@pytest.mark.parametrize("num_levels", [1, 5])
def test_graph_inputs_name_every_array(num_levels):
    inputs = build_pyramid(np.zeros((1, 3), np.int32), num_levels).graph_inputs()
    assert len(inputs) == 3 * num_levels + 4 * (num_levels - 1)
    assert all(array.dtype == np.int64 for array in inputs.values())


@pytest.mark.parametrize("rows", [(0, 2, 1), (0, 0, 1), (1, 0, 2), (0, 1, 1)])
def test_cells_in_no_order_are_refused(rows):
    cells = np.array([[1, 2, 3], [1, 2, 4], [1, 3, 0]], np.int32)
    with pytest.raises(InputError, match=r"lexicographic order.* row [12] is \[1, [23], \d\], after \[1"):
        build_pyramid(cells[list(rows)], 2)


def test_layout_and_type_of_the_cells_do_not_matter():
    coords = distinct(np.random.default_rng(0).integers(0, 12, (900, 3)))
    expected = build_pyramid(coords, 3).graph_inputs()
    for same in (np.asfortranarray(coords), coords.astype(np.int64), np.repeat(coords, 2, axis=0)[::2]):
        found = build_pyramid(same, 3).graph_inputs()
        assert all(np.array_equal(found[name], expected[name]) for name in expected)
