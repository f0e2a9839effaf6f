"""PointCloud2: layouts by hand, all makers of messages, refusals."""

from __future__ import annotations

import array
import struct
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ov_seg_ros.core.data_types import SegmentedCloud
from ov_seg_ros.core.errors import ConfigError, InputError
from ov_seg_ros.messages.pointcloud2 import (
    CloudBuffer,
    CloudField,
    decode_pointcloud2,
    encode_cloud,
    encode_filtered,
    encode_segmentation,
    encode_visualization,
)

INT8, UINT8, INT16, UINT16, INT32, UINT32, FLOAT32, FLOAT64 = range(1, 9)
XYZ = (("x", 0, FLOAT32), ("y", 4, FLOAT32), ("z", 8, FLOAT32))


def make_message(fields: tuple, data: bytes, *, width: int, point_step: int, height: int = 1, **changes: Any) -> Any:
    values = {
        "header": SimpleNamespace(stamp=SimpleNamespace(sec=3, nanosec=7), frame_id="lidar"),
        "height": height,
        "width": width,
        "fields": [
            SimpleNamespace(name=name, offset=offset, datatype=datatype, count=count[0] if count else 1)
            for name, offset, datatype, *count in fields
        ],
        "is_bigendian": False,
        "point_step": point_step,
        "row_step": width * point_step,
        "data": data,
        "is_dense": True,
    }
    return SimpleNamespace(**(values | changes))


def label(count: int) -> SegmentedCloud:
    rng = np.random.default_rng(count)
    return SegmentedCloud(
        class_id=rng.integers(0, 256, count).astype(np.uint8),
        probability=rng.random(count, np.float32),
        entropy=rng.random(count, np.float32),
    )


def _types() -> Any:
    """Message classes that are plain objects."""
    names = ("sensor_msgs/msg/PointCloud2", "sensor_msgs/msg/PointField", "std_msgs/msg/Header")
    return dict.fromkeys((*names, "builtin_interfaces/msg/Time"), SimpleNamespace)


def velodyne(count: int = 5) -> CloudBuffer:
    rng = np.random.default_rng(0)
    fields = {name: rng.normal(size=count).astype(np.float32) for name in ("x", "y", "z", "intensity")}
    fields["ring"] = rng.integers(0, 64, count).astype(np.uint16)
    fields["time"] = rng.random(count).astype(np.float32)
    return encode_cloud(fields, stamp_ns=1_000_000_123, frame_id="velodyne")


