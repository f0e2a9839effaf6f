"""The launch files, structurally: launch_ros is no wheel, so stand-ins with its signatures record what they get."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
import types
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from ov_seg_ros.bags.build_messages import cloud_message
from ov_seg_ros.bags.writer import RecordingWriter
from ov_seg_ros.core.errors import ConfigError, InputError, MissingDependencyError

ROOT = Path(__file__).resolve().parents[1]
LAUNCH_FILES = sorted((ROOT / "launch").glob("*.launch.py"))
MUST_GIVE = {"segment": {"lidar_topic"}, "replay": {"bag"}}


@dataclass
class LaunchDescription:
    entities: list[Any]


@dataclass
class LaunchContext:
    launch_configurations: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> Any:
        return os.environ


@dataclass
class DeclareLaunchArgument:
    name: str
    default_value: str | None = field(default=None, kw_only=True)
    description: str | None = field(default=None, kw_only=True)
    choices: list[str] | None = field(default=None, kw_only=True)


@dataclass
class OpaqueFunction:
    function: Any = field(kw_only=True)


@dataclass
class IncludeLaunchDescription:
    source: Any
    launch_arguments: Any = field(default=(), kw_only=True)


@dataclass
class PythonLaunchDescriptionSource:
    path: str


@dataclass
class Shutdown:
    reason: str = field(default="", kw_only=True)


@dataclass
class Node:
    executable: str = field(kw_only=True)
    package: str | None = field(default=None, kw_only=True)
    name: str | None = field(default=None, kw_only=True)
    namespace: str | None = field(default=None, kw_only=True)
    parameters: list[Any] = field(default_factory=list, kw_only=True)
    remappings: list[tuple[str, str]] = field(default_factory=list, kw_only=True)
    ros_arguments: list[str] = field(default_factory=list, kw_only=True)
    arguments: list[str] = field(default_factory=list, kw_only=True)
    output: str = field(default="log", kw_only=True)
    additional_env: dict[str, str] | None = field(default=None, kw_only=True)
    on_exit: Any = field(default=None, kw_only=True)


STAND_INS = {
    "launch": [LaunchContext, LaunchDescription],
    "launch.actions": [
        DeclareLaunchArgument,
        IncludeLaunchDescription,
        OpaqueFunction,
        Shutdown,
    ],
    "launch.launch_description_sources": [PythonLaunchDescriptionSource],
    "launch_ros": [],
    "launch_ros.actions": [Node],
    "ament_index_python": [],
    "ament_index_python.packages": [],
}


@pytest.fixture
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, classes in STAND_INS.items():
        module = types.ModuleType(name)
        for each in classes:
            setattr(module, each.__name__, each)
        monkeypatch.setitem(sys.modules, name, module)
    # The checkout has the layout of share/ov_seg_ros: config/ and launch/.
    sys.modules["ament_index_python.packages"].get_package_share_directory = lambda package: str(ROOT)  # type: ignore[attr-defined]


def load(path: Path) -> types.ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem.replace(".", "_"), path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def start(path: Path, **given: str) -> list[Any]:
    """What the launch file starts when a user gives these arguments, as ros2 launch would do it."""
    entities = load(path).generate_launch_description().entities
    values = dict(given)
    for argument in (each for each in entities if isinstance(each, DeclareLaunchArgument)):
        if argument.default_value is not None:
            values.setdefault(argument.name, argument.default_value)
        assert argument.name in values, f"{argument.name} must be given"
    functions = [each.function for each in entities if isinstance(each, OpaqueFunction)]
    started = [entity for function in functions for entity in function(LaunchContext(values))]
    return [each for each in entities if isinstance(each, Node)] + started


def node(entities: list[Any], executable: str) -> Node:
    (found,) = [each for each in entities if isinstance(each, Node) and each.executable == executable]
    return found


def included(entities: list[Any]) -> dict[str, str]:
    """What a launch file gives to the one that it includes."""
    (include,) = [each for each in entities if isinstance(each, IncludeLaunchDescription)]
    assert Path(include.source.path) == SEGMENT
    return dict(include.launch_arguments)


def parameter_file(folder: Path, node: str = "/**", **parameters: Any) -> Path:
    """A parameter file of a user."""
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump({node: {"ros__parameters": parameters}}))
    return path


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording whose LiDAR has a frame of its own."""
    path = tmp_path_factory.mktemp("bags") / "drive"
    cloud = cloud_message({axis: np.ones(3, np.float32) for axis in "xyz"}, 1, FRAME)
    with RecordingWriter(path) as writer:
        writer.write("/lidar/points", cloud, 1)
    return path


