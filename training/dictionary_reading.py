"""Reads dictionary files strictly: every mistake is an error that says where it is and what was probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ov_seg_ros.core.data_types import IGNORE_ID
from ov_seg_ros.core.errors import ConfigError
from ov_seg_ros.core.label_space import LabelSpace
from training.prompt_templates import check_templates, load_templates

KEYS = ("name", "label_space", "templates", "groups", "classes", "sinks")
GROUP_KEYS = ("name", "class", "texts", "repeats")


@dataclass(frozen=True)
class Group:
    """One group of a dictionary.

    Attributes:
        name: unique within the dictionary.
        class_id: in the label space, 255 = sink.
        texts: at least one.
    """

    name: str
    class_id: int
    texts: tuple[str, ...]


def read_templates(content: Mapping[str, Any], where: str) -> tuple[str, ...]:
    """The templates of a dictionary: the name of a set, a list of sentences, or, when not given, the plain text."""
    given = content.get("templates", "plain")
    if isinstance(given, str):
        try:
            return load_templates(given)
        except ConfigError as error:
            raise ConfigError(f"{where}: templates: {error}") from error
    if isinstance(given, list):
        return check_templates(given, f"{where}: templates")
    raise ConfigError(f"{where}: templates: expected the name of a set or a list of sentences, got {given!r}")


def read_groups(content: Any, label_space: LabelSpace, where: str) -> list[Group]:
    """The groups of a dictionary, in the order of the file, sinks that are given by themselves last.

    Raises:
        ConfigError: see ``ClassDictionary.from_dict``.
    """
    _check_head(content, label_space, where)
    groups: list[Group] = []
    if "groups" in content:
        rows = _expect(content["groups"], list, "a list of {name, class, texts}", f"{where}: groups")
        groups = [_read_group(row, label_space, f"{where}: groups[{i}]") for i, row in enumerate(rows)]
    else:
        groups = _read_classes(content["classes"], label_space, f"{where}: classes")
    sinks = _expect(content.get("sinks", []), list, "a list of texts", f"{where}: sinks")
    groups += [Group(text, IGNORE_ID, (text,)) for text in _read_texts(sinks, f"{where}: sinks")]
    _refuse_repeats([group.name for group in groups], f"{where}: group names must differ")
    return groups


def _check_head(content: Any, label_space: LabelSpace, where: str) -> None:
    _expect(content, dict, f"a mapping with the keys {', '.join(KEYS)}", where)
    _refuse_unknown(content, KEYS, where)
    if not isinstance(content.get("name"), str):
        raise ConfigError(f"{where}: name: expected the name of the dictionary, got {content.get('name')!r}")
    if ("groups" in content) == ("classes" in content):
        raise ConfigError(f"{where}: give either groups (with texts) or classes (a plain list), not both or neither")
    made_for = content.get("label_space", label_space.name)
    if made_for != label_space.name:
        raise ConfigError(
            f"{where}: made for the label space {made_for!r}, but used with {label_space.name!r}; choose a dictionary "
            "or a label space that fits"
        )


def _read_group(row: Any, label_space: LabelSpace, where: str) -> Group:
    _expect(row, dict, "{name, class, texts}", where)
    _refuse_unknown(row, GROUP_KEYS, where)
    if missing := [key for key in ("name", "class", "texts") if key not in row]:
        hint = "; class: null makes the group a sink" if "class" in missing else ""
        raise ConfigError(f"{where}: missing key {', '.join(missing)}{hint}")
    name = _read_text(row["name"], f"{where}: name")
    where = f"{where} {name!r}"
    class_id = IGNORE_ID if row["class"] is None else _class_id(row["class"], label_space, f"{where}: class")
    repeats = _expect(row.get("repeats", []), list, "a list of texts that stand twice on purpose", f"{where}: repeats")
    return Group(name, class_id, _read_texts(row["texts"], f"{where}: texts", repeats))


def _read_classes(content: Any, label_space: LabelSpace, where: str) -> list[Group]:
    """A list of class names, or a mapping from class names to texts; every class is a group."""
    rows: dict[str, Any] = {}
    if isinstance(content, list):
        names = [_read_text(name, where) for name in content]
        _refuse_repeats(names, f"{where}: class names must differ")
        rows = dict.fromkeys(names)
    else:
        expected = "a list of class names, or class names with texts"
        rows = {_read_text(k, where): v for k, v in _expect(content, dict, expected, where).items()}
    groups = []
    for name, texts in rows.items():
        class_id = _class_id(name, label_space, where)
        words = [name.replace("_", " ")] if texts is None else texts
        groups.append(Group(name, class_id, _read_texts(words, f"{where}: {name}")))
    return groups


def _read_texts(content: Any, where: str, repeats: Iterable[object] = ()) -> tuple[str, ...]:
    texts = [_read_text(text, where) for text in _expect(content, list, "a list of texts", where)]
    if not texts and not where.endswith("sinks"):
        raise ConfigError(f"{where}: no texts; a group needs at least one, or leave the group out")
    allowed = {_read_text(text, where) for text in repeats}
    if idle := sorted(allowed - {t for t in texts if texts.count(t) > 1}):
        raise ConfigError(f"{where}: repeats names {', '.join(map(repr, idle))}, which does not stand twice")
    _refuse_repeats([t for t in texts if t not in allowed], f"{where}: a text stands in a group once")
    return tuple(texts)


def _read_text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise ConfigError(f"{where}: expected a text, got {value!r}; put numbers, yes, no, on and off in quotes")
    if not value or value != " ".join(value.split()):
        raise ConfigError(f"{where}: a text has no spaces at its ends and single ones inside, got {value!r}")
    return value


def _class_id(name: Any, label_space: LabelSpace, where: str) -> int:
    if name not in label_space.class_names:
        hint = _nearest(str(name), label_space.class_names)
        raise ConfigError(f"{where}: label space {label_space.name!r} has no class {name!r}; {hint}")
    return label_space.class_names.index(name)


def _refuse_unknown(content: Mapping[Any, Any], known: tuple[str, ...], where: str) -> None:
    for key in content:
        if key not in known:
            raise ConfigError(f"{where}: unknown key {key!r}; {_nearest(str(key), known)}")


def _refuse_repeats(names: list[str], rule: str) -> None:
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"{rule}, these stand twice: {', '.join(map(repr, twice))}")


def _nearest(name: str, known: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"


def _expect(value: Any, kind: type, expected: str, where: str) -> Any:
    if not isinstance(value, kind):
        raise ConfigError(f"{where}: expected {expected}, got {value!r}")
    return value
