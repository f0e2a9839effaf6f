"""What an ONNX file says about itself, read without building the network and without the ``onnx`` package.

An ONNX file is one protobuf message (onnx/onnx.proto: ModelProto). Weights and nodes are skipped, so a large file
reads in a millisecond; ``onnx_graph`` reads them.
"""

from __future__ import annotations

from dataclasses import dataclass

from ov_seg_ros.core.errors import ModelError
from ov_seg_ros.runtime.protobuf import CutShortError, Field, messages, number, read_fields, text

_IR_VERSION, _PRODUCER_NAME, _GRAPH, _OPSET_IMPORT, _METADATA_PROPS = 1, 2, 7, 8, 14  # ModelProto
_GRAPH_INPUT, _GRAPH_OUTPUT = 11, 12  # GraphProto
_IR_VERSION_KEY = bytes([_IR_VERSION << 3])


@dataclass(frozen=True)
class OnnxHeader:
    """The self-description of an ONNX file.

    Attributes:
        ir_version: version of the file format.
        producer: program that wrote the file.
        opsets: operator set version by domain, "" is the standard domain.
        inputs: size of the last axis of each of the graph's inputs by name, 0 = it may vary.
        outputs: the same of the outputs.
        metadata: free-form entries (``metadata_props``).
    """

    ir_version: int
    producer: str
    opsets: dict[str, int]
    inputs: dict[str, int]
    outputs: dict[str, int]
    metadata: dict[str, str]


def read_onnx_header(content: bytes, where: str) -> OnnxHeader:
    """Reads the header of an ONNX file.

    Args:
        content: the whole file.
        where: name of the file for error messages.

    Raises:
        ModelError: ``content`` is not an ONNX file, or is cut short.
    """
    try:
        return _parse_model(memoryview(content))
    except CutShortError as error:
        if content.startswith(_IR_VERSION_KEY):
            raise ModelError(
                f"{where} is a damaged ONNX file: {error} after its {len(content)} bytes; copy or export it again"
            ) from error
        raise ModelError(_not_onnx(content, where)) from error
    except ValueError as error:
        raise ModelError(_not_onnx(content, where)) from error


def _not_onnx(content: bytes, where: str) -> str:
    seen = f"starts with {content[:8]!r}" if content else "is empty"
    return f"{where} is not an ONNX file (it {seen}); a student is an .onnx file written by ov_seg_ros' export"


def _parse_model(model: memoryview) -> OnnxHeader:
    fields = list(read_fields(model))
    versions = [value for number, value in fields if number == _IR_VERSION and isinstance(value, int)]
    graphs = messages(fields, _GRAPH)
    if not versions or not graphs:
        raise ValueError("no ir_version or no graph")
    graph_fields = list(read_fields(graphs[0]))
    opsets = [dict(read_fields(message)) for message in messages(fields, _OPSET_IMPORT)]
    entries = [dict(read_fields(message)) for message in messages(fields, _METADATA_PROPS)]
    return OnnxHeader(
        ir_version=versions[0],
        producer="".join(text(name) for name in messages(fields, _PRODUCER_NAME)),
        opsets={text(opset.get(1)): number(opset.get(2)) for opset in opsets},
        inputs=_columns(graph_fields, _GRAPH_INPUT),
        outputs=_columns(graph_fields, _GRAPH_OUTPUT),
        metadata={text(entry.get(1)): text(entry.get(2)) for entry in entries},
    )


def _columns(graph_fields: list[Field], number: int) -> dict[str, int]:
    """Name and last axis of ValueInfoProto messages: type, tensor_type, shape, dim, dim_value."""
    columns = {}
    for message in messages(graph_fields, number):
        value = dict(read_fields(message))
        kind = dict(read_fields(_nested(value.get(2))))
        shape = dict(read_fields(_nested(dict(read_fields(_nested(kind.get(1)))).get(2))))  # the last dim wins
        size = dict(read_fields(_nested(shape.get(1)))).get(1)
        columns[text(value.get(1))] = size if isinstance(size, int) else 0
    return columns


def _nested(value: int | memoryview | None) -> memoryview:
    return value if isinstance(value, memoryview) else memoryview(b"")
