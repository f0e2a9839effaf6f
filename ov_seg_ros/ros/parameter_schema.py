"""The parameters of a node as data: read from its JSON schema, the single source of names, ranges and defaults.

Knows no ROS. The schema is plain JSON Schema (draft 2020-12) of which this module understands what parameters need:
type, enum, minimum, maximum, items, pattern, default, and ``patternProperties`` for families of keys. The extra key
``x-runtime`` marks what may be changed while the node runs.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, cast

from ov_seg_ros.core.errors import ConfigError

Value = bool | int | float | str | list[str]
_TYPES = {"boolean": bool, "integer": int, "number": float, "string": str, "array": list}
FOREIGN, FOREIGN_FAMILY = ("use_sim_time", "start_type_description_service"), "qos_overrides."
"""Parameters that belong to rclpy: their names, and how those of a family start."""


@dataclass(frozen=True)
class ParameterSchema:
    """All parameters of one node.

    Attributes:
        properties: JSON schema of every parameter by its full name.
        families: JSON schema of every family of parameters by the regular expression of its names.
    """

    properties: Mapping[str, Mapping[str, Any]]
    families: Mapping[str, Mapping[str, Any]]

    @classmethod
    def load(cls, name: str) -> ParameterSchema:
        """Reads ``<name>.schema.json`` that is installed beside this module."""
        content = json.loads((files(__package__) / f"{name}.schema.json").read_text())
        return cls(content["properties"], content.get("patternProperties", {}))

    @property
    def defaults(self) -> dict[str, Value]:
        """The value of every parameter nobody set; families have no members by default."""
        return {name: entry["default"] for name, entry in self.properties.items()}

    def entry(self, name: str) -> Mapping[str, Any]:
        """JSON schema of one parameter.

        Raises:
            ConfigError: there is no such parameter; names the nearest one.
        """
        if name in self.properties:
            return self.properties[name]
        for pattern, entry in self.families.items():
            if re.search(pattern, name):
                return entry
        nearest = difflib.get_close_matches(name, self.properties, n=1, cutoff=0.4)
        hint = f"did you mean {nearest[0]}?" if nearest else f"known: {', '.join(sorted(self.properties))}"
        raise ConfigError(f"unknown parameter {name}: {hint}")

    def resolve(self, given: Mapping[str, Any]) -> dict[str, Value]:
        """Checks what an operator set and fills in the defaults.

        Args:
            given: values by name; an integer is taken where a number is wanted, None (an empty YAML list) where a
                list is wanted. Parameters that belong to rclpy are passed over.

        Returns:
            Every parameter, defaults first, then the members of families that were given.

        Raises:
            ConfigError: a name is unknown, or a value has the wrong type or is out of its range.
        """
        resolved = self.defaults
        for name, value in given.items():
            if name not in FOREIGN and not name.startswith(FOREIGN_FAMILY):
                resolved[name] = check_value(name, value, self.entry(name))
        return resolved


def check_value(name: str, value: Any, entry: Mapping[str, Any]) -> Value:
    """Checks one value against its JSON schema; returns it with numbers as float and sequences as list.

    Raises:
        ConfigError: wrong type or out of range.
    """
    checked = _convert(name, value, entry)
    if "enum" in entry and checked not in entry["enum"]:
        raise ConfigError(f"{name} must be one of {', '.join(entry['enum'])}, got {checked!r}")
    if isinstance(checked, (int, float)) and not isinstance(checked, bool):
        low, high = entry.get("minimum", float("-inf")), entry.get("maximum", float("inf"))
        if not low <= checked <= high:
            raise ConfigError(f"{name} must be {low} to {high}, got {checked}: {entry['description']}")
    if isinstance(checked, list):
        _check_items(name, checked, entry["items"])
    return checked


def _convert(name: str, value: Any, entry: Mapping[str, Any]) -> Value:
    wanted = entry["type"]
    if wanted == "array":
        if value is None or (isinstance(value, (list, tuple)) and all(isinstance(v, str) for v in value)):
            return list(value or ())
    elif wanted == "number" and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    elif type(value) is _TYPES[wanted]:
        return cast(Value, value)
    plain = {"array": "a list of strings", "integer": "an integer"}.get(wanted, f"a {wanted}")
    raise ConfigError(f"{name} must be {plain}, got {value!r} ({type(value).__name__}): {entry['description']}")


def _check_items(name: str, items: list[str], entry: Mapping[str, Any]) -> None:
    if len(set(items)) != len(items):
        raise ConfigError(f"{name} must not hold the same entry twice, got {items}")
    for item in items:
        if "pattern" in entry and not re.search(entry["pattern"], item):
            raise ConfigError(f"{name}: {item!r} must match {entry['pattern']} (a ROS name)")