class TestDecode:
    def test_packed_by_hand(self) -> None:
        data = struct.pack("<ffffH", 1, 2, 3, 0.5, 9) + struct.pack("<ffffH", 4, 5, 6, 0.25, 8)
        fields = (*XYZ, ("intensity", 12, FLOAT32), ("ring", 16, UINT16))
        decoded = decode_pointcloud2(make_message(fields, data, width=2, point_step=18))
        np.testing.assert_array_equal(decoded.cloud.points, [[1, 2, 3], [4, 5, 6]])
        np.testing.assert_array_equal(decoded.cloud.intensity, [0.5, 0.25])
        np.testing.assert_array_equal(decoded.fields["ring"], [9, 8])
        assert (decoded.cloud.stamp_ns, decoded.cloud.frame_id, decoded.shape) == (3_000_000_007, "lidar", (1, 2))
        for values in (decoded.cloud.points, decoded.cloud.intensity):
            assert values.dtype == np.float32
            assert values.flags.c_contiguous

    def test_any_order_type_and_padding(self) -> None:
        data = struct.pack("<B3xdfh2xdI4x", 200, 3.0, 2.0, -5, 1.0, 77)
        fields = (("i", 0, UINT8), ("z", 4, FLOAT64), ("y", 12, FLOAT32), ("t", 16, INT16), ("x", 20, FLOAT64))
        decoded = decode_pointcloud2(make_message(fields, data, width=1, point_step=36))
        np.testing.assert_array_equal(decoded.cloud.points, [[1, 2, 3]])
        np.testing.assert_array_equal(decoded.cloud.intensity, [200])
        assert decoded.fields["t"][0] == -5

    def test_big_endian_leaves_the_message_alone(self) -> None:
        data = array.array("B", struct.pack(">fffH", 1, 2, 3, 258))
        before = data.tobytes()
        message = make_message((*XYZ, ("ring", 12, UINT16)), data, width=1, point_step=14, is_bigendian=True)
        decoded = decode_pointcloud2(message)
        np.testing.assert_array_equal(decoded.cloud.points, [[1, 2, 3]])
        assert decoded.cloud.points.dtype.isnative
        assert decoded.fields["ring"][0] == 258
        assert data.tobytes() == before

    def test_organised_with_padded_rows(self) -> None:
        rows = [struct.pack("<ffffff", *range(start, start + 6)) for start in (0, 6)]
        data = b"".join(row + b"\xff" * 8 for row in rows)
        for payload in (data, data[:-8]):  # the padding of the last row may be missing
            message = make_message(XYZ, payload, width=2, height=2, point_step=12, row_step=32)
            decoded = decode_pointcloud2(message)
            np.testing.assert_array_equal(decoded.cloud.points, np.arange(12).reshape(4, 3))
            assert decoded.shape == (2, 2)

    def test_reads_without_a_copy_and_without_a_way_to_write(self) -> None:
        data = array.array("B", struct.pack("<fff", 1, 2, 3))
        decoded = decode_pointcloud2(make_message(XYZ, data, width=1, point_step=12))
        assert np.shares_memory(decoded.fields, np.frombuffer(data, np.uint8))
        assert not np.shares_memory(decoded.cloud.points, decoded.fields)
        with pytest.raises(ValueError, match="read-only"):
            decoded.fields["x"] = 0

    def test_nan_and_infinity_stay(self) -> None:
        data = struct.pack("<ffff", np.nan, np.inf, -np.inf, np.nan)
        message = make_message((*XYZ, ("intensity", 12, FLOAT32)), data, width=1, point_step=16)
        decoded = decode_pointcloud2(message)
        np.testing.assert_array_equal(decoded.cloud.points, [[np.nan, np.inf, -np.inf]])
        np.testing.assert_array_equal(decoded.cloud.intensity, [np.nan])

    def test_intensity_names_in_order(self) -> None:
        data = struct.pack("<fffHBd", 0, 0, 0, 11, 12, 13)
        fields = (*XYZ, ("reflectivity", 12, UINT16), ("i", 14, UINT8), ("intensity", 15, FLOAT64))
        for present, expected in ((6, 13), (5, 11), (3, 0)):
            message = make_message(fields[:present], data, width=1, point_step=23)
            assert decode_pointcloud2(message).cloud.intensity.tolist() == [expected]

    def test_fields_of_several_elements_and_names_that_repeat(self) -> None:
        data = struct.pack("<fff3H2BB", 1, 2, 3, 4, 5, 6, 7, 8, 9)
        fields = (*XYZ, ("echo", 12, UINT16, 3), ("_", 18, UINT8, 2), ("_", 20, UINT8, 0), ("", 20, UINT8))
        decoded = decode_pointcloud2(make_message(fields, data, width=1, point_step=21))
        np.testing.assert_array_equal(decoded.fields["echo"], [[4, 5, 6]])
        np.testing.assert_array_equal(decoded.fields["_"], [[7, 8]])
        np.testing.assert_array_equal(decoded.fields["_#2"], [9])
        np.testing.assert_array_equal(decoded.fields["#2"], [9])

    def test_row_step_of_one_row_is_not_read(self) -> None:
        data = struct.pack("<fff", 1, 2, 3)
        assert len(decode_pointcloud2(make_message(XYZ, data, width=1, point_step=12, row_step=0))) == 1

    @pytest.mark.parametrize("fields", [XYZ, (), (("x", 0, FLOAT32),)])
    @pytest.mark.parametrize(("height", "width"), [(1, 0), (0, 0), (0, 5), (4, 0)])
    @pytest.mark.parametrize("point_step", [0, 12])
    def test_no_points(self, fields: tuple, height: int, width: int, point_step: int) -> None:
        message = make_message(fields, b"", width=width, height=height, point_step=point_step)
        decoded = decode_pointcloud2(message)
        assert decoded.cloud.points.shape == (0, 3)
        assert decoded.shape == (height, width)
        labelled = encode_segmentation(decoded, label(0))
        assert [field.name for field in labelled.fields][-3:] == ["class_id", "probability", "entropy"]
        assert labelled.is_dense
        assert len(encode_filtered(decoded, label(0), [1]).data) == 0
        colors = np.zeros((256, 3), np.uint8)
        assert encode_visualization(decoded, label(0).class_id, colors).width == width


