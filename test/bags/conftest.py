"""A small recording made by hand: one LiDAR, two cameras, tf."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from ov_seg_ros.bags.build_messages import cloud_message, message_types, transforms_message
from ov_seg_ros.bags.writer import RecordingWriter
from ov_seg_ros.messages.assembly import make_header, make_message

START_NS = 1_700_000_000_000_000_000
STEP_NS = 100_000_000


def cloud(stamp_ns, count=5, frame_id="lidar", **fields):
    columns = {name: np.arange(count, dtype=np.float32) for name in ("x", "y", "z", "intensity")}
    return cloud_message({**columns, **fields}, stamp_ns, frame_id)


def image(stamp_ns, frame_id, width=8, height=6, value=0):
    return make_message(
        message_types(),
        "sensor_msgs/msg/Image",
        header=make_header(message_types(), stamp_ns, frame_id),
        height=height,
        width=width,
        encoding="rgb8",
        is_bigendian=0,
        step=3 * width,
        data=np.full(3 * width * height, value, np.uint8),
    )


def camera_info(stamp_ns, frame_id, width=8, height=6, focal=10.0):
    types = message_types()
    roi = make_message(
        types, "sensor_msgs/msg/RegionOfInterest", x_offset=0, y_offset=0, height=0, width=0, do_rectify=False
    )
    k = np.array([focal, 0, 3.5, 0, focal, 2.5, 0, 0, 1.0])
    return make_message(
        types,
        "sensor_msgs/msg/CameraInfo",
        header=make_header(types, stamp_ns, frame_id),
        height=height,
        width=width,
        distortion_model="plumb_bob",
        d=np.zeros(5),
        k=k,
        r=np.eye(3).ravel(),
        p=np.array([focal, 0, 3.5, 0, 0, focal, 2.5, 0, 0, 0, 1.0, 0]),
        binning_x=0,
        binning_y=0,
        roi=roi,
    )


def shifted(x, y=0.0, z=0.0):
    matrix = np.eye(4)
    matrix[:3, 3] = x, y, z
    return matrix


def write_drive(path: Path, storage="mcap", scans=4, **options):
    """Scans at 10 Hz; the left camera 10 ms later than each scan, the right one 40 ms earlier."""
    with RecordingWriter(path, storage, **options) as writer:
        static = [("base_link", "lidar", shifted(0, 0, 2)), ("base_link", "left_optical", shifted(1, 0, 2))]
        writer.write("/tf_static", transforms_message(static, START_NS), START_NS)
        for index in range(scans):
            stamp = START_NS + index * STEP_NS
            writer.write("/lidar/points", cloud(stamp, 5 + index), stamp + 2)
            for name, gap in (("left", 10_000_000), ("right", -40_000_000)):
                writer.write(f"/camera/{name}/camera_info", camera_info(stamp + gap, f"{name}_optical"), stamp + 1)
                writer.write(f"/camera/{name}/image_raw", image(stamp + gap, f"{name}_optical", value=index), stamp + 1)
    return path


@pytest.fixture(scope="session")
def make():
    """The functions above; test files cannot import them from here."""
    return SimpleNamespace(
        START_NS=START_NS,
        STEP_NS=STEP_NS,
        cloud=cloud,
        image=image,
        camera_info=camera_info,
        shifted=shifted,
        write_drive=write_drive,
    )


@pytest.fixture(params=["mcap", "sqlite3"])
def storage(request):
    return request.param


@pytest.fixture
def drive(tmp_path, storage):
    return write_drive(tmp_path / "drive", storage)
