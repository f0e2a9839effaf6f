"""Classes of a student to those of whoever reads its labels: joined, renamed, put into another order."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.data_types import IGNORE_ID
from ov_seg_ros.core.errors import ConfigError
from ov_seg_ros.core.label_space import LabelSpace
from ov_seg_ros.core.strict_yaml import read_yaml


@dataclass(frozen=True)
class ClassMap:
    """Where every class of a student goes.

    Attributes:
        label_space: the classes that come out; ``class_id`` is the position.
        sources: per class of ``label_space``, the student's classes that become it; no name stands twice.
        unknown: the student's classes that become 255.
        where: the file, for messages.
    """

    label_space: LabelSpace
    sources: tuple[tuple[str, ...], ...]
    unknown: tuple[str, ...] = ()
    where: str = "class map"

    def __post_init__(self) -> None:
        if len(self.sources) != len(self.label_space):
            raise ConfigError(
                f"{self.where}: {len(self.label_space)} classes, but sources for {len(self.sources)} of them"
            )
        names = [name for group in (*self.sources, self.unknown) for name in group]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ConfigError(f"{self.where}: a class of the student can go to one place only, two have {twice[0]!r}")

    def table(self, student: LabelSpace) -> NDArray[np.uint8]:
        """Look-up table from the student's ids.

        Returns:
            (256,) uint8: new id by old id; 255 for 255, for ``unknown`` and for ids without a class.

        Raises:
            ConfigError: the map says nothing about a class of the student.
        """
        targets = {name: class_id for class_id, names in enumerate(self.sources) for name in names}
        targets |= dict.fromkeys(self.unknown, IGNORE_ID)
        missing = [name for name in student.class_names if name not in targets]
        if missing:
            raise ConfigError(
                f"{self.where} does not say what becomes of {', '.join(missing)} (classes of the student); add them "
                f"under 'from' of a class, or under 'unknown'"
            )
        table = np.full(256, IGNORE_ID, np.uint8)
        table[: len(student)] = [targets[name] for name in student.class_names]
        return table

    @classmethod
    def load(cls, path: Path) -> ClassMap:
        """Reads ``{name, classes: [{name, color, from: [names]}], unknown: [names]}``.

        Raises:
            ConfigError: missing file, no YAML, a key that stands twice or is unknown, or contradictory classes.
        """
        if not path.is_file():
            raise ConfigError(f"class map {path} does not exist; config/class_maps holds those of this project")
        content, where = read_yaml(path, "class map"), f"class map {path}"
        try:
            space = {**content, "classes": [{k: v for k, v in c.items() if k != "from"} for c in content["classes"]]}
            unknown = _names(space.pop("unknown", []))
            sources = tuple(_names(each["from"]) for each in content["classes"])
        except (AttributeError, KeyError, TypeError) as error:
            raise ConfigError(
                f"{where}: expected {{name, classes: [{{name, color: [r, g, b], from: [names]}}], unknown: [names]}}: "
                f"{error!r}"
            ) from error
        return cls(LabelSpace.from_dict(space, where), sources, unknown, where)


def _names(values: Any) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise TypeError(f"a list of names was expected, got {values!r}")
    return tuple(values)
