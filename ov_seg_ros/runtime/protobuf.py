"""The protobuf wire format (https://protobuf.dev/programming-guides/encoding), as far as ONNX files need it.

Variable-length integers, length-delimited fields and fixed-size numbers; nothing is copied.
"""

from __future__ import annotations

from collections.abc import Iterator

_VARINT, _FIXED64, _DELIMITED, _FIXED32 = 0, 1, 2, 5  # wire types

Field = tuple[int, "int | memoryview"]


class CutShortError(ValueError):
    """A field claims more bytes than there are."""


def read_fields(message: memoryview) -> Iterator[Field]:
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
            raise CutShortError(f"{position + length - len(message)} bytes are missing")
        yield number, message[position : position + length]
        position += length


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    """The integer at ``position`` (7 bits per byte, lowest first) and the position after it."""
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(message):
            raise CutShortError("the rest of a number is missing")
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError("a number has more than 10 bytes")


def messages(fields: list[Field], number: int) -> list[memoryview]:
    """The length-delimited values of the fields of one number."""
    return [value for found, value in fields if found == number and isinstance(value, memoryview)]


def integers(fields: list[Field], number: int) -> list[int]:
    """The integers of a repeated field, packed or not."""
    found: list[int] = []
    for field, value in fields:
        if field != number:
            continue
        if isinstance(value, int):
            found.append(value)
            continue
        position = 0
        while position < len(value):
            integer, position = _varint(value, position)
            found.append(integer)
    return found


def text(value: int | memoryview | None) -> str:
    """A string field; empty where it is absent."""
    return bytes(value).decode() if isinstance(value, memoryview) else ""


def number(value: int | memoryview | None) -> int:
    """An integer field; 0 where it is absent."""
    return value if isinstance(value, int) else 0
