"""``segment.launch.py``: what it starts, with which parameters, names and transport."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from launch_stand_ins import (
    ROOT,
    SEGMENT,
    DeclareLaunchArgument,
    OpaqueFunction,
    load,
    node,
    parameter_file,
    put_stand_ins,
    start,
    topics,
)

from ov_seg_ros.core.errors import ConfigError


@pytest.fixture(autouse=True)
def _stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    put_stand_ins(monkeypatch)


def test_only_our_processes_get_the_transport(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FASTDDS_BUILTIN_TRANSPORTS", raising=False)
    started = start(SEGMENT, lidar_topic="/p", rviz="true")
    assert [each.additional_env for each in started] == [{"FASTDDS_BUILTIN_TRANSPORTS": "LARGE_DATA"}] * 2
    entities = load(SEGMENT).generate_launch_description().entities
    assert {type(each) for each in entities} == {DeclareLaunchArgument, OpaqueFunction}
    assert "FASTDDS_BUILTIN_TRANSPORTS" not in os.environ


def test_the_transport_is_set_only_where_the_user_did_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTDDS_BUILTIN_TRANSPORTS", "UDPv4")
    assert start(SEGMENT, lidar_topic="/p")[0].additional_env == {}
    monkeypatch.delenv("FASTDDS_BUILTIN_TRANSPORTS")
    assert start(SEGMENT, lidar_topic="/p", large_data_transport="false")[0].additional_env == {}


def test_the_topic_is_enough() -> None:
    (only,) = start(SEGMENT, lidar_topic="/points")
    assert (only.package, only.executable, only.name) == ("ov_seg_ros", "segmentation_node", "segmentation_node")
    assert only.remappings == [("~/input/pointcloud", "/points")]
    (file,) = only.parameters
    assert Path(file).name == "segmentation_node.yaml"


def test_arguments_win_over_the_parameter_file() -> None:
    (only,) = start(
        SEGMENT,
        lidar_topic="/p",
        model="m.onnx",
        provider="cpu",
        refinement="afi",
        output_profile="xyzcpe",
        class_map="autoware",
        cameras="front, left",
        queue_size="3",
        autostart="false",
        use_sim_time="true",
    )
    assert only.parameters[-1] == {
        "model_path": str(Path("m.onnx").absolute()),
        "provider": "cpu",
        "refinement": "afi",
        "output_profile": "xyzcpe",
        "class_map": str(ROOT / "config/class_maps/autoware.yaml"),
        "cameras": ["front", "left"],
        "queue_size": 3,
        "autostart": False,
        "use_sim_time": True,
    }


def test_a_parameter_file_is_found_from_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    mine = parameter_file(tmp_path)
    assert start(SEGMENT, lidar_topic="/p", params_file="~/mine.yaml")[0].parameters == [str(mine)]
    monkeypatch.chdir(tmp_path)
    assert start(SEGMENT, lidar_topic="/p", params_file="mine.yaml")[0].parameters == [str(mine)]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"params_file": "/no/such.yaml"}, "params_file:=/no/such.yaml: expected a file, but .* does not exist"),
        ({"params_file": "~nobody-here/a.yaml"}, "params_file:=~nobody-here/a.yaml: expected a file"),
        ({"params_file": "/tmp"}, "params_file:=/tmp: expected a file, but /tmp is a folder"),
        ({"rviz": "true", "rviz_config": "no.rviz"}, "rviz_config:=no.rviz: expected a file"),
        ({"queue_size": "abc"}, "queue_size:=abc: expected a whole number, 1 to 1000"),
        ({"queue_size": "0"}, "queue_size:=0: expected a whole number, 1 to 1000"),
        ({"class_map": "autowar"}, "class_map:=autowar: expected the path of a YAML file or one of autoware"),
        ({"cameras": "front left"}, "cameras: 'front left' must match"),
    ],
)
def test_wrong_values_are_refused_before_anything_starts(given: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        start(SEGMENT, lidar_topic="/p", **given)


def test_every_yes_or_no_has_choices() -> None:
    arguments = {argument.name: argument for argument in load(SEGMENT).arguments()}
    for name in ("autostart", "use_sim_time", "required", "large_data_transport", "rviz"):
        assert set(arguments[name].choices) - {""} == {"true", "false"}


def test_cameras_of_the_parameter_file_are_remapped_too(tmp_path: Path) -> None:
    mine = parameter_file(tmp_path, cameras=["front"])
    (only,) = start(SEGMENT, lidar_topic="/p", params_file=str(mine), camera_topic="/rig/{name}/rgb")
    assert only.parameters == [str(mine)]
    assert ("~/input/front/image", "/rig/front/rgb") in only.remappings
    (only,) = start(SEGMENT, lidar_topic="/p", params_file=str(mine), cameras="left")
    assert [source for source, _ in only.remappings if "front" in source] == []


def test_the_parameter_file_is_read_for_the_node_in_its_namespace(tmp_path: Path) -> None:
    mine = parameter_file(tmp_path, node="/car/top/seg", cameras=["front"])
    given = {"lidar_topic": "/p", "params_file": str(mine), "node_name": "seg"}
    (only,) = start(SEGMENT, namespace="top", ros_namespace="/car", **given)
    assert len(only.remappings) == 4
    (only,) = start(SEGMENT, namespace="top", **given)
    assert len(only.remappings) == 1


def test_rviz_takes_the_time_from_where_the_node_does(tmp_path: Path) -> None:
    def clock(**given: str) -> list[Any]:
        return node(start(SEGMENT, lidar_topic="/p", rviz="true", **given), "rviz2").parameters

    simulated = str(parameter_file(tmp_path, use_sim_time=True))
    assert clock() == []
    assert clock(params_file=simulated) == [{"use_sim_time": True}]
    assert clock(params_file=simulated, use_sim_time="false") == [{"use_sim_time": False}]


def test_overrides_and_choices_are_parameters_of_the_node() -> None:
    schema = json.loads((ROOT / "ov_seg_ros/ros/segmentation_node.schema.json").read_text())["properties"]
    (only,) = start(
        SEGMENT,
        lidar_topic="/p",
        model="m.onnx",
        provider="cpu",
        refinement="afi",
        cameras="front",
        queue_size="2",
        autostart="true",
    )
    assert set(only.parameters[-1]) <= set(schema)
    arguments = {argument.name: argument for argument in load(SEGMENT).arguments()}
    for name in ("provider", "refinement", "output_profile"):
        assert arguments[name].choices == ["", *schema[name]["enum"]]


def test_the_parameter_file_holds_for_every_node_name() -> None:
    assert list(yaml.safe_load((ROOT / "config/segmentation_node.yaml").read_text())) == ["/**"]


def test_cameras_are_remapped_by_name() -> None:
    (only,) = start(SEGMENT, lidar_topic="/p", cameras="front", camera_topic="/rig/{name}/rgb")
    assert only.remappings[1:] == [
        ("~/input/front/image", "/rig/front/rgb"),
        ("~/input/front/image/compressed", "/rig/front/rgb/compressed"),
        ("~/input/front/camera_info", "/camera/front/camera_info"),
    ]


def test_rviz_follows_the_names_in_use() -> None:
    rviz = node(
        start(SEGMENT, lidar_topic="/p", rviz="true", namespace="car", node_name="seg", cameras="front"), "rviz2"
    )
    preset = topics(ROOT / "config/rviz/segment.rviz")
    assert {source for source, _ in rviz.remappings} <= preset
    assert ("/segmentation_node/output/pointcloud/visualization", "/car/seg/output/pointcloud/visualization") in (
        rviz.remappings
    )
    assert dict(rviz.remappings)["/segmentation_node/output/image/overlay/camera_1"] == (
        "/car/seg/output/image/overlay/front"
    )
