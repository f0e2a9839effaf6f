"""Which topics are the LiDAR and the cameras, and what the user reads when that is not clear."""

import numpy as np
import pytest

from ov_seg_ros.bags.build_messages import cloud_message, transforms_message
from ov_seg_ros.bags.cameras import CameraTopics
from ov_seg_ros.bags.labelled import find_topic_to_label
from ov_seg_ros.bags.recording import Recording
from ov_seg_ros.bags.writer import RecordingWriter
from ov_seg_ros.core.errors import InputError
from ov_seg_ros.messages.images import encode_compressed_image


@pytest.fixture
def recording_with(tmp_path):
    """Writes {topic: message or [messages]} and opens the result."""

    def build(topics):
        with RecordingWriter(tmp_path / "bag") as writer:
            for topic, messages in topics.items():
                for stamp, message in enumerate(messages if isinstance(messages, list) else [messages]):
                    writer.write(topic, message, stamp)
        return Recording.open(tmp_path / "bag")

    return build


@pytest.fixture
def jpeg():
    from ov_seg_ros.bags.build_messages import message_types

    def build(frame):
        return encode_compressed_image(np.zeros((6, 8, 3), np.uint8), message_types(), 1, frame)

    return build


def test_the_only_lidar_is_found_among_our_own_outputs(recording_with, make):
    with recording_with(
        {
            "/velodyne_points": make.cloud(1),
            "/ground_truth/points": make.cloud(1),
            "/ov_seg/points": make.cloud(1),
            "/segmentation_node/output/pointcloud/visualization": make.cloud(1),
            "/renamed/labels": make.cloud(1, 3, class_id=np.zeros(3, np.uint8)),
            "/depth/points": make.cloud(1, 3, rgb=np.zeros(3, np.float32)),
            "/radar/points": make.cloud(1, 3, doppler=np.zeros(3, np.float32)),
        }
    ) as recording:
        assert recording.find_lidar_topic() == "/velodyne_points"
        assert recording.find_lidar_topic("/depth/points") == "/depth/points"
        assert recording.find_lidar_topic("depth/points") == "/depth/points"


def test_a_coloured_cloud_is_better_than_none(recording_with, make):
    with recording_with({"/livox/color": make.cloud(1, 3, rgb=np.zeros(3, np.float32))}) as recording:
        assert recording.find_lidar_topic() == "/livox/color"


def test_a_first_scan_that_cannot_be_read_hides_no_lidar(tmp_path, make):
    with RecordingWriter(tmp_path / "bag") as writer:
        for topic in ("/points", "/depth"):
            writer.write_raw(topic, "sensor_msgs/msg/PointCloud2", bytes(20), 1)
        writer.write("/points", make.cloud(2), 2)
        writer.write("/depth", make.cloud(2, 3, rgb=np.zeros(3, np.float32)), 2)
    with Recording.open(tmp_path / "bag") as recording:
        assert recording.find_lidar_topic() == "/points"


def test_labels_are_not_labelled(recording_with, make):
    labels = make.cloud(1, 3, class_id=np.zeros(3, np.uint8))
    with recording_with({"/points": make.cloud(1), "/ov_seg/points": labels}) as recording:
        assert find_topic_to_label(recording) == find_topic_to_label(recording, "points") == "/points"
        with pytest.raises(InputError, match=r"/ov_seg/points holds labels, .*; give the topic of the LiDAR itself"):
            find_topic_to_label(recording, "/ov_seg/points")


def test_several_lidars_give_lines_to_paste(recording_with, make):
    clouds = [make.cloud(1, 64_123, "velodyne")] + [make.cloud(2, 1, "velodyne")] * 1199
    with recording_with({"/front/points": clouds, "/rear/points": make.cloud(1, 7, "")}) as recording:
        with pytest.raises(InputError) as caught:
            recording.find_lidar_topic()
        lines = str(caught.value).splitlines()
    assert lines[0].endswith("holds 2 LiDAR topics; choose one:")
    assert lines[1:] == [
        "  --lidar-topic /front/points  (1,200 messages, 64k points, frame velodyne)",
        "  --lidar-topic /rear/points  (1 messages, 7 points, frame (empty))",
    ]


def test_no_lidar_lists_what_there_is(recording_with):
    recording = recording_with({"/tf_static": transforms_message([("a", "b", np.eye(4))], 1)})
    with pytest.raises(InputError, match=r"holds no LiDAR: .*it holds: /tf_static \(tf2_msgs/msg/TFMessage, 1\)"):
        recording.find_lidar_topic()


def test_raw_packets_are_explained(tmp_path):
    from rosbags.rosbag2 import Writer

    with Writer(tmp_path / "bag", version=8) as writer:
        connection = writer.add_connection(
            "/velodyne_packets", "velodyne_msgs/msg/VelodyneScan", msgdef="int32 x\n", rihs01="RIHS01_0"
        )
        writer.write(connection, 1, bytes(8))
    with Recording.open(tmp_path / "bag") as recording, pytest.raises(InputError, match="run the driver's conversion"):
        recording.find_lidar_topic()


