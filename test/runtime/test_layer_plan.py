"""Matrix products along index lists become convolutions over tables again, each matrix at its kernel position."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from ov_seg_ros.runtime.buffer_plan import plan_buffers
from ov_seg_ros.runtime.layer_plan import Layer, TableKey, plan_layers
from ov_seg_ros.runtime.network_plan import Features, Joined, NotPlannableError, RowList, Step, Term, Value

FEATURES = Features(5)
BIAS = np.array([1, 2, 3], np.float32)


def matrix(value: float, rows: int = 5) -> NDArray[np.float32]:
    return np.full((rows, 3), value, np.float32)


def pairs(source: Value, k: int, value: float, backwards: bool = False) -> Term:
    """The rows of offset k, or of its opposite."""
    centre, neighbor = (RowList(f"level0_pair_{side}", "level0_pair_starts", k) for side in ("centre", "neighbor"))
    into, read = (neighbor, centre) if backwards else (centre, neighbor)
    return Term(source, matrix(value), into, read)


def corners(source: Value, k: int, into: str, read: str) -> Term:
    return Term(
        source,
        matrix(k),
        RowList(f"stride0_{into}", "stride0_starts", k),
        RowList(f"stride0_{read}", "stride0_starts", k),
    )


def plan(*steps: Step) -> tuple[Layer, ...]:
    return plan_layers(steps, plan_buffers(steps, FEATURES, 16), 16)


def test_pairs_of_an_offset_serve_its_opposite_too() -> None:
    terms = (Term(FEATURES, matrix(13)), pairs(FEATURES, 4, 4), pairs(FEATURES, 4, 22, backwards=True))
    (layer,) = plan(Step(0, BIAS, terms, relu=True))
    assert layer.table == TableKey("neighbors", 0)
    assert layer.relu
    assert layer.plain is None
    assert layer.gathered is not None
    assert layer.gathered.weight.shape == (27, 16, 16)
    assert layer.gathered.weight[:, :5, :3].max((1, 2)).nonzero()[0].tolist() == [4, 13, 22]
    assert [layer.gathered.weight[k, 4, 2] for k in (4, 13, 22)] == [4, 13, 22]
    assert layer.gathered.weight[:, 5:].max() == layer.gathered.weight[:, :, 3:].max() == 0
    assert layer.bias.tolist() == [1, 2, 3] + [0] * 13


def test_strided_and_transposed_convolutions() -> None:
    down = Step(1, BIAS, tuple(corners(FEATURES, k, "parent", "child") for k in range(8)))
    up = Step(0, BIAS, tuple(replace(corners(down, k, "child", "parent"), weight=matrix(k, 3)) for k in range(8)))
    layers = plan(down, up)
    assert [layer.table for layer in layers] == [TableKey("down", 0), TableKey("up", 0)]
    for layer in layers:
        assert layer.gathered is not None
        assert layer.gathered.weight[:, 0, 0].tolist() == list(range(8))


def test_a_projection_of_another_source_stays_a_product_of_rows() -> None:
    first = Step(0, BIAS, (Term(FEATURES, matrix(1)),))
    terms = (Term(first, matrix(13, 3)), replace(pairs(first, 0, 0), weight=matrix(7, 3)), Term(FEATURES, matrix(5)))
    _, layer = plan(first, Step(0, BIAS, terms))
    assert layer.gathered is not None
    assert layer.plain is not None
    assert (layer.gathered.weight[13, 0, 0], layer.gathered.weight[0, 0, 0]) == (13, 7)
    assert layer.plain.weight[0, :5, :3].tolist() == matrix(5).tolist()


def test_matrices_follow_the_gaps_between_joined_columns() -> None:
    first, second = (Step(0, BIAS, (Term(FEATURES, matrix(1)),)) for _ in range(2))
    joined = Joined((first, second))
    weight = np.arange(18, dtype=np.float32).reshape(6, 3)
    *_, layer = plan(first, second, Step(0, BIAS, (Term(joined, weight),)))
    assert layer.plain is not None
    assert layer.plain.columns == 32
    assert layer.plain.weight[0, [0, 1, 2, 16, 17, 18], :3].tolist() == weight.tolist()
    assert np.count_nonzero(layer.plain.weight) == 17


def test_what_no_table_holds_is_refused() -> None:
    mixed = Term(
        FEATURES,
        matrix(1),
        RowList("level0_pair_centre", "level0_pair_starts", 1),
        RowList("stride0_child", "stride0_starts", 1),
    )
    offset = Term(
        FEATURES,
        matrix(1),
        RowList("level0_pair_centre", "level0_pair_starts", 1),
        RowList("level0_pair_neighbor", "level0_pair_starts", 2),
    )
    for term in (
        mixed,
        offset,
        Term(FEATURES, matrix(1), None, RowList("level0_pair_centre", "level0_pair_starts", 1)),
    ):
        with pytest.raises(NotPlannableError, match="made of rows"):
            plan(Step(0, BIAS, (term,)))
    with pytest.raises(NotPlannableError, match="several tables"):
        plan(Step(0, BIAS, (pairs(FEATURES, 1, 1), corners(FEATURES, 1, "child", "parent"))))
    with pytest.raises(NotPlannableError, match="level 1"):
        plan(Step(1, BIAS, (pairs(FEATURES, 1, 1),)))
    first, second = (Step(0, BIAS, (Term(FEATURES, matrix(1)),)) for _ in range(2))
    with pytest.raises(NotPlannableError, match="several products"):
        plan(first, second, Step(0, BIAS, (Term(first, matrix(1, 3)), Term(second, matrix(1, 3)))))
