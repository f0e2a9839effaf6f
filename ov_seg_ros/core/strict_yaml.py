"""YAML files in which every key stands once: plain YAML keeps the last of two equal keys without a word."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from ov_seg_ros.core.errors import ConfigError


def read_yaml(path: Path, kind: str) -> Any:
    """The content of a YAML file in which no key may stand twice.

    Args:
        path: of the file, which exists.
        kind: what it is, for the message ("recipe").

    Raises:
        ConfigError: it is no YAML, not text, or a key stands twice.
    """
    try:
        with path.open(encoding="utf-8") as file:
            return yaml.load(file, _UniqueKeyLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{kind} {path} is no YAML: {error}") from error


class _UniqueKeyLoader(yaml.SafeLoader):
    """Refuses mappings with two equal keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            key = None if key_node.tag.endswith(":merge") else self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable) or key is None:
                continue
            if key in seen:
                line = key_node.start_mark.line + 1
                raise ConfigError(f"{key_node.start_mark.name}: line {line}: {key!r} stands twice; join the two")
            seen.add(key)
        return super().construct_mapping(node, deep)
