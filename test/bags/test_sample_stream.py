"""Scans with their images: matching by header stamps, calibration, what is left out and counted."""

import numpy as np
import pytest

from ov_seg_ros.bags.build_messages import cloud_message, transforms_message
from ov_seg_ros.bags.cameras import CameraTopics
from ov_seg_ros.bags.extrinsics import FileExtrinsics
from ov_seg_ros.bags.message_types import POINT_CLOUD, standard_typestore
from ov_seg_ros.bags.recording import Recording
from ov_seg_ros.bags.sample_stream import SampleStream, SampleStreamOptions
from ov_seg_ros.bags.unreadable_scans import LISTED, UnreadableScan, list_unreadable, require_readable
from ov_seg_ros.bags.writer import RecordingWriter
from ov_seg_ros.core.errors import ConfigError, InputError

MS = 1_000_000
T0 = 1_000_000_000_000


@pytest.fixture
def build(tmp_path, make):
    """Writes a drive: scans every 100 ms, images of one camera at the given gaps (ms) per scan, None = no image."""

    def write(gaps, *, late_ms=0, odometry=True, truth=False, info=True, scans=None, path=tmp_path / "bag"):
        messages = []
        static = [("base_link", "lidar", make.shifted(1)), ("base_link", "front_optical", make.shifted(2))]
        messages.append((T0 - 1, "/tf_static", transforms_message(static, T0)))
        for index, gap in enumerate(gaps):
            stamp = T0 + index * 100 * MS
            scan = make.cloud(stamp, 5 + index)
            messages.append((stamp + 30 * MS, "/lidar", scan))
            if odometry:
                pose = transforms_message([("odom", "base_link", make.shifted(index))], stamp)
                messages.append((stamp, "/tf", pose))
            if truth:
                labels = cloud_message(
                    {c: np.zeros(5 + index, np.float32) for c in "xyz"}
                    | {"class_id": np.full(5 + index, index, np.uint8)},
                    stamp,
                    "lidar",
                )
                messages.append((stamp + 90 * MS, "/ground_truth/points", labels))
            if gap is not None:
                image_stamp = stamp + gap * MS
                if info:
                    messages.append((image_stamp, "/front/camera_info", make.camera_info(image_stamp, "front_optical")))
                image = make.image(image_stamp, "front_optical", value=index)
                messages.append((image_stamp + late_ms * MS, "/front/image_raw", image))
        if odometry:
            end = T0 + len(gaps) * 100 * MS
            messages.append((end, "/tf", transforms_message([("odom", "base_link", make.shifted(len(gaps)))], end)))
        with RecordingWriter(path, overwrite=True) as writer:
            for received, topic, message in sorted(messages, key=lambda m: m[:2]):
                writer.write(topic, message, received)
        return Recording.open(path)

    return write


def run(recording, **options):
    stream = SampleStream(recording, SampleStreamOptions(**options))
    return list(stream), stream


def values(samples):
    """Which image each scan got: images are painted with the number of their scan."""
    return [int(s.images[0].image[0, 0, 0]) if s.images else None for s in samples]


def test_every_scan_gets_its_nearest_image(build):
    samples, stream = run(build([10, 20, 0, 40]))
    assert values(samples) == [0, 1, 2, 3]
    assert stream.counters == {"front": {"paired": 4}}
    assert [s.cloud.stamp_ns for s in samples] == [T0 + i * 100 * MS for i in range(4)]
    assert [s.images[0].stamp_ns - s.cloud.stamp_ns for s in samples] == [10 * MS, 20 * MS, 0, 40 * MS]
    assert samples[2].key == f"bag/{T0 + 200 * MS}"
    assert (samples[0].images[0].camera.fx, samples[0].images[0].image.shape) == (10, (6, 8, 3))


def test_images_that_arrive_late_are_waited_for(build):
    samples, _ = run(build([10, 20, 0, 40], late_ms=450))
    assert values(samples) == [0, 1, 2, 3]


def test_an_image_before_the_scan_counts_as_well(build):
    assert values(run(build([-10, -20, 0], odometry=False))[0]) == [0, 1, 2]


def test_the_tolerance_is_inclusive(build):
    recording = build([60, 0, 0])
    assert values(run(recording)[0])[0] == 0
    assert values(run(recording, tolerance_ns=60 * MS - 1)[0])[0] is None


def test_scans_stay_when_images_are_lost(build):
    samples, stream = run(build([0, None, None, None, 0, None]))
    assert values(samples) == [0, None, None, None, 4, None]
    assert len(samples) == 6
    assert stream.counters["front"]["paired"] == 2
    assert sum(stream.counters["front"].values()) == 6


