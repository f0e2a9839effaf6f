"""Round trips, latched topics, copies, refusals and what an interrupted run leaves behind."""

import subprocess
import sys
from contextlib import suppress

import numpy as np
import pytest
import yaml
from rosbags.highlevel import AnyReader
from rosbags.interfaces import QosDurability, QosReliability

from ov_seg_ros.bags.build_messages import message_types, odometry_message, transforms_message
from ov_seg_ros.bags.recording import Recording
from ov_seg_ros.bags.writer import RecordingWriter
from ov_seg_ros.core.errors import ConfigError, InputError
from ov_seg_ros.core.label_space import LabelSpace
from ov_seg_ros.core.transforms import matrix_from_quaternion
from ov_seg_ros.messages.label_info import encode_label_info
from ov_seg_ros.messages.pointcloud2 import decode_pointcloud2


def raw_messages(path):
    with Recording.open(path) as recording:
        return [(m.topic, m.type_name, m.received_ns, bytes(m.data)) for m in recording.iter_messages()]


def write_and_fail(path, error, make, **options):
    with suppress(error), RecordingWriter(path, **options) as writer:
        writer.write("/points", make.cloud(1), 1)
        raise error


def durability(path, topic):
    with Recording.open(path) as recording:
        return recording.first(topic).connection.ext.offered_qos_profiles[0].durability


def test_round_trip(tmp_path, storage, make):
    sent = make.cloud(7, 3, ring=np.arange(3, dtype=np.uint16))
    pose = matrix_from_quaternion((1, 2, 3), (0.5, -0.5, 0.5, 0.5))
    with RecordingWriter(tmp_path / "bag", storage) as writer:
        writer.write("/points", sent, 9)
        writer.write("/odometry", odometry_message(pose, 8), 8)
        assert writer.message_count == 2
    with Recording.open(tmp_path / "bag") as recording:
        odometry, cloud = recording.iter_messages()
        decoded = decode_pointcloud2(cloud.decode())
        assert (cloud.received_ns, cloud.stamp_ns) == (9, 7)
        assert decoded.fields["ring"].tolist() == [0, 1, 2]
        orientation = odometry.decode().pose.pose.orientation
        assert (orientation.x, orientation.y, orientation.z, orientation.w) == pytest.approx((0.5, -0.5, 0.5, 0.5))
        assert odometry.decode().pose.pose.position.z == 3


def test_other_readers_accept_it(drive):
    with AnyReader([drive]) as reader:  # checks every type hash against its definition
        for connection, _, data in reader.messages():
            reader.deserialize(data, connection.msgtype)
        assert reader.message_count == 21