class TestRefusals:
    DATA = struct.pack("<ffff", 1, 2, 3, 4)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"fields": XYZ[:2]}, r"frame 'lidar' \(1 x 1 points of 16 bytes\): field 'z' is missing.* x, y"),
            ({"fields": ()}, "field 'x' is missing; it has the fields none"),
            ({"fields": (*XYZ, ("x", 12, FLOAT32))}, "field 'x' stands twice"),
            ({"fields": (("x", 0, FLOAT32, 2), *XYZ[1:])}, r"'x' must have one element per point, got \(2,\)"),
            ({"fields": (*XYZ, ("t", 12, 9))}, "'t' has the unknown datatype 9"),
            ({"fields": (*XYZ, ("t", 12, FLOAT64))}, "'t' ends at byte 20, outside of the point"),
            ({"fields": (*XYZ, ("t", 12, UINT8, 5))}, "'t' ends at byte 17"),
            (
                {"fields": (*XYZ, ("t", 12, UINT8, 2**31)), "width": 0, "data": b"", "row_step": 0},
                "'t' ends at byte 2147483660",
            ),
            ({"data": DATA[:-1]}, "data has 15 bytes, expected 16; truncated"),
            ({"data": DATA + b"0"}, "data has 17 bytes, expected 16; sizes and data contradict"),
            ({"width": 2}, "data has 16 bytes, expected 32"),
            ({"width": 0}, "no elements, but data has 16 bytes"),
            ({"height": 2, "point_step": 8, "row_step": 4, "fields": XYZ[:2]}, "rows overlap"),
            ({"point_step": 0, "fields": (), "data": b""}, "point_step is 0"),
            ({"data": [1] * 16}, "must be a contiguous buffer of bytes, got list"),
        ],
    )
    def test_says_what_came(self, changes: dict, message: str) -> None:
        values = {"fields": XYZ, "data": self.DATA, "width": 1, "point_step": 16} | changes
        with pytest.raises(InputError, match=message):
            decode_pointcloud2(make_message(**values))

    def test_labels_of_another_length(self) -> None:
        decoded = decode_pointcloud2(make_message(XYZ, self.DATA, width=1, point_step=16))
        with pytest.raises(InputError, match="1 points, but labels came for 2"):
            encode_segmentation(decoded, label(2))
        with pytest.raises(InputError, match="1 points, but labels came for 2"):
            encode_filtered(decoded, label(2), [])
        with pytest.raises(ConfigError, match="'pcl'; known: full, xyzcpe"):
            encode_segmentation(decoded, label(1), profile="pcl")
        with pytest.raises(InputError, match=r"\(256, 3\), got \(16, 3\)"):
            encode_visualization(decoded, label(1).class_id, np.zeros((16, 3), np.uint8))

    def test_encode_cloud(self) -> None:
        x = np.zeros(4, np.float32)
        for fields, height, message in [
            ({}, 1, "at least one field"),
            ({"x": x, "y": x[:2]}, 1, r"same length, got \{'x': 4, 'y': 2\}"),
            ({"x": x.astype(np.int64)}, 1, "'x' must be .* got .* int64"),
            ({"x": x}, 3, "4 points do not fill 3 rows"),
        ]:
            with pytest.raises(InputError, match=message):
                encode_cloud(fields, height=height)


