"""Another data set's class ids in one of our label spaces."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.data_types import IGNORE_ID
from ov_seg_ros.core.errors import ConfigError, InputError
from ov_seg_ros.core.label_space import LabelSpace
from ov_seg_ros.core.strict_yaml import read_yaml
from training.fingerprint import fingerprint_values

LABEL_SPACES = Path(__file__).resolve().parents[2] / "config" / "label_spaces"


@dataclass(frozen=True)
class LabelMapping:
    """Which class of ``target`` each raw id of ``source`` is.

    Attributes:
        source: name of the other data set's classes ("semantickitti").
        target: the label space mapped to.
        names: raw id to its name in the other data set.
        class_ids: raw id to class_id in ``target``, 255 = no such class.
    """

    source: str
    target: LabelSpace
    names: Mapping[int, str]
    class_ids: Mapping[int, int]

    @classmethod
    def load(cls, name: str) -> LabelMapping:
        """Reads ``config/label_spaces/<name>.yaml`` and the label space it names as its target.

        Raises:
            ConfigError: the file is missing or wrong, an id stands twice, or a target class does not exist.
        """
        path = LABEL_SPACES / f"{name}.yaml"
        if not path.is_file():
            raise ConfigError(f"label mapping {path} does not exist{_others_of(name)}")
        content = read_yaml(path, "label mapping")
        try:
            target = LabelSpace.load(LABEL_SPACES / f"{content['target']}.yaml")
            ids = {name: index for index, name in enumerate(target.class_names)}
            names, class_ids = {}, {}
            for entry in content["classes"]:
                raw_id, class_name = int(entry["id"]), entry["target"]
                if raw_id in names:
                    raise ConfigError(f"{path}: id {raw_id} stands twice")
                if class_name is not None and class_name not in ids:
                    raise ConfigError(f"{path}: {class_name!r} is no class of {target.name}: {', '.join(ids)}")
                names[raw_id] = str(entry["name"])
                class_ids[raw_id] = IGNORE_ID if class_name is None else ids[class_name]
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(
                f"{path}: expected {{source, target, classes: [{{id, name, target}}]}}: {error!r}"
            ) from error
        return cls(str(content["source"]), target, names, class_ids)

    @property
    def shared_class_ids(self) -> tuple[int, ...]:
        """Classes of the target that the other data set has as well, ascending: those a comparison may average over."""
        return tuple(sorted(set(self.class_ids.values()) - {IGNORE_ID}))

    @property
    def fingerprint(self) -> str:
        """Changes with the classes of the target and with what is mapped to them."""
        ids = sorted(self.class_ids.items())
        return f"{self.source} to {self.target.name}, {fingerprint_values(ids, self.target.class_names)}"

    def map_ids(self, raw_id: NDArray[np.integer], where: str = "labels") -> NDArray[np.uint8]:
        """Translates labels.

        Args:
            raw_id: (N,) ids of the other data set.
            where: they come from, for the message.

        Returns:
            (N,) uint8 class_id, 255 = none.

        Raises:
            InputError: an id the mapping does not list.
        """
        inside = (raw_id >= 0) & (raw_id < len(self._table))
        mapped = self._table[np.where(inside, raw_id, 0)]
        bad = ~inside | (mapped < 0)
        if bad.any():
            unknown = ", ".join(str(i) for i in np.unique(raw_id[bad])[:10])
            raise InputError(f"{where}: ids {unknown} are none of {self.source}; the file is corrupt or of another set")
        return mapped.astype(np.uint8)

    @cached_property
    def _table(self) -> NDArray[np.int16]:
        table = np.full(max(self.class_ids) + 1, -1, np.int16)
        for raw_id, class_id in self.class_ids.items():
            table[raw_id] = class_id
        return table


def _others_of(name: str) -> str:
    """Reads "; there are a_to_b, a_to_c" for a missing a_to_d."""
    others = sorted(p.stem for p in LABEL_SPACES.glob(f"{name.partition('_to_')[0]}_to_*.yaml"))
    return f"; there are {', '.join(others)}" if others else ""
