"""Which 2D teacher labels images, with which texts and settings: a YAML file of ``config/teachers``."""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import yaml

from ov_seg_ros import __version__
from ov_seg_ros.core.errors import ConfigError
from ov_seg_ros.core.label_space import LabelSpace
from ov_seg_ros.core.strict_yaml import read_yaml
from training.config import LABEL_SPACES, parse_settings
from training.dictionary import DICTIONARIES, ClassDictionary
from training.fingerprint import files_below, fingerprint_files
from training.teachers.protocol import Teacher

TEACHERS = Path(__file__).resolve().parent.parent / "config" / "teachers"

KINDS = {
    "precomputed": ("precomputed", "PrecomputedConfig", "PrecomputedTeacher"),
    "maskclip": ("maskclip", "MaskClipConfig", "MaskClipTeacher"),
    "clipseg": ("hf_clipseg", "ClipSegConfig", "ClipSegTeacher"),
    "sam3": ("hf_sam3", "Sam3Config", "Sam3Teacher"),
    "fc_clip": ("fc_clip", "FcClipConfig", "FcClipTeacher"),
    "san": ("san", "SanConfig", "SanTeacher"),
    "cat_seg": ("cat_seg", "CatSegConfig", "CatSegTeacher"),
}
"""Kind to (module of ``training.teachers``, its settings, its teacher)."""


def parse_changes(texts: Sequence[str]) -> dict[str, Any]:
    """``["short_side=640", "device=cpu"]`` as a mapping; values are read as YAML.

    Raises:
        ConfigError: no "=" in a text, or a value that is no YAML.
    """
    changes = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"--set expects KEY=VALUE, got {text!r}")
        try:
            changes[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigError(
                f"--set {key}: {value!r} is no YAML; put quotes around it, as in '\"{value}\"'"
            ) from error
    return changes


@dataclass(frozen=True)
class TeacherChoice:
    """A teacher and what it is asked for.

    Attributes:
        kind: a name of ``KINDS``.
        label_space: a file in config/label_spaces, without suffix.
        dictionary: a file in config/dictionaries, without suffix, or the path of your own.
        settings: keys of the teacher's own settings class.
    """

    kind: str
    label_space: str
    dictionary: str
    settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            near = difflib.get_close_matches(self.kind, KINDS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(KINDS)}"
            raise ConfigError(f"there is no teacher of kind {self.kind!r}; {hint}")

    @classmethod
    def load(cls, path: Path, changes: dict[str, Any] | None = None) -> TeacherChoice:
        """Reads a YAML file.

        Args:
            path: of the file.
            changes: replaces keys of ``settings``, as given on a command line.

        Raises:
            ConfigError: missing file, unknown key or kind.
        """
        if not path.is_file():
            known = ", ".join(sorted(str(p) for p in TEACHERS.glob("*.yaml")))
            raise ConfigError(f"teacher {path} does not exist; those that come along: {known}")
        choice = parse_settings(cls, read_yaml(path, "teacher"), str(path))
        return dataclasses.replace(choice, settings={**choice.settings, **(changes or {})})

    def load_dictionary(self) -> ClassDictionary:
        """The texts, and the classes they stand for."""
        given = Path(self.dictionary)
        path = given if given.suffix else DICTIONARIES / f"{self.dictionary}.yaml"
        return ClassDictionary.load(path, LabelSpace.load(LABEL_SPACES / f"{self.label_space}.yaml"))

    def describe(self) -> dict[str, Any]:
        """What the teacher is built from, JSON types, without building it.

        Files that settings name - weights, folders of results - count by their names, sizes and a look into them; those
        that are not there, as names of published models are not, count by the setting alone.
        """
        places = {key: Path(value) for key, value in self.settings.items() if isinstance(value, str) and value}
        return {
            "version": __version__,
            "kind": self.kind,
            "dictionary": self.load_dictionary().hash,
            "settings": json.loads(json.dumps(self.settings, default=str)),  # YAML knows dates, too
            "files": {key: found for key, place in places.items() if (found := _fingerprint(place))},
        }

    def build(self) -> Teacher:
        """Loads the teacher's network.

        Raises:
            ConfigError: unknown or wrong settings.
            MissingDependencyError: its package is not installed.
            OvSegError: its weights cannot be loaded.
        """
        module_name, config_name, teacher_name = KINDS[self.kind]
        module = importlib.import_module(f"training.teachers.{module_name}")
        config = parse_settings(getattr(module, config_name), self.settings, f"settings of teacher {self.kind}")
        return cast("Teacher", getattr(module, teacher_name)(config, self.load_dictionary()))


def _fingerprint(place: Path) -> str:
    """Of a file, or of all in a folder; "" for what is no place at all."""
    try:
        if place.is_file():
            return fingerprint_files([place])
        return fingerprint_files(files_below(place), place) if place.is_dir() else ""
    except (OSError, ValueError):
        return ""
