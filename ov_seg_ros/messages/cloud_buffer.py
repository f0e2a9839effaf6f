"""The memory of a point cloud: fields in a record, records in a buffer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.errors import InputError
from ov_seg_ros.messages.assembly import MessageTypes, make_header, make_message

DATATYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 8: "f8"}
"""PointField.datatype (INT8 = 1 ... FLOAT64 = 8) to NumPy type, without byte order."""

Allocate: TypeAlias = "Callable[[int, tuple[CloudField, ...]], NDArray[np.uint8]]"
"""Memory for a cloud: (bytes, layout) to (bytes,) uint8, zero wherever no field lies."""

_DATATYPE_OF = {numpy_type: datatype for datatype, numpy_type in DATATYPES.items()}


@dataclass(frozen=True)
class CloudField:
    """One sensor_msgs/PointField.

    Attributes:
        name: of the field; names may repeat (PCL calls padding "_").
        offset: bytes from the start of the point.
        datatype: key of ``DATATYPES``.
        count: elements per point; 0 means 1, as PCL reads it.
    """

    name: str
    offset: int
    datatype: int
    count: int = 1

    @property
    def end(self) -> int:
        """Offset of the byte after the field."""
        return self.offset + np.dtype(DATATYPES[self.datatype]).itemsize * max(self.count, 1)


@dataclass(frozen=True)
class CloudBuffer:
    """All that a sensor_msgs/PointCloud2 holds, rows packed, before it becomes a message of some class.

    Attributes:
        height, width: organised shape, row-major; height 1 if not organised.
        fields: of one point.
        point_step: bytes per point.
        is_dense: no float of any field is NaN or infinite.
        data: (height * width * point_step,) uint8.
        stamp_ns: nanoseconds.
        frame_id: tf frame.
        is_bigendian: byte order of ``data``.
    """

    height: int
    width: int
    fields: tuple[CloudField, ...]
    point_step: int
    is_dense: bool
    data: NDArray[np.uint8]
    stamp_ns: int = 0
    frame_id: str = ""
    is_bigendian: bool = False

    @property
    def row_step(self) -> int:
        """Bytes per row; rows are never padded."""
        return self.width * self.point_step

    def to_message(self, types: MessageTypes) -> Any:
        """Makes it a sensor_msgs/PointCloud2 of the classes in ``types`` (see ``messages.assembly``).

        Args:
            types: holds "sensor_msgs/msg/PointCloud2", "sensor_msgs/msg/PointField", "std_msgs/msg/Header" and
                "builtin_interfaces/msg/Time".

        Raises:
            InputError: a class is missing.
        """
        values = {**self._values(types), "data": self.data}
        return make_message(types, "sensor_msgs/msg/PointCloud2", **values)

    def fill(self, message: Any, types: MessageTypes) -> Any:
        """Sets everything but the data of a message, whose data this cloud was written into; returns the message."""
        for name, value in self._values(types).items():
            setattr(message, name, value)
        return message

    def _values(self, types: MessageTypes) -> dict[str, Any]:
        """The fields of the message but ``data``."""
        fields = [
            make_message(
                types,
                "sensor_msgs/msg/PointField",
                name=field.name,
                offset=field.offset,
                datatype=field.datatype,
                count=field.count,
            )
            for field in self.fields
        ]
        return {
            "header": make_header(types, self.stamp_ns, self.frame_id),
            "height": self.height,
            "width": self.width,
            "fields": fields,
            "is_bigendian": self.is_bigendian,
            "point_step": self.point_step,
            "row_step": self.row_step,
            "is_dense": self.is_dense,
        }


def allocate_zeros(size: int, layout: tuple[CloudField, ...]) -> NDArray[np.uint8]:
    """New memory for a cloud of ``size`` bytes: what an encoder does if it is given no other."""
    return np.zeros(size, np.uint8)


def record_dtype(fields: Sequence[CloudField], point_step: int, is_bigendian: bool) -> np.dtype[Any]:
    """The NumPy record of one point.

    Names that repeat or are empty become "name#2", "name#3" ... in the order of ``fields``; a count above 1 becomes a
    sub-array. Fields may overlap (unions), and bytes outside of all fields are padding.
    """
    order = ">" if is_bigendian else "<"
    names: list[str] = []
    for field in fields:
        name, number = field.name, 2
        while name in names or not name:
            name, number = f"{field.name}#{number}", number + 1
        names.append(name)
    formats = [(order + DATATYPES[field.datatype], (field.count,) if field.count > 1 else ()) for field in fields]
    offsets = [field.offset for field in fields]
    return np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": point_step})


def all_finite(records: NDArray[Any], names: Sequence[str] | None = None) -> bool:
    """Whether no float of a structured (N,) array, or of the fields named, is NaN or infinite."""
    names = (records.dtype.names or ()) if names is None else names
    return all(np.isfinite(records[name]).all() for name in names if records.dtype[name].base.kind == "f")


def encode_cloud(
    fields: Mapping[str, NDArray[Any]], stamp_ns: int = 0, frame_id: str = "", height: int = 1
) -> CloudBuffer:
    """Makes a little-endian cloud of any fields.

    Args:
        fields: name to (N,) or (N, count) array of int8 ... uint32, float32 or float64, at least one. Each field is
            aligned to its own size.
        stamp_ns: nanoseconds.
        frame_id: tf frame.
        height: rows of an organised cloud; must divide N.

    Raises:
        InputError: lengths differ, a type that PointField does not know (int64, bool), or no such height.
    """
    if not fields:
        raise InputError("a cloud needs at least one field, got none")
    lengths = {name: len(values) for name, values in fields.items()}
    if len(set(lengths.values())) > 1:
        raise InputError(f"all fields of a cloud need the same length, got {lengths}")
    layout: list[CloudField] = []
    end, alignment = 0, 1
    for name, values in fields.items():
        code = f"{values.dtype.kind}{values.dtype.itemsize}"
        if code not in _DATATYPE_OF or values.ndim not in (1, 2):
            known = ", ".join(np.dtype(numpy_type).name for numpy_type in DATATYPES.values())
            raise InputError(f"field {name!r} must be (N,) or (N, count) of {known}, got {values.shape} {values.dtype}")
        offset = -(-end // values.dtype.itemsize) * values.dtype.itemsize
        layout.append(CloudField(name, offset, _DATATYPE_OF[code], 1 if values.ndim == 1 else values.shape[1]))
        end, alignment = layout[-1].end, max(alignment, values.dtype.itemsize)
    count = next(iter(lengths.values()))
    if height < 1 or count % height:
        raise InputError(f"{count} points do not fill {height} rows")
    records = np.zeros(count, record_dtype(layout, -(-end // alignment) * alignment, is_bigendian=False))
    for name, values in fields.items():
        records[name] = values.reshape(records[name].shape)
    return pack_cloud(records, tuple(layout), (height, count // height), stamp_ns, frame_id)


def pack_cloud(
    records: NDArray[Any],
    fields: tuple[CloudField, ...],
    shape: tuple[int, int],
    stamp_ns: int,
    frame_id: str,
    is_bigendian: bool = False,
    is_dense: bool | None = None,
) -> CloudBuffer:
    """Wraps contiguous records (N,) of ``record_dtype(fields, ...)`` as a cloud of (height, width).

    ``is_dense`` None: look at every float; a caller that knows says so.
    """
    return CloudBuffer(
        height=shape[0],
        width=shape[1],
        fields=fields,
        point_step=records.dtype.itemsize,
        is_dense=all_finite(records) if is_dense is None else is_dense,
        data=records.view(np.uint8).reshape(-1) if records.size else np.zeros(0, np.uint8),
        stamp_ns=stamp_ns,
        frame_id=frame_id,
        is_bigendian=is_bigendian,
    )