class TestEncode:
    def test_every_maker_of_messages(self, types: Any) -> None:
        sent = velodyne()
        message = sent.to_message(types)
        assert message.header.stamp.sec == 1
        assert message.header.stamp.nanosec == 123
        decoded = decode_pointcloud2(message)
        assert decoded.layout == sent.fields
        assert decoded.cloud.frame_id == "velodyne"
        segmented = label(5)
        again = decode_pointcloud2(encode_segmentation(decoded, segmented).to_message(types))
        for name in decoded.fields.dtype.names:
            np.testing.assert_array_equal(again.fields[name], decoded.fields[name])
        for name in ("class_id", "probability", "entropy"):
            np.testing.assert_array_equal(again.fields[name], getattr(segmented, name))

    def test_rclpy_gets_an_array_quickly(self) -> None:
        """A slip to ndarray or memoryview costs 500 ms for this cloud, the right way 1 ms."""
        sensor_msgs = pytest.importorskip("sensor_msgs.msg")
        std_msgs, builtin = pytest.importorskip("std_msgs.msg"), pytest.importorskip("builtin_interfaces.msg")
        types = {
            "sensor_msgs/msg/PointCloud2": sensor_msgs.PointCloud2,
            "sensor_msgs/msg/PointField": sensor_msgs.PointField,
            "std_msgs/msg/Header": std_msgs.Header,
            "builtin_interfaces/msg/Time": builtin.Time,
        }
        buffer = velodyne(400_000)
        start = time.process_time()
        message = buffer.to_message(types)
        assert time.process_time() - start < 0.1
        assert isinstance(message.data, array.array)
        assert message.data.tobytes() == buffer.data.tobytes()

    def test_a_missing_class_is_named(self) -> None:
        with pytest.raises(InputError, match="class sensor_msgs/msg/PointField was not handed in"):
            velodyne().to_message({"sensor_msgs/msg/PointCloud2": SimpleNamespace})

    def test_full_keeps_padding_shape_and_alignment(self) -> None:
        data = bytes(range(4 * 17))
        message = make_message((*XYZ, ("ring", 14, UINT16)), data, width=2, height=2, point_step=17)
        decoded = decode_pointcloud2(message)
        buffer = encode_segmentation(decoded, label(4))
        assert (buffer.height, buffer.width, buffer.point_step, buffer.row_step) == (2, 2, 32, 64)
        rows = buffer.data.reshape(4, 32)
        np.testing.assert_array_equal(rows[:, :17], np.frombuffer(data, np.uint8).reshape(4, 17))
        assert buffer.fields[:4] == decoded.layout
        assert [(f.name, f.offset, f.datatype) for f in buffer.fields[4:]] == [
            ("class_id", 28, UINT8),
            ("probability", 20, FLOAT32),
            ("entropy", 24, FLOAT32),
        ]

    def test_big_endian_stays_big_endian(self) -> None:
        data = struct.pack(">fff", 1, 2, 3)
        decoded = decode_pointcloud2(make_message(XYZ, data, width=1, point_step=12, is_bigendian=True))
        segmented = label(1)
        buffer = encode_segmentation(decoded, segmented)
        assert buffer.is_bigendian
        assert buffer.data.tobytes()[:20] == data + struct.pack(">ff", segmented.probability[0], segmented.entropy[0])

    def test_xyzcpe_is_autowares_layout(self) -> None:
        data = struct.pack(">dffB", 3, 2, 1, 7)
        fields = (("z", 0, FLOAT64), ("y", 8, FLOAT32), ("x", 12, FLOAT32), ("i", 16, UINT8))
        decoded = decode_pointcloud2(make_message(fields, data, width=1, point_step=17, is_bigendian=True))
        segmented = label(1)
        buffer = encode_segmentation(decoded, segmented, profile="xyzcpe")
        assert buffer.data.tobytes() == struct.pack(
            "<fffBff", 1, 2, 3, segmented.class_id[0], segmented.probability[0], segmented.entropy[0]
        )
        assert (buffer.point_step, buffer.is_bigendian) == (21, False)
        assert buffer.fields == (
            CloudField("x", 0, FLOAT32),
            CloudField("y", 4, FLOAT32),
            CloudField("z", 8, FLOAT32),
            CloudField("class_id", 12, UINT8),
            CloudField("probability", 13, FLOAT32),
            CloudField("entropy", 17, FLOAT32),
        )

    @pytest.mark.parametrize("point_step", [13, 16, 22])
    def test_a_scan_of_many_blocks(self, point_step: int) -> None:
        count = 20_000
        data = np.random.default_rng(1).integers(0, 60, (count, point_step), np.uint8)
        decoded = decode_pointcloud2(make_message(XYZ, data.tobytes(), width=count, point_step=point_step))
        labels = label(count)
        buffer = encode_segmentation(decoded, labels)
        rows = buffer.data.reshape(count, buffer.point_step)
        np.testing.assert_array_equal(rows[:, :point_step], data)
        again = decode_pointcloud2(buffer.to_message(_types()))
        np.testing.assert_array_equal(again.fields["class_id"], labels.class_id)
        np.testing.assert_array_equal(again.fields["entropy"], labels.entropy)

    def test_coordinates_that_lie_together_are_read_like_scattered_ones(self) -> None:
        rng = np.random.default_rng(2)
        columns = {name: rng.normal(size=100).astype(np.float32) for name in ("i", "x", "y", "z", "x2", "y2", "z2")}
        together = decode_pointcloud2(encode_cloud(columns).to_message(_types())).cloud.points
        apart = {name: columns[name] for name in ("z", "x2", "x", "y2", "y")}
        np.testing.assert_array_equal(
            together, decode_pointcloud2(encode_cloud(apart).to_message(_types())).cloud.points
        )

    def test_is_dense(self) -> None:
        for bad, dense in ((0.0, True), (np.nan, False), (np.inf, False)):
            x = np.array([1, bad], np.float32)
            zeros = np.zeros(2, np.float32)
            assert encode_cloud({"x": zeros, "y": zeros, "z": zeros, "t": x}).is_dense is dense
            decoded = decode_pointcloud2(make_message(XYZ, np.stack([x] * 3, 1).tobytes(), width=2, point_step=12))
            assert encode_segmentation(decoded, label(2)).is_dense is dense
            assert encode_segmentation(decoded, label(2), "xyzcpe").is_dense is dense

    @pytest.mark.parametrize("spoilt", ["x", "intensity", "t", "probability", "entropy", None])
    def test_is_dense_looks_at_every_field(self, spoilt: str | None) -> None:
        columns = {name: np.ones(3, np.float32) for name in ("x", "y", "z", "intensity", "t")}
        labels = SegmentedCloud(np.zeros(3, np.uint8), np.ones(3, np.float32), np.zeros(3, np.float32))
        if spoilt:
            (columns if spoilt in columns else vars(labels))[spoilt][1] = np.nan
        decoded = decode_pointcloud2(encode_cloud(columns).to_message(_types()))
        of_labels = spoilt in ("probability", "entropy")
        assert decoded.is_dense is (spoilt is None or of_labels)
        assert encode_segmentation(decoded, labels).is_dense is (spoilt is None)
        assert encode_segmentation(decoded, labels, "xyzcpe").is_dense is (spoilt in (None, "intensity", "t"))
        assert encode_filtered(decoded, labels, []).is_dense is decoded.is_dense
        shown = encode_visualization(decoded, labels.class_id, np.zeros((256, 3), np.uint8))
        assert shown.is_dense is (spoilt != "x")

    def test_labelled_input_is_refused_or_relabelled(self, types: Any) -> None:
        first, second = label(5), label(6)
        second = SegmentedCloud(second.class_id[:5], second.probability[:5], second.entropy[:5])
        decoded = decode_pointcloud2(velodyne().to_message(types))
        labelled = decode_pointcloud2(encode_segmentation(decoded, first).to_message(types))
        with pytest.raises(InputError, match=r"has the field class_id, entropy, probability already.*overwrite=True"):
            encode_segmentation(labelled, second)
        again = encode_segmentation(labelled, second, overwrite=True)
        assert (again.fields, again.point_step) == (labelled.layout, labelled.fields.dtype.itemsize)
        fields = decode_pointcloud2(again.to_message(types)).fields
        np.testing.assert_array_equal(fields["class_id"], second.class_id)
        np.testing.assert_array_equal(fields["ring"], decoded.fields["ring"])
        np.testing.assert_array_equal(labelled.fields["class_id"], first.class_id)

    def test_label_fields_of_another_type_are_appended_anew(self) -> None:
        x = np.ones(3, np.float32)
        buffer = encode_cloud({"class_id": np.arange(3, dtype=np.int32), "x": x, "y": x, "z": x, "entropy": x})
        decoded = decode_pointcloud2(buffer.to_message({**dict.fromkeys(NAMES, SimpleNamespace)}))
        segmented = label(3)
        result = encode_segmentation(decoded, segmented, overwrite=True)
        assert [(f.name, f.offset) for f in result.fields] == [
            ("x", 4),
            ("y", 8),
            ("z", 12),
            ("entropy", 16),
            ("class_id", 24),
            ("probability", 20),
        ]
        fields = decode_pointcloud2(result.to_message({**dict.fromkeys(NAMES, SimpleNamespace)})).fields
        for name in ("class_id", "probability", "entropy"):
            np.testing.assert_array_equal(fields[name], getattr(segmented, name))

    def test_visualization(self) -> None:
        data = np.arange(6, dtype=np.float32).tobytes()
        decoded = decode_pointcloud2(make_message(XYZ, data, width=1, height=2, point_step=12))
        colors = np.zeros((256, 3), np.uint8)
        colors[3], colors[255] = (0x12, 0x34, 0x56), (0xFF, 0xFF, 0xFF)
        buffer = encode_visualization(decoded, np.array([3, 255], np.uint8), colors)
        assert buffer.data.tobytes() == struct.pack("<fffI", 0, 1, 2, 0x123456) + struct.pack(
            "<fffI", 3, 4, 5, 0xFFFFFF
        )
        assert [(f.name, f.offset, f.datatype) for f in buffer.fields][3] == ("rgb", 12, FLOAT32)
        assert (buffer.height, buffer.width, buffer.is_dense) == (2, 1, True)

    def test_filtered(self) -> None:
        data = bytes(range(4 * 14))
        decoded = decode_pointcloud2(make_message(XYZ, data, width=2, height=2, point_step=14))
        segmented = SegmentedCloud(
            np.array([7, 7, 8, 255], np.uint8), np.array([0.9, 0.5, 0.9, 0.0], np.float32), np.zeros(4, np.float32)
        )
        buffer = encode_filtered(decoded, segmented, class_ids=[7], min_probability=0.5)
        assert buffer.data.tobytes() == data[14:]
        assert (buffer.height, buffer.width, buffer.fields) == (1, 3, decoded.layout)
        nothing = encode_filtered(decoded, segmented, class_ids=[7, 8, 255], min_probability=-1)
        assert (nothing.height, nothing.width, len(nothing.data), nothing.is_dense) == (1, 0, 0, True)


NAMES = (
    "sensor_msgs/msg/PointCloud2",
    "sensor_msgs/msg/PointField",
    "std_msgs/msg/Header",
    "builtin_interfaces/msg/Time",
)