def test_the_topic_asked_for_is_checked(drive):
    with Recording.open(drive) as recording:
        with pytest.raises(InputError, match=r"has no topic /points; choose one:\n  --lidar-topic /lidar/points  \(4"):
            recording.find_lidar_topic("/points")
        with pytest.raises(InputError, match=r"holds sensor_msgs/msg/Image, not sensor_msgs/msg/PointCloud2, on topic"):
            recording.find_lidar_topic("/camera/left/image_raw")


def test_a_cloud_without_points_or_fields_is_no_lidar_but_no_crash(recording_with, make):
    empty = cloud_message({"x": np.zeros(0, np.float32)}, 1, "lidar")
    with recording_with({"/lidar": make.cloud(1), "/odd": empty}) as recording:
        assert recording.find_lidar_topic() == "/lidar"


@pytest.mark.parametrize(
    ("image_topic", "info_topic", "name"),
    [
        ("/camera/front/image_raw", "/camera/front/camera_info", "front"),
        ("/image_raw", "/camera_info", "camera"),
        ("/sensing/camera/camera0/image_rect_color", "/sensing/camera/camera0/camera_info", "camera0"),
        ("/usb_cam/image", "/usb_cam/camera_info", "usb_cam"),
        ("/front/image_color", "/front/image_color/camera_info", "front"),
    ],
)
def test_naming_conventions(recording_with, make, image_topic, info_topic, name):
    with recording_with({image_topic: make.image(1, "f"), info_topic: make.camera_info(1, "g")}) as recording:
        assert recording.find_cameras() == [CameraTopics(name, image_topic, False, info_topic, "rect" in image_topic)]


@pytest.mark.parametrize("topic", ["/cam/left/image_raw/compressed", "/cam/left/image_rect_compressed"])
def test_compressed_images(recording_with, make, jpeg, topic):
    with recording_with({topic: jpeg("f"), "/cam/left/camera_info": make.camera_info(1, "f")}) as recording:
        (camera,) = recording.find_cameras()
    assert (camera.compressed, camera.name, camera.info_topic) == (True, "left", "/cam/left/camera_info")
    assert camera.rectified == ("rect" in topic)


def test_all_forms_of_one_camera_count_once(recording_with, make, jpeg):
    with recording_with(
        {
            "/front/image_rect": make.image(1, "f"),
            "/front/image_raw/compressed": jpeg("f"),
            "/front/image_raw": make.image(1, "f"),
            "/front/camera_info": make.camera_info(1, "f"),
        }
    ) as recording:
        assert recording.find_cameras() == [CameraTopics("front", "/front/image_raw", False, "/front/camera_info")]
        (chosen,) = recording.find_cameras(["/front/image_rect"])
        assert chosen.rectified


def test_what_is_no_camera_picture(recording_with, make):
    depth = make.image(1, "f")
    depth.encoding = "16UC1"
    topics = {
        "/realsense/depth/image_rect_raw": make.image(1, "f"),
        "/tof/image_raw": depth,
        "/segmentation_node/output/image/overlay/front": make.image(1, "f"),
    }
    with recording_with(topics) as recording:
        assert recording.find_cameras() == []


def test_a_camera_without_camera_info_is_reported(recording_with, make):
    topics = {"/front/image_raw": make.image(1, "f"), "/rear/camera_info": make.camera_info(1, "r")}
    with recording_with(topics) as recording:
        assert recording.find_cameras() == [CameraTopics("front", "/front/image_raw", False, None)]


def test_an_equal_frame_pairs_what_names_do_not(recording_with, make):
    with recording_with(
        {
            "/drivers/left/pixels": make.image(1, "left_optical"),
            "/drivers/right/pixels": make.image(1, "right_optical"),
            "/calibration/1": make.camera_info(1, "right_optical"),
            "/calibration/2": make.camera_info(1, "left_optical"),
        }
    ) as recording:
        assert [(c.name, c.info_topic) for c in recording.find_cameras()] == [
            ("left", "/calibration/2"),
            ("right", "/calibration/1"),
        ]


def test_equal_last_words_get_longer_names(recording_with, make):
    topics = {f"/{side}/color/image_raw": make.image(1, side) for side in ("left", "right")}
    with recording_with(topics) as recording:
        assert [c.name for c in recording.find_cameras()] == ["left_color", "right_color"]


def test_image_topics_asked_for_are_checked(drive):
    with Recording.open(drive) as recording:
        assert [c.name for c in recording.find_cameras(["/camera/right/image_raw"])] == ["right"]
        with pytest.raises(
            InputError, match=r"no images on topic /front; choose among:\n  --camera-topic /camera/left"
        ):
            recording.find_cameras(["/front"])
        with pytest.raises(InputError, match="/lidar/points holds sensor_msgs/msg/PointCloud2, no images"):
            recording.find_cameras(["/lidar/points"])
