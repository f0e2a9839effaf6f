"""All launch files, structurally: with stand-ins, and with the real packages where there are some."""

from __future__ import annotations

from pathlib import Path

import pytest
from launch_stand_ins import ROOT, DeclareLaunchArgument, load, put_stand_ins, topics

LAUNCH_FILES = sorted((ROOT / "launch").glob("*.launch.py"))
MUST_GIVE = {"segment": {"lidar_topic"}, "replay": {"bag"}}


@pytest.fixture
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    put_stand_ins(monkeypatch)


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
