"""Recordings, labels and a recipe that the verbs of ``python -m training`` are tried on, and what they print."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from tiny_chain import RECIPE, VOCABULARY, TinySource, export_segments

from ov_seg_ros.bags.convert import convert_source
from training.sources.recording import RecordingSource


def make_place(root: Path) -> SimpleNamespace:
    """Two recordings, what a teacher said about them, and a recipe; one that is trained lies in ``done``."""
    recordings = [convert_source(TinySource(count), root / name) for name, count in (("drive", 4), ("judge", 2))]
    export_segments(root / "exported", RecordingSource(recordings[0]))
    (root / "words.yaml").write_text(yaml.safe_dump(VOCABULARY))
    teacher = {"kind": "precomputed", "label_space": "nuscenes16", "dictionary": str(root / "words.yaml")}
    teacher["settings"] = {"folder": str(root / "exported")}
    (root / "teacher.yaml").write_text(yaml.safe_dump(teacher))
    recipe = replace(RECIPE, teacher=str(root / "teacher.yaml"))
    (root / "tiny.yaml").write_text(yaml.safe_dump(recipe.to_dict()))
    place = SimpleNamespace(root=root, drive=recordings[0], judge=recordings[1], recipe=root / "tiny.yaml", said={})
    place.work = root / "done"
    return place


def arguments(place: SimpleNamespace, verb: str, *more: object, work: Path | None = None) -> list[str]:
    given = ["--recipe", place.recipe, "--source", place.drive, "--work", work or place.work]
    return [verb, *map(str, (*given, "--processes", 1, "--device", "cpu", *more))]


def stderr_line(capsys: pytest.CaptureFixture[str]) -> str:
    """The only line of an error."""
    shown = capsys.readouterr()
    lines = [line for line in shown.err.splitlines() if line and "|" not in line]  # no progress bars
    assert shown.out == ""
    assert len(lines) == 1, shown.err
    return lines[0]
