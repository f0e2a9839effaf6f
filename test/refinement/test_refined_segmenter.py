"""The refined segmenter with a refinement whose result is known, and with AFI."""

from types import SimpleNamespace

import numpy as np
import pytest

from ov_seg_ros.core.data_types import PointCloud, SegmentedCloud
from ov_seg_ros.core.errors import ConfigError
from ov_seg_ros.core.label_space import LabelSpace
from ov_seg_ros.refinement import afi_decoder, afi_encoder, farthest_points
from ov_seg_ros.refinement.afi import refine_afi
from ov_seg_ros.refinement.afi_config import AfiConfig
from ov_seg_ros.refinement.refined_segmenter import RefinedSegmenter, refine_segmenter

SPACE = LabelSpace("three", ("road", "car", "tree"), ((0, 0, 0),) * 3)
NONE = 255


class Student:
    """Says what it is told to say."""

    description = SimpleNamespace(label_space=SPACE)
    sha256, provider, uses_color = "abc", "CPUExecutionProvider", True

    def __init__(self, class_id=(), probability=()):
        self.class_id = np.array(class_id, np.uint8)
        self.probability = np.array(probability, np.float32)
        self.heard = []

    def warm_up(self):
        self.heard.append("warm up")

    def segment(self, cloud, images=()):
        self.heard.append((cloud, images))
        entropy = np.where(self.class_id == NONE, 0, 0.5).astype(np.float32)
        stage_ms = {"inference": 2.0, "total": 3.0}
        return SegmentedCloud(self.class_id, self.probability, entropy, stage_ms)


def cloud_of(points):
    points = np.asarray(points, np.float32)
    return PointCloud(points, np.zeros(len(points), np.float32))


def scene(count=2000):
    """A noisy labelling of three walls, with points that are invalid, missing, or unknown to the student."""
    rng = np.random.default_rng(0)
    points = rng.uniform((2, -10, 0), (2.1, 10, 3), (count, 3)) + np.arange(count)[:, None] % 3 * (0, 0, 5)
    class_id = np.where(rng.random(count) < 0.1, rng.integers(0, 3, count), np.arange(count) % 3)
    points[10:20], points[20:30], points[30] = np.nan, 0, np.inf
    class_id[10:20], class_id[30:60] = NONE, NONE
    probability = np.where(class_id == NONE, 0, rng.uniform(0.34, 1, count))
    return cloud_of(points), Student(class_id, probability)


def test_none_is_the_segmenter_itself():
    student = Student()
    assert refine_segmenter(student, "none") is student


def test_an_unknown_refinement_is_refused():
    with pytest.raises(ConfigError, match="refinement must be one of none, afi, got 'afii'"):
        refine_segmenter(Student(), "afii")


def test_probability_by_hand():
    """Kept; changed from a sure and from an unsure label; new where there was none; still none."""
    student = Student([0, 1, 1, NONE, NONE], [0.9, 0.75, 0.375, 0, 0])
    refined = RefinedSegmenter(student, lambda *_: np.array([0, 2, 2, 2, NONE], np.uint8))
    segmented = refined.segment(cloud_of(np.ones((5, 3))))
    assert segmented.class_id.tolist() == [0, 2, 2, 2, NONE]
    assert segmented.probability.tolist() == [np.float32(0.9), 0.25, 0.375, 0, 0]
    assert segmented.probability.dtype == np.float32
    assert segmented.entropy.tolist() == [0.5, 0.5, 0.5, 0, 0]


def test_the_refinement_gets_the_points_and_the_labels_of_the_student():
    heard = []

    def refine(points, class_id, label_space):
        heard.append((points, class_id, label_space))
        return class_id

    points = np.array([[1, 0, 0], [0, 0, 0]], np.float32)
    student = Student([0, 1], [1, 1])
    cloud, images = cloud_of(points), (object(),)
    RefinedSegmenter(student, refine).segment(cloud, images)
    ((places, class_id, space),) = heard
    assert student.heard == [(cloud, images)]
    assert (places is cloud.points, class_id is student.class_id, space) == (True, True, SPACE)


def test_afi_is_the_function():
    cloud, student = scene()
    segmented = refine_segmenter(student, "afi").segment(cloud)
    expected = refine_afi(cloud.points, student.class_id, SPACE, AfiConfig.default())
    np.testing.assert_array_equal(segmented.class_id, expected)
    np.testing.assert_array_equal(segmented.class_id[10:31], student.class_id[10:31])
    assert 50 < (segmented.class_id != student.class_id).sum() < 400
    assert (segmented.class_id[31:60] != NONE).any(), "neighbours vote for points that the student does not know"
    assert (segmented.probability[31:60] == 0).all()


@pytest.mark.parametrize("count", [0, 1, 2])
@pytest.mark.parametrize("value", [0, NONE])
def test_almost_no_points_keep_their_labels(count, value):
    student = Student([value] * count, [0] * count)
    segmented = refine_segmenter(student, "afi").segment(cloud_of(np.ones((count, 3))))
    assert segmented.class_id.tolist() == [value] * count
    assert len(segmented.probability) == len(segmented.entropy) == count


def test_nobody_votes_where_nothing_is_known():
    cloud, student = scene()
    student.class_id[:] = NONE
    assert (refine_segmenter(student, "afi").segment(cloud).class_id == NONE).all()


def test_stage_times_add_up():
    cloud, student = scene()
    stage_ms = refine_segmenter(student, "afi").segment(cloud).stage_ms
    assert stage_ms["inference"] == 2.0
    assert stage_ms["refinement"] > 0
    assert stage_ms["total"] == 3.0 + stage_ms["refinement"]


def test_warm_up_compiles_everything():
    student = Student()
    segmenter = refine_segmenter(student, "afi")
    segmenter.warm_up()
    assert student.heard == ["warm up"]
    before = compiled()
    assert {"_sample", "_pool", "_mix"} <= {name for name, versions in before.items() if versions}
    cloud, student = scene()
    for points in (cloud.points, np.asfortranarray(cloud.points), cloud.points[::2], cloud.points[:1]):
        student = Student(np.zeros(len(points)), np.ones(len(points)))
        refine_segmenter(student, "afi").segment(cloud_of(points))
    assert compiled() == before


def compiled():
    """Number of compiled versions by kernel."""
    kernels = {}
    for module in (afi_encoder, afi_decoder, farthest_points):
        kernels |= {k: len(v.signatures) for k, v in vars(module).items() if hasattr(v, "signatures")}
    return kernels


def test_it_speaks_for_the_student():
    student = Student()
    segmenter = refine_segmenter(student, "afi")
    assert (segmenter.sha256, segmenter.provider, segmenter.uses_color) == ("abc", "CPUExecutionProvider", True)
    assert segmenter.description.label_space is SPACE
