"""A source made by hand, written as a recording and read back."""

from dataclasses import replace

import numpy as np
import pytest
import yaml

from ov_seg_ros.bags.convert import convert_source
from ov_seg_ros.bags.recording import Recording
from ov_seg_ros.bags.sample_stream import SampleStream, SampleStreamOptions
from ov_seg_ros.bags.unreadable_scans import UnreadableScans
from ov_seg_ros.core.camera import CameraModel
from ov_seg_ros.core.data_types import CameraImage, PointCloud, Sample
from ov_seg_ros.core.errors import ConfigError, InputError
from ov_seg_ros.core.label_space import LabelSpace
from ov_seg_ros.core.transforms import invert_transform, matrix_from_quaternion
from ov_seg_ros.messages.pointcloud2 import decode_pointcloud2

T0 = 5_000_000_000
CAMERA = CameraModel(64, 48, 50.0, 51.0, 31.5, 23.5, "plumb_bob", (0.1, -0.05, 0.001, 0.002, 0.0))
SPACE = LabelSpace("three", ("car", "road", "tree"), ((1, 1, 1), (2, 2, 2), (3, 3, 3)))
LOOK_FORWARD = matrix_from_quaternion((0.1, -0.2, 0.3), (0.5, -0.5, 0.5, 0.5))


class HandMade:
    """Three scans; the camera is exposed 30 ms after each; the vehicle turns left while it drives."""

    name = "hand_made"
    label_space: LabelSpace | None = SPACE
    names = ("front", "rear")

    def __len__(self):
        return 3

    def camera_from_lidar(self, index, name):
        return LOOK_FORWARD

    def pose(self, index):
        return None

    def load_sample(self, index):
        random = np.random.default_rng(index)
        count, stamp = 50 + index, T0 + index * 100_000_000
        cloud = PointCloud(random.normal(size=(count, 3)).astype(np.float32), random.random(count, np.float32), stamp)
        gradient = np.linspace(0, 255, 64, dtype=np.uint8)[None, :, None] * np.ones((48, 1, 3), np.uint8)
        images = tuple(
            CameraImage(name, gradient, CAMERA, self.camera_from_lidar(index, name), stamp + 30_000_000)
            for name in self.names
        )
        class_id = random.integers(0, 3, count).astype(np.uint8)
        class_id[0] = 255
        return Sample(f"hand_made/{index}", cloud, images, class_id, self.pose(index))

    def load_scan_fields(self, index):
        count = 50 + index
        return {
            "ring": np.arange(count, dtype=np.uint16),
            "time": np.linspace(0, 0.1, count, dtype=np.float32),
            "instance_id": np.arange(count, dtype=np.int32) * 1000,
        }


class Driving(HandMade):
    """With poses, and calibrations that hold the motion between scan and image."""

    base_from_lidar = matrix_from_quaternion((1, 0, 2), (0, 0, 0.1, np.sqrt(0.99)))

    def world_from_base(self, time):
        return matrix_from_quaternion((100 + 8 * time, 50, 1), (0, 0, np.sin(time / 4), np.cos(time / 4)))

    def pose(self, index):
        return self.world_from_base(index * 0.1) @ self.base_from_lidar

    def camera_from_lidar(self, index, name):
        then, now = self.pose(index), self.world_from_base(index * 0.1 + 0.03) @ self.base_from_lidar
        return LOOK_FORWARD @ invert_transform(now) @ then


class DrivingWithPoses(Driving):
    def ego_pose(self, stamp_ns):
        return self.world_from_base((stamp_ns - T0) / 1e9)


class DrivingWithMounts(Driving):
    def __init__(self):
        mount = self.base_from_lidar @ invert_transform(LOOK_FORWARD)
        self.base_from_camera = dict.fromkeys(self.names, mount)


def read_back(path, **options):
    with Recording.open(path) as recording:
        return list(SampleStream(recording, SampleStreamOptions(truth_topic="/ground_truth/points", **options)))


@pytest.mark.parametrize("kind", [HandMade, Driving, DrivingWithPoses, DrivingWithMounts])
def test_round_trip(tmp_path, storage, kind):
    source, steps = kind(), []
    assert convert_source(source, tmp_path / "out", storage, lambda *s: steps.append(s)) == tmp_path / "out"
    assert steps == [(1, 3), (2, 3), (3, 3)]
    samples = read_back(tmp_path / "out")
    assert len(samples) == 3
    for index, sample in enumerate(samples):
        expected = source.load_sample(index)
        np.testing.assert_array_equal(sample.cloud.points, expected.cloud.points)
        np.testing.assert_array_equal(sample.cloud.intensity, expected.cloud.intensity)
        np.testing.assert_array_equal(sample.class_id, expected.class_id)
        assert (sample.cloud.stamp_ns, sample.cloud.frame_id) == (expected.cloud.stamp_ns, "lidar")
        assert [i.name for i in sample.images] == ["front", "rear"]
        for image, wanted in zip(sample.images, expected.images, strict=True):
            assert (image.stamp_ns, image.camera) == (wanted.stamp_ns, wanted.camera)
            np.testing.assert_allclose(image.camera_from_lidar, wanted.camera_from_lidar, atol=1e-9)
            assert np.abs(image.image.astype(int) - wanted.image).max() < 12  # JPEG


