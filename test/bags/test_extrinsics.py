"""Where the cameras sit: tf at two stamps through a frame that stands still, or a file."""

import numpy as np
import pytest

from ov_seg_ros.bags.extrinsics import TreeExtrinsics, Viewpoint, load_extrinsics
from ov_seg_ros.core.errors import ConfigError, InputError
from ov_seg_ros.core.transforms import TransformTree
from ov_seg_ros.ros.transforms import FileTransforms, TransformQuery

CAMERA, LIDAR = Viewpoint("front", "camera", 150), Viewpoint("", "lidar", 100)


def shifted(x):
    matrix = np.eye(4)
    matrix[0, 3] = x
    return matrix


def tree_with(fixed=None):
    tree = TransformTree()
    tree.set_static("base_link", "lidar", shifted(1))
    tree.set_static("base_link", "camera", shifted(2))
    if fixed:
        tree.set(fixed, "base_link", 100, shifted(10))
        tree.set(fixed, "base_link", 200, shifted(14))
    return tree


def test_static_transforms_without_a_fixed_frame():
    extrinsics = TreeExtrinsics(tree_with())
    assert extrinsics.camera_from_lidar(CAMERA, LIDAR)[0, 3] == -1
    assert extrinsics.world_from_lidar(LIDAR) is None


@pytest.mark.parametrize("fixed", ["odom", "map", "world"])
def test_motion_between_scan_and_image_is_taken_out(fixed):
    extrinsics = TreeExtrinsics(tree_with(fixed))
    # the vehicle drove 2 m forward until the exposure: lidar at 11, camera at 14
    assert extrinsics.camera_from_lidar(CAMERA, LIDAR)[0, 3] == -3
    assert extrinsics.world_from_lidar(LIDAR)[0, 3] == 11


def test_a_fixed_frame_apart_from_the_lidar_does_not_count():
    tree = tree_with()
    tree.set_static("odom", "other_robot", shifted(0))
    assert TreeExtrinsics(tree).camera_from_lidar(CAMERA, LIDAR)[0, 3] == -1


def test_a_stamp_outside_the_odometry_is_an_error_not_a_guess():
    extrinsics = TreeExtrinsics(tree_with("odom"))
    with pytest.raises(InputError, match="after the newest"):
        extrinsics.camera_from_lidar(Viewpoint("front", "camera", 201), LIDAR)
    assert extrinsics.world_from_lidar(Viewpoint("", "lidar", 99)) is None


def test_unknown_frames_are_named():
    with pytest.raises(InputError, match="frame 'nowhere' is unknown"):
        TreeExtrinsics(tree_with("odom")).camera_from_lidar(Viewpoint("x", "nowhere", 150), LIDAR)


def test_extrinsics_file(tmp_path):
    path = tmp_path / "extrinsics.yaml"
    path.write_text(
        "cameras:\n"
        "  front:\n    camera_from_lidar: {translation: [1, 2, 3], rotation_xyzw: [0.5, -0.5, 0.5, 0.5]}\n"
        "  left:\n    camera_from_lidar: [[1, 0, 0, 7], [0, 1, 0, 8], [0, 0, 1, 9], [0, 0, 0, 1]]\n"
    )
    extrinsics = load_extrinsics(path)
    # the LiDAR's forward x is the camera's z
    front = extrinsics.camera_from_lidar(CAMERA, LIDAR)
    np.testing.assert_allclose(front, [[0, -1, 0, 1], [0, 0, -1, 2], [1, 0, 0, 3], [0, 0, 0, 1]], atol=1e-12)
    assert extrinsics.camera_from_lidar(Viewpoint("left", "", 0), LIDAR)[:3, 3].tolist() == [7, 8, 9]
    with pytest.raises(InputError, match=r"no entry cameras\.rear; it has: front, left"):
        extrinsics.camera_from_lidar(Viewpoint("rear", "", 0), LIDAR)
    assert extrinsics.world_from_lidar(LIDAR) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cameras: [", "is no YAML"),
        ("- 1", "must hold a mapping 'cameras'"),
        ("cameras: {}\nlidar: {}", "must hold a mapping 'cameras'"),
        ("cameras: {front: {camera_to_lidar: 1}}", "cameras.front must hold camera_from_lidar or lidar_from_camera"),
        ("cameras: {front: {camera_from_lidar: {xyz: 1}}}", "must hold translation and rotation_xyzw, got xyz"),
        ("cameras: {front: {camera_from_lidar: hello}}", "cameras.front.camera_from_lidar"),
        ("cameras: {front: {camera_from_lidar: [[1, 2], [3, 4]]}}", r"must be \(4, 4\)"),
        (
            "cameras: {front: {camera_from_lidar: {translation: [0, 0, 0], rotation_xyzw: [0, 0, 0, 0]}}}",
            "of unit length",
        ),
    ],
)
def test_wrong_files_say_where(tmp_path, text, message):
    path = tmp_path / "extrinsics.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_extrinsics(path)


def test_the_file_of_the_node_is_read_and_its_frames_are_checked(tmp_path):
    path = tmp_path / "extrinsics.yaml"
    pose = "{translation: [1, 2, 3], rotation_xyzw: [0.5, -0.5, 0.5, 0.5]}"
    entries = f"front: {{frame: cam, camera_from_lidar: {pose}}}, back: {{frame: cam, lidar_from_camera: {pose}}}"
    path.write_text(f"{{lidar_frame: {LIDAR.frame_id}, cameras: {{{entries}}}}}")
    extrinsics = load_extrinsics(path)
    front = Viewpoint("front", "cam", 150)
    query = TransformQuery("front", "cam", 150, LIDAR.frame_id, LIDAR.stamp_ns)
    both = extrinsics.camera_from_lidar(front, LIDAR), FileTransforms(path).camera_from_lidar(query)
    np.testing.assert_allclose(*both, atol=1e-12)
    back = extrinsics.camera_from_lidar(Viewpoint("back", "cam", 150), LIDAR)
    np.testing.assert_allclose(back @ both[0], np.eye(4), atol=1e-12)
    with pytest.raises(InputError, match=r"is for .* -> 'cam', the messages are in .* and 'other'"):
        extrinsics.camera_from_lidar(Viewpoint("front", "other", 150), LIDAR)


def test_a_missing_file(tmp_path):
    with pytest.raises(ConfigError, match="does not exist"):
        load_extrinsics(tmp_path / "nothing.yaml")
