"""Overlays and colours: images over DDS, matching, transforms, and every way in which a camera can be missing."""

import numpy as np
import pytest
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, RegionOfInterest

from ov_seg_ros.core import projection
from ov_seg_ros.core.camera import CameraModel
from ov_seg_ros.messages.camera_info import encode_camera_info
from ov_seg_ros.messages.images import decode_image, encode_compressed_image, encode_image
from ov_seg_ros.ros import segmentation_node
from ov_seg_ros.ros.outputs import MESSAGE_TYPES

CAMERA = CameraModel(width=64, height=48, fx=32.0, fy=32.0, cx=32.0, cy=24.0)
INFO_TYPES = {
    **MESSAGE_TYPES,
    "sensor_msgs/msg/CameraInfo": CameraInfo,
    "sensor_msgs/msg/RegionOfInterest": RegionOfInterest,
}
COMPRESSED_TYPES = {**MESSAGE_TYPES, "sensor_msgs/msg/CompressedImage": CompressedImage}
FRAME = "camera_front_optical"
OVERLAY = "/segmentation_node/output/image/overlay/front"
SEGMENTATION = "/segmentation_node/output/pointcloud/segmentation"
INPUT = "/segmentation_node/input/front/"
# x forward, y left, z up -> x right, y down, z forward, the camera in the place of the LiDAR
EXTRINSICS = f"""
lidar_frame: lidar
cameras:
  front:
    frame: {FRAME}
    camera_from_lidar: {{translation: [0, 0, 0], rotation_xyzw: [0.5, -0.5, 0.5, 0.5]}}
"""
# 8 m ahead: the middle of the image, class 8 % 3 = 2. 10 m ahead, 2.5 m left: u = 32 - 32 * 0.25 = 24, class 1.
POINTS = np.array([[8.0, 0, 0], [10.0, 2.5, 0], [-5, 0, 0]])


@pytest.fixture
def extrinsics(tmp_path):
    path = tmp_path / "extrinsics.yaml"
    path.write_text(EXTRINSICS)
    return str(path)


class Camera:
    """Publishes what a camera driver would."""

    def __init__(self, rig, name="front", compressed=False):
        self.rig, self.compressed = rig, compressed
        base = f"/segmentation_node/input/{name}/"
        kind, topic = (CompressedImage, "image/compressed") if compressed else (Image, "image")
        self.images = rig.tester.create_publisher(kind, base + topic, 10)
        self.infos = rig.tester.create_publisher(CameraInfo, base + "camera_info", 10)

    def wait(self):
        self.rig.spin_until(lambda: self.images.get_subscription_count() and self.infos.get_subscription_count())
        self.rig.spin(0.05)

    def send(self, stamp_ns, info=True, frame_id=FRAME, camera=CAMERA):
        if info:
            self.infos.publish(encode_camera_info(camera, INFO_TYPES, stamp_ns, frame_id))
        image = np.full((CAMERA.height, CAMERA.width, 3), 50, np.uint8)
        encode, types = (
            (encode_compressed_image, COMPRESSED_TYPES) if self.compressed else (encode_image, MESSAGE_TYPES)
        )
        self.images.publish(encode(image, types, stamp_ns, frame_id))


@pytest.mark.parametrize("compressed", [False, True])
def test_overlay_shows_the_points_in_the_colours_of_their_classes(start, extrinsics, compressed):
    rig = start(cameras=["front"], extrinsics_file=extrinsics, overlay__point_radius=1)
    overlays = rig.listen(OVERLAY, Image)
    camera = Camera(rig, compressed=compressed)
    camera.wait()
    stamp = rig.now_ns()
    camera.send(stamp)
    rig.send(POINTS, stamp_ns=stamp)
    rig.spin_until(lambda: overlays)
    drawn = decode_image(overlays[0])
    assert drawn[24, 32].tolist() == [0, 255, 0]
    assert drawn[24, 24].tolist() == [255, 0, 0]
    assert np.count_nonzero(np.abs(drawn.astype(int) - 50).max(axis=2) > 20) == 18
    assert overlays[0].header.frame_id == FRAME
    assert overlays[0].header.stamp.sec * 10**9 + overlays[0].header.stamp.nanosec == stamp
    assert rig.diagnostics()["camera front"][2]["paired"] == "1"


def test_cameras_are_subscribed_only_while_somebody_needs_them(start, extrinsics):
    rig = start(cameras=["front"], extrinsics_file=extrinsics)
    camera = Camera(rig)
    rig.listen(SEGMENTATION)
    rig.spin(0.4)
    assert camera.images.get_subscription_count() == 0
    overlay = rig.tester.create_subscription(Image, OVERLAY, lambda message: None, 10)
    camera.wait()
    rig.tester.destroy_subscription(overlay)
    rig.spin_until(lambda: camera.images.get_subscription_count() == 0)
    assert rig.diagnostics()["camera front"][1] == "idle: nobody needs its images"


