"""What the launch files make of the arguments a user gave: files, numbers, the parameter file, the transport.

Knows neither ROS nor its launch system.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import yaml

from ov_seg_ros.core.errors import ConfigError
from ov_seg_ros.ros.parameter_schema import ParameterSchema, check_value

TRANSPORT_VARIABLE = "FASTDDS_BUILTIN_TRANSPORTS"
_NODE_KEY = "ros__parameters"


def existing_file(argument: str, path: str) -> str:
    """The absolute path of a file that a launch argument names.

    Raises:
        ConfigError: there is no such file.
    """
    file = Path(os.path.expanduser(path)).absolute()  # leaves the ~ of an unknown user as it is
    if not file.is_file():
        problem = "is a folder" if file.is_dir() else "does not exist"
        raise ConfigError(
            f"{argument}:={path}: expected a file, but {file} {problem}; correct the path, or leave {argument} out"
        )
    return str(file)


def shipped_or_own_file(argument: str, text: str, shipped: Path) -> str:
    """The absolute path of a YAML file that a launch argument names, or of the one of that name in a folder.

    Args:
        argument: name of the launch argument.
        text: a path, or the name of a file in ``shipped`` without ".yaml".
        shipped: the folder.

    Raises:
        ConfigError: there is neither.
    """
    names = sorted(file.stem for file in shipped.glob("*.yaml"))
    if text in names:
        return str((shipped / f"{text}.yaml").absolute())
    if Path(text).suffix or "/" in text:
        return existing_file(argument, text)
    raise ConfigError(f"{argument}:={text}: expected the path of a YAML file or one of {', '.join(names)}")


def whole_number(parameter: str, text: str) -> int:
    """The value of a launch argument that sets a whole number, a parameter of the node with the same name.

    Raises:
        ConfigError: it is no number, or out of the range of the parameter.
    """
    entry = ParameterSchema.load("segmentation_node").entry(parameter)
    low, high = entry["minimum"], entry["maximum"]
    try:
        value = int(text)
    except ValueError:
        value = None
    if value is None or not low <= value <= high:
        raise ConfigError(f"{parameter}:={text}: expected a whole number, {low} to {high}: {entry['description']}")
    return value


def number(argument: str, text: str) -> float:
    """The value of a launch argument that is a number.

    Raises:
        ConfigError: it is none.
    """
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"{argument}:={text}: expected a number, as in {argument}:=0.5") from None


def parameters_in_file(path: str, node: str) -> dict[str, Any]:
    """What a ROS 2 parameter file says for one node.

    Args:
        path: the file.
        node: its full name ("/car/segmentation_node").

    Returns:
        Value by name as the file groups them; later entries win over earlier ones, as in rclpy.

    Raises:
        ConfigError: the file cannot be read, or is not YAML.
    """
    try:
        with open(path, "rb") as file:
            content = yaml.safe_load(file)
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"params_file:={path}: expected a YAML file with parameters of the node: {error}") from error
    found: dict[str, Any] = {}
    for pattern, parameters in _entries(content, ""):
        if re.fullmatch(_expression(pattern), node):
            found |= parameters
    return found


def _expression(pattern: str) -> str:
    """The regular expression of a name in a parameter file: ``*`` is one part of a name, ``**`` any number."""
    return re.escape(pattern).replace(r"/\*\*", r"(/\w+)*").replace(r"/\*", r"/\w+")


def camera_names(parameters: Mapping[str, Any]) -> list[str]:
    """The cameras that the parameters of the node name.

    Raises:
        ConfigError: they are no list of names.
    """
    entry = ParameterSchema.load("segmentation_node").entry("cameras")
    return cast(list[str], check_value("cameras", parameters.get("cameras"), entry))


def _entries(content: Any, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name pattern and parameters of every entry; names may be nested."""
    if not isinstance(content, dict):
        return
    for key, value in content.items():
        if key == _NODE_KEY and isinstance(value, dict):
            yield name, value
        else:
            yield from _entries(value, f"{name}/{str(key).lstrip('/')}")


def full_node_name(namespaces: tuple[str, ...], name: str) -> str:
    """The full name of a node; an absolute namespace starts anew.

    Args:
        namespaces: outermost first; empty ones count for nothing.
        name: of the node itself.
    """
    full = ""
    for each in namespaces:
        full = each if each.startswith("/") else f"{full}/{each}"
        full = full.rstrip("/")
    return f"{full}/{name}"


def transport_environment(large_data: bool, environment: Mapping[str, str]) -> dict[str, str]:
    """Variables that give the processes of a launch file a transport for clouds (docs/transport.md).

    Args:
        large_data: whether the user wants it.
        environment: what the processes inherit; a transport chosen there stays.
    """
    return {TRANSPORT_VARIABLE: "LARGE_DATA"} if large_data and TRANSPORT_VARIABLE not in environment else {}