FRAME = "velodyne"
SEGMENT = ROOT / "launch" / "segment.launch.py"
REPLAY = ROOT / "launch" / "replay.launch.py"


@pytest.mark.usefixtures("stand_ins")
@pytest.mark.parametrize("path", LAUNCH_FILES, ids=lambda path: path.name)
class TestEveryLaunchFile:
    def arguments(self, path: Path) -> list[DeclareLaunchArgument]:
        entities = load(path).generate_launch_description().entities
        return [each for each in entities if isinstance(each, DeclareLaunchArgument)]

    def test_every_argument_is_described(self, path: Path) -> None:
        for argument in self.arguments(path):
            assert argument.description, argument.name
            assert argument.description.endswith("."), argument.name

    def test_only_the_obvious_must_be_given(self, path: Path) -> None:
        required = {argument.name for argument in self.arguments(path) if argument.default_value is None}
        assert required == MUST_GIVE[path.name.split(".")[0]]

    def test_a_default_is_one_of_the_choices(self, path: Path) -> None:
        for argument in self.arguments(path):
            assert argument.choices is None or argument.default_value in argument.choices, argument.name

    def test_default_files_exist(self, path: Path) -> None:
        for argument in self.arguments(path):
            if argument.default_value and argument.default_value.startswith(str(ROOT)):
                assert Path(argument.default_value).is_file(), argument.name


