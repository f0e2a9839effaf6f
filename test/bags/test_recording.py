"""Opening recordings of every form, their topics, streaming, stamps and transforms."""

import shutil
import struct
from contextlib import suppress

import numpy as np
import pytest
from rosbags.rosbag2 import CompressionFormat, CompressionMode, Reader, StoragePlugin, Writer

from ov_seg_ros.bags.build_messages import transforms_message
from ov_seg_ros.bags.recording import Recording
from ov_seg_ros.bags.writer import RecordingWriter
from ov_seg_ros.core.errors import InputError


def storage_file(folder):
    return next(p for p in folder.iterdir() if p.suffix in (".mcap", ".db3"))


def test_topics_with_type_and_count(drive):
    with Recording.open(drive) as recording:
        assert recording.topics["/lidar/points"].type_name == "sensor_msgs/msg/PointCloud2"
        assert {name: t.count for name, t in recording.topics.items()} == {
            "/camera/left/camera_info": 4,
            "/camera/left/image_raw": 4,
            "/camera/right/camera_info": 4,
            "/camera/right/image_raw": 4,
            "/lidar/points": 4,
            "/tf_static": 1,
        }
        assert recording.message_count == 21
        assert recording.start_ns == 1_700_000_000_000_000_000
        assert recording.duration_ns == 300_000_002


@pytest.mark.parametrize("form", ["folder", "metadata", "file"])
def test_every_form_of_the_path(drive, form):
    path = {"folder": drive, "metadata": drive / "metadata.yaml", "file": storage_file(drive)}[form]
    with Recording.open(str(path)) as recording:
        assert [len(c) for c in recording.iter_clouds("/lidar/points")] == [5, 6, 7, 8]
        assert recording.name == "drive"


def compress(folder, mode):
    """The recording as ``ros2 bag record --compression-mode ... --compression-format zstd`` stores it."""
    with Reader(folder) as reader:
        suffix = storage_file(folder).suffix
        plugin = StoragePlugin.MCAP if suffix == ".mcap" else StoragePlugin.SQLITE3
        writer = Writer(folder.with_name(f"{folder.name}_{mode.name}"), version=9, storage_plugin=plugin)
        writer.set_compression(mode, CompressionFormat.ZSTD)
        with writer:
            copies = {
                c.id: writer.add_connection(c.topic, c.msgtype, msgdef=c.msgdef.data, rihs01=c.digest)
                for c in reader.connections
            }
            for connection, received_ns, data in reader.messages():
                writer.write(copies[connection.id], received_ns, bytes(data))
    return writer.path


@pytest.mark.parametrize("mode", [CompressionMode.FILE, CompressionMode.MESSAGE])
def test_compressed_recordings(drive, mode):
    with Recording.open(compress(drive, mode)) as recording:
        assert [len(c) for c in recording.iter_clouds("/lidar/points")] == [5, 6, 7, 8]


def test_compressed_messages_without_their_metadata_are_answered_with_the_folder(drive):
    folder = compress(drive, CompressionMode.MESSAGE)
    with (
        Recording.open(storage_file(folder)) as recording,
        pytest.raises(InputError, match="compressed one by one") as e,
    ):
        next(recording.iter_clouds("/lidar/points"))
    assert str(e.value).endswith(f"give the folder, {folder}")


def test_messages_come_in_the_order_of_reception_with_their_header_stamps(drive):
    with Recording.open(drive) as recording:
        messages = list(recording.iter_messages(["/lidar/points", "/camera/left/image_raw"]))
    received = [m.received_ns for m in messages]
    assert received == sorted(received)
    assert len(messages) == 8
    for message in messages:
        gap = 10_000_000 - 1 if "left" in message.topic else -2
        assert message.stamp_ns == message.received_ns + gap


def test_clouds_carry_the_header_stamp_not_that_of_the_bag(drive):
    with Recording.open(drive) as recording:
        cloud = next(recording.iter_clouds("/lidar/points"))
    assert cloud.stamp_ns == 1_700_000_000_000_000_000
    assert cloud.frame_id == "lidar"
    np.testing.assert_array_equal(cloud.points[:, 0], np.arange(5))


def test_streams_do_not_disturb_each_other(drive):
    with Recording.open(storage_file(drive)) as recording:
        pairs = list(zip(recording.iter_clouds("/lidar/points"), recording.iter_messages(), strict=False))
        assert [len(cloud) for cloud, _ in pairs] == [5, 6, 7, 8]
        assert [m.topic for _, m in pairs][:2] == ["/tf_static", "/camera/left/camera_info"]
        assert len(list(recording.iter_messages())) == 21


def test_a_window_of_time(drive):
    with Recording.open(drive) as recording:
        start = recording.start_ns + 100_000_000
        found = list(recording.iter_messages(["/lidar/points"], start, start + 200_000_000))
    assert [m.stamp_ns - start for m in found] == [0, 100_000_000]


def test_stamp_of_a_big_endian_message(drive):
    with Recording.open(drive) as recording:
        message = recording.first("/lidar/points")
        big = b"\x00\x00\x00\x00" + struct.pack(">iI", 12, 34) + bytes(8)
        assert type(message)(message.topic, message.type_name, 0, big, message.connection, recording).stamp_ns == (
            12_000_000_034
        )


def test_the_transform_tree(drive):
    with Recording.open(drive) as recording:
        tree = recording.transform_tree()
        np.testing.assert_allclose(tree.lookup("left_optical", "lidar", 0)[:3, 3], [-1, 0, 0])
        assert recording.transform_tree() is tree


