"""The file of one run, written anew after every section, so that a run that is stopped keeps what it had."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from datetime import date, datetime, timezone
from pathlib import Path
from typing import Any

from ov_seg_ros.bench.goals import Verdict, judge
from ov_seg_ros.bench.machine import machine_slug
from ov_seg_ros.bench.section import Section, section_to_dict
from ov_seg_ros.core.errors import InputError

FORMAT = 1


class ResultFile:
    """Sections and verdicts of one run.

    Attributes:
        path: of the file.
    """

    def __init__(self, path: Path, about: dict[str, Any]) -> None:
        """Begins the file.

        Args:
            path: to write; an older file of this name is replaced.
            about: what the figures depend on ("machine", "versions", "command" ...), made of JSON types.
        """
        self.path = path
        self._content: dict[str, Any] = {
            "format": FORMAT,
            "begin": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "complete": False,
            **about,
            "goals": [],
            "sections": {},
        }
        self._measures: dict[str, dict[str, float]] = {}
        self._missing: dict[str, tuple[str, ...]] = {}
        self._warnings: dict[str, str] = {}
        self._write()

    def add(self, section: Section, warning: str = "", **about: Any) -> None:
        """Adds a section and writes the file.

        Args:
            section: what a contest found.
            warning: why its figures are to be taken with care, empty = no reason.
            about: how it was measured (seconds, load), JSON types.
        """
        self._content["sections"][section.name] = {**section_to_dict(section), "warning": warning, **about}
        self._measures[section.name] = dict(section.measures)
        self._missing[section.name] = section.missing
        self._warnings[section.name] = warning
        self._content["goals"] = [_verdict_to_dict(verdict) for verdict in self.verdicts()]
        self._write()

    def finish(self, **about: Any) -> None:
        """Marks the run as complete and writes the file.

        Args:
            about: more of what the figures depend on (load at the end).
        """
        self._content |= {"complete": True, "end": datetime.now(timezone.utc).isoformat(timespec="seconds"), **about}
        self._write()

    def verdicts(self) -> list[Verdict]:
        """The goals, judged by the sections so far."""
        return judge(self._measures, self._missing, self._warnings)

    def _write(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        draft = self.path.with_name(f"{self.path.name}.part")
        draft.write_text(json.dumps(_as_json(self._content), indent=1, allow_nan=False) + "\n")
        os.replace(draft, self.path)


def result_path(folder: Path, machine: dict[str, Any], day: date) -> Path:
    """``folder/<machine>/<date>.json``; the second run of a day is ``<date>-2.json``."""
    base = folder / machine_slug(machine)
    path, number = base / f"{day.isoformat()}.json", 2
    while path.exists():
        path, number = base / f"{day.isoformat()}-{number}.json", number + 1
    return path


def load_result(path: Path) -> dict[str, Any]:
    """Reads the file of a run.

    Raises:
        InputError: it is missing, no such file, or of another format.
    """
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist; expected a file written by `ov-seg bench`") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as the result of a benchmark: {error}") from error
    found = content.get("format") if isinstance(content, dict) else None
    if found != FORMAT or not isinstance(content.get("sections"), dict):
        raise InputError(
            f"{path} is no result of this version of `ov-seg bench` (format {found!r}, not {FORMAT}): measure again"
        )
    return dict(content)


def _verdict_to_dict(verdict: Verdict) -> dict[str, Any]:
    goal = verdict.goal
    return {
        "measure": goal.measure,
        "section": goal.section,
        "what": goal.what,
        "bound": goal.bound,
        "at_least": goal.at_least,
        "unit": goal.unit,
        "value": verdict.value,
        "verdict": verdict.verdict,
        "why": verdict.why,
    }


def _as_json(value: Any) -> Any:
    """The value in JSON types: NumPy as numbers and lists, six digits, null for what is not finite."""
    if isinstance(value, Mapping):
        return {str(key): _as_json(item) for key, item in value.items()}
    if hasattr(value, "tolist"):
        return _as_json(value.tolist())
    if isinstance(value, list | tuple):
        return [_as_json(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int) else str(value)
