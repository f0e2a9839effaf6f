"""A segmenter whose classes are translated."""

from pathlib import Path

import numpy as np
import pytest

from ov_seg_ros.core.class_map import ClassMap
from ov_seg_ros.core.data_types import PointCloud, SegmentedCloud
from ov_seg_ros.core.errors import ConfigError
from ov_seg_ros.core.label_space import LabelSpace
from ov_seg_ros.core.student_description import StudentDescription
from ov_seg_ros.core.voxels import VoxelGrid
from ov_seg_ros.refinement.mapped_segmenter import MappedSegmenter, map_classes

SPACE = LabelSpace("three", ("road", "car", "tree"), ((0, 0, 0),) * 3)
TARGET = LabelSpace("two", ("GREEN", "GROUND"), ((0, 255, 0), (1, 2, 3)))


class Student:
    """Labels four points, the last of them outside of its range."""

    sha256, provider, uses_color = "abc", "CPUExecutionProvider", True

    def __init__(self):
        grid = VoxelGrid("cartesian", (0.1, 0.1, 0.1), (-10.0, -10.0, -3.0), (10.0, 10.0, 3.0))
        self.description = StudentDescription("student", SPACE, grid, ("height",), 1)
        self.warm = False

    def warm_up(self):
        self.warm = True

    def segment(self, cloud, images=()):
        self.heard = (cloud, images)
        class_id = np.array([0, 1, 2, 255], np.uint8)
        probability = np.array([0.9, 0.8, 0.7, 0], np.float32)
        return SegmentedCloud(class_id, probability, np.array([0.1, 0.2, 0.3, 0], np.float32), {"total": 3.0})


def test_labels_by_hand():
    student = Student()
    mapped = MappedSegmenter(student, ClassMap(TARGET, (("tree",), ("road",)), unknown=("car",)))
    cloud = PointCloud(np.zeros((4, 3), np.float32), np.zeros(4, np.float32))
    found = mapped.segment(cloud, images=("image",))
    assert student.heard == (cloud, ("image",))
    assert found.class_id.tolist() == [1, 255, 0, 255]
    np.testing.assert_array_equal(found.probability, np.array([0.9, 0, 0.7, 0], np.float32))
    np.testing.assert_array_equal(found.entropy, np.array([0.1, 0, 0.3, 0], np.float32))
    assert {each.dtype.name for each in (found.probability, found.entropy)} == {"float32"}
    assert found.class_id.dtype == np.uint8
    assert found.stage_ms == {"total": 3.0}


def test_it_describes_itself_by_its_own_classes_and_else_as_the_student():
    student = Student()
    mapped = MappedSegmenter(student, ClassMap(TARGET, (("tree",), ("road", "car"))))
    mapped.warm_up()
    assert student.warm
    assert mapped.description.label_space == TARGET
    assert (mapped.description.name, mapped.description.grid) == ("student", student.description.grid)
    assert (mapped.sha256, mapped.provider, mapped.uses_color) == ("abc", "CPUExecutionProvider", True)
    assert student.description.label_space == SPACE


def test_no_file_is_the_segmenter_itself():
    student = Student()
    assert map_classes(student, "") is student


def test_a_file_is_found_from_the_home_folder_and_must_fit_the_student(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    text = "{name: one, classes: [{name: ALL, color: [1, 2, 3], from: [road, car, tree]}]}"
    Path(tmp_path / "map.yaml").write_text(text)
    assert map_classes(Student(), "~/map.yaml").description.label_space.class_names == ("ALL",)
    Path(tmp_path / "map.yaml").write_text(text.replace("tree", "bush"))
    with pytest.raises(ConfigError, match="does not say what becomes of tree"):
        map_classes(Student(), "~/map.yaml")