def test_the_cloud_does_not_wait_for_the_overlay(start, extrinsics):
    rig = start(cameras=["front"], extrinsics_file=extrinsics, matching__deadline_ms=5000.0)
    overlays = rig.listen(OVERLAY, Image)
    camera = Camera(rig)
    camera.wait()
    message = rig.cloud(POINTS)
    rig.label(message)  # long before the deadline, without an image
    assert not overlays
    camera.send(message.header.stamp.sec * 10**9 + message.header.stamp.nanosec)
    rig.spin_until(lambda: overlays)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        ("silent", "no image received yet"),
        ("late", "stamps 0.400 s apart (too_far: wrong offset or clock)"),
        ("early", "stamps 0.400 s apart (stale: the camera lags or has stopped)"),
        ("no_info", "no camera_info received yet"),
        ("frame", "is for 'lidar' -> 'camera_front_optical', the messages are in 'lidar' and 'somewhere'"),
        ("size", "its calibration says (20, 64, 3)"),
        ("uncalibrated", "CameraInfo K is zero - uncalibrated camera; calibrate it"),
    ],
)
def test_a_missing_image_never_costs_the_scan_and_the_reason_is_said(start, extrinsics, spoil, reason):
    rig = start(cameras=["front"], extrinsics_file=extrinsics)
    overlays = rig.listen(OVERLAY, Image)
    camera = Camera(rig)
    camera.wait()
    message = rig.cloud(POINTS)
    stamp = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
    if spoil != "silent":
        shift = {"late": 4 * 10**8, "early": -4 * 10**8}.get(spoil, 0)
        frame = "somewhere" if spoil == "frame" else FRAME
        model = CameraModel(64, 20, 32.0, 32.0, 32.0, 10.0) if spoil == "size" else CAMERA
        if spoil == "uncalibrated":
            camera.infos.publish(CameraInfo(width=64, height=48, distortion_model="plumb_bob"))
        info = spoil not in ("no_info", "uncalibrated")
        camera.send(stamp + shift, info=info, frame_id=frame, camera=model)
        rig.spin(0.05)
    rig.label(message)
    rig.spin(0.25)
    assert not overlays
    level, text, _ = rig.diagnostics()["camera front"]
    assert level == 1
    assert reason in text


def test_a_camera_that_starts_to_bin_is_calibrated_anew(start, extrinsics):
    rig = start(cameras=["front"], extrinsics_file=extrinsics)
    overlays = rig.listen(OVERLAY, Image)
    camera = Camera(rig)
    camera.wait()
    for count, binning in enumerate((1, 2), 1):
        message = rig.cloud(POINTS)
        stamp = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
        info = encode_camera_info(CAMERA, INFO_TYPES, stamp, FRAME)
        info.binning_x = info.binning_y = binning
        camera.infos.publish(info)
        pixels = np.zeros((CAMERA.height // binning, CAMERA.width // binning, 3), np.uint8)
        camera.images.publish(encode_image(pixels, MESSAGE_TYPES, stamp, FRAME))
        rig.spin(0.05)
        rig.label(message)
        rig.spin_until(lambda: len(overlays) == count)  # noqa: B023
    assert (overlays[1].height, overlays[1].width) == (24, 32)


def test_overlays_are_drawn_once_before_the_first_scan_if_there_are_cameras(start, monkeypatch):
    drawn = []
    monkeypatch.setattr(segmentation_node, "draw_street", lambda: drawn.append(True))
    start()
    assert not drawn
    start(cameras=["front"])
    assert drawn == [True]


def test_what_draws_overlays_is_compiled_before_the_first_one(start, extrinsics):
    rig = start(cameras=["front"], extrinsics_file=extrinsics)
    compiled = len(projection._points_ahead.signatures)
    assert compiled
    overlays = rig.listen(OVERLAY, Image)
    camera = Camera(rig)
    camera.wait()
    message = rig.cloud(POINTS)
    camera.send(message.header.stamp.sec * 10**9 + message.header.stamp.nanosec)
    rig.label(message)
    rig.spin_until(lambda: overlays)
    assert len(projection._points_ahead.signatures) == compiled


def test_without_any_transform_there_is_no_overlay_but_a_reason(start):
    rig = start(cameras=["front"])
    overlays = rig.listen(OVERLAY, Image)
    camera = Camera(rig)
    camera.wait()
    message = rig.cloud(POINTS)
    camera.send(message.header.stamp.sec * 10**9 + message.header.stamp.nanosec)
    rig.label(message)
    rig.spin(0.2)
    assert not overlays
    assert "extrinsics_file is empty" in rig.diagnostics()["camera front"][1]


def test_a_student_that_uses_colour_gets_the_matched_images(start, extrinsics):
    rig = start(uses_color=True, cameras=["front"], extrinsics_file=extrinsics)
    rig.listen(SEGMENTATION)
    camera = Camera(rig)
    camera.wait()
    message = rig.cloud(POINTS)
    camera.send(message.header.stamp.sec * 10**9 + message.header.stamp.nanosec)
    rig.label(message)
    assert [images for _, images in rig.segmenter.calls] == [("front",)]


def test_a_student_that_uses_colour_works_on_without_its_cameras(start, extrinsics):
    rig = start(uses_color=True, cameras=["front"], extrinsics_file=extrinsics, queue_size=20)
    heard = rig.listen(SEGMENTATION)
    rig.spin(0.3)
    for _ in range(5):
        rig.send(POINTS)
        rig.spin(0.05)
    rig.spin_until(lambda: len(heard) == 5)
    assert [images for _, images in rig.segmenter.calls] == [()] * 5
    assert rig.diagnostics()["camera front"][2]["missing"] == "5"


def test_offset_and_bag_loop(start, extrinsics):
    rig = start(
        cameras=["front"], extrinsics_file=extrinsics, matching__offset_ms__front=-20.0, matching__tolerance_ms=1.0
    )
    overlays = rig.listen(OVERLAY, Image)
    camera = Camera(rig)
    camera.wait()
    start_ns = rig.now_ns() - 10**11
    for _loop in range(2):
        for scan in range(10):
            stamp = start_ns + scan * 10**8
            camera.send(stamp + 20_000_000)
            rig.send(POINTS, stamp_ns=stamp)
            rig.spin(0.03)
    rig.spin_until(lambda: len(overlays) == 20)
    diagnostics = rig.diagnostics()
    assert diagnostics["camera front"][2]["paired"] == "20"
    assert int(diagnostics["segmentation"][2]["stamp_resets"]) >= 1