@pytest.mark.parametrize("kind", [DrivingWithPoses, DrivingWithMounts])
def test_poses_and_mounts(tmp_path, kind):
    convert_source(kind(), tmp_path / "out")
    with Recording.open(tmp_path / "out") as recording:
        tree = recording.transform_tree()
        assert {name: t.count for name, t in recording.topics.items() if "camera" not in name} == {
            "/ground_truth/label_info": 1,
            "/ground_truth/points": 3,
            "/lidar/points": 3,
            "/odometry": 3,
            "/tf": 6,  # one per scan and one per stamp of images, though two cameras share it
            "/tf_static": 1,
        }
        odometry = [m.decode() for m in recording.iter_messages(["/odometry"])]
    source = kind()
    np.testing.assert_allclose(tree.lookup("base_link", "lidar", T0), Driving.base_from_lidar, atol=1e-9)
    mount = Driving.base_from_lidar @ invert_transform(LOOK_FORWARD)
    np.testing.assert_allclose(tree.lookup("base_link", "camera_front_optical", T0), mount, atol=1e-9)
    np.testing.assert_allclose(tree.lookup("odom", "base_link", T0), np.eye(4), atol=1e-9)  # the world begins here
    moved = invert_transform(source.world_from_base(0)) @ source.world_from_base(0.13)
    np.testing.assert_allclose(tree.lookup("odom", "base_link", T0 + 130_000_000), moved, atol=1e-9)
    moved = invert_transform(source.world_from_base(0)) @ source.world_from_base(0.2)
    position = odometry[2].pose.pose.position
    np.testing.assert_allclose([position.x, position.y, position.z], moved[:3, 3], atol=1e-9)
    assert (odometry[2].header.frame_id, odometry[2].child_frame_id) == ("odom", "base_link")


def test_without_poses_there_are_static_transforms_only(tmp_path):
    convert_source(HandMade(), tmp_path / "out")
    with Recording.open(tmp_path / "out") as recording:
        assert "/tf" not in recording.topics
        assert "/odometry" not in recording.topics
        np.testing.assert_array_equal(recording.transform_tree().lookup("base_link", "lidar", T0), np.eye(4))


def test_a_camera_that_moves_without_poses_is_refused(tmp_path):
    class Loose(Driving):
        def pose(self, index):
            return None

        def camera_from_lidar(self, index, name):
            return matrix_from_quaternion((0.01 * index, 0, 0), (0, 0, 0, 1))

    with pytest.raises(InputError, match=r"hand_made/1: camera front has moved by 0.0098 .* no ego poses"):
        convert_source(Loose(), tmp_path / "out")


def test_fields_and_ground_truth(tmp_path):
    convert_source(HandMade(), tmp_path / "out")
    with Recording.open(tmp_path / "out") as recording:
        scan = decode_pointcloud2(recording.first("/lidar/points").decode()).fields
        truth = decode_pointcloud2(recording.first("/ground_truth/points").decode())
        labels = recording.first("/ground_truth/label_info").decode()
    assert scan.dtype.names == ("x", "y", "z", "intensity", "ring", "time")
    assert [scan.dtype[n].str for n in ("ring", "time")] == ["<u2", "<f4"]
    assert truth.fields.dtype.names == ("x", "y", "z", "class_id", "instance_id")
    assert truth.fields["instance_id"].tolist() == list(range(0, 50_000, 1000))
    assert truth.cloud.stamp_ns == T0
    assert [c.class_name for c in labels.class_map] == ["car", "road", "tree"]


def test_messages_lie_at_their_stamps(tmp_path):
    convert_source(HandMade(), tmp_path / "out")
    with Recording.open(tmp_path / "out") as recording:
        for message in recording.iter_messages(["/lidar/points", "/camera/front/image_raw/compressed"]):
            assert message.received_ns == message.stamp_ns
        assert recording.first("/camera/front/image_raw/compressed").decode().format == "jpeg"
        assert next(recording.iter_messages()).topic == "/tf_static"


def test_a_camera_that_appears_later_gets_its_transform(tmp_path):
    class Late(HandMade):
        def load_sample(self, index):
            self.names = ("front", "rear") if index else ("front",)
            return super().load_sample(index)

    convert_source(Late(), tmp_path / "out")
    with Recording.open(tmp_path / "out") as recording:
        first, second = (m.decode() for m in recording.iter_messages(["/tf_static"]))
    assert [t.child_frame_id for t in first.transforms] == ["lidar", "camera_front_optical"]
    assert [t.child_frame_id for t in second.transforms] == ["lidar", "camera_front_optical", "camera_rear_optical"]


