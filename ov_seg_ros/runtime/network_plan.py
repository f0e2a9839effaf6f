"""What the graph of a student computes, found again from its nodes: a list of sparse convolutions.

``training/export.py`` writes every sparse convolution as standard operators, a Gather, a MatMul and a ScatterND per
kernel offset. ``plan_network`` walks through the nodes and adds them up again: a ``Step`` is a sum of matrix products
along index lists with its bias, residual and rectifier. Nothing is assumed about widths, depths or the order of blocks.
A graph with anything else in it is refused, and ONNX Runtime runs it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.runtime.onnx_graph import Node, OnnxGraph


class NotPlannableError(ValueError):
    """The graph does something that a plan cannot say."""


@dataclass(frozen=True)
class RowList:
    """Entries [starts[k], starts[k + 1]) of an index array of the pyramid.

    Attributes:
        array: name of the array among ``Pyramid.graph_inputs``.
        starts: name of the array of bounds.
        k: which entries.
    """

    array: str
    starts: str
    k: int


@dataclass(frozen=True, eq=False)
class Features:
    """The network's input, rows of the finest level."""

    columns: int


@dataclass(frozen=True, eq=False)
class Joined:
    """Columns of several values side by side."""

    parts: tuple[Value, ...]


@dataclass(frozen=True)
class Term:
    """``target[into] += source[read] @ weight``; all rows with themselves where the lists are None.

    Attributes:
        source: the rows read.
        weight: (C_in, C_out) float32.
        into: rows written, ascending and distinct.
        read: rows read, as many.
    """

    source: Value
    weight: NDArray[np.float32]
    into: RowList | None = None
    read: RowList | None = None


@dataclass(frozen=True, eq=False)
class Step:
    """One convolution with what follows it.

    Attributes:
        level: of the rows, 0 = finest.
        bias: (C_out,) float32.
        terms: summed up.
        residual: added, same shape.
        relu: whether negative sums become zero.
    """

    level: int
    bias: NDArray[np.float32]
    terms: tuple[Term, ...]
    residual: Value | None = None
    relu: bool = False

    @property
    def columns(self) -> int:
        """C_out."""
        return len(self.bias)


Value = Features | Joined | Step


def columns_of(value: Value) -> int:
    """Columns of a value."""
    return sum(columns_of(part) for part in value.parts) if isinstance(value, Joined) else value.columns


def level_of(value: Value) -> int:
    """Level of a value's rows."""
    if isinstance(value, Joined):
        return level_of(value.parts[0])
    return value.level if isinstance(value, Step) else 0


@dataclass(frozen=True)
class _Bound:
    array: str
    index: int


@dataclass(frozen=True)
class _Gathered:
    value: Value
    rows: RowList


@dataclass(frozen=True)
class _Product:
    value: Value
    rows: RowList
    weight: NDArray[np.float32]


@dataclass(frozen=True)
class _ByCorner:
    """Products of all corners one after the other; ``placed``: brought into the order of the fine rows."""

    products: tuple[_Product, ...]
    placed: bool = False


@dataclass(frozen=True)
class _CoarseRows:
    """The number of rows of a level, or a shape that begins with it."""

    level: int


def plan_network(graph: OnnxGraph, features: Features) -> tuple[Step, ...]:
    """The steps of a network in an order in which they can be computed; the last one makes the logits.

    Args:
        graph: of a student.
        features: the graph's input of that name.

    Raises:
        NotPlannableError: the graph holds something else than sparse convolutions.
    """
    return _Planner(graph, features).plan()


