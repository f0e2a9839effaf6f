"""The steps of a plan as convolutions over whole tables: one layer per step, its matrices packed by kernel position.

A step lists its matrix products offset by offset, as the exported graph does. A kernel on a GPU wants all offsets at
once, so here they are put together again: 26 pair lists and a product of the rows themselves are one 3 x 3 x 3
convolution, eight lists of corners are a strided or a transposed one, and what is left is a product of rows.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.pyramid import NUM_OFFSETS
from ov_seg_ros.runtime.buffer_plan import BufferPlan, Placement, padded
from ov_seg_ros.runtime.network_plan import NotPlannableError, Step, Term, Value

TableKind = Literal["neighbors", "down", "up"]
_POSITIONS: dict[TableKind, int] = {"neighbors": 2 * NUM_OFFSETS + 1, "down": 8, "up": 8}
_KINDS: dict[tuple[str, str, str], TableKind] = {  # (array of target rows, array of source rows, array of bounds)
    ("pair_centre", "pair_neighbor", "pair_starts"): "neighbors",
    ("pair_neighbor", "pair_centre", "pair_starts"): "neighbors",
    ("parent", "child", "starts"): "down",
    ("child", "parent", "starts"): "up",
}


@dataclass(frozen=True)
class TableKey:
    """Which table of a pyramid: its kind, and the level or stride it belongs to."""

    kind: TableKind
    index: int


@dataclass(frozen=True)
class Factor:
    """Features and the matrices they are multiplied with.

    Attributes:
        source: where the features lie.
        columns: of them from ``source.first`` on, padded.
        weight: (K, columns, C_out padded) float32 by kernel position; K = 1 for a product of rows.
    """

    source: Placement
    columns: int
    weight: NDArray[np.float32]


@dataclass(frozen=True)
class Layer:
    """One convolution.

    Attributes:
        table: gives the rows of the result; of a layer without a gathered factor, the neighbours of its level.
        target: where the result lies.
        bias: (C_out padded,) float32.
        gathered: factor over the table's positions, or None.
        plain: factor over the rows themselves, or None.
        residual: what is added, as wide as the result, or None.
        relu: whether negative sums become zero.
    """

    table: TableKey
    target: Placement
    bias: NDArray[np.float32]
    gathered: Factor | None
    plain: Factor | None
    residual: Placement | None
    relu: bool


def plan_layers(steps: Sequence[Step], layout: BufferPlan, column_step: int) -> tuple[Layer, ...]:
    """One layer per step, in the same order.

    Args:
        steps: of a plan.
        layout: of their results.
        column_step: columns of buffers are padded to a multiple of this.

    Raises:
        NotPlannableError: a step reads its sources in a way that the tables do not hold, or more than two sources.
    """
    return tuple(_layer(step, layout, column_step) for step in steps)


def _layer(step: Step, layout: BufferPlan, column_step: int) -> Layer:
    tables = {key for term in step.terms if (key := _table_of(term)) is not None}
    sources = {id(term.source): term.source for term in step.terms if _table_of(term) is not None}
    if len(tables) > 1 or len(sources) > 1:
        raise NotPlannableError("a sum over several tables")
    table = next(iter(tables), TableKey("neighbors", step.level))
    _check_level(step, table)
    gathered_source = next(iter(sources.values()), None)
    beside = [term for term in step.terms if _table_of(term) is None and not _is_centre(term, table, gathered_source)]
    if len({id(term.source) for term in beside}) > 1:
        raise NotPlannableError("a sum of several products of rows")
    columns = padded(step.columns, column_step)
    gathered = [(_position_of(term), term) for term in step.terms if not any(term is other for other in beside)]
    bias = np.zeros(columns, np.float32)
    bias[: step.columns] = step.bias
    return Layer(
        table,
        layout.of(step),
        bias,
        _factor(gathered, _POSITIONS[table.kind], columns, layout, column_step) if gathered else None,
        _factor([(0, term) for term in beside], 1, columns, layout, column_step) if beside else None,
        None if step.residual is None else layout.of(step.residual),
        step.relu,
    )


def _factor(
    terms: Sequence[tuple[int, Term]], positions: int, c_out: int, layout: BufferPlan, column_step: int
) -> Factor:
    place = layout.of(terms[0][1].source)
    columns = padded(int(place.columns[-1]) + 1, column_step)
    weight = np.zeros((positions, columns, c_out), np.float32)
    for k, term in terms:
        weight[k, place.columns, : term.weight.shape[1]] += term.weight
    return Factor(place, columns, weight)


def _table_of(term: Term) -> TableKey | None:
    """The table that both lists of a term are columns of; None for a product of rows.

    Raises:
        NotPlannableError: no table holds them.
    """
    if term.into is None and term.read is None:
        return None
    if term.into is not None and term.read is not None:
        names = (term.into.array, term.read.array, term.into.starts)
        found = [re.fullmatch(r"(?:level|stride)(\d+)_(\w+)", name) for name in names]
        kind = _KINDS.get(tuple(match[2] for match in found if match))  # type: ignore[arg-type]
        same = len({match[1] for match in found if match}) == 1
        if kind and same and (term.into.starts, term.into.k) == (term.read.starts, term.read.k):
            return TableKey(kind, int(found[0][1]))  # type: ignore[index]
    raise NotPlannableError(f"rows {term.into} made of rows {term.read}")


def _position_of(term: Term) -> int:
    """Kernel position of a term in its table; the centre for a product of rows."""
    if term.into is None:
        return NUM_OFFSETS
    backwards = term.into.array.endswith("pair_neighbor")
    return 2 * NUM_OFFSETS - term.into.k if backwards else term.into.k


def _is_centre(term: Term, table: TableKey, gathered_source: Value | None) -> bool:
    return table.kind == "neighbors" and gathered_source is not None and term.source is gathered_source


def _check_level(step: Step, table: TableKey) -> None:
    """Rows of a result are rows of its table: the coarser level of a strided convolution, else the same one."""
    if step.level != table.index + (table.kind == "down"):
        raise NotPlannableError(f"a result of level {step.level} from table {table}")
