"""What a user writes to name a source: ``KIND:PATH?key=value,key=value``, of which only the path is a must."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ov_seg_ros.core.errors import ConfigError

T = TypeVar("T")


@dataclass(frozen=True)
class SourceSpec:
    """A specification taken apart.

    Attributes:
        text: as it was written.
        kind: "nuscenes" in ``nuscenes:/data/nuscenes``, None if the path has to speak for itself.
        path: of the data.
        options: by key, as written; separated by "," or "&" (which a shell wants quoted).
    """

    text: str
    kind: str | None
    path: Path
    options: Mapping[str, str]

    @property
    def is_plain(self) -> bool:
        """Whether it is a path alone."""
        return self.kind is None and not self.options

    @classmethod
    def parse(cls, text: str, kinds: Collection[str]) -> SourceSpec:
        """Takes a specification apart; something that exists as it stands is a path.

        Args:
            text: ``/data/nuscenes``, ``nuscenes:/data/nuscenes``, ``/data/nuscenes?split=val``, ...
            kinds: known words before the colon.

        Raises:
            ConfigError: an option is no key=value, or a key stands twice.
        """
        if Path(text).exists():
            return cls(text, None, Path(text), {})
        place, _, query = text.partition("?")
        kind, separator, path = place.partition(":")
        if not separator or kind not in kinds:
            kind, path = "", place
        options: dict[str, str] = {}
        for part in filter(None, query.replace("&", ",").split(",")):
            key, separator, value = part.partition("=")
            if not separator or key in options:
                raise ConfigError(f"{text}: {part!r} must be key=value, every key once (path?split=train,skip=100)")
            options[key] = value
        return cls(text, kind or None, Path(path), options)

    def take(self, settings: type[T], **more: str) -> tuple[T, dict[str, str]]:
        """Options as a dataclass.

        Args:
            settings: dataclass whose plain fields (words, numbers, true or false, lists joined by "+") are the keys.
            more: further keys with their defaults.

        Returns:
            The dataclass, and the values of ``more``.

        Raises:
            ConfigError: an unknown key (with the nearest known one), or a value of another type.
        """
        hints = typing.get_type_hints(settings)
        names = [f.name for f in dataclasses.fields(settings) if _is_plain(hints[f.name])]  # type: ignore[arg-type]
        self.refuse_unknown([*names, *more])
        values = {key: self._convert(key, hints[key]) for key in names if key in self.options}
        return settings(**values), {key: self.options.get(key, default) for key, default in more.items()}

    def refuse_unknown(self, known: Collection[str]) -> None:
        """Makes sure that there is no option but these.

        Raises:
            ConfigError: there is one.
        """
        for key in self.options:
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1)
                hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known) or 'none'}"
                raise ConfigError(f"{self.text}: unknown option {key!r}; {hint}")

    def _convert(self, key: str, hint: Any) -> Any:
        text = self.options[key]
        hint = _without_none(hint)
        if typing.get_origin(hint) is tuple:
            return tuple(self._scalar(key, part, typing.get_args(hint)[0]) for part in text.split("+") if part)
        return self._scalar(key, text, hint)

    def _scalar(self, key: str, text: str, kind: type) -> Any:
        words = {"true": True, "false": False}
        if kind is bool:
            if text in words:
                return words[text]
            raise ConfigError(f"{self.text}: {key} must be true or false, got {text!r}")
        try:
            return kind(text)
        except ValueError as error:
            raise ConfigError(f"{self.text}: {key} must be {_NAMES[kind]}, got {text!r}") from error


_NAMES = {int: "a whole number", float: "a number"}


def _without_none(hint: Any) -> Any:
    """``X`` of ``X | None``."""
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        rest = [part for part in typing.get_args(hint) if part is not type(None)]
        return rest[0] if len(rest) == 1 else hint
    return hint


def _is_plain(hint: Any) -> bool:
    hint = _without_none(hint)
    if typing.get_origin(hint) is tuple:
        parts = typing.get_args(hint)
        return len(parts) == 2 and parts[1] is Ellipsis and parts[0] in (str, int, float)
    return hint in (str, int, float, bool)
