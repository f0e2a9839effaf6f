"""sensor_msgs/PointCloud2: any layout in, labelled clouds out.

Encoders return a ``CloudBuffer``; its ``to_message(types)`` makes the message.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.data_types import PointCloud, SegmentedCloud
from ov_seg_ros.core.errors import ConfigError, InputError
from ov_seg_ros.messages.assembly import read_bytes, read_stamp_ns, split_rows
from ov_seg_ros.messages.cloud_buffer import (
    DATATYPES,
    Allocate,
    CloudBuffer,
    CloudField,
    all_finite,
    allocate_zeros,
    encode_cloud,
    pack_cloud,
    record_dtype,
)

__all__ = [
    "PROFILES",
    "CloudBuffer",
    "CloudField",
    "DecodedCloud",
    "decode_pointcloud2",
    "encode_cloud",
    "encode_filtered",
    "encode_segmentation",
    "encode_visualization",
]

INTENSITY_NAMES = ("intensity", "intensities", "reflectivity", "i")
"""Fields that can hold the intensity; the first one that a cloud has is read."""

PROFILES = ("full", "xyzcpe")
"""Layouts of ``encode_segmentation``."""

_UINT8, _FLOAT32 = 2, 7
_LABEL_FIELDS = {"probability": _FLOAT32, "entropy": _FLOAT32, "class_id": _UINT8}
_LARGEST_POINT = 1 << 20
"""Bytes of a point that a cloud without points may declare."""
_BLOCK = 8192
"""Points that are written at a time: input, output and labels of a block stay in the cache."""


@dataclass(frozen=True)
class DecodedCloud:
    """A cloud as numbers, and the message it came in as records.

    Attributes:
        cloud: x, y, z and intensity in float32; stamp and frame of the header.
        fields: (N,) structured array of all input fields, read-only; a view of the message where its rows are not
            padded. Index it by name: ``decoded.fields["ring"]``.
        layout: the input fields as they were declared.
        shape: (height, width) of the message; points are in row-major order.
        is_bigendian: byte order of ``fields``.
    """

    cloud: PointCloud
    fields: NDArray[Any]
    layout: tuple[CloudField, ...]
    shape: tuple[int, int]
    is_bigendian: bool

    def __len__(self) -> int:
        return len(self.cloud)

    @property
    def label_fields(self) -> tuple[str, ...]:
        """Fields with the names of labels that the input has already."""
        return tuple(sorted({field.name for field in self.layout} & set(_LABEL_FIELDS)))

    @cached_property
    def is_dense(self) -> bool:
        """Whether no float of any field is NaN or infinite, and all coordinates fit into float32."""
        read = {"x", "y", "z", _intensity_name(self.fields)}
        rest = [name for name in self.fields.dtype.names or () if name not in read]
        known = np.isfinite(self.cloud.points).all() and np.isfinite(self.cloud.intensity).all()
        return bool(known and all_finite(self.fields, rest))


def decode_pointcloud2(msg: Any) -> DecodedCloud:
    """Reads a PointCloud2 of any field order, datatype, padding, organised shape and byte order.

    NaN and infinite coordinates are kept (REP-117). Without an intensity field (``INTENSITY_NAMES``) the intensity is
    zero. A cloud without points needs no fields. The message is never changed.

    Args:
        msg: any object with the attributes of sensor_msgs/PointCloud2.

    Raises:
        InputError: no x, y or z, or one of them twice or with several elements; an unknown datatype; a field outside of
            the point; data that does not fit the sizes.
    """
    height, width, point_step = int(msg.height), int(msg.width), int(msg.point_step)
    layout = tuple(CloudField(f.name, int(f.offset), int(f.datatype), int(f.count)) for f in msg.fields)
    what = f"PointCloud2 of frame {msg.header.frame_id!r} ({height} x {width} points of {point_step} bytes)"
    count = height * width
    _check_layout(layout, point_step if count else None, what)
    if count and point_step == 0:
        raise InputError(f"{what}: point_step is 0")
    rows = split_rows(read_bytes(msg.data, what), height, width * point_step, int(msg.row_step), what)
    step = point_step if count else max([point_step, *(field.end for field in layout)])
    dtype = record_dtype(layout, step, bool(msg.is_bigendian))
    records = np.ascontiguousarray(rows).reshape(-1).view(dtype) if count else np.zeros(0, dtype)
    records.flags.writeable = False
    cloud = PointCloud(
        points=_read_points(records, layout, what),
        intensity=_read_intensity(records),
        stamp_ns=read_stamp_ns(msg.header),
        frame_id=str(msg.header.frame_id),
    )
    return DecodedCloud(cloud, records, layout, (height, width), bool(msg.is_bigendian))


def encode_segmentation(
    decoded: DecodedCloud,
    segmented: SegmentedCloud,
    profile: str = "full",
    overwrite: bool = False,
    allocate: Allocate = allocate_zeros,
) -> CloudBuffer:
    """Labels a cloud, point for point, in its own order and organised shape.

    Args:
        decoded: the input.
        segmented: its labels, N of them.
        profile: "full" keeps every input field with its type, offset, byte order and padding (padding between rows
            is dropped) and appends ``class_id`` uint8, ``probability`` and ``entropy`` float32, aligned to 4 bytes;
            "xyzcpe" is Autoware's PointXYZCPE: x, y, z, class_id, probability, entropy in 21 bytes, little-endian.
        overwrite: what "full" does with an input that has label fields already: refuse it (False), or give them the
            new values (True; a field of another type becomes padding and is appended anew).
        allocate: gives the memory, see ``CloudMemory``.

    Raises:
        ConfigError: unknown profile.
        InputError: lengths differ, or label fields exist and ``overwrite`` is False.
    """
    _check_length(decoded, len(segmented))
    labels = {name: getattr(segmented, name) for name in _LABEL_FIELDS}
    if profile == "xyzcpe":
        return _encode_xyzcpe(decoded, labels, _labels_keep_dense(decoded, segmented), allocate)
    if profile != "full":
        raise ConfigError(f"unknown output profile {profile!r}; known: {', '.join(PROFILES)}")
    taken = decoded.label_fields
    if taken and not overwrite:
        raise InputError(
            f"the input cloud has the field {', '.join(taken)} already: it is labelled; feed the unlabelled cloud, or "
            f"relabel it with overwrite=True"
        )
    layout, point_step = _append_label_fields(decoded)
    records = allocate(len(decoded) * point_step, layout).view(record_dtype(layout, point_step, decoded.is_bigendian))
    _write_labelled(records, decoded.fields, labels)
    cloud, is_dense = decoded.cloud, None if taken else _labels_keep_dense(decoded, segmented)
    return pack_cloud(records, layout, decoded.shape, cloud.stamp_ns, cloud.frame_id, decoded.is_bigendian, is_dense)


def encode_visualization(
    decoded: DecodedCloud, class_id: NDArray[np.uint8], colors: NDArray[np.uint8], allocate: Allocate = allocate_zeros
) -> CloudBuffer:
    """Colours a cloud by class for RViz: x, y, z and ``rgb``, packed into a float32 as PCL does.

    Args:
        decoded: the input.
        class_id: (N,) uint8.
        colors: (256, 3) uint8 by class_id (``LabelSpace.colors``).
        allocate: gives the memory, see ``CloudMemory``.

    Raises:
        InputError: lengths or shapes that do not fit.
    """
    _check_length(decoded, len(class_id))
    if colors.shape != (256, 3):
        raise InputError(f"colors must be (256, 3), got {colors.shape}")
    red, green, blue = colors.astype(np.uint32).T
    packed = (red << 16 | green << 8 | blue).view(np.float32)
    layout = tuple(CloudField(name, 4 * i, _FLOAT32) for i, name in enumerate(("x", "y", "z", "rgb")))
    records = allocate(len(decoded) * 16, layout).view(record_dtype(layout, 16, is_bigendian=False))
    _write_points(records, decoded.cloud)
    records["rgb"] = packed[class_id]
    is_dense = decoded.is_dense or None
    return pack_cloud(records, layout, decoded.shape, decoded.cloud.stamp_ns, decoded.cloud.frame_id, False, is_dense)


def encode_filtered(
    decoded: DecodedCloud, segmented: SegmentedCloud, class_ids: Collection[int], min_probability: float = 0.0
) -> CloudBuffer:
    """Removes points of some classes, as the filter of Autoware's segmentation nodes does.

    Args:
        decoded: the input.
        segmented: its labels, N of them.
        class_ids: classes to remove.
        min_probability: a point goes only if its probability is above.

    Returns:
        All input fields of the points that stay, in their order, as one row.

    Raises:
        InputError: lengths differ.
    """
    _check_length(decoded, len(segmented))
    listed = np.zeros(256, np.bool_)
    listed[list(class_ids)] = True
    removed = listed[segmented.class_id] & (segmented.probability > min_probability)
    size, cloud = decoded.fields.dtype.itemsize, decoded.cloud
    records = decoded.fields[:0]
    if len(decoded) and not removed.all():
        records = _chunks(decoded.fields, 0, size)[~removed].view(decoded.fields.dtype)
    shape, is_dense = (1, len(records)), decoded.is_dense or None
    return pack_cloud(records, decoded.layout, shape, cloud.stamp_ns, cloud.frame_id, decoded.is_bigendian, is_dense)


def _check_layout(layout: tuple[CloudField, ...], point_step: int | None, what: str) -> None:
    """``point_step`` None: no points, so no memory that the fields could leave."""
    limit = _LARGEST_POINT if point_step is None else point_step
    for field in layout:
        if field.datatype not in DATATYPES:
            raise InputError(f"{what}: field {field.name!r} has the unknown datatype {field.datatype}, known: 1 to 8")
        if field.offset < 0 or field.count < 0 or field.end > limit:
            raise InputError(f"{what}: field {field.name!r} ends at byte {field.end}, outside of the point")


def _read_points(records: NDArray[Any], layout: tuple[CloudField, ...], what: str) -> NDArray[np.float32]:
    if not len(records):
        return np.zeros((0, 3), np.float32)
    names = [field.name for field in layout]
    for name in "xyz":
        if names.count(name) != 1:
            problem = "stands twice" if name in names else "is missing"
            raise InputError(f"{what}: field {name!r} {problem}; it has the fields {', '.join(names) or 'none'}")
        if records.dtype[name].shape:
            raise InputError(f"{what}: field {name!r} must have one element per point, got {records.dtype[name].shape}")
    x, y, z = (layout[names.index(name)].offset for name in "xyz")
    if (y, z) == (x + 4, x + 8) and all(records.dtype[name] == np.float32 for name in "xyz"):
        return _chunks(records, x, x + 12).copy().view(np.float32).reshape(-1, 3)
    points = np.empty((len(records), 3), np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # a float64 beyond float32 becomes infinite: invalid by REP-117
        for axis, name in enumerate("xyz"):
            points[:, axis] = records[name]
    return points


def _intensity_name(records: NDArray[Any]) -> str | None:
    """The field the intensity is read from."""
    names = records.dtype.names or ()
    return next((name for name in INTENSITY_NAMES if name in names and not records.dtype[name].shape), None)


def _read_intensity(records: NDArray[Any]) -> NDArray[np.float32]:
    name = _intensity_name(records)
    if name is None:
        return np.zeros(len(records), np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        return records[name].astype(np.float32)


def _encode_xyzcpe(
    decoded: DecodedCloud, labels: dict[str, NDArray[Any]], is_dense: bool | None, allocate: Allocate
) -> CloudBuffer:
    layout = (
        *(CloudField(name, 4 * axis, _FLOAT32) for axis, name in enumerate("xyz")),
        CloudField("class_id", 12, _UINT8),
        CloudField("probability", 13, _FLOAT32),
        CloudField("entropy", 17, _FLOAT32),
    )
    records = allocate(len(decoded) * 21, layout).view(record_dtype(layout, 21, is_bigendian=False))
    _write_points(records, decoded.cloud)
    for name, values in labels.items():
        records[name] = values
    return pack_cloud(records, layout, decoded.shape, decoded.cloud.stamp_ns, decoded.cloud.frame_id, is_dense=is_dense)


def _append_label_fields(decoded: DecodedCloud) -> tuple[tuple[CloudField, ...], int]:
    """Layout and point step of the "full" profile: fitting label fields stay, the others are new at the end."""
    kept, found = [], set()
    for field in decoded.layout:
        if field.name not in _LABEL_FIELDS:
            kept.append(field)
        elif field.name not in found and (field.datatype, max(field.count, 1)) == (_LABEL_FIELDS[field.name], 1):
            kept.append(field)
            found.add(field.name)
    end = decoded.fields.dtype.itemsize
    if found == set(_LABEL_FIELDS):
        return tuple(kept), end
    end = -(-end // 4) * 4
    new = {}
    for name, datatype in _LABEL_FIELDS.items():  # the floats first: all of them aligned
        if name not in found:
            new[name] = CloudField(name, end, datatype)
            end = new[name].end
    kept += [new[name] for name in ("class_id", "probability", "entropy") if name in new]
    return tuple(kept), -(-end // 4) * 4


def _write_points(records: NDArray[Any], cloud: PointCloud) -> None:
    """Copies the coordinates into records that begin with x, y, z as float32."""
    if len(cloud):
        _chunks(records, 0, 12)[:] = np.ascontiguousarray(cloud.points, "<f4").view("V12")[:, 0]


def _write_labelled(records: NDArray[Any], fields: NDArray[Any], labels: dict[str, NDArray[Any]]) -> None:
    """Copies whole input records to the start of the longer ``records``, and the labels to their fields."""
    if not len(records):
        return
    pairs = [(_chunks(records, 0, fields.dtype.itemsize), _chunks(fields, 0, fields.dtype.itemsize))]
    pairs += [(records[name], values) for name, values in labels.items()]
    for begin in range(0, len(records), _BLOCK):
        block = slice(begin, begin + _BLOCK)
        for target, source in pairs:
            target[block] = source[block]


def _labels_keep_dense(decoded: DecodedCloud, segmented: SegmentedCloud) -> bool | None:
    """True if input and labels have no NaN; None if the labelled cloud has to be looked at."""
    finite = np.isfinite(segmented.probability).all() and np.isfinite(segmented.entropy).all()
    return True if finite and decoded.is_dense else None


def _chunks(records: NDArray[Any], begin: int, end: int) -> NDArray[Any]:
    """Bytes [begin, end) of contiguous records, one (N,) void per record: NumPy copies these as a whole, fast."""
    rows = records.view(np.uint8).reshape(len(records), records.dtype.itemsize)
    return rows[:, begin:end].view(f"V{end - begin}")[:, 0]


def _check_length(decoded: DecodedCloud, labels: int) -> None:
    if labels != len(decoded):
        raise InputError(f"the cloud has {len(decoded)} points, but labels came for {labels}")
