"""Camera poses from a file and from tf (a stand-in: tf2_ros is not on PyPI); never identity in place of an error."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from ov_seg_ros.core.errors import ConfigError, InputError
from ov_seg_ros.ros.transforms import FileTransforms, FirstKnown, TfTransforms, TransformQuery, open_transforms

QUERY = TransformQuery("front", "camera_front_optical", 2_000_000_000, "lidar", 1_000_000_000)
HALF = np.sqrt(0.5)
POSE = f"{{translation: [1.0, 2.0, 3.0], rotation_xyzw: [0, 0, {HALF}, {HALF}]}}"  # a quarter turn about z


def write(folder, pose=f"camera_from_lidar: {POSE}", lidar="lidar"):
    path = folder / "extrinsics.yaml"
    path.write_text(f"lidar_frame: {lidar}\ncameras:\n  front:\n    frame: camera_front_optical\n    {pose}\n")
    return path


def test_the_key_says_the_direction(tmp_path):
    forward = FileTransforms(write(tmp_path)).camera_from_lidar(QUERY)
    np.testing.assert_allclose(forward @ [1, 0, 0, 1], [1, 3, 3, 1], atol=1e-12)
    backward = FileTransforms(write(tmp_path, f"lidar_from_camera: {POSE}")).camera_from_lidar(QUERY)
    np.testing.assert_allclose(forward @ backward, np.eye(4), atol=1e-12)


@pytest.mark.parametrize(
    ("pose", "message"),
    [
        ("camera_from_lidar: {translation: [1, 2, 3]}", "rotation_xyzw"),
        ("camera_from_lidar: {translation: [1, 2, 3], rotation_xyzw: [0, 0, 0, 0]}", "unit quaternion"),
        ("camera_from_lidar: {translation: [1, 2], rotation_xyzw: [0, 0, 0, 1]}", "3 numbers"),
        ("matrix: [1]", "exactly one of camera_from_lidar and lidar_from_camera"),
    ],
)
def test_malformed_files_are_refused(tmp_path, pose, message):
    with pytest.raises(ConfigError, match=message):
        FileTransforms(write(tmp_path, pose))


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        FileTransforms(tmp_path / "nothing.yaml")


def test_a_file_for_other_frames_or_cameras_does_not_answer(tmp_path):
    with pytest.raises(InputError, match="is for 'other' -> 'camera_front_optical', the messages are in 'lidar'"):
        FileTransforms(write(tmp_path, lidar="other")).camera_from_lidar(QUERY)
    rear = TransformQuery("rear", "camera_rear_optical", 0, "lidar", 0)
    with pytest.raises(InputError, match="holds no camera 'rear', only front"):
        FileTransforms(write(tmp_path)).camera_from_lidar(rear)


class Buffer:
    """Like tf2_ros.Buffer; notes what it was asked."""

    def __init__(self, known=True):
        self.known = known
        self.asked = []
        self.cleared = 0

    def lookup_transform(self, target, source, time):
        return self._answer(target, source, time.nanoseconds)

    def lookup_transform_full(self, target, target_time, source, source_time, fixed):
        return self._answer(target, target_time.nanoseconds, source, source_time.nanoseconds, fixed)

    def _answer(self, *asked):
        self.asked.append(asked)
        if not self.known:
            raise LookupError('"camera_front_optical" passed to lookupTransform does not exist')
        translation = SimpleNamespace(x=1.0, y=2.0, z=3.0)
        rotation = SimpleNamespace(x=0.0, y=0.0, z=HALF, w=HALF)
        return SimpleNamespace(transform=SimpleNamespace(translation=translation, rotation=rotation))

    def clear(self):
        self.cleared += 1


def test_tf_is_asked_at_the_stamp_of_the_scan():
    buffer = Buffer()
    matrix = TfTransforms(buffer).camera_from_lidar(QUERY)
    assert buffer.asked == [("camera_front_optical", "lidar", 1_000_000_000)]
    np.testing.assert_allclose(matrix @ [1, 0, 0, 1], [1, 3, 3, 1], atol=1e-12)


def test_with_a_fixed_frame_tf_is_asked_at_both_stamps():
    buffer = Buffer()
    TfTransforms(buffer, "odom").camera_from_lidar(QUERY)
    assert buffer.asked == [("camera_front_optical", 2_000_000_000, "lidar", 1_000_000_000, "odom")]


def test_the_file_answers_where_tf_cannot_and_the_error_names_both(tmp_path):
    tf, file = TfTransforms(Buffer(known=False)), FileTransforms(write(tmp_path))
    assert FirstKnown([tf, file]).camera_from_lidar(QUERY).shape == (4, 4)
    with pytest.raises(InputError, match=r"tf lidar -> camera_front_optical missing: .* and extrinsics_file is empty"):
        FirstKnown([tf], "and extrinsics_file is empty").camera_from_lidar(QUERY)


def test_a_stamp_that_tf_cannot_have_is_no_transform():
    query = replace(QUERY, lidar_stamp_ns=-1)
    with pytest.raises(InputError, match="tf lidar -> camera_front_optical missing"):
        TfTransforms(Buffer()).camera_from_lidar(query)


def test_reset_clears_tf():
    buffer = Buffer()
    FirstKnown([TfTransforms(buffer)]).reset()
    assert buffer.cleared == 1


def test_a_node_listens_to_tf_where_tf2_is_installed(monkeypatch):
    events = []
    listener = SimpleNamespace(unregister=lambda: events.append("unregistered"))
    tf2 = SimpleNamespace(Buffer=Buffer, TransformListener=lambda buffer, node: events.append(node) or listener)
    monkeypatch.setitem(__import__("sys").modules, "tf2_ros", tf2)
    transforms = open_transforms("the node", "", "")
    assert transforms.camera_from_lidar(QUERY).shape == (4, 4)
    transforms.close()
    assert events == ["the node", "unregistered"]


def test_without_tf2_and_file_the_reason_is_said(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tf2_ros", None)
    with pytest.raises(InputError, match="tf2_ros is not installed and the parameter extrinsics_file is empty"):
        open_transforms(None, "", "").camera_from_lidar(QUERY)