@pytest.mark.usefixtures("stand_ins")
class TestSegment:
    def test_only_our_processes_get_the_transport(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("FASTDDS_BUILTIN_TRANSPORTS", raising=False)
        started = start(SEGMENT, lidar_topic="/p", rviz="true")
        assert [each.additional_env for each in started] == [{"FASTDDS_BUILTIN_TRANSPORTS": "LARGE_DATA"}] * 2
        entities = load(SEGMENT).generate_launch_description().entities
        assert {type(each) for each in entities} == {DeclareLaunchArgument, OpaqueFunction}
        assert "FASTDDS_BUILTIN_TRANSPORTS" not in os.environ

    def test_the_transport_is_set_only_where_the_user_did_not(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FASTDDS_BUILTIN_TRANSPORTS", "UDPv4")
        assert start(SEGMENT, lidar_topic="/p")[0].additional_env == {}
        monkeypatch.delenv("FASTDDS_BUILTIN_TRANSPORTS")
        assert start(SEGMENT, lidar_topic="/p", large_data_transport="false")[0].additional_env == {}

    def test_the_topic_is_enough(self) -> None:
        (only,) = start(SEGMENT, lidar_topic="/points")
        assert (only.package, only.executable, only.name) == ("ov_seg_ros", "segmentation_node", "segmentation_node")
        assert only.remappings == [("~/input/pointcloud", "/points")]
        (file,) = only.parameters
        assert Path(file).name == "segmentation_node.yaml"

    def test_arguments_win_over_the_parameter_file(self) -> None:
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

    def test_a_parameter_file_is_found_from_the_home_folder(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
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
    def test_wrong_values_are_refused_before_anything_starts(self, given: dict[str, str], words: str) -> None:
        with pytest.raises(ConfigError, match=words):
            start(SEGMENT, lidar_topic="/p", **given)

    def test_every_yes_or_no_has_choices(self) -> None:
        arguments = {argument.name: argument for argument in load(SEGMENT).arguments()}
        for name in ("autostart", "use_sim_time", "required", "large_data_transport", "rviz"):
            assert set(arguments[name].choices) - {""} == {"true", "false"}

    def test_cameras_of_the_parameter_file_are_remapped_too(self, tmp_path: Path) -> None:
        mine = parameter_file(tmp_path, cameras=["front"])
        (only,) = start(SEGMENT, lidar_topic="/p", params_file=str(mine), camera_topic="/rig/{name}/rgb")
        assert only.parameters == [str(mine)]
        assert ("~/input/front/image", "/rig/front/rgb") in only.remappings
        (only,) = start(SEGMENT, lidar_topic="/p", params_file=str(mine), cameras="left")
        assert [source for source, _ in only.remappings if "front" in source] == []

    def test_the_parameter_file_is_read_for_the_node_in_its_namespace(self, tmp_path: Path) -> None:
        mine = parameter_file(tmp_path, node="/car/top/seg", cameras=["front"])
        given = {"lidar_topic": "/p", "params_file": str(mine), "node_name": "seg"}
        (only,) = start(SEGMENT, namespace="top", ros_namespace="/car", **given)
        assert len(only.remappings) == 4
        (only,) = start(SEGMENT, namespace="top", **given)
        assert len(only.remappings) == 1

    def test_rviz_takes_the_time_from_where_the_node_does(self, tmp_path: Path) -> None:
        def clock(**given: str) -> list[Any]:
            return node(start(SEGMENT, lidar_topic="/p", rviz="true", **given), "rviz2").parameters

        simulated = str(parameter_file(tmp_path, use_sim_time=True))
        assert clock() == []
        assert clock(params_file=simulated) == [{"use_sim_time": True}]
        assert clock(params_file=simulated, use_sim_time="false") == [{"use_sim_time": False}]

    def test_overrides_and_choices_are_parameters_of_the_node(self) -> None:
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

    def test_the_parameter_file_holds_for_every_node_name(self) -> None:
        assert list(yaml.safe_load((ROOT / "config/segmentation_node.yaml").read_text())) == ["/**"]

    def test_cameras_are_remapped_by_name(self) -> None:
        (only,) = start(SEGMENT, lidar_topic="/p", cameras="front", camera_topic="/rig/{name}/rgb")
        assert only.remappings[1:] == [
            ("~/input/front/image", "/rig/front/rgb"),
            ("~/input/front/image/compressed", "/rig/front/rgb/compressed"),
            ("~/input/front/camera_info", "/camera/front/camera_info"),
        ]

    def test_rviz_follows_the_names_in_use(self) -> None:
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


@pytest.mark.usefixtures("stand_ins")
class TestReplay:
    def test_the_bag_is_enough(self, drive: Path) -> None:
        replay = node(start(REPLAY, bag=str(drive)), "replay")
        assert replay.arguments[0] == str(drive)
        assert "--lidar-topic" not in replay.arguments
        assert replay.on_exit == Shutdown(reason="the replay ended")

    def test_rviz_shows_the_frame_of_the_recording(self, drive: Path) -> None:
        assert included(start(REPLAY, bag=str(drive)))["rviz_frame"] == FRAME
        assert included(start(REPLAY, bag=str(drive), rviz_frame="map"))["rviz_frame"] == "map"
        rviz = node(start(SEGMENT, **included(start(REPLAY, bag=str(drive))), rviz="true"), "rviz2")
        assert rviz.arguments[-2:] == ["-f", FRAME]

    def test_a_frame_that_cannot_be_found_is_said_before_anything_starts(
        self, drive: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with pytest.raises(InputError, match="/no/drive"):
            start(REPLAY, bag="/no/drive")
        with pytest.raises(InputError, match="\n  bag_lidar_topic:=/lidar/points"):
            start(REPLAY, bag=str(drive), bag_lidar_topic="/nope")
        monkeypatch.setitem(sys.modules, "ov_seg_ros.bags.recording", None)
        with pytest.raises(MissingDependencyError, match="give rviz_frame:=FRAME or rviz:=false"):
            start(REPLAY, bag=str(drive))
        assert start(REPLAY, bag=str(drive), rviz="false")

    def test_a_rate_that_is_no_number_is_refused(self) -> None:
        with pytest.raises(ConfigError, match="rate:=fast: expected a number"):
            start(REPLAY, bag="drive", rate="fast", rviz="false")

    @pytest.mark.parametrize("wanted", ["true", "false"])
    def test_node_and_player_have_the_same_transport(self, monkeypatch: pytest.MonkeyPatch, wanted: str) -> None:
        monkeypatch.delenv("FASTDDS_BUILTIN_TRANSPORTS", raising=False)
        entities = start(REPLAY, bag="drive", rviz="false", large_data_transport=wanted)
        segment = start(SEGMENT, **included(entities), large_data_transport=wanted)
        environments = [node(entities, "replay").additional_env, node(segment, "segmentation_node").additional_env]
        assert environments == [{"FASTDDS_BUILTIN_TRANSPORTS": "LARGE_DATA"} if wanted == "true" else {}] * 2

    def test_its_arguments_are_those_of_the_executable(self) -> None:
        replay_command = pytest.importorskip("ov_seg_ros.ros.replay")
        parser = argparse.ArgumentParser()
        replay_command.add_arguments(parser)
        given = start(
            REPLAY, bag="drive", rviz="false", out="results", rate="2.0", bag_lidar_topic="/points", model="m.onnx"
        )
        args = parser.parse_args(node(given, "replay").arguments)
        assert (args.bag, args.out) == (Path("drive").absolute(), Path("results").absolute())
        assert (args.rate, args.lidar_topic, args.node) == (2.0, "/points", "/segmentation_node")
        assert args.model == Path("m.onnx").absolute()

    def test_the_node_hears_the_player_and_loses_nothing(self) -> None:
        given = included(start(REPLAY, bag="drive", rviz="false"))
        assert given["lidar_topic"] == "/segmentation_node/input/pointcloud"
        assert given["camera_topic"] == "/segmentation_node/input/{name}/image"
        assert given["camera_info_topic"] == "/segmentation_node/input/{name}/camera_info"
        assert (given["required"], given["use_sim_time"]) == ("true", "false")
        assert int(given["queue_size"]) > 100
        assert set(given) <= {argument.name for argument in load(SEGMENT).arguments()}


def topics(rviz_config: Path) -> set[str]:
    displays = yaml.safe_load(rviz_config.read_text())["Visualization Manager"]["Displays"]
    return {display["Topic"]["Value"] for display in displays if "Topic" in display}


def test_the_preset_shows_outputs_of_the_node() -> None:
    code = "".join(path.read_text() for path in (ROOT / "ov_seg_ros/ros").glob("*.py"))
    for topic in topics(ROOT / "config/rviz/segment.rviz"):
        output = topic.replace("/segmentation_node/", "~/")
        assert output in code or output.rsplit("/", 1)[0] in code, topic


@pytest.mark.parametrize("path", LAUNCH_FILES, ids=lambda path: path.name)
def test_with_the_real_launch(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("launch_ros", reason="launch_ros comes with a ROS 2 installation")
    packages = pytest.importorskip("ament_index_python.packages")
    monkeypatch.setattr(packages, "get_package_share_directory", lambda package: str(ROOT))
    arguments = {argument.name for argument in load(path).generate_launch_description().get_launch_arguments()}
    assert MUST_GIVE[path.name.split(".")[0]] <= arguments
