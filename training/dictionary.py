"""The class dictionary: which texts a 2D teacher is asked for, and which class each of them stands for."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.data_types import IGNORE_ID
from ov_seg_ros.core.errors import ConfigError
from ov_seg_ros.core.label_space import LabelSpace
from ov_seg_ros.core.strict_yaml import read_yaml
from training.dictionary_reading import Group, read_groups, read_templates
from training.prompt_templates import fill_template

DICTIONARIES = Path(__file__).resolve().parent.parent / "config" / "dictionaries"


@dataclass(frozen=True, eq=False)
class ClassDictionary:
    """Texts, the groups they stand in, and the class of each group (AFOV, "Baseline of AFOV").

    A text is one prompt ("sedan"), a group holds the words for one kind of thing (car, sedan, van), a class is what
    the student predicts. Several groups may share a class; the groups of no class are sinks: what is recognised as
    one of them (sky, the own bonnet) becomes no label instead of a wrong one.

    Attributes:
        name: of the dictionary ("nuscenes").
        texts: T texts; ``text_id`` everywhere is the index into them, so their order is part of the dictionary.
        groups: G group names.
        text_group: (T,) int32 index into ``groups``, ascending.
        text_class: (T,) uint8 class_id in ``label_space``, 255 = ignored sink.
        templates: sentences with one ``{}`` each, filled with every text.
        label_space: the classes.
    """

    name: str
    texts: tuple[str, ...]
    groups: tuple[str, ...]
    text_group: NDArray[np.int32]
    text_class: NDArray[np.uint8]
    templates: tuple[str, ...]
    label_space: LabelSpace

    def __len__(self) -> int:
        return len(self.texts)

    @cached_property
    def group_class(self) -> NDArray[np.uint8]:
        """(G,) uint8 class_id of each group, 255 = ignored sink."""
        first = np.searchsorted(self.text_group, np.arange(len(self.groups)))
        return self.text_class[first]

    @cached_property
    def hash(self) -> str:
        """64 hex digits over all that changes a result: texts, groups, classes and templates; not name or colours."""
        content = {k: v for k, v in self.to_dict().items() if k != "name"}
        content["class_names"] = list(self.label_space.class_names)
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def prompts(self, text_id: int) -> tuple[str, ...]:
        """The sentences that stand for one text, in the order of ``templates``."""
        return tuple(fill_template(template, self.texts[text_id]) for template in self.templates)

    def to_dict(self) -> dict[str, Any]:
        """The inverse of ``from_dict``, made of JSON types only."""
        rows: list[dict[str, Any]] = []
        for g, (group, class_id) in enumerate(zip(self.groups, self.group_class, strict=True)):
            texts = [self.texts[t] for t in np.flatnonzero(self.text_group == g)]
            name = None if class_id == IGNORE_ID else self.label_space.class_names[class_id]
            rows.append({"name": group, "class": name, "texts": texts})
            if repeats := sorted({t for t in texts if texts.count(t) > 1}):
                rows[-1]["repeats"] = repeats
        content = {"name": self.name, "label_space": self.label_space.name}
        return {**content, "templates": list(self.templates), "groups": rows}

    @classmethod
    def from_dict(cls, content: Any, label_space: LabelSpace, where: str = "dictionary") -> ClassDictionary:
        """Reads the content of a dictionary file; the keys are explained in docs/vocabulary.md.

        Raises:
            ConfigError: an unknown key or class (with the nearest known one), a group without texts, a name or text
                that stands twice, a template without ``{}``, or a dictionary made for another label space.
        """
        groups = read_groups(content, label_space, where)
        if not groups:
            raise ConfigError(f"{where}: a dictionary needs at least one group or class")
        return cls._from_groups(str(content["name"]), groups, read_templates(content, where), label_space)

    @classmethod
    def load(cls, path: Path, label_space: LabelSpace) -> ClassDictionary:
        """Reads a YAML file such as those in ``config/dictionaries``.

        Raises:
            ConfigError: no such file, no YAML, or as for ``from_dict``.
        """
        if not path.is_file():
            known = ", ".join(sorted(p.stem for p in DICTIONARIES.glob("*.yaml")))
            raise ConfigError(f"dictionary {path} does not exist; dictionaries that come along: {known}")
        return cls.from_dict(read_yaml(path, "dictionary"), label_space, str(path))

    @classmethod
    def from_label_space(cls, label_space: LabelSpace, templates: tuple[str, ...] = ("{}",)) -> ClassDictionary:
        """Every class is its own group, with the texts of the label space or, without any, its name."""
        content = {
            "name": label_space.name,
            "templates": list(templates),
            "classes": {
                name: list(label_space.texts[i]) if label_space.texts and label_space.texts[i] else None
                for i, name in enumerate(label_space.class_names)
            },
        }
        return cls.from_dict(content, label_space, f"label space {label_space.name!r}")

    @classmethod
    def _from_groups(
        cls, name: str, groups: list[Group], templates: tuple[str, ...], label_space: LabelSpace
    ) -> ClassDictionary:
        sizes = [len(group.texts) for group in groups]
        text_group = np.repeat(np.arange(len(groups), dtype=np.int32), sizes)
        text_class = np.repeat(np.array([group.class_id for group in groups], np.uint8), sizes)
        text_group.flags.writeable = text_class.flags.writeable = False
        return cls(
            name=name,
            texts=tuple(text for group in groups for text in group.texts),
            groups=tuple(group.name for group in groups),
            text_group=text_group,
            text_class=text_class,
            templates=templates,
            label_space=label_space,
        )
