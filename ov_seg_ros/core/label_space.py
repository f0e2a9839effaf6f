"""A label space: the closed list of classes a student predicts, with colours and texts."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.data_types import IGNORE_ID
from ov_seg_ros.core.errors import ConfigError
from ov_seg_ros.core.strict_yaml import read_yaml


@dataclass(frozen=True)
class LabelSpace:
    """Classes by id: ``class_names[i]`` is the class with ``class_id`` i.

    Attributes:
        name: of the space ("nuscenes16").
        class_names: C names, C <= 255.
        palette: C colours (r, g, b), 0..255.
        texts: per class, what a 2D teacher is asked for; may be empty.
    """

    name: str
    class_names: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    texts: tuple[tuple[str, ...], ...] = field(default=())

    def __post_init__(self) -> None:
        where = f"label space {self.name!r}"
        if not 1 <= len(self.class_names) <= IGNORE_ID:
            raise ConfigError(f"{where}: 1 to {IGNORE_ID} classes are possible, got {len(self.class_names)}")
        if len(set(self.class_names)) != len(self.class_names):
            twice = sorted({n for n in self.class_names if self.class_names.count(n) > 1})
            raise ConfigError(f"{where}: class names must differ, these stand twice: {', '.join(twice)}")
        if len(self.palette) != len(self.class_names):
            raise ConfigError(f"{where}: {len(self.class_names)} classes but {len(self.palette)} colours")
        if any(len(c) != 3 or not all(0 <= v <= 255 for v in c) for c in self.palette):
            raise ConfigError(f"{where}: every colour is [r, g, b] with 0..255")
        if self.texts and len(self.texts) != len(self.class_names):
            raise ConfigError(f"{where}: {len(self.class_names)} classes but texts for {len(self.texts)}")

    def __len__(self) -> int:
        return len(self.class_names)

    @property
    def colors(self) -> NDArray[np.uint8]:
        """(256, 3) uint8 look-up table; ids without a class are mid grey."""
        table = np.full((256, 3), 128, np.uint8)
        table[: len(self.palette)] = self.palette
        return table

    def to_dict(self) -> dict[str, Any]:
        """The inverse of ``from_dict``, made of JSON types only."""
        rows: list[dict[str, Any]] = [
            {"name": name, "color": list(color)} for name, color in zip(self.class_names, self.palette, strict=True)
        ]
        for row, texts in zip(rows, self.texts, strict=False):
            row["texts"] = list(texts)
        return {"name": self.name, "classes": rows}

    @classmethod
    def from_dict(cls, content: dict[str, Any], where: str = "label space") -> LabelSpace:
        """Reads ``{name, classes: [{name, color, texts?}]}``.

        Raises:
            ConfigError: a key is missing or unknown, or the classes contradict each other.
        """
        try:
            classes = content["classes"]
            unknown = sorted({k for c in classes for k in c} - {"name", "color", "texts"})
            if unknown or set(content) - {"name", "classes"}:
                extra = sorted(set(content) - {"name", "classes"}) + unknown
                raise ConfigError(f"{where}: unknown keys {', '.join(extra)}; known: name, classes[name, color, texts]")
            return cls(
                name=str(content["name"]),
                class_names=tuple(str(c["name"]) for c in classes),
                palette=tuple(_color(c["color"]) for c in classes),
                texts=tuple(tuple(c.get("texts", ())) for c in classes) if any("texts" in c for c in classes) else (),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(
                f"{where}: expected {{name, classes: [{{name, color: [r, g, b]}}]}}: {error!r}"
            ) from error

    @classmethod
    def load(cls, path: Path) -> LabelSpace:
        """Reads a YAML file from ``config/label_spaces``.

        Raises:
            ConfigError: missing file, no YAML, a key that stands twice, or not the content that ``from_dict`` expects.
        """
        if not path.is_file():
            raise ConfigError(f"label space file {path} does not exist")
        return cls.from_dict(read_yaml(path, "label space file"), where=str(path))


def _color(values: list[Any]) -> tuple[int, int, int]:
    red, green, blue = values
    return int(red), int(green), int(blue)