def test_no_labels_no_truth_topics(tmp_path):
    class Plain(HandMade):
        label_space = None

        def load_sample(self, index):
            sample = super().load_sample(index)
            return Sample(sample.key, sample.cloud)

        load_scan_fields = None

    convert_source(Plain(), tmp_path / "out.mcap")
    with Recording.open(tmp_path / "out.mcap") as recording:
        assert sorted(recording.topics) == ["/lidar/points", "/tf_static"]


def test_refusals(tmp_path):
    class Empty(HandMade):
        def __len__(self):
            return 0

    class Backwards(HandMade):
        def load_sample(self, index):
            return super().load_sample(2 - index)

        load_scan_fields = None

    class Crowded(HandMade):
        def load_scan_fields(self, index):
            return {"instance_id": np.full(50 + index, 70_000)}

    class Misnamed(HandMade):
        names = ("front camera",)

    for kind, error, message in (
        (Empty, InputError, "hand_made holds no samples"),
        (Backwards, InputError, "a recording needs stamps that grow"),
        (Crowded, InputError, "instance_id must fit 16 bits, got 70000 to 70000"),
        (Misnamed, ConfigError, "camera name 'front camera' is no part of a topic name"),
    ):
        with pytest.raises(error, match=message):
            convert_source(kind(), tmp_path / kind.__name__)


class Damaged(HandMade):
    """Some scans that cannot be read, one whose ground truth and one whose ring has another length."""

    def __init__(self, count, broken=(), misfit=(), odd_ring=()):
        self.count, self.broken, self.misfit, self.odd_ring = count, broken, misfit, odd_ring

    def __len__(self):
        return self.count

    def load_sample(self, index):
        if index in self.broken:
            raise InputError(f"{index}.bin is\ncut off")
        sample = super().load_sample(index)
        return replace(sample, class_id=sample.class_id[:-1]) if index in self.misfit else sample

    def load_scan_fields(self, index):
        fields = super().load_scan_fields(index)
        return fields | {"ring": fields["ring"][:-2]} if index in self.odd_ring else fields


def test_scans_that_cannot_be_read_are_left_out(tmp_path):
    source, left_out, steps = Damaged(12, broken=(0, 5), misfit=(1,), odd_ring=(3,)), UnreadableScans(0.2), []
    convert_source(source, tmp_path / "out", progress=lambda *s: steps.append(s), unreadable=left_out)
    stamps = [sample.cloud.stamp_ns for sample in read_back(tmp_path / "out")]
    assert stamps == [T0 + index * 100_000_000 for index in range(12) if index not in (0, 1, 3, 5)]
    assert [str(scan) for scan in left_out.scans] == [
        "sample 0 of hand_made: 0.bin is cut off",
        "sample 1 of hand_made: 51 points, but ground truth of shape (50,); both must be of one length",
        "sample 3 of hand_made: 53 points, but ring of shape (51,); both must be of one length",
        "sample 5 of hand_made: 5.bin is cut off",
    ]
    assert steps[-1] == (12, 12)
    with Recording.open(tmp_path / "out") as recording:
        assert recording.topics["/tf_static"].count == 1  # though the first scan is missing
        assert recording.topics["/camera/front/camera_info"].count == 8  # nothing of those left out


def test_a_file_that_the_system_refuses_costs_one_scan(tmp_path):
    class Refused(HandMade):
        def load_sample(self, index):
            return super().load_sample(index) if index else open(tmp_path / "nothing")

    left_out = UnreadableScans(0.5)
    convert_source(Refused(), tmp_path / "out", unreadable=left_out)
    assert [str(scan) for scan in left_out.scans] == [
        f"sample 0 of hand_made: {tmp_path / 'nothing'}: No such file or directory"
    ]


def test_too_many_scans_that_cannot_be_read_end_a_conversion(tmp_path):
    with pytest.raises(InputError, match=r"^0.bin is\ncut off$"):  # who does not ask to leave scans out
        convert_source(Damaged(4, broken=(0,)), tmp_path / "strict")
    few = r"^3 of 4 scans cannot be read, more than a share of 0.01 of them: copy .* One of them: sample 0 of"
    with pytest.raises(InputError, match=few):
        convert_source(Damaged(9, broken=(0, 2, 3)), tmp_path / "few", unreadable=UnreadableScans(0.01))
    with pytest.raises(InputError, match=r"^source hand_made: none of the 2 scans can be read: sample 0 of hand_m"):
        convert_source(Damaged(2, broken=(0, 1)), tmp_path / "none", unreadable=UnreadableScans(1.0))
    with pytest.raises(ConfigError, match=r"must be in \[0, 1\], got 1.5"):
        UnreadableScans(1.5)


def test_an_interrupted_conversion_can_be_played(tmp_path):
    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert_source(HandMade(), tmp_path / "out", progress=stop)
    assert len(read_back(tmp_path / "out")) == 1
    content = yaml.safe_load((tmp_path / "out" / "metadata.yaml").read_text())
    assert "incomplete" in content["rosbag2_bagfile_information"]["custom_data"]