class _Planner:
    """Follows every tensor of the graph through the nodes, knowing of each what it is, not what it holds."""

    def __init__(self, graph: OnnxGraph, features: Features) -> None:
        self._graph = graph
        self._known: dict[str, object] = {**graph.weights, "features": features}
        self._steps: list[Step] = []
        self._rules: dict[str, Callable[[Node, list[object]], object]] = {
            "Slice": _slice,
            "Unsqueeze": lambda _node, inputs: _expect(inputs[0], RowList),
            "ReduceMax": _last_row,
            "Expand": self._expand,
            "Gather": self._gather,
            "MatMul": _product,
            "ScatterND": self._scatter,
            "Gemm": self._gemm,
            "Relu": self._relu,
            "Add": self._add,
            "Concat": self._concat,
            "Identity": lambda _node, inputs: inputs[0],
        }

    def plan(self) -> tuple[Step, ...]:
        for node in self._graph.nodes:
            if node.operator not in self._rules or len(node.outputs) != 1:
                raise NotPlannableError(f"operator {node.operator}")
            inputs = [self._known.get(name, name) for name in node.inputs]  # an unknown name is an input of the graph
            self._known[node.outputs[0]] = self._rules[node.operator](node, inputs)
        (output,) = self._graph.outputs
        self._value(self._known.get(output))
        return tuple(self._steps)

    def _value(self, found: object) -> Value:
        """A value that others read: a step is complete from now on."""
        if isinstance(found, Step) and not self._is_complete(found):
            self._steps.append(found)
        return _expect(found, Features, Joined, Step)

    def _is_complete(self, step: Step) -> bool:
        return any(step is other for other in self._steps)

    def _expand(self, _node: Node, inputs: list[object]) -> Step:
        bias, shape = _expect(inputs[0], np.ndarray), _expect(inputs[1], _CoarseRows)
        return Step(shape.level, bias.reshape(-1), ())

    def _gather(self, _node: Node, inputs: list[object]) -> object:
        if isinstance(inputs[0], _ByCorner):
            return replace(inputs[0], placed=True)
        return _Gathered(self._value(inputs[0]), _expect(inputs[1], RowList))

    def _scatter(self, node: Node, inputs: list[object]) -> Step:
        step, into, product = _expect(inputs[0], Step), _expect(inputs[1], RowList), _expect(inputs[2], _Product)
        if node.attributes.get("reduction") != "add" or step.relu:
            raise NotPlannableError("a ScatterND that does not add to a sum")
        term = Term(product.value, product.weight, into, product.rows)
        return replace(step, terms=(*step.terms, term))

    def _gemm(self, node: Node, inputs: list[object]) -> Step:
        if node.attributes or len(inputs) != 3:
            raise NotPlannableError("a Gemm with attributes")
        value = self._value(inputs[0])
        weight, bias = _expect(inputs[1], np.ndarray), _expect(inputs[2], np.ndarray)
        return Step(level_of(value), bias, (Term(value, weight),))

    def _relu(self, _node: Node, inputs: list[object]) -> Step:
        return replace(_expect(inputs[0], Step), relu=True)

    def _add(self, _node: Node, inputs: list[object]) -> object:
        first, second = inputs
        if isinstance(first, _CoarseRows):
            return first
        if isinstance(first, _ByCorner):
            return _transposed(first, _expect(second, np.ndarray))
        sums, other = _expect(first, Step), _expect(second, Step, Features, Joined)
        if sums.relu or sums.residual is not None:
            raise NotPlannableError("a sum of values")
        if isinstance(other, Step) and other.residual is None and not other.relu and not self._is_complete(other):
            return replace(sums, bias=sums.bias + other.bias, terms=(*sums.terms, *other.terms))
        return replace(sums, residual=self._value(other))

    def _concat(self, node: Node, inputs: list[object]) -> object:
        if isinstance(inputs[0], _CoarseRows):
            return inputs[0]
        if node.attributes.get("axis") == 1:
            return Joined(tuple(self._value(part) for part in inputs))
        return _ByCorner(tuple(_expect(product, _Product) for product in inputs))


def _slice(_node: Node, inputs: list[object]) -> object:
    if isinstance(inputs[1], _Bound) and isinstance(inputs[2], _Bound):
        begin, end = inputs[1], inputs[2]
        if begin.array != end.array or end.index != begin.index + 1:
            raise NotPlannableError("a Slice over several kernel offsets")
        return RowList(_expect(inputs[0], str), begin.array, begin.index)
    return _Bound(_expect(inputs[0], str), int(_expect(inputs[1], np.ndarray)[0]))


def _product(_node: Node, inputs: list[object]) -> _Product:
    gathered = _expect(inputs[0], _Gathered)
    return _Product(gathered.value, gathered.rows, _expect(inputs[1], np.ndarray))


def _last_row(_node: Node, inputs: list[object]) -> _CoarseRows:
    return _CoarseRows(_stride(_expect(inputs[0], str), "parent") + 1)


def _transposed(corners: _ByCorner, bias: NDArray[np.float32]) -> Step:
    """Every fine row gets the product of its one corner: where the rows of a corner go, ``child`` says."""
    if not corners.placed:
        raise NotPlannableError("products of corners in no order")
    stride = _stride(corners.products[0].rows.array, "parent")
    terms = [
        Term(p.value, p.weight, RowList(f"stride{stride}_child", p.rows.starts, p.rows.k), p.rows)
        for p in corners.products
    ]
    return Step(stride, bias, tuple(terms))


def _stride(array: str, kind: str) -> int:
    match = re.fullmatch(rf"stride(\d+)_{kind}", array)
    if match is None:
        raise NotPlannableError(f"index array {array}")
    return int(match[1])


def _expect(found: Any, *kinds: type) -> Any:
    if not isinstance(found, kinds):
        raise NotPlannableError(f"{type(found).__name__} where {' or '.join(k.__name__ for k in kinds)} was expected")
    return found
