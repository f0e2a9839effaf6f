"""What the launch files read from a parameter file is what the node gets, and their names are those of ROS."""

import re
from pathlib import Path

import pytest
import rclpy
from rclpy.context import Context
from rclpy.node import Node

from ov_seg_ros.core.errors import ConfigError
from ov_seg_ros.ros.launch_arguments import camera_names, full_node_name, parameters_in_file, shipped_or_own_file
from ov_seg_ros.ros.parameters import given_at_start

A, B = "{ros__parameters: {cameras: [a]}}", "{ros__parameters: {cameras: [b]}}"
FILES = {
    "every node": "/**: {ros__parameters: {cameras: [a], use_sim_time: true}}",
    "by name": f"segmentation_node: {B}\n/car/segmentation_node: {A}",
    "nested": f"car: {{segmentation_node: {A}, other: {B}}}",
    "one level": f"/*/segmentation_node: {A}\n/*: {B}",
    "any level": f"/**/segmentation_node: {A}",
    "the later entry wins": f"/car/segmentation_node: {A}\n/**: {B}",
    "of another node": f"/**/other: {A}",
}


@pytest.mark.parametrize("content", FILES.values(), ids=FILES)
def test_a_parameter_file_is_read_as_the_node_reads_it(tmp_path, content):
    path = tmp_path / "mine.yaml"
    path.write_text(content)
    context = Context()
    rclpy.init(context=context, args=["--ros-args", "--params-file", str(path)])
    try:
        node = Node("segmentation_node", namespace="/car", context=context)
        expected = given_at_start(node)
        assert parameters_in_file(str(path), node.get_fully_qualified_name()) == expected
        node.destroy_node()
    finally:
        rclpy.shutdown(context=context)


@pytest.mark.parametrize("content", ["a: [", "\tb: c", "\x00"])
def test_what_is_no_yaml_is_refused(tmp_path, content):
    path = tmp_path / "mine.yaml"
    path.write_text(content)
    with pytest.raises(ConfigError, match=r"params_file:=.*mine\.yaml: expected a YAML file with parameters"):
        parameters_in_file(str(path), "/segmentation_node")


@pytest.mark.parametrize("content", ["", "text", "[1, 2]", "/**: {}", "/**: {ros__parameters: }"])
def test_a_file_without_parameters_says_nothing(tmp_path, content):
    path = tmp_path / "mine.yaml"
    path.write_text(content)
    assert parameters_in_file(str(path), "/segmentation_node") == {}


def test_cameras_must_be_names():
    assert camera_names({}) == camera_names({"cameras": None}) == []
    for wrong in ("front", [1], {"front": 1}, ["a", "a"], ["a b"]):
        with pytest.raises(ConfigError, match="cameras"):
            camera_names({"cameras": wrong})


@pytest.mark.parametrize(
    ("namespaces", "full"),
    [
        (("", ""), "/seg"),
        (("", "car"), "/car/seg"),
        (("", "/car/"), "/car/seg"),
        (("/car", "top"), "/car/top/seg"),
        (("/car", "/top"), "/top/seg"),
        (("/car", "/"), "/seg"),
    ],
)
def test_an_absolute_namespace_starts_anew(namespaces, full):
    assert full_node_name(namespaces, "seg") == full


def test_a_file_is_one_of_the_users_or_one_that_comes_with_the_package(tmp_path, monkeypatch):
    shipped, mine = tmp_path / "shipped", tmp_path / "autoware.yaml"
    shipped.mkdir()
    for path in (shipped / "autoware.yaml", shipped / "other.yaml", mine):
        path.write_text("")
    monkeypatch.chdir(tmp_path)
    assert Path(shipped_or_own_file("class_map", "autoware", shipped)) == shipped / "autoware.yaml"
    assert Path(shipped_or_own_file("class_map", "autoware.yaml", shipped)) == mine
    with pytest.raises(
        ConfigError, match=re.escape("class_map:=autowar: expected the path of a YAML file or one of autoware, other")
    ):
        shipped_or_own_file("class_map", "autowar", shipped)
    with pytest.raises(ConfigError, match=r"class_map:=no.yaml: expected a file, but .* does not exist"):
        shipped_or_own_file("class_map", "no.yaml", shipped)
