"""Vertices of PLY files, the format of ScanNet's meshes: binary or text, any scalar properties."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.errors import InputError

_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1",
    "short": "i2", "int16": "i2", "ushort": "u2", "uint16": "u2",
    "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4",
    "float": "f4", "float32": "f4", "double": "f8", "float64": "f8",
}  # fmt: skip
_ORDERS = {"binary_little_endian": "<", "binary_big_endian": ">", "ascii": ""}
_MAX_HEADER_LINES = 200


def load_ply_vertices(path: Path) -> NDArray[np.void]:
    """Reads the vertices of a PLY file; faces behind them are not looked at.

    Args:
        path: of the file, whose first element must be ``vertex``, without list properties.

    Returns:
        (N,) structured array with the properties of the file as fields ("x", "red", "label", ...).

    Raises:
        InputError: missing, cut off, or another kind of file.
    """
    if not path.is_file():
        raise InputError(f"mesh {path} does not exist")
    with path.open("rb") as file:
        layout, count, properties = _read_header(file, path)
        if layout == "ascii":
            return _read_text(file, path, count, properties)
        dtype = np.dtype([(name, _ORDERS[layout] + kind) for name, kind in properties])
        content = file.read(count * dtype.itemsize)
        if len(content) < count * dtype.itemsize:
            raise InputError(
                f"mesh {path} was cut off: {count} vertices need {count * dtype.itemsize} bytes, it holds "
                f"{len(content)}; copy it again"
            )
        return np.frombuffer(content, dtype)


def vertex_columns(vertices: NDArray[np.void], names: tuple[str, ...], path: Path) -> NDArray[np.generic]:
    """(N, len(names)) of some properties side by side.

    Raises:
        InputError: a property is missing.
    """
    missing = [name for name in names if name not in (vertices.dtype.names or ())]
    if missing:
        raise InputError(
            f"mesh {path}: its vertices have no {', '.join(missing)}, only {', '.join(vertices.dtype.names or ())}"
        )
    return np.stack([vertices[name] for name in names], axis=1)


def _read_header(file: BinaryIO, path: Path) -> tuple[str, int, list[tuple[str, str]]]:
    """Layout, number of vertices, and (name, numpy type) of their properties."""
    if file.readline().strip() != b"ply":
        raise InputError(f"{path} is no PLY file: it does not begin with 'ply'")
    layout, count, properties, element = "", -1, [], ""
    for _ in range(_MAX_HEADER_LINES):
        words = file.readline().decode("ascii", "replace").split()
        match words:
            case ["end_header"]:
                break
            case ["format", kind, _]:
                layout = kind
            case ["element", name, number]:
                if name == "vertex" and element:
                    raise InputError(f"{path}: vertices must come first in the file, it begins with {element}")
                element, count = name, int(number) if name == "vertex" else count
            case ["property", kind, name] if element == "vertex" and kind in _TYPES:
                properties.append((name, _TYPES[kind]))
            case ["property", *kind] if element == "vertex":
                raise InputError(f"{path}: cannot read the vertex property {' '.join(kind)!r}")
    else:
        raise InputError(f"{path}: the PLY header has no end_header; the file is damaged, copy it again")
    if layout not in _ORDERS or count < 0 or not properties:
        raise InputError(f"{path}: the PLY header must name a format and vertices, got {layout!r}, {count} vertices")
    return layout, count, properties


def _read_text(file: BinaryIO, path: Path, count: int, properties: list[tuple[str, str]]) -> NDArray[np.void]:
    vertices = np.zeros(count, np.dtype(properties))
    for index in range(count):
        words = file.readline().split()
        try:
            vertices[index] = tuple(float(word) for word in words)
        except ValueError as error:
            raise InputError(
                f"mesh {path}: vertex {index} of {count} must be {len(properties)} numbers, got {words!r}; copy again"
            ) from error
    return vertices