def test_an_offset_moves_the_stamps(build):
    samples, _ = run(build([70, 70, 70], odometry=False), offsets_ns={"front": -70 * MS})
    assert values(samples) == [0, 1, 2]
    assert [s.images[0].stamp_ns for s in samples] == [s.cloud.stamp_ns for s in samples]
    with pytest.raises(ConfigError, match="offset for unknown camera rear; the recording has: front"):
        run(build([0]), offsets_ns={"rear": 1})


def test_motion_between_scan_and_image_is_in_the_calibration(build):
    samples, _ = run(build([50, 20]))  # 1 m per 100 ms
    assert samples[0].images[0].camera_from_lidar[0, 3] == pytest.approx(-1.5)
    assert samples[1].images[0].camera_from_lidar[0, 3] == pytest.approx(-1.2)
    assert samples[1].world_from_lidar[0, 3] == pytest.approx(2)


def test_without_odometry_the_static_transform_holds(build):
    samples, _ = run(build([50, 20], odometry=False))
    assert [s.images[0].camera_from_lidar[0, 3] for s in samples] == [-1, -1]
    assert samples[0].world_from_lidar is None


def test_a_missing_transform_leaves_the_image_out_never_identity(build, caplog):
    samples, stream = run(build([-50, 0]))  # the first image is older than the odometry
    assert values(samples) == [None, 1]
    assert stream.counters["front"] == {"no_transform": 1, "paired": 1}
    assert "before the oldest" in caplog.text


def test_extrinsics_from_elsewhere(build, make, tmp_path):
    extrinsics = FileExtrinsics(tmp_path, {"front": make.shifted(42)})
    samples, _ = run(build([0, 0]), extrinsics=extrinsics)
    assert samples[0].images[0].camera_from_lidar[0, 3] == 42


def test_a_camera_without_camera_info_is_named_and_skipped(build):
    samples, stream = run(build([0, 0], info=False))
    assert values(samples) == [None, None]
    assert stream.skipped_cameras == {"front": "no camera_info belongs to /front/image_raw"}
    assert stream.cameras == []


def test_an_uncalibrated_camera_is_named_and_skipped(tmp_path, make):
    with RecordingWriter(tmp_path / "bag") as writer:
        writer.write("/lidar", make.cloud(1), 1)
        writer.write("/front/image_raw", make.image(1, "f"), 1)
        writer.write("/front/camera_info", make.camera_info(1, "f", focal=0.0), 1)
    _, stream = run(Recording.open(tmp_path / "bag"))
    assert "uncalibrated" in stream.skipped_cameras["front"] or "matrix" in stream.skipped_cameras["front"]


def test_a_corrupt_image_is_left_out(tmp_path, make):
    broken = make.image(T0, "front_optical")
    broken.data = broken.data[:5]
    with RecordingWriter(tmp_path / "bag") as writer:
        writer.write("/tf_static", transforms_message([("lidar", "front_optical", np.eye(4))], 1), 1)
        writer.write("/lidar", make.cloud(T0), T0)
        writer.write("/front/camera_info", make.camera_info(T0, "front_optical"), T0)
        writer.write("/front/image_raw", broken, T0)
    samples, stream = run(Recording.open(tmp_path / "bag"))
    assert values(samples) == [None]
    assert stream.counters["front"] == {"undecodable": 1}


@pytest.fixture
def damaged(tmp_path, make):
    """Four scans and an image for each; the second scan lacks points, the third its end, the fourth even its stamp."""

    def write(truth=False):
        with RecordingWriter(tmp_path / "bag") as writer:
            writer.write("/tf_static", transforms_message([("lidar", "front_optical", np.eye(4))], 1), 1)
            writer.write("/front/camera_info", make.camera_info(T0, "front_optical"), T0)
            for index in range(5):
                stamp = T0 + index * 100 * MS
                scan = make.cloud(stamp)
                scan.data = scan.data[:-3] if index == 1 else scan.data
                data = standard_typestore().serialize_cdr(scan, POINT_CLOUD)
                cut = {2: -30, 3: 8}.get(index)
                writer.write_raw("/lidar", POINT_CLOUD, bytes(data)[:cut], stamp + MS)
                writer.write("/front/image_raw", make.image(stamp, "front_optical", value=index), stamp + MS)
                if truth:
                    writer.write(
                        "/ground_truth/points", make.cloud(stamp, class_id=np.full(5, index, np.uint8)), stamp + 2 * MS
                    )
        return Recording.open(tmp_path / "bag")

    return write


