"""Labels of one scan as files other tools read: SemanticKITTI ``.label`` and coloured PLY."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.errors import InputError
from ov_seg_ros.core.label_space import LabelSpace

_PLY_POINT = np.dtype(
    [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("red", "u1"), ("green", "u1"), ("blue", "u1"), ("class_id", "u1")]
)
_PLY_TYPES = {"<f4": "float", "|u1": "uchar"}


def write_kitti_labels(path: Path, class_id: NDArray[np.uint8], instance_id: NDArray[np.integer] | None = None) -> None:
    """Writes a SemanticKITTI ``.label`` file: one little-endian uint32 per point.

    The low 16 bits are our ``class_id``, where 255 means "no label" (SemanticKITTI itself writes 0 for that, which is
    a class of ours; and its own id 255 is a moving motorcyclist). The high 16 bits are the instance, 0 = none.

    Args:
        path: file to write; an existing one is replaced.
        class_id: (N,) uint8.
        instance_id: (N,) 0..65535, or None.

    Raises:
        InputError: the arrays differ in length, or an instance needs more than 16 bits.
    """
    labels = class_id.astype("<u4")
    if instance_id is not None:
        if instance_id.shape != class_id.shape:
            raise InputError(f"instance_id must have shape {class_id.shape}, got {instance_id.shape}")
        if instance_id.size and (instance_id.min() < 0 or instance_id.max() > 0xFFFF):
            raise InputError(f"instance_id must fit 16 bits, got {instance_id.min()} to {instance_id.max()}")
        labels |= instance_id.astype("<u4") << np.uint32(16)
    labels.astype("<u4").tofile(path)


def read_kitti_labels(path: Path) -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
    """Reads a ``.label`` file: (N,) uint16 classes and (N,) uint16 instances.

    Raises:
        InputError: the file's size is no multiple of 4 bytes.
    """
    if path.stat().st_size % 4:
        raise InputError(f"labels {path} hold {path.stat().st_size} bytes, no multiple of 4; the file was cut off")
    labels = np.fromfile(path, "<u4")
    return (labels & 0xFFFF).astype(np.uint16), (labels >> 16).astype(np.uint16)


def write_ply(path: Path, points: NDArray[np.float32], class_id: NDArray[np.uint8], label_space: LabelSpace) -> None:
    """Writes a binary little-endian PLY with x, y, z, red, green, blue and class_id per point.

    CloudCompare, MeshLab and Open3D read it. Invalid points (NaN) stay in, so point i is point i of the scan.

    Args:
        path: file to write; an existing one is replaced.
        points: (N, 3) float32, metres.
        class_id: (N,) uint8, 255 = none, drawn grey.
        label_space: gives the colours; the class names go into comments.

    Raises:
        InputError: the arrays differ in length.
    """
    if class_id.shape != (len(points),):
        raise InputError(f"class_id must have shape ({len(points)},), got {class_id.shape}")
    vertices = np.empty(len(points), _PLY_POINT)
    vertices["x"], vertices["y"], vertices["z"] = points.T
    vertices["red"], vertices["green"], vertices["blue"] = label_space.colors[class_id].T
    vertices["class_id"] = class_id
    lines = [
        "ply",
        "format binary_little_endian 1.0",
        *(f"comment class {index} {name}" for index, name in enumerate(label_space.class_names)),
        f"element vertex {len(points)}",
        *(f"property {_PLY_TYPES[_PLY_POINT[n].str]} {n}" for n in _PLY_POINT.names or ()),
        "end_header\n",
    ]
    with path.open("wb") as file:
        file.write("\n".join(lines).encode("ascii", "replace"))
        vertices.tofile(file)
