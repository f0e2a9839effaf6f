"""Stand-ins for launch and launch_ros, which are no wheels: their signatures, which record what launch files give."""

from __future__ import annotations

import importlib.util
import os
import sys
import types
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
SEGMENT = ROOT / "launch" / "segment.launch.py"
REPLAY = ROOT / "launch" / "replay.launch.py"


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


def put_stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the place of the packages, for one test."""
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


def topics(rviz_config: Path) -> set[str]:
    displays = yaml.safe_load(rviz_config.read_text())["Visualization Manager"]["Displays"]
    return {display["Topic"]["Value"] for display in displays if "Topic" in display}