def test_a_scan_that_cannot_be_read_stands_for_itself(damaged):
    stream = SampleStream(damaged(truth=True), SampleStreamOptions(truth_topic="/ground_truth/points"))
    outcomes = list(stream.outcomes())
    assert [type(outcome).__name__ for outcome in outcomes] == ["Sample", *["UnreadableScan"] * 3, "Sample"]
    assert stream.unreadable == outcomes[1:4]
    stamps = [T0 + 100 * MS, T0 + 200 * MS, T0 + 301 * MS]  # of the last only its reception is known
    assert [(scan.place, scan.stamp_ns) for scan in stream.unreadable] == [("/lidar", stamp) for stamp in stamps]
    assert "data has 77 bytes, expected 80" in stream.unreadable[0].reason
    assert "is no valid sensor_msgs/msg/PointCloud2" in stream.unreadable[1].reason
    first, last = outcomes[0], outcomes[4]
    assert (values([first, last]), first.class_id.tolist(), last.class_id.tolist()) == ([0, 4], [0] * 5, [4] * 5)
    assert [sample.cloud.stamp_ns for sample in stream.readable()] == [T0, T0 + 400 * MS]


def test_ground_truth_of_another_length_than_its_scan_is_left_out(tmp_path, make):
    with RecordingWriter(tmp_path / "bag") as writer:
        for index, count in enumerate((5, 3, 5)):
            stamp = T0 + index * 100 * MS
            writer.write("/lidar", make.cloud(stamp), stamp)
            truth = make.cloud(stamp, count, class_id=np.zeros(count, np.uint8))
            writer.write("/ground_truth/points", truth, stamp)
    options = SampleStreamOptions(truth_topic="/ground_truth/points")
    stream = SampleStream(Recording.open(tmp_path / "bag"), options)
    assert [sample.class_id is None for sample in stream.readable()] == [False, True, False]
    (line,) = list_unreadable(stream.unreadable, stream.unfit_truth)
    assert line.startswith(f"ground truth was left out: /ground_truth/points at {T0 + 100 * MS} ns has 3 points")
    assert line.endswith("expected class_id for each of the 5 points of the scan with the same stamp")
    with pytest.raises(InputError, match="has 3 points"):
        list(stream.samples())


@pytest.mark.parametrize("ids", [np.array([0, 300], np.uint16), np.array([-1, 3], np.int8), np.array([0.5, 1], "f4")])
def test_ids_that_do_not_fit_are_no_ground_truth(tmp_path, make, ids):
    with RecordingWriter(tmp_path / "bag") as writer:
        writer.write("/lidar", make.cloud(T0, 2), T0)
        writer.write("/ground_truth/points", make.cloud(T0, 2, class_id=ids), T0)
    stream = SampleStream(Recording.open(tmp_path / "bag"), SampleStreamOptions(truth_topic="/ground_truth/points"))
    with pytest.raises(
        InputError, match=r"a class_id that is no whole number from 0 to 255: .*write ids of that range"
    ):
        next(stream.samples())


def test_wider_ids_that_fit_are_read(tmp_path, make):
    with RecordingWriter(tmp_path / "bag") as writer:
        writer.write("/lidar", make.cloud(T0, 2), T0)
        writer.write("/ground_truth/points", make.cloud(T0, 2, class_id=np.array([7, 255], np.int32)), T0)
    samples, _ = run(Recording.open(tmp_path / "bag"), truth_topic="/ground_truth/points")
    assert samples[0].class_id.tolist() == [7, 255]


def test_ground_truth_that_is_cut_off_before_its_stamp_belongs_to_no_scan(tmp_path, make):
    with RecordingWriter(tmp_path / "bag") as writer:
        writer.write("/lidar", make.cloud(T0), T0)
        writer.write_raw("/ground_truth/points", POINT_CLOUD, bytes(8), T0 + MS)
    samples, _ = run(Recording.open(tmp_path / "bag"), truth_topic="/ground_truth/points")
    assert [sample.class_id for sample in samples] == [None]


def test_who_asks_for_every_sample_is_told_of_one_that_cannot_be_read(damaged):
    samples = SampleStream(damaged()).samples()
    assert next(samples).cloud.stamp_ns == T0
    with pytest.raises(InputError, match="bytes"):
        next(samples)


