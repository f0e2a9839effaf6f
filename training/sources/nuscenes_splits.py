"""Which scenes of nuScenes belong to which split, and the subsets that label-efficient methods train on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from ov_seg_ros.core.errors import ConfigError, InputError

SPLITS_FILE = Path(__file__).resolve().parents[2] / "config" / "splits" / "nuscenes.yaml"
PARAMETRIZING = "parametrizing"
"""The 600 scenes of train that are not in verifying."""


@dataclass(frozen=True)
class NuScenesSelection:
    """Scenes of one version of nuScenes.

    Attributes:
        split: official (train, val, test, mini_train, mini_val), of SLidR (parametrizing, verifying), or a key of
            ``splits.json`` beside the tables; None = every scene of the version.
        scenes: only these scenes of the split; empty = all of them.
        skip: keeps the skip-th, 2 skip-th, ... of these scenes in the order of ``scene.json``, which is what SLidR and
            AFOV call ``dataset_skip_step``: 100 = "1 %", 10 = "10 %" of train.
        version: "v1.0-trainval", "v1.0-test" or "v1.0-mini"; None = that of the split, else the only one there is.

    Raises:
        ConfigError: ``skip`` is less than 1, or a scene stands twice.
    """

    split: str | None = None
    scenes: tuple[str, ...] = ()
    skip: int = 1
    version: str | None = None

    def __post_init__(self) -> None:
        if self.skip < 1:
            raise ConfigError(f"skip must be 1 (every scene) or more, got {self.skip}")
        if len(set(self.scenes)) != len(self.scenes):
            raise ConfigError(f"scenes must differ, got {' '.join(self.scenes)}")

    def name(self, version: str) -> str:
        """Short name, different for every selection: "nuscenes_train_skip100"."""
        if self.split is None and self.skip == 1 and len(self.scenes) == 1:
            return f"nuscenes_{self.scenes[0]}"
        parts = ["nuscenes", self.split or version]
        if len(self.scenes) == 1:
            parts.append(self.scenes[0])
        elif self.scenes:
            digest = hashlib.sha256(" ".join(sorted(self.scenes)).encode()).hexdigest()[:8]
            parts.append(f"{len(self.scenes)}scenes-{digest}")
        if self.skip > 1:
            parts.append(f"skip{self.skip}")
        return "_".join(parts)

    def choose(self, table: Sequence[str], version: Path) -> list[int]:
        """Which scenes these are.

        Args:
            table: names of all scenes in the order of ``scene.json``.
            version: folder of the tables.

        Returns:
            Positions in ``table``, ascending.

        Raises:
            InputError: an unknown split or scene, or nothing is left.
        """
        wanted = set(table) if self.split is None else scenes_of_split(self.split, version)
        if unknown := sorted(set(self.scenes) - (wanted & set(table))):
            place = f"{version.name}" if self.split is None else f"split {self.split} of {version.name}"
            raise InputError(f"{version.parent}: {' '.join(unknown)} is no scene of {place}; see {version}/scene.json")
        wanted = set(self.scenes) or wanted
        positions = [index for index, name in enumerate(table) if name in wanted]
        chosen = positions[self.skip - 1 :: self.skip]
        if not chosen:
            raise InputError(
                f"{version}: none of {len(positions)} scenes is left with split {self.split}, skip {self.skip}; "
                "choose another split or a smaller skip"
            )
        return chosen


def scenes_of_split(split: str, version: Path) -> set[str]:
    """Names of the scenes of a split.

    Args:
        split: a split of ``config/splits/nuscenes.yaml``, "parametrizing", or a key of ``splits.json`` in ``version``
            (the devkit's form of user-defined splits: lists of scene names).
        version: folder of the tables.

    Raises:
        InputError: there is no such split, or it belongs to another version.
    """
    official = _official()
    key = "train" if split == PARAMETRIZING else split
    if key not in official:
        return _scenes_of_own_split(split, version)
    needed, names = official[key]
    if needed != version.name:
        raise InputError(f"split {split} belongs to {needed}, got {version}; choose a split of {version.name}")
    return set(names - official["verifying"][1]) if split == PARAMETRIZING else set(names)


def version_of_split(split: str) -> str | None:
    """The version whose tables hold the scenes of a split; None for a split of the user's own."""
    entry = _official().get("train" if split == PARAMETRIZING else split)
    return None if entry is None else entry[0]


@cache
def _official() -> dict[str, tuple[str, frozenset[str]]]:
    content: dict[str, Any] = yaml.safe_load(SPLITS_FILE.read_text())
    return {name: (entry["version"], _expand(entry["scenes"])) for name, entry in content.items()}


def _expand(ranges: str) -> frozenset[str]:
    """Names of scenes written as numbers: "61 100-102" are four."""
    numbers: list[int] = []
    for part in ranges.split():
        first, _, last = part.partition("-")
        numbers += range(int(first), int(last or first) + 1)
    return frozenset(f"scene-{number:04d}" for number in numbers)


def _scenes_of_own_split(split: str, version: Path) -> set[str]:
    path = version / "splits.json"
    try:
        own: dict[str, list[str]] = json.loads(path.read_text()) if path.is_file() else {}
        if split in own:
            return {str(name) for name in own[split]}
    except (ValueError, TypeError) as error:
        raise InputError(f"{path}: expected {{split: [scene names]}}: {error}") from error
    known = ", ".join([*_official(), PARAMETRIZING, *own])
    raise InputError(f"nuScenes has no split {split!r}; known: {known}; define your own in {path}")
