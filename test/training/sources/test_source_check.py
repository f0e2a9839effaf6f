"""The look at a few samples before a long run: what it must find, and that it is silent on good data."""

import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ov_seg_ros.core.camera import CameraModel
from ov_seg_ros.core.data_types import CameraImage, PointCloud, Sample
from ov_seg_ros.core.errors import InputError
from ov_seg_ros.core.label_space import LabelSpace
from training.sources.resolve import open_source
from training.sources.source_check import check_source

SHARED = Path(os.environ.get("OV_SEG_SHARED", Path(__file__).resolve().parents[4] / "shared"))
SPACE = LabelSpace("two", ("road", "car"), ((0, 0, 0), (1, 1, 1)))
FORWARD = np.array([[0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]], np.float64)
"""A camera at the LiDAR that looks along its x."""


def make_sample(index, **changes):
    """100 points on a wall 10 m ahead, all in the image of the one camera."""
    y, z = np.meshgrid(np.linspace(-2, 2, 10), np.linspace(-2, 2, 10))
    points = np.stack([np.full(100, 10.0), y.ravel(), z.ravel()], axis=1).astype(np.float32)
    pixels = np.arange(20 * 20 * 3, dtype=np.uint8).reshape(20, 20, 3)
    image = CameraImage("front", pixels, CameraModel(20, 20, 10, 10, 10, 10), FORWARD, 10**9)
    cloud = PointCloud(points, np.zeros(100, np.float32), 10**9, "lidar")
    return replace(Sample(f"made/{index}", cloud, (image,), np.zeros(100, np.uint8), np.eye(4)), **changes)


class MadeSource:
    """Samples with the same change in each."""

    name, label_space = "made", SPACE

    def __init__(self, change=lambda sample: {}, count=5):
        self.change, self.count, self.loaded = change, count, []

    def __len__(self):
        return self.count

    def load_sample(self, index):
        self.loaded.append(index)
        sample = make_sample(index)
        return replace(sample, **self.change(sample))


def with_points(change):
    def changed(sample):
        return {"cloud": replace(sample.cloud, points=change(sample.cloud.points).astype(np.float32))}

    return changed


def with_image(**changes):
    return lambda sample: {"images": (replace(sample.images[0], **changes),)}


def moved(x):
    transform = FORWARD.copy()
    transform[2, 3] = x
    return transform


def test_good_samples_are_good():
    source = MadeSource(count=11)
    assert check_source(source) == []
    assert source.loaded == [0, 5, 10]
    for samples, expected in ((1, [0]), (2, [0, 10]), (100, list(range(11)))):
        source.loaded = []
        check_source(source, samples)
        assert source.loaded == expected


@pytest.mark.parametrize(
    ("change", "severity", "message"),
    [
        (with_points(lambda p: p * np.nan), "error", "none of its 100 points is finite"),
        (with_points(lambda p: p * 2000), "error", "a point lies 2.08e[+]04 m away; the file is damaged"),
        (with_points(lambda p: p * 0.001), "error", "half of its points lie at the sensor; check unit"),
        (with_points(lambda p: np.where(np.arange(100)[:, None] < 60, np.nan, p)), "warning", "only 40 of its 100"),
        (with_image(camera_from_lidar=moved(-50)), "error", "none of 100 points falls into the image; check the extr"),
        (with_image(camera_from_lidar=FORWARD * 2), "error", "camera_from_lidar must end with the row 0 0 0 1"),
        (with_image(camera_from_lidar=FORWARD[[1, 0, 2, 3]]), "error", "camera_from_lidar is not rigid"),
        (with_image(camera_from_lidar=moved(490)), None, ""),
        (with_image(stamp_ns=10**9 + 600_000_000), "warning", "0.6 s between scan and image; good only if nothing"),
        (with_image(image=np.full((20, 20, 3), 7, np.uint8)), "warning", "every pixel has the same colour"),
        (lambda s: {"class_id": np.full(100, 2, np.uint8)}, "error", "label 2 is out of range, two ends at 1"),
        (lambda s: {"class_id": np.zeros(99, np.uint8)}, "error", r"100 points but labels of shape \(99,\)"),
        (lambda s: {"class_id": np.full(100, 255, np.uint8)}, "warning", "no point has a class of two"),
        (lambda s: {"class_id": None}, "warning", "its label space is two, but no sample looked at has labels"),
        (lambda s: {"key": "other/1"}, "error", "its key must begin with the name of the source, made/"),
        (lambda s: {"key": "made/1"}, "error", "several samples have the key made/1"),
        (lambda s: {"world_from_lidar": -np.eye(4)}, "error", "world_from_lidar must end with the row"),
    ],
)
def test_what_is_wrong_is_found(change, severity, message):
    findings = check_source(MadeSource(change))
    if severity is None:
        assert findings == []
        return
    found = [f for f in findings if re.search(message, f.message)]
    assert found, [str(f) for f in findings]
    assert found[0].severity == severity
    assert str(found[0]).startswith(f"{severity}: ")


