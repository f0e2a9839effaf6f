"""Nodes and weights of an ONNX file, read without the ``onnx`` package (onnx/onnx.proto: GraphProto)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.runtime.protobuf import integers, messages, number, read_fields, text

_GRAPH = 7  # ModelProto
_NODE, _INITIALIZER, _OUTPUT = 1, 5, 12  # GraphProto
_NODE_INPUT, _NODE_OUTPUT, _OPERATOR, _ATTRIBUTE, _DOMAIN = 1, 2, 4, 5, 7  # NodeProto
_NAME, _INTEGER, _STRING = 1, 3, 4  # AttributeProto
_DIMENSIONS, _TYPE, _TENSOR_NAME, _RAW_DATA = 1, 2, 8, 9  # TensorProto
_TYPES: dict[int, np.dtype[Any]] = {1: np.dtype("<f4"), 7: np.dtype("<i8")}


@dataclass(frozen=True)
class Node:
    """One operator of the graph.

    Attributes:
        operator: name, with its domain in front unless that is the standard one.
        inputs, outputs: names of tensors.
        attributes: integers and strings by name; others are left out.
    """

    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, int | str]


@dataclass(frozen=True)
class OnnxGraph:
    """What a network computes.

    Attributes:
        nodes: in an order in which they can be computed.
        weights: float32 and int64 tensors by name, views of the file's bytes; tensors of other kinds are left out.
        outputs: names of the results.
    """

    nodes: tuple[Node, ...]
    weights: dict[str, NDArray]
    outputs: tuple[str, ...]


def read_onnx_graph(content: bytes) -> OnnxGraph:
    """Reads the graph of a file that ``read_onnx_header`` accepted."""
    model = list(read_fields(memoryview(content)))
    fields = list(read_fields(messages(model, _GRAPH)[0]))
    weights = dict(entry for message in messages(fields, _INITIALIZER) if (entry := _weight(message)))
    outputs = tuple(text(dict(read_fields(message)).get(_NAME)) for message in messages(fields, _OUTPUT))
    return OnnxGraph(tuple(_node(message) for message in messages(fields, _NODE)), weights, outputs)


def _node(message: memoryview) -> Node:
    fields = list(read_fields(message))
    domain = "".join(text(value) for value in messages(fields, _DOMAIN))
    attributes: dict[str, int | str] = {}
    for attribute in messages(fields, _ATTRIBUTE):
        values = dict(read_fields(attribute))
        if _STRING in values:
            attributes[text(values.get(_NAME))] = text(values[_STRING])
        elif _INTEGER in values:
            attributes[text(values.get(_NAME))] = number(values[_INTEGER])
    operator = "".join(text(value) for value in messages(fields, _OPERATOR))
    return Node(
        operator=f"{domain}.{operator}" if domain else operator,
        inputs=tuple(text(value) for value in messages(fields, _NODE_INPUT)),
        outputs=tuple(text(value) for value in messages(fields, _NODE_OUTPUT)),
        attributes=attributes,
    )


def _weight(message: memoryview) -> tuple[str, NDArray] | None:
    fields = list(read_fields(message))
    values = dict(fields)
    dtype, raw = _TYPES.get(number(values.get(_TYPE))), values.get(_RAW_DATA)
    if dtype is None or not isinstance(raw, memoryview):
        return None
    array = np.frombuffer(raw, dtype).reshape(integers(fields, _DIMENSIONS))
    return text(values.get(_TENSOR_NAME)), array