def test_metadata_as_humble_reads_it(drive):
    content = yaml.safe_load((drive / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
    assert content["version"] == 8
    assert content["compression_format"] == content["compression_mode"] == ""
    for topic in content["topics_with_message_count"]:
        profiles = yaml.safe_load(topic["topic_metadata"]["offered_qos_profiles"])  # text within the text
        assert profiles[0]["history"] == 1
        assert profiles[0]["durability"] == (1 if topic["topic_metadata"]["name"] == "/tf_static" else 2)


def test_static_transforms_and_class_lists_are_latched(tmp_path, storage, make):
    space = LabelSpace("two", ("car", "road"), ((1, 2, 3), (4, 5, 6)))
    with RecordingWriter(tmp_path / "bag", storage) as writer:
        writer.write("/tf_static", transforms_message([("a", "b", np.eye(4))], 1), 1)
        writer.write("/ov_seg/label_info", encode_label_info(space, message_types(), 1), 1)
        writer.write("/lidar/points", make.cloud(1), 1)
    path = tmp_path / "bag"
    assert durability(path, "/tf_static") == durability(path, "/ov_seg/label_info") == QosDurability.TRANSIENT_LOCAL
    assert durability(path, "/lidar/points") == QosDurability.VOLATILE
    with Recording.open(path) as recording:
        label_info = recording.first("/ov_seg/label_info").decode()
        assert [(c.class_id, c.class_name) for c in label_info.class_map] == [(0, "car"), (1, "road")]
        assert recording.first("/tf_static").connection.ext.offered_qos_profiles[0].reliability == (
            QosReliability.RELIABLE
        )


@pytest.mark.parametrize(("suffix", "kind"), [(".mcap", "mcap"), (".db3", "sqlite3")])
def test_a_path_with_a_suffix_becomes_one_file(tmp_path, make, suffix, kind):
    path = tmp_path / f"out{suffix}"
    make.write_drive(path, storage=kind)
    assert path.is_file()
    assert sorted(p.name for p in tmp_path.iterdir()) == [path.name]
    assert len(raw_messages(path)) == 21


def test_copy_is_byte_for_byte_and_labels_stand_behind_their_scan(drive, tmp_path, storage, make):
    out = tmp_path / "copy"
    with Recording.open(drive) as recording, RecordingWriter(out, storage) as writer:
        for message in writer.copy_all(recording):
            if message.topic == "/lidar/points":
                writer.write("/ov_seg/points", make.cloud(message.stamp_ns), message.received_ns)
    before, after = raw_messages(drive), raw_messages(out)
    assert [m for m in after if m[0] != "/ov_seg/points"] == before
    assert [m[2] for m in after] == sorted(m[2] for m in after)
    assert sum(m[0] == "/ov_seg/points" for m in after) == 4
    assert durability(out, "/tf_static") == QosDurability.TRANSIENT_LOCAL


def test_copy_can_leave_topics_out(drive, tmp_path):
    with Recording.open(drive) as recording, RecordingWriter(tmp_path / "copy") as writer:
        for _ in writer.copy_all(recording, leave_out=["/tf_static", "/lidar/points"]):
            pass
    with Recording.open(tmp_path / "copy") as recording:
        assert all(name.startswith("/camera") for name in recording.topics)


def test_a_custom_type_is_copied_and_still_decodes(tmp_path, storage):
    from rosbags.rosbag2 import Writer

    text, type_name = "float32 heat\nstd_msgs/Header header\n", "my_msgs/msg/Oven"
    text += "=" * 80 + "\nMSG: std_msgs/Header\nbuiltin_interfaces/Time stamp\nstring frame_id\n"
    text += "=" * 80 + "\nMSG: builtin_interfaces/Time\nint32 sec\nuint32 nanosec\n"
    data = b"\x00\x01\x00\x00" + np.float32(451).tobytes() + np.array([5, 6, 1, 0], "<u4").tobytes()
    with Writer(tmp_path / "old", version=8) as writer:
        connection = writer.add_connection("/oven", type_name, msgdef=text, rihs01="RIHS01_" + "1" * 64)
        writer.write(connection, 3, data)
    with Recording.open(tmp_path / "old") as recording, RecordingWriter(tmp_path / "new", storage) as writer:
        assert len(list(writer.copy_all(recording))) == 1
    with Recording.open(tmp_path / "new") as recording:
        message = recording.first("/oven").decode()
        assert (message.heat, message.header.stamp.sec) == (451, 5)


def test_a_custom_type_without_definition_is_copied_all_the_same(tmp_path, storage):
    """A sqlite3 recording of humble holds no definitions."""
    from rosbags.rosbag2 import Writer

    with Writer(tmp_path / "old", version=8) as writer:
        connection = writer.add_connection("/secret", "my_msgs/msg/Secret", msgdef=" ", rihs01="RIHS01_0")
        writer.write(connection, 3, b"\x00\x01\x00\x00abcd")
    import sqlite3

    database = sqlite3.connect(tmp_path / "old" / "old.db3")
    database.execute("DELETE FROM message_definitions")
    database.commit()
    database.close()
    with Recording.open(tmp_path / "old") as recording, RecordingWriter(tmp_path / "new", storage) as writer:
        with pytest.raises(InputError, match="holds no definition of it"):
            recording.first("/secret").decode()
        assert len(list(writer.copy_all(recording))) == 1
    assert raw_messages(tmp_path / "new") == [("/secret", "my_msgs/msg/Secret", 3, b"\x00\x01\x00\x00abcd")]


def test_an_existing_path_is_refused_unless_asked(drive, storage, make):
    with pytest.raises(InputError, match="exists already; give another path, or ask to overwrite it"):
        RecordingWriter(drive)
    make.write_drive(drive, storage, scans=1, overwrite=True)
    assert len(raw_messages(drive)) == 6


def test_only_recordings_are_overwritten(tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("years of work")
    with pytest.raises(InputError, match="is no recording and is not overwritten"):
        RecordingWriter(tmp_path / "thesis", overwrite=True)
    assert (tmp_path / "thesis" / "chapter.tex").exists()


def test_a_recording_can_be_copied_onto_itself(drive, storage):
    before = raw_messages(drive)
    with Recording.open(drive) as recording, RecordingWriter(drive, storage, overwrite=True) as writer:
        for _ in writer.copy_all(recording, leave_out=["/tf_static"]):
            pass
    assert raw_messages(drive) == [m for m in before if m[0] != "/tf_static"]
    assert [p.name for p in drive.parent.iterdir()] == ["drive"]


def test_an_error_leaves_the_recording_that_was_to_be_replaced(drive, storage, make):
    before = raw_messages(drive)
    write_and_fail(drive, ZeroDivisionError, make, storage=storage, overwrite=True)
    assert raw_messages(drive) == before
    assert [p.name for p in drive.parent.iterdir()] == ["drive"]


def test_wrong_use_is_named(tmp_path, make):
    with pytest.raises(ConfigError, match="storage must be mcap or sqlite3, got 'parquet'"):
        RecordingWriter(tmp_path / "a", "parquet")
    with pytest.raises(InputError, match="use it in a with block"):
        RecordingWriter(tmp_path / "a").write("/points", make.cloud(1), 1)
    with RecordingWriter(tmp_path / "a") as writer:
        with pytest.raises(InputError, match="topic names begin with '/'"):
            writer.write("points", make.cloud(1), 1)
        with pytest.raises(InputError, match="no standard message type"):
            writer.write_raw("/oven", "my_msgs/msg/Oven", b"", 1)
        bad = make.cloud(1)
        bad.height = "tall"
        with pytest.raises(InputError, match="does not fit sensor_msgs/msg/PointCloud2"):
            writer.write("/points", bad, 1)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"), RecordingWriter(tmp_path / "file" / "bag"):
        pass


def test_what_was_written_before_an_error_can_be_played(tmp_path, storage, make):
    write_and_fail(tmp_path / "bag", KeyboardInterrupt, make, storage=storage)
    assert len(raw_messages(tmp_path / "bag")) == 1
    custom = yaml.safe_load((tmp_path / "bag" / "metadata.yaml").read_text())
    assert custom["rosbag2_bagfile_information"]["custom_data"] == {
        "incomplete": "writing stopped early: KeyboardInterrupt"
    }


def test_left_over_of_a_killed_run_is_named(tmp_path, make):
    (tmp_path / "out.mcap_unfinished").mkdir()
    with pytest.raises(InputError, match=r"out\.mcap_unfinished exists already, left by a run that was killed"):
        make.write_drive(tmp_path / "out.mcap")


def test_reading_holds_little_memory(tmp_path):
    """200 MB of messages pass through a process that may not grow by more than 60 MB."""
    script = """
import resource, sys, numpy as np
from ov_seg_ros.bags.recording import Recording
from ov_seg_ros.bags.writer import RecordingWriter
data = bytes(4) + np.random.default_rng(0).bytes(4_000_000)
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
with RecordingWriter(sys.argv[1]) as writer:
    writer.write_raw("/a", "std_msgs/msg/String", data, 1)
    before = peak()
    for stamp in range(2, 51):
        writer.write_raw("/a", "std_msgs/msg/String", data, stamp)
with Recording.open(sys.argv[1]) as recording:
    assert sum(len(m.data) for m in recording.iter_messages()) == 50 * len(data)
assert peak() - before < 60, (before, peak())
"""
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "bag")], check=True)
