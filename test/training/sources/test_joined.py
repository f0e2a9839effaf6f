"""Several sources as one: order, keys, ground truth, and what only some of them offer."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from painted_source import PaintedSource, PaintTeacher

from ov_seg_ros.core.data_types import PointCloud, Sample
from ov_seg_ros.core.errors import ConfigError, InputError
from ov_seg_ros.core.label_space import LabelSpace
from ov_seg_ros.core.projection import DEFAULT_OCCLUSION
from training.labelling_run import LabellingSettings, label_source
from training.sources.joined import JoinedSource
from training.sources.source_check import check_source

LOW_HIGH = LabelSpace("low_high", ("low", "high"), ((0, 0, 0), (255, 0, 0)))
OTHER = LabelSpace("other", ("left", "right"), ((0, 0, 0), (255, 0, 0)))


class Numbers:
    """Sample ``i`` is one point at x = first + i."""

    def __init__(self, name, count, first=0, label_space=None):
        self.name, self.count, self.first, self.label_space = name, count, first, label_space

    def __len__(self):
        return self.count

    def load_sample(self, index):
        if not 0 <= index < self.count:
            raise InputError(f"no sample {index}")
        points = np.array([[self.first + index, 0, 0]], np.float32)
        truth = None if self.label_space is None else np.array([index % 2], np.uint8)
        return Sample(f"{self.name}/{index:06d}", PointCloud(points, np.zeros(1, np.float32), index + 1), (), truth)


class Lasers(Numbers):
    """Knows lasers, and has an occlusion test of its own."""

    def load_ring(self, index):
        return np.array([10 + index], np.uint16)

    def load_occlusion(self, index):
        return f"test {index}"


def test_samples_come_in_a_row():
    joined = JoinedSource([Numbers("a", 2), Numbers("b", 3, first=10)])
    samples = [joined.load_sample(index) for index in range(len(joined))]
    assert (joined.name, len(joined), joined.label_space) == ("a+b", 5, None)
    assert [float(s.cloud.points[0, 0]) for s in samples] == [0, 1, 10, 11, 12]
    assert [s.key for s in samples] == [
        f"a+b/{k}" for k in ("a/000000", "a/000001", "b/000000", "b/000001", "b/000002")
    ]


def test_many_sources_have_a_name_that_fits_into_that_of_a_file(tmp_path):
    """And another one each: results of them must not be mixed."""
    drives = [f"2011_09_26_drive_{number:04d}_sync" for number in range(40)]
    joined = JoinedSource([Numbers(drive, 1) for drive in drives])
    (tmp_path / f"finetune-{joined.name}-123456").mkdir()
    assert joined.name == "2011_09_26_drive_0000_sync+39_more-494b8229"
    assert joined.load_sample(39).key == f"{joined.name}/{drives[39]}/000000"
    others = (drives[:39], drives[:1] + drives[:0:-1], [drives[0] * 9, *drives[1:]], ["\u00fc" * 101, "b"])
    names = {JoinedSource([Numbers(drive, 1) for drive in other]).name for other in others}
    assert len(names | {joined.name}) == 5
    assert max(len(name.encode()) for name in names) < 100
    seven = JoinedSource([Numbers(drive, 1) for drive in drives[:7]])
    assert seven.name == "+".join(drives[:7])  # as ever, where it is short enough


@pytest.mark.parametrize("index", [-1, 5])
def test_an_index_outside_is_refused(index):
    joined = JoinedSource([Numbers("a", 2), Numbers("b", 3)])
    for load in (joined.load_sample, joined.load_ring, joined.load_occlusion):
        with pytest.raises(InputError, match=r"source a\+b has samples 0 to 4"):
            load(index)


def test_sources_of_one_name_are_told_apart():
    joined = JoinedSource([Numbers("a", 1), Numbers("a", 1), Numbers("a-2", 1), Numbers("a", 1)], name="drives")
    keys = [joined.load_sample(index).key for index in range(4)]
    assert keys == ["drives/a/000000", "drives/a-3/000000", "drives/a-2/000000", "drives/a-4/000000"]


@given(st.lists(st.tuples(st.sampled_from(["a", "b", "a-2", "b-3"]), st.integers(0, 3)), min_size=1, max_size=6))
def test_every_sample_is_there_once_under_a_key_of_its_own(parts):
    ends = np.cumsum([0, *(count for _, count in parts)])
    joined = JoinedSource([Numbers(n, c, first=int(e)) for (n, c), e in zip(parts, ends, strict=False)])
    samples = [joined.load_sample(index) for index in range(len(joined))]
    assert [float(s.cloud.points[0, 0]) for s in samples] == list(range(ends[-1]))
    assert len({s.key for s in samples}) == len(joined)
    assert all(s.key.startswith(f"{joined.name}/") for s in samples)


def test_ground_truth_of_some_of_them():
    joined = JoinedSource([Numbers("a", 1), Numbers("b", 2, label_space=LOW_HIGH)])
    assert joined.label_space is LOW_HIGH
    assert [joined.load_sample(index).class_id for index in (0, 2)] == [None, np.array([1])]


def test_ground_truth_of_different_classes_is_refused():
    with pytest.raises(ConfigError, match="sources b and c have ground truth of different label spaces, low_high and"):
        JoinedSource([Numbers("a", 1), Numbers("b", 1, label_space=LOW_HIGH), Numbers("c", 1, label_space=OTHER)])


def test_nothing_cannot_be_joined():
    with pytest.raises(ConfigError, match="at least one source"):
        JoinedSource([])


def test_what_only_some_sources_know():
    joined = JoinedSource([Numbers("a", 1), Lasers("b", 2)])
    assert joined.load_ring(0) is None
    assert joined.load_ring(2).tolist() == [11]
    assert joined.load_occlusion(0) is DEFAULT_OCCLUSION
    assert joined.load_occlusion(2) == "test 1"


def test_the_label_stage_takes_it(tmp_path):
    joined = JoinedSource([PaintedSource(2), PaintedSource(1)])
    assert not [f for f in check_source(joined) if "key" in f.message]
    result = label_source(joined, PaintTeacher(), tmp_path / "label", settings=LabellingSettings(progress=False))
    assert (result.folder.complete, result.folder.count) == (True, 3)


def test_a_joined_source_can_be_joined():
    inner = JoinedSource([Numbers("a", 1), Numbers("b", 1)])
    outer = JoinedSource([inner, Numbers("c", 1)])
    keys = [outer.load_sample(index).key for index in range(3)]
    assert keys == [f"a+b+c/{k}" for k in ("a+b/a/000000", "a+b/b/000000", "c/000000")]