def test_swapped_extrinsics_are_recognised():
    """The camera sits 12 m behind the wall and looks back at it; the inverse of its pose sees nothing."""
    inverse = np.linalg.inv(FORWARD)
    (finding,) = check_source(MadeSource(with_image(camera_from_lidar=inverse)))
    assert "its inverse would show 100 of them" in finding.message
    assert finding.where == "made/0, camera front"


def test_a_camera_that_sees_little():
    def change(sample):
        points = sample.cloud.points.copy()
        points[49:, 0] = -10
        return {"cloud": replace(sample.cloud, points=points)}

    (finding,) = check_source(MadeSource(change))
    assert (finding.severity, finding.message.partition(";")[0]) == (
        "warning",
        "at most 49 of 100 points fall into the image",
    )


def test_a_scan_that_was_cut_off_between_two_points():
    class OneCut(MadeSource):
        def load_sample(self, index):
            sample = make_sample(index)
            if index == 2:
                cloud = PointCloud(sample.cloud.points[:20], sample.cloud.intensity[:20], 10**9)
                return replace(sample, cloud=cloud, class_id=np.zeros(20, np.uint8))
            return sample

    (finding,) = check_source(OneCut())
    assert (finding.severity, finding.where) == ("warning", "made/2")
    assert finding.message == "20 points, others have 100; was its file cut off?"


@pytest.mark.parametrize(("broken", "severity"), [((2,), "warning"), ((0, 4), "error"), ((0, 2, 4), "error")])
def test_one_damaged_sample_of_three_is_a_warning_two_are_an_error(broken, severity):
    class Damaged(MadeSource):
        def load_sample(self, index):
            if index in broken[:1]:
                raise InputError(f"{index}.bin is cut off")
            points = np.full((100, 3), np.nan, np.float32)
            damaged = {"cloud": replace(make_sample(0).cloud, points=points)} if index in broken else {}
            return make_sample(index, **damaged)

    findings = [f for f in check_source(Damaged()) if re.search("cut off$|none of its 100 points is finite", f.message)]
    assert [f.severity for f in findings] == [severity] * len(broken)


def test_a_source_without_images_is_no_use_to_a_teacher():
    blind = MadeSource(lambda sample: {"images": ()})
    assert check_source(blind) == []
    (finding,) = check_source(blind, needs_images=True)
    assert (finding.severity, finding.where) == ("error", "made")
    assert finding.message.startswith("no sample looked at has an image")
    assert check_source(MadeSource(), needs_images=True) == []


def test_samples_that_cannot_be_loaded_are_findings_not_exceptions():
    class Broken(MadeSource):
        def load_sample(self, index):
            if index == 4:
                raise InputError("scan 4.bin does not exist")
            if index == 2:
                raise PermissionError("2.bin")
            return make_sample(index, images=())

    findings = [str(f) for f in check_source(Broken())]
    assert findings == ["error: made, sample 2: 2.bin", "error: made, sample 4: scan 4.bin does not exist"]
    assert [f.message for f in check_source(MadeSource(count=0))] == [
        "it holds no samples; check the path, the split and the skip"
    ]


@pytest.mark.parametrize(
    "folder",
    ["kitti_object", "kitti_pointpainting", "semantickitti", "kitti_raw/2011_09_26", "nuscenes/scene-0061_first"],
)
def test_the_real_samples_are_good(folder):
    if not (SHARED / "data" / folder).is_dir():
        pytest.skip(f"needs shared/data/{folder}")
    assert check_source(open_source(SHARED / "data" / folder)) == []