def test_an_image_that_is_cut_off_before_its_stamp_is_left_out(tmp_path, make):
    with RecordingWriter(tmp_path / "bag") as writer:
        writer.write("/tf_static", transforms_message([("lidar", "front_optical", np.eye(4))], 1), 1)
        writer.write("/lidar", make.cloud(T0), T0)
        writer.write("/front/camera_info", make.camera_info(T0, "front_optical"), T0)
        writer.write("/front/image_raw", make.image(T0 - 200 * MS, "front_optical"), T0)
        writer.write_raw("/front/image_raw", "sensor_msgs/msg/Image", bytes(8), T0 + 1)
    samples, stream = run(Recording.open(tmp_path / "bag"))
    assert values(samples) == [None]
    assert stream.counters["front"] == {"undecodable": 1}


def test_work_on_nothing_ends_before_it_begins(damaged):
    stream = SampleStream(damaged())
    assert len(list(require_readable(stream.outcomes(), "bag"))) == 5
    nothing = iter(stream.unreadable)
    with pytest.raises(InputError, match=rf"^bag: none of the 3 scans can be read: /lidar at {T0 + 100 * MS} ns: "):
        require_readable(nothing, "bag")


def test_many_scans_that_cannot_be_read_are_counted():
    scans = [UnreadableScan(f"sample {number}", None, "cut off") for number in range(LISTED + 3)]
    lines = list(list_unreadable(scans))
    assert lines[0] == "a scan could not be read and was left out: sample 0: cut off"
    assert lines[LISTED:] == ["3 more scans could not be read and were left out"]
    truth = list(list_unreadable((), ["too short"] * (LISTED + 2)))
    assert truth[LISTED - 1 :] == [
        "ground truth was left out: too short",
        "the ground truth of 2 more scans was left out",
    ]
    assert list(list_unreadable(scans[:LISTED]))[-1].endswith(f"sample {LISTED - 1}: cut off")


def test_an_image_of_another_size_than_its_camera_info_is_left_out(tmp_path, make):
    with RecordingWriter(tmp_path / "bag") as writer:
        writer.write("/tf_static", transforms_message([("lidar", "f", np.eye(4))], 1), 1)
        writer.write("/lidar", make.cloud(T0), T0)
        writer.write("/front/camera_info", make.camera_info(T0, "f", width=16, height=12), T0)
        writer.write("/front/image_raw", make.image(T0, "f"), T0)
    assert run(Recording.open(tmp_path / "bag"))[1].counters["front"] == {"undecodable": 1}


def test_only_the_cameras_asked_for(build):
    samples, stream = run(build([0, 0]), cameras=())
    assert values(samples) == [None, None]
    assert stream.counters == {}
    chosen = CameraTopics("mine", "/front/image_raw", False, "/front/camera_info")
    assert run(build([0, 0]), cameras=[chosen])[0][0].images[0].name == "mine"


def test_ground_truth_only_when_asked(build):
    recording = build([0, 0, None], truth=True)
    assert run(recording)[0][0].class_id is None
    samples, _ = run(recording, truth_topic="/ground_truth/points")
    assert [s.class_id.tolist() for s in samples] == [[0] * 5, [1] * 6, [2] * 7]
    assert run(build([0, 0]), truth_topic="/ground_truth/points")[0][0].class_id is None


def test_a_scan_without_truth_does_not_hold_up_the_rest(build, tmp_path):
    recording = build([0] * 30, truth=True)
    with RecordingWriter(tmp_path / "gap") as writer:
        for message in recording.iter_messages():
            if "ground_truth" not in message.topic or message.stamp_ns != T0 + 300 * MS:
                writer.copy(message)
    samples, _ = run(Recording.open(tmp_path / "gap"), truth_topic="/ground_truth/points")
    assert [s.class_id is None for s in samples] == [i == 3 for i in range(30)]


def test_truth_of_another_length_is_refused(tmp_path, make):
    with RecordingWriter(tmp_path / "bag") as writer:
        writer.write("/lidar", make.cloud(T0, 5), T0)
        writer.write("/ground_truth/points", make.cloud(T0, 4, class_id=np.zeros(4, np.uint8)), T0)
    with pytest.raises(InputError, match="expected class_id for each of the 5 points"):
        run(Recording.open(tmp_path / "bag"), truth_topic="/ground_truth/points")


def test_starting_in_the_middle(build):
    stream = SampleStream(build([10, 20, 0, 40]))
    samples = list(stream.samples(T0 + 230 * MS))
    assert [s.cloud.stamp_ns for s in samples] == [T0 + 200 * MS, T0 + 300 * MS]
    assert values(samples) == [2, 3]
