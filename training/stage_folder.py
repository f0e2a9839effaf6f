"""Result folders of stages: each knows what made it, so results of different settings never mix.

Every folder holds a ``stage.json``: {stage, settings, inputs, hash, complete, count}. The hash covers stage, settings
and the hashes of the inputs, so it changes with anything upstream. A folder of other settings is refused; an
interrupted stage finds its folder, with ``complete`` false, and goes on.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ov_seg_ros.core.errors import InputError
from training.atomic_files import write_json

STAGE_FILE = "stage.json"

_MISSING = object()


@dataclass(frozen=True)
class StageFolder:
    """The result folder of one stage run with one set of settings.

    Attributes:
        path: the folder.
        stage: name of the stage ("label").
        settings: all that decides the result, JSON types.
        inputs: hash of each stage folder or file that went in, by name.
        complete: the stage has finished.
        count: of what it made, set when it finished.
    """

    path: Path
    stage: str
    settings: dict[str, Any]
    inputs: dict[str, str]
    complete: bool = False
    count: int = 0

    @property
    def hash(self) -> str:
        """64 hex digits over stage, settings and inputs."""
        content = {"stage": self.stage, "settings": self.settings, "inputs": self.inputs}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    @classmethod
    def open(cls, path: Path, stage: str, settings: Any, inputs: Mapping[str, str] | None = None) -> StageFolder:
        """Creates the folder of a stage, or finds the one these very settings made before, finished or not.

        Args:
            path: the folder; created if it is not there.
            stage: name of the stage.
            settings: dataclass or mapping of numbers, texts, paths, lists and mappings.
            inputs: hash of everything that goes in.

        Raises:
            InputError: the folder was made by another stage, settings or inputs (the first difference is named), or it
                holds files but no ``stage.json``.
            StorageFullError: the disk is full.
        """
        wanted = cls(Path(path), stage, plain_settings(settings), dict(inputs or {}))
        if (wanted.path / STAGE_FILE).exists():
            found = cls.load(wanted.path)
            found._refuse_others(wanted)
            return found
        used = wanted.path.is_dir() and any(not p.name.endswith(".part") for p in wanted.path.iterdir())
        if used and (wanted.path / STAGE_FILE).exists():  # another process of the same run was faster
            return cls.open(path, stage, settings, inputs)
        if used:
            raise InputError(
                f"{wanted.path} holds files but no {STAGE_FILE}, so nothing tells what made them; "
                f"choose an empty folder for stage {stage}"
            )
        wanted._save()
        return wanted

    @classmethod
    def load(cls, path: Path) -> StageFolder:
        """Reads what made a folder.

        Raises:
            InputError: it is no folder of a stage, or its ``stage.json`` is damaged.
        """
        file = Path(path) / STAGE_FILE
        if not file.is_file():
            raise InputError(f"{path} is no result of a stage, it has no {STAGE_FILE}; run the stage that makes it")
        try:
            content = json.loads(file.read_text())
            settings, inputs = dict(content["settings"]), dict(content["inputs"])
            complete, count = bool(content["complete"]), int(content["count"])
            folder = cls(Path(path), str(content["stage"]), settings, inputs, complete, count)
            stored_hash = str(content["hash"])
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{file} is damaged ({error!r}); delete the folder and run the stage again") from error
        if stored_hash != folder.hash:
            raise InputError(
                f"{file} was changed by hand: its hash is {stored_hash[:12]}, its content has {folder.hash[:12]}; "
                "delete the folder and run the stage again"
            )
        return folder

    def require_complete(self) -> StageFolder:
        """Itself.

        Raises:
            InputError: the stage was interrupted.
        """
        if not self.complete:
            raise InputError(
                f"stage {self.stage} in {self.path} is not finished; run it again, it continues where it stopped"
            )
        return self

    def finish(self, count: int) -> StageFolder:
        """Records that the stage has made all its ``count`` results.

        Raises:
            StorageFullError: the disk is full.
        """
        done = replace(self, complete=True, count=count)
        done._save()
        return done

    def reopen(self) -> StageFolder:
        """Takes back that the stage has finished: some of its results are no longer there.

        Raises:
            StorageFullError: the disk is full.
        """
        open_again = replace(self, complete=False)
        open_again._save()
        return open_again

    def _save(self) -> None:
        content = {
            "stage": self.stage,
            "settings": self.settings,
            "inputs": self.inputs,
            "hash": self.hash,
            "complete": self.complete,
            "count": self.count,
        }
        write_json(self.path / STAGE_FILE, content, shared=True)

    def _refuse_others(self, wanted: StageFolder) -> None:
        if self.hash == wanted.hash:
            return
        for name in ("stage", "settings", "inputs"):
            have, want = ({name: getattr(folder, name)} for folder in (self, wanted))
            if difference := first_difference(have, want):
                key, came, expected = difference
                raise InputError(
                    f"{self.path} was made with {key} = {came}, now it is {expected}; "
                    "delete the folder, or choose another one for the new settings"
                )


def first_difference(have: Mapping[str, Any], want: Mapping[str, Any]) -> tuple[str, str, str] | None:
    """The first setting, in order of the names, that differs between two nested mappings.

    Returns:
        (dotted name, value in ``have``, value in ``want``), values as JSON or "not set"; None if they are equal.
    """
    first, second = _flatten(have), _flatten(want)
    for key in sorted(first.keys() | second.keys()):
        values = first.get(key, _MISSING), second.get(key, _MISSING)
        texts = ["not set" if v is _MISSING else json.dumps(v, sort_keys=True) for v in values]
        if texts[0] != texts[1]:
            return key, texts[0], texts[1]
    return None


def plain_settings(settings: Any) -> dict[str, Any]:
    """A dataclass or mapping in JSON types: tuples become lists, paths texts, NumPy scalars numbers.

    Raises:
        TypeError: a value is none of these.
    """
    content = json.loads(json.dumps(settings, default=_plain_value))
    if not isinstance(content, dict):
        raise TypeError(f"settings must be a dataclass or a mapping, got {type(settings).__name__}")
    return content


def _plain_value(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)
    if callable(getattr(value, "tolist", None)):
        return value.tolist()
    raise TypeError(f"a setting must be a number, text, path, list or mapping, got {value!r}")


def _flatten(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in content.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            flat.update(_flatten(value, f"{name}."))
        else:
            flat[name] = value
    return flat
