"""ROS 1 bags are read like others; only copying their messages into a rosbag2 is refused."""

import numpy as np
import pytest
from rosbags.rosbag1 import Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from ov_seg_ros.bags.recording import Recording
from ov_seg_ros.bags.sample_stream import SampleStream
from ov_seg_ros.bags.writer import RecordingWriter
from ov_seg_ros.core.errors import InputError


@pytest.fixture
def ros1_bag(tmp_path):
    store = get_typestore(Stores.ROS1_NOETIC)
    store.register(get_types_from_msg("geometry_msgs/TransformStamped[] transforms\n", "tf2_msgs/msg/TFMessage"))

    def new(name, /, *args, **values):
        return store.types[name](*args, **values)

    def header(frame_id):
        stamp = new("builtin_interfaces/msg/Time", sec=5, nanosec=7)
        return new("std_msgs/msg/Header", seq=3, stamp=stamp, frame_id=frame_id)

    fields = [
        new("sensor_msgs/msg/PointField", name=name, offset=4 * i, datatype=7, count=1) for i, name in enumerate("xyz")
    ]
    cloud = new(
        "sensor_msgs/msg/PointCloud2",
        header=header("velodyne"),
        height=1,
        width=2,
        fields=fields,
        is_bigendian=False,
        point_step=12,
        row_step=24,
        data=np.arange(6, dtype="f4").view("u1"),
        is_dense=True,
    )
    info = new(
        "sensor_msgs/msg/CameraInfo",
        header=header("camera"),
        height=2,
        width=4,
        distortion_model="plumb_bob",
        D=np.zeros(5),
        K=np.array([5, 0, 1.5, 0, 5, 0.5, 0, 0, 1.0]),
        R=np.eye(3).ravel(),
        P=np.zeros(12),
        binning_x=0,
        binning_y=0,
        roi=new("sensor_msgs/msg/RegionOfInterest", 0, 0, 0, 0, False),
    )
    image = new(
        "sensor_msgs/msg/Image",
        header=header("camera"),
        height=2,
        width=4,
        encoding="rgb8",
        is_bigendian=0,
        step=12,
        data=np.full(24, 9, "u1"),
    )
    transform = new(
        "geometry_msgs/msg/Transform",
        new("geometry_msgs/msg/Vector3", 1.0, 2.0, 3.0),
        new("geometry_msgs/msg/Quaternion", 0.0, 0.0, 0.0, 1.0),
    )
    stamped = new("geometry_msgs/msg/TransformStamped", header("/velodyne"), "/camera", transform)
    transforms = new("tf2_msgs/msg/TFMessage", transforms=[stamped])
    topics = {"/points": cloud, "/cam/camera_info": info, "/cam/image_raw": image, "/tf_static": transforms}
    with Writer(tmp_path / "old.bag") as writer:
        for topic, message in topics.items():
            connection = writer.add_connection(topic, message.__msgtype__, typestore=store)
            writer.write(connection, 9, store.serialize_ros1(message, message.__msgtype__))
    return tmp_path / "old.bag"


def test_a_ros1_bag_gives_samples(ros1_bag):
    with Recording.open(ros1_bag) as recording:
        assert recording.is_ros1
        assert recording.first("/points").stamp_ns == 5_000_000_007
        (sample,) = list(SampleStream(recording))
    np.testing.assert_array_equal(sample.cloud.points, [[0, 1, 2], [3, 4, 5]])
    (image,) = sample.images
    assert (image.name, image.camera.fx, image.stamp_ns) == ("cam", 5, 5_000_000_007)
    np.testing.assert_array_equal(image.camera_from_lidar[:3, 3], [-1, -2, -3])


def test_copying_from_it_names_the_converter(ros1_bag, tmp_path):
    with (
        Recording.open(ros1_bag) as recording,
        RecordingWriter(tmp_path / "new") as writer,
        pytest.raises(InputError, match="rosbags-convert --src"),
    ):
        next(writer.copy_all(recording))


def test_a_cut_off_ros1_bag(ros1_bag):
    ros1_bag.write_bytes(ros1_bag.read_bytes()[:3000])
    with pytest.raises(InputError, match="rosbag reindex"):
        Recording.open(ros1_bag)
