"""``replay.launch.py``: player and node beside each other, and the frame that RViz shows."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import pytest
from launch_stand_ins import REPLAY, SEGMENT, Shutdown, included, load, node, put_stand_ins, start

from ov_seg_ros.bags.build_messages import cloud_message
from ov_seg_ros.bags.writer import RecordingWriter
from ov_seg_ros.core.errors import ConfigError, InputError, MissingDependencyError

FRAME = "velodyne"


@pytest.fixture(autouse=True)
def _stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    put_stand_ins(monkeypatch)


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording whose LiDAR has a frame of its own."""
    path = tmp_path_factory.mktemp("bags") / "drive"
    cloud = cloud_message({axis: np.ones(3, np.float32) for axis in "xyz"}, 1, FRAME)
    with RecordingWriter(path) as writer:
        writer.write("/lidar/points", cloud, 1)
    return path


def test_the_bag_is_enough(drive: Path) -> None:
    replay = node(start(REPLAY, bag=str(drive)), "replay")
    assert replay.arguments[0] == str(drive)
    assert "--lidar-topic" not in replay.arguments
    assert replay.on_exit == Shutdown(reason="the replay ended")


def test_rviz_shows_the_frame_of_the_recording(drive: Path) -> None:
    assert included(start(REPLAY, bag=str(drive)))["rviz_frame"] == FRAME
    assert included(start(REPLAY, bag=str(drive), rviz_frame="map"))["rviz_frame"] == "map"
    rviz = node(start(SEGMENT, **included(start(REPLAY, bag=str(drive))), rviz="true"), "rviz2")
    assert rviz.arguments[-2:] == ["-f", FRAME]


def test_a_frame_that_cannot_be_found_is_said_before_anything_starts(
    drive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="/no/drive"):
        start(REPLAY, bag="/no/drive")
    with pytest.raises(InputError, match="\n  bag_lidar_topic:=/lidar/points"):
        start(REPLAY, bag=str(drive), bag_lidar_topic="/nope")
    monkeypatch.setitem(sys.modules, "ov_seg_ros.bags.recording", None)
    with pytest.raises(MissingDependencyError, match="give rviz_frame:=FRAME or rviz:=false"):
        start(REPLAY, bag=str(drive))
    assert start(REPLAY, bag=str(drive), rviz="false")


def test_a_rate_that_is_no_number_is_refused() -> None:
    with pytest.raises(ConfigError, match="rate:=fast: expected a number"):
        start(REPLAY, bag="drive", rate="fast", rviz="false")


@pytest.mark.parametrize("wanted", ["true", "false"])
def test_node_and_player_have_the_same_transport(monkeypatch: pytest.MonkeyPatch, wanted: str) -> None:
    monkeypatch.delenv("FASTDDS_BUILTIN_TRANSPORTS", raising=False)
    entities = start(REPLAY, bag="drive", rviz="false", large_data_transport=wanted)
    segment = start(SEGMENT, **included(entities), large_data_transport=wanted)
    environments = [node(entities, "replay").additional_env, node(segment, "segmentation_node").additional_env]
    assert environments == [{"FASTDDS_BUILTIN_TRANSPORTS": "LARGE_DATA"} if wanted == "true" else {}] * 2


def test_its_arguments_are_those_of_the_executable() -> None:
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


def test_the_node_hears_the_player_and_loses_nothing() -> None:
    given = included(start(REPLAY, bag="drive", rviz="false"))
    assert given["lidar_topic"] == "/segmentation_node/input/pointcloud"
    assert given["camera_topic"] == "/segmentation_node/input/{name}/image"
    assert given["camera_info_topic"] == "/segmentation_node/input/{name}/camera_info"
    assert (given["required"], given["use_sim_time"]) == ("true", "false")
    assert int(given["queue_size"]) > 100
    assert set(given) <= {argument.name for argument in load(SEGMENT).arguments()}
