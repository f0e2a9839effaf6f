"""PointCloud2 against a decoder made of struct.unpack alone, over random layouts."""

from __future__ import annotations

import struct
from types import SimpleNamespace
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ov_seg_ros.core.data_types import SegmentedCloud
from ov_seg_ros.core.errors import InputError
from ov_seg_ros.messages.pointcloud2 import (
    decode_pointcloud2,
    encode_filtered,
    encode_segmentation,
)

CODES = {1: "b", 2: "B", 3: "h", 4: "H", 5: "i", 6: "I", 7: "f", 8: "d"}
TYPES = dict.fromkeys(
    (
        "sensor_msgs/msg/PointCloud2",
        "sensor_msgs/msg/PointField",
        "std_msgs/msg/Header",
        "builtin_interfaces/msg/Time",
    ),
    SimpleNamespace,
)


@st.composite
def messages(draw: st.DrawFn) -> Any:
    """Clouds with fields in any order, gaps of any size, padded rows, organised or not, of either byte order."""
    names = ["x", "y", "z", *draw(st.lists(st.sampled_from(["intensity", "i", "ring", "_", "", "t"]), max_size=4))]
    fields, end = [], 0
    for name in draw(st.permutations(names)):
        datatype = draw(st.sampled_from(list(CODES)))
        count = 1 if name in ("x", "y", "z") else draw(st.integers(0, 3))
        offset = end + draw(st.integers(0, 5))
        fields.append(SimpleNamespace(name=name, offset=offset, datatype=datatype, count=count))
        end = offset + struct.calcsize(CODES[datatype]) * max(count, 1)
    point_step = end + draw(st.integers(0, 5))
    height, width = draw(st.sampled_from([(1, 0), (0, 0), (1, 1), (1, 7), (3, 4), (5, 1)]))
    row_step = width * point_step + (draw(st.integers(0, 9)) if height else 0)
    seed = draw(st.integers(0, 2**32 - 1))
    data = np.random.default_rng(seed).integers(0, 256, height * row_step if width else 0, np.uint8)
    return SimpleNamespace(
        header=SimpleNamespace(stamp=SimpleNamespace(sec=1, nanosec=2), frame_id="lidar"),
        height=height,
        width=width,
        fields=fields,
        is_bigendian=draw(st.booleans()),
        point_step=point_step,
        row_step=row_step,
        data=data,
        is_dense=draw(st.booleans()),
    )


def unpack(msg: Any, field: Any) -> list[tuple]:
    """Values of one field, point by point, from the definition of the message."""
    code = (">" if msg.is_bigendian else "<") + f"{max(field.count, 1)}{CODES[field.datatype]}"
    starts = (row * msg.row_step + column * msg.point_step for row in range(msg.height) for column in range(msg.width))
    return [struct.unpack_from(code, msg.data.tobytes(), start + field.offset) for start in starts]


def label(msg: Any) -> SegmentedCloud:
    count = msg.height * msg.width
    rng = np.random.default_rng(count)
    return SegmentedCloud(
        rng.integers(0, 256, count).astype(np.uint8), rng.random(count, np.float32), rng.random(count, np.float32)
    )


def to_float32(values: list[tuple]) -> np.ndarray:
    with np.errstate(over="ignore", invalid="ignore"):
        return np.array(values, np.float64).astype(np.float32).reshape(-1)


@given(messages())
@settings(max_examples=200, deadline=None)
def test_decode(msg: Any) -> None:
    before = msg.data.copy()
    decoded = decode_pointcloud2(msg)
    by_name = {field.name: field for field in reversed(msg.fields)}
    for axis, name in enumerate("xyz"):
        np.testing.assert_array_equal(decoded.cloud.points[:, axis], to_float32(unpack(msg, by_name[name])))
    for field, name in zip(msg.fields, decoded.fields.dtype.names, strict=True):
        got = decoded.fields[name]
        np.testing.assert_array_equal(got, np.array(unpack(msg, field)).reshape(got.shape))
    intensity = next((by_name[n] for n in ("intensity", "i") if n in by_name and by_name[n].count <= 1), None)
    expected = to_float32(unpack(msg, intensity)) if intensity else np.zeros(len(decoded))
    np.testing.assert_array_equal(decoded.cloud.intensity, expected)
    assert decoded.cloud.points.dtype == decoded.cloud.intensity.dtype == np.float32
    np.testing.assert_array_equal(msg.data, before)


@given(messages())
@settings(max_examples=200, deadline=None)
def test_full_round_trip(msg: Any) -> None:
    segmented = label(msg)
    decoded = decode_pointcloud2(msg)
    out = encode_segmentation(decoded, segmented).to_message(TYPES)
    again = decode_pointcloud2(out)
    count = len(decoded)
    rows_in = decoded.fields.view(np.uint8).reshape(count, -1) if count else np.zeros((0, msg.point_step))
    rows_out = out.data.reshape(count, out.point_step) if count else np.zeros((0, out.point_step))
    np.testing.assert_array_equal(rows_out[:, : msg.point_step], rows_in)  # values, types, padding: every byte
    assert again.layout[: len(msg.fields)] == decoded.layout
    assert (out.height, out.width, out.is_bigendian) == (msg.height, msg.width, msg.is_bigendian)
    assert out.row_step == out.width * out.point_step
    for name in ("class_id", "probability", "entropy"):
        np.testing.assert_array_equal(again.fields[name], getattr(segmented, name))
    floats = [np.array(unpack(msg, field)) for field in msg.fields if field.datatype in (7, 8)]
    assert out.is_dense == all(np.isfinite(values).all() for values in floats)
    relabelled = encode_segmentation(again, segmented, overwrite=True)
    np.testing.assert_array_equal(relabelled.data, out.data)


@given(messages(), st.floats(0, 1))
@settings(max_examples=100, deadline=None)
def test_other_encodings(msg: Any, threshold: float) -> None:
    segmented = label(msg)
    decoded = decode_pointcloud2(msg)
    slim = decode_pointcloud2(encode_segmentation(decoded, segmented, "xyzcpe").to_message(TYPES))
    np.testing.assert_array_equal(slim.cloud.points, decoded.cloud.points)
    stay = ~((segmented.class_id < 128) & (segmented.probability > threshold))
    filtered = decode_pointcloud2(encode_filtered(decoded, segmented, range(128), threshold).to_message(TYPES))
    np.testing.assert_array_equal(filtered.cloud.points, decoded.cloud.points[stay])
    assert filtered.shape == (1, stay.sum())


@given(messages(), st.data())
@settings(max_examples=200, deadline=None)
def test_broken_messages_are_refused_in_words(msg: Any, data: st.DataObject) -> None:
    """Whatever is wrong with a message, it either decodes or raises InputError."""
    for name in data.draw(st.sets(st.sampled_from(["height", "width", "point_step", "row_step"]), max_size=2)):
        setattr(msg, name, data.draw(st.integers(0, 50)))
    if data.draw(st.booleans()):
        msg.data = msg.data[: data.draw(st.integers(0, len(msg.data)))]
    for field in data.draw(st.sets(st.integers(0, len(msg.fields) - 1), max_size=2)):
        attribute = data.draw(st.sampled_from(["offset", "datatype", "count"]))
        setattr(msg.fields[field], attribute, data.draw(st.integers(0, 40)))
    try:
        decoded = decode_pointcloud2(msg)
    except InputError as error:
        message = str(error)
    else:
        message = ""
    if message:
        assert "PointCloud2 of frame 'lidar'" in message
        return
    assert len(decoded) == msg.height * msg.width
    encode_segmentation(decoded, label(msg))
