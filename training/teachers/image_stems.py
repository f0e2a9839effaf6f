"""How a teacher's files for an image are found: patterns such as ``{key_name}_{camera}``.

| in a pattern | is |
|---|---|
| ``{key}`` | key of the sample, slashes included ("drive_00/000012"): files lie in sub-folders |
| ``{key_name}`` | its last part ("000012") |
| ``{camera}`` | name of the camera |
| ``{stamp_ns}``, ``{stamp_us}`` | exposure in nanoseconds or whole microseconds |
| ``{token}`` | the nuScenes token of the image, by camera and stamp, from ``sample_data.json`` |
| ``*`` | anything; the file names in the folder are searched |
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath

from ov_seg_ros.core.data_types import CameraImage
from ov_seg_ros.core.errors import ConfigError, InputError
from training.sources.nuscenes_tables import read_rows

FIELDS = {
    "key": ".+",
    "key_name": "[^/]+",
    "camera": "[^/]+?",
    "stamp_ns": "[0-9]+",
    "stamp_us": "[0-9]+",
    "token": "[^/]+",
}

Tokens = Mapping[tuple[str, int], str]
"""Token of an image by its camera and its stamp in microseconds."""


def _no_stems() -> Iterable[str]:
    return ()


@dataclass(frozen=True)
class StemPattern:
    """Stem (file name without suffix, within a folder) of the files of an image.

    Attributes:
        pattern: see the table of this module.
        list_stems: lists the stems of the folder; called once, and only for a pattern with ``*``.
        tokens: for a pattern with ``{token}``.
    """

    pattern: str
    list_stems: Callable[[], Iterable[str]] = _no_stems
    tokens: Tokens = field(default_factory=dict)

    def __post_init__(self) -> None:
        try:
            names = [name for _, name, _, _ in string.Formatter().parse(self.pattern) if name is not None]
        except ValueError as error:
            raise ConfigError(f"stem pattern {self.pattern!r}: {error}") from error
        if unknown := [name for name in names if name not in FIELDS]:
            raise ConfigError(f"stem pattern {self.pattern!r}: {{{unknown[0]}}} is none of {', '.join(FIELDS)}")
        if not names:
            raise ConfigError(f"stem pattern {self.pattern!r} is the same for every image; use {{key}} and {{camera}}")
        if "token" in names and not self.tokens:
            raise ConfigError(f"stem pattern {self.pattern!r} needs the tokens: give the path of sample_data.json")

    @cached_property
    def fields(self) -> tuple[str, ...]:
        """Names in the pattern, each once."""
        names = [name for _, name, _, _ in string.Formatter().parse(self.pattern) if name]
        return tuple(dict.fromkeys(names))

    def stem_of(self, key: str, image: CameraImage) -> str:
        """Stem for an image of the sample ``key``.

        Raises:
            InputError: as for ``stem``.
        """
        return self.stem(key, image.name, image.stamp_ns)

    def stem(self, key: str, camera: str, stamp_ns: int | None = None) -> str:
        """Stem for the image of a camera.

        Raises:
            InputError: no file fits or several do, the token is unknown, a stamp is needed and missing, or key or
                camera would lead out of the folder.
        """
        values = self._values(key, camera, stamp_ns)
        if "*" in self.pattern:
            found = self._found.get(tuple(values[name] for name in self.fields), [])
            if len(found) != 1:
                result = f"{len(found)} files fit, {found[0]} and {found[1]}" if found else "no file fits"
                wanted = self.pattern.format(**values)
                raise InputError(f"sample {key}, camera {camera}: {result} the pattern {wanted}")
            return found[0]
        stem = self.pattern.format(**values)
        if ".." in PurePosixPath(stem).parts or stem.startswith("/") or "\0" in stem:
            raise InputError(f"sample {key}, camera {camera}: {stem!r} is no name for a file in the folder")
        return stem

    def _values(self, key: str, camera: str, stamp_ns: int | None) -> dict[str, str]:
        values = {"key": key, "key_name": PurePosixPath(key).name, "camera": camera}
        timed = [name for name in self.fields if name in ("stamp_ns", "stamp_us", "token")]
        if not timed:
            return values
        if stamp_ns is None:
            raise InputError(f"sample {key}, camera {camera}: the pattern {self.pattern} needs the stamp of the image")
        stamp_us = stamp_ns // 1000
        values |= {"stamp_ns": str(stamp_ns), "stamp_us": str(stamp_us)}
        if "token" in timed:
            if (camera, stamp_us) not in self.tokens:
                raise InputError(f"sample {key}: no image of {camera} at {stamp_us} us has a token")
            values["token"] = self.tokens[camera, stamp_us]
        return values

    @cached_property
    def _found(self) -> dict[tuple[str, ...], list[str]]:
        """Stems in the folder by the values of the fields."""
        expression, seen = "", set()
        for literal, name, _, _ in string.Formatter().parse(self.pattern):
            expression += re.escape(literal).replace(r"\*", ".*")
            if name:
                expression += f"(?P={name})" if name in seen else f"(?P<{name}>{FIELDS[name]})"
                seen.add(name)
        compiled = re.compile(expression)
        found: dict[tuple[str, ...], list[str]] = {}
        for stem in sorted(self.list_stems()):
            if match := compiled.fullmatch(stem):
                found.setdefault(tuple(match[name] for name in self.fields), []).append(stem)
        return found


def load_nuscenes_tokens(path: Path) -> dict[tuple[str, int], str]:
    """Tokens of the keyframe images of nuScenes, by (camera, stamp in microseconds).

    Args:
        path: ``sample_data.json`` of the official tables.

    Raises:
        InputError: the file is missing, damaged or no such table.
    """
    rows = read_rows(path)
    try:
        images = ((row, PurePosixPath(row["filename"])) for row in rows if row.get("is_key_frame", True))
        return {
            (name.parent.name, int(row["timestamp"])): str(row["token"])
            for row, name in images
            if name.suffix in (".jpg", ".png")
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path} is no sample_data.json of nuScenes: {error!r}") from error
