"""What an ONNX file says about itself, read without building the network and without the ``onnx`` package.

An ONNX file is one protobuf message (onnx/onnx.proto: ModelProto). Of the wire format
(https://protobuf.dev/programming-guides/encoding) this needs variable-length integers and
length-delimited fields; weights and nodes are skipped, so a large file reads in a millisecond.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ov_seg_ros.core.errors import ModelError

_IR_VERSION, _PRODUCER_NAME, _GRAPH, _OPSET_IMPORT, _METADATA_PROPS = 1, 2, 7, 8, 14  # ModelProto
_GRAPH_INPUT, _GRAPH_OUTPUT = 11, 12  # GraphProto
_VARINT, _FIXED64, _DELIMITED, _FIXED32 = 0, 1, 2, 5  # wire types
_IR_VERSION_KEY = bytes([_IR_VERSION << 3 | _VARINT])

Field = tuple[int, "int | memoryview"]


@dataclass(frozen=True)
class OnnxHeader:
    """The self-description of an ONNX file.

    Attributes:
        ir_version: version of the file format.
        producer: program that wrote the file.
        opsets: operator set version by domain, "" is the standard domain.
        inputs: names of the graph's inputs.
        outputs: names of the graph's outputs.
        metadata: free-form entries (``metadata_props``).
    """

    ir_version: int
    producer: str
    opsets: dict[str, int]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    metadata: dict[str, str]


class _CutShortError(ValueError):
    """A field claims more bytes than there are."""


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
    except _CutShortError as error:
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
    fields = list(_fields(model))
    versions = [value for number, value in fields if number == _IR_VERSION and isinstance(value, int)]
    graphs = _messages(fields, _GRAPH)
    if not versions or not graphs:
        raise ValueError("no ir_version or no graph")
    graph_fields = list(_fields(graphs[0]))
    opsets = [dict(_fields(message)) for message in _messages(fields, _OPSET_IMPORT)]
    entries = [dict(_fields(message)) for message in _messages(fields, _METADATA_PROPS)]
    return OnnxHeader(
        ir_version=versions[0],
        producer="".join(_text(name) for name in _messages(fields, _PRODUCER_NAME)),
        opsets={_text(opset.get(1)): _number(opset.get(2)) for opset in opsets},
        inputs=_names(graph_fields, _GRAPH_INPUT),
        outputs=_names(graph_fields, _GRAPH_OUTPUT),
        metadata={_text(entry.get(1)): _text(entry.get(2)) for entry in entries},
    )


def _names(graph_fields: list[Field], number: int) -> tuple[str, ...]:
    return tuple(_text(dict(_fields(message)).get(1)) for message in _messages(graph_fields, number))


def _messages(fields: list[Field], wanted: int) -> list[memoryview]:
    return [value for number, value in fields if number == wanted and isinstance(value, memoryview)]


def _text(value: int | memoryview | None) -> str:
    return bytes(value).decode() if isinstance(value, memoryview) else ""


def _number(value: int | memoryview | None) -> int:
    return value if isinstance(value, int) else 0


def _fields(message: memoryview) -> Iterator[Field]:
    """Field numbers and values of one message: int for integers, a view of the bytes for everything else."""
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        number, wire_type = key >> 3, key & 7
        if wire_type == _VARINT:
            value, position = _varint(message, position)
            yield number, value
            continue
        if wire_type == _DELIMITED:
            length, position = _varint(message, position)
        elif wire_type in (_FIXED64, _FIXED32):
            length = 8 if wire_type == _FIXED64 else 4
        else:
            raise ValueError(f"wire type {wire_type} does not exist")
        if position + length > len(message):
            raise _CutShortError(f"{position + length - len(message)} bytes are missing")
        yield number, message[position : position + length]
        position += length


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    """The integer at ``position`` (7 bits per byte, lowest first) and the position after it."""
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(message):
            raise _CutShortError("the rest of a number is missing")
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError("a number has more than 10 bytes")
