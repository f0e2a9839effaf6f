"""Parameters of the node: declared from the schema, handed on as one frozen dataclass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node

from ov_seg_ros.core.errors import ConfigError
from ov_seg_ros.core.matching import CameraTiming
from ov_seg_ros.ros.parameter_schema import ParameterSchema, Value, check_value

MS = 1_000_000
"""Nanoseconds per millisecond."""
_OFFSET = "matching.offset_ms."


@dataclass(frozen=True)
class NodeParameters:
    """What an operator chose; meaning and range of every entry stand in segmentation_node.schema.json."""

    model_path: str
    provider: str
    require_gpu: bool
    num_threads: int
    autostart: bool
    queue_size: int
    refinement: str
    class_map: str
    output_profile: str
    filter_classes: tuple[str, ...]
    filter_threshold: float
    cameras: Mapping[str, CameraTiming]
    images_rectified: bool
    extrinsics_file: str
    fixed_frame: str
    deadline_ns: int
    history: int
    point_radius: int
    max_processing_time_ms: float
    max_consecutive_delay_ms: float

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> NodeParameters:
        """Sorts checked values (from ``ParameterSchema.resolve``).

        Raises:
            ConfigError: an offset is given for a camera that is not in ``cameras``.
        """
        return cls(
            filter_classes=tuple(values["filter.classes"]),
            filter_threshold=values["filter.class_probability_threshold"],
            cameras=_camera_timings(values),
            deadline_ns=round(values["matching.deadline_ms"] * MS),
            history=values["matching.history"],
            point_radius=values["overlay.point_radius"],
            max_processing_time_ms=values["diagnostics.max_processing_time_ms"],
            max_consecutive_delay_ms=values["diagnostics.max_consecutive_delay_ms"],
            **{name: values[name] for name in _SAME_NAME},
        )


_SAME_NAME = (
    "model_path",
    "provider",
    "require_gpu",
    "num_threads",
    "autostart",
    "queue_size",
    "refinement",
    "class_map",
    "output_profile",
    "images_rectified",
    "extrinsics_file",
    "fixed_frame",
)


def declare_parameters(node: Node, schema: ParameterSchema) -> dict[str, Value]:
    """Declares every parameter of the schema on the node, with the values given at start.

    Returns:
        Value by name.

    Raises:
        ConfigError: a name is unknown, or a value has the wrong type or is out of its range.
    """
    values = schema.resolve(given_at_start(node))
    for name, value in values.items():
        node.declare_parameter(name, value, describe(schema.entry(name)), ignore_override=True)
    return values


def given_at_start(node: Node) -> dict[str, Any]:
    """Values from command line and parameter files by name, declared or not.

    rclpy has no public way to list them: automatic declaration fails on an empty list (rclpy 9.1: "statically typed
    parameter with default value of type PARAMETER_NOT_SET").
    """
    return {name: parameter.value for name, parameter in node._parameter_overrides.items()}


def describe(entry: Mapping[str, Any]) -> ParameterDescriptor:
    """The ROS descriptor of a schema entry: description, range, and whether it may change while the node runs."""
    descriptor = ParameterDescriptor(description=entry["description"], read_only=not entry.get("x-runtime", False))
    if "enum" in entry:
        descriptor.additional_constraints = f"one of {', '.join(entry['enum'])}"
    if entry["type"] == "integer":
        descriptor.integer_range = [IntegerRange(from_value=entry["minimum"], to_value=entry["maximum"], step=0)]
    if entry["type"] == "number":
        limits = FloatingPointRange(from_value=entry["minimum"], to_value=entry["maximum"], step=0.0)
        descriptor.floating_point_range = [limits]
    if entry["type"] == "array":
        descriptor.dynamic_typing = True  # rclpy takes an empty list for bytes and would refuse strings later
    return descriptor


def change_parameter(values: Mapping[str, Value], schema: ParameterSchema, name: str, value: Any) -> dict[str, Value]:
    """The values after one of them was changed while the node runs.

    Raises:
        ConfigError: the new value has the wrong type or is out of its range, or there is none: the parameter would be
            deleted.
    """
    if value is None:
        raise ConfigError(f"{name} cannot be deleted; set it to its default to undo a change")
    return {**values, name: check_value(name, value, schema.entry(name))}


def _camera_timings(values: Mapping[str, Any]) -> dict[str, CameraTiming]:
    tolerance_ns = round(values["matching.tolerance_ms"] * MS)
    offsets = {name[len(_OFFSET) :]: ms for name, ms in values.items() if name.startswith(_OFFSET)}
    unknown = sorted(set(offsets) - set(values["cameras"]))
    if unknown:
        known = ", ".join(values["cameras"]) or "none"
        raise ConfigError(f"{_OFFSET}{unknown[0]}: no such camera, the parameter cameras holds: {known}")
    return {name: CameraTiming(round(offsets.get(name, 0.0) * MS), tolerance_ns) for name in values["cameras"]}