def test_moving_transforms_are_interpolated(tmp_path):
    def pose(x):
        matrix = np.eye(4)
        matrix[0, 3] = x
        return matrix

    with RecordingWriter(tmp_path / "bag") as writer:
        for second in (1, 2):
            stamp = second * 1_000_000_000
            writer.write("/tf", transforms_message([("odom", "base_link", pose(4.0 * second))], stamp), stamp)
    with Recording.open(tmp_path / "bag") as recording:
        tree = recording.transform_tree()
    assert tree.lookup("odom", "base_link", 1_250_000_000)[0, 3] == pytest.approx(5.0)


def test_a_transform_that_is_none_is_left_out_with_a_warning(tmp_path, caplog):
    good = transforms_message([("a", "b", np.eye(4)), ("a", "c", np.eye(4))], 5)
    good.transforms[0].transform.rotation.w = 0.0
    with RecordingWriter(tmp_path / "bag") as writer:
        writer.write("/robot/tf_static", good, 5)
    with Recording.open(tmp_path / "bag") as recording:
        assert recording.transform_tree().frames == ("a", "c")
    assert "left out" in caplog.text


def test_unknown_topics_and_wrong_types_are_refused(drive):
    with Recording.open(drive) as recording:
        with pytest.raises(InputError, match=r"no topic /nowhere; it has: /camera/left/camera_info"):
            list(recording.iter_messages(["/nowhere"]))
        with pytest.raises(InputError, match=r"/tf_static holds tf2_msgs/msg/TFMessage, expected sensor_msgs"):
            list(recording.iter_clouds("/tf_static"))


def test_a_closed_recording_says_so(drive):
    with Recording.open(drive) as recording:
        pass
    recording.close()
    with pytest.raises(InputError, match="is closed"):
        list(recording.iter_messages())


def test_nothing_there(tmp_path):
    with pytest.raises(InputError, match=r"nothing does not exist; expected a rosbag2 folder"):
        Recording.open(tmp_path / "nothing")


def test_no_recording(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(InputError, match=r"notes.txt is no recording: expected a rosbag2 folder"):
        Recording.open(tmp_path / "notes.txt")
    with pytest.raises(InputError, match="holds no recording"):
        Recording.open(tmp_path)
    (tmp_path / "bag_0.db3.zstd").write_bytes(b"1234")
    with pytest.raises(InputError, match="belongs to its folder; give"):
        Recording.open(tmp_path / "bag_0.db3.zstd")


def test_missing_metadata_names_both_ways_out(drive):
    (drive / "metadata.yaml").unlink()
    with pytest.raises(InputError) as caught:
        Recording.open(drive)
    assert f"ros2 bag reindex {drive}" in str(caught.value)
    assert str(storage_file(drive)) in str(caught.value)


@pytest.mark.parametrize("metadata", ["", "rosbag2_bagfile_information: {version: 5}", "[", "a: 1", "- 3"])
def test_broken_metadata(drive, metadata):
    (drive / "metadata.yaml").write_text(metadata)
    with pytest.raises(InputError, match="cannot be read"):
        Recording.open(drive)


def test_a_missing_storage_file(drive):
    storage_file(drive).unlink()
    with pytest.raises(InputError, match="missing"):
        Recording.open(drive)


@pytest.mark.parametrize("keep", [0.0, 0.001, 0.3, 0.6, 0.9])
def test_a_cut_off_file_names_the_rescue_command(drive, keep):
    path = storage_file(drive)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(InputError) as caught, Recording.open(drive) as recording:
        list(recording.iter_messages())
    assert str(drive) in str(caught.value)
    expected = "mcap recover" if path.suffix == ".mcap" else ".recover | sqlite3"
    assert expected in str(caught.value)


def test_bytes_turned_over_inside_never_escape_as_a_foreign_error(drive, tmp_path):
    content = bytearray(storage_file(drive).read_bytes())
    random = np.random.default_rng(3)
    for trial in range(40):
        damaged = content.copy()
        for position in random.integers(0, len(damaged), 30):
            damaged[position] ^= 0xFF
        path = tmp_path / f"damaged_{trial}" / storage_file(drive).name
        path.parent.mkdir()
        path.write_bytes(damaged)
        with suppress(InputError), Recording.open(path) as recording:
            for message in recording.iter_messages():
                message.decode()
        shutil.rmtree(path.parent)


def test_a_message_that_is_no_message(drive, tmp_path):
    with RecordingWriter(tmp_path / "bag") as writer:
        writer.write_raw("/lidar/points", "sensor_msgs/msg/PointCloud2", b"\x00\x01\x00\x00\x01", 7)
    with Recording.open(tmp_path / "bag") as recording:
        message = recording.first("/lidar/points")
        with pytest.raises(InputError, match=r"/lidar/points at 7 ns is no valid sensor_msgs/msg/PointCloud2"):
            message.decode()
        with pytest.raises(InputError, match="cut off before its stamp"):
            _ = message.stamp_ns


def test_an_empty_recording(tmp_path, storage):
    with RecordingWriter(tmp_path / "bag", storage):
        pass
    with Recording.open(tmp_path / "bag") as recording:
        assert recording.topics == {}
        assert (recording.message_count, recording.start_ns, recording.duration_ns) == (0, 0, 0)
        assert list(recording.iter_messages()) == []
        assert recording.transform_tree().frames == ()
