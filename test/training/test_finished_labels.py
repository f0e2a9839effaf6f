"""A label stage that is done needs no teacher; whatever is in doubt does."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from functools import partial
from pathlib import Path

import pytest
from tiny_chain import DICTIONARY, RowTeacher, TinySource, tiny_chain

from ov_seg_ros.core.errors import InputError
from training.chain import Chain
from training.finished_labels import REQUEST_FILE
from training.pipeline import label
from training.plan import plan_lines
from training.sharding import Shard
from training.teacher_choice import TEACHERS, TeacherChoice

REQUEST = {"kind": "rows", "settings": {"checkpoint": "rows.pth"}, "files": {"checkpoint": "1 file, aa"}}


class Factory:
    """Builds teachers and counts them."""

    def __init__(self, **settings: bool) -> None:
        self.settings, self.built = settings, 0

    def __call__(self) -> RowTeacher:
        self.built += 1
        return RowTeacher(**self.settings)


@pytest.fixture
def factory() -> Factory:
    return Factory()


@pytest.fixture
def chain(tmp_path: Path, factory: Factory) -> Chain:
    return replace(tiny_chain(tmp_path, tmp_path), build_teacher=factory, teacher_request=REQUEST)


def test_a_finished_stage_builds_no_teacher(chain, factory):
    first = label(chain)
    assert (first.labelled, first.resumed, factory.built) == (4, 0, 1)
    second = label(chain)
    assert (second.folder, second.labelled, second.resumed, second.skipped, second.missing) == (
        first.folder, 0, 4, (), 0
    )  # fmt: skip
    assert factory.built == 1
    assert label(replace(chain, part=Shard(1, 3))).resumed == 1
    assert factory.built == 1


def test_the_plan_builds_none_either(chain, factory):
    assert "label: 4 samples, 4 images" in list(plan_lines(chain, ("label",)))[1]
    label(chain)
    built = factory.built
    line = list(plan_lines(chain, ("label",)))[1]
    assert line == f"label: done before, 4 samples in {chain.folder('label')}"
    assert factory.built == built


@pytest.mark.parametrize(
    "request_now",
    [
        None,
        {**REQUEST, "kind": "columns"},
        {**REQUEST, "settings": {"checkpoint": "other.pth"}},
        {**REQUEST, "files": {"checkpoint": "1 file, bb"}},
        {**REQUEST, "more": 1},
    ],
)
def test_another_request_is_answered_by_the_teacher(chain, factory, request_now):
    """It may say the same of itself; then the result holds, and the next run knows."""
    label(chain)
    other = replace(chain, teacher_request=request_now)
    assert label(other).resumed == 4
    assert factory.built == 2
    label(other)
    assert factory.built == (3 if request_now is None else 2)


def test_a_teacher_that_says_another_thing_is_refused(chain, factory):
    label(chain)
    other = replace(chain, build_teacher=Factory(blank=True), teacher_request={**REQUEST, "kind": "blank"})
    with pytest.raises(InputError, match=r"settings\.teacher\.blank = false, now it is true"):
        label(other)


def test_weights_that_were_deleted_since_are_not_missed(chain, factory):
    label(chain)
    label(replace(chain, teacher_request={**REQUEST, "files": {}}))
    assert factory.built == 1


@pytest.mark.parametrize("note", [None, "{", "[]", '{"hash": "other", "request": {}}', '{"request": {}}'])
def test_a_note_that_says_nothing_costs_a_teacher(chain, factory, note):
    label(chain)
    path = chain.folder("label") / REQUEST_FILE
    path.unlink() if note is None else path.write_text(note)
    assert label(chain).resumed == 4
    assert factory.built == 2
    assert json.loads(path.read_text())["request"] == REQUEST
    label(chain)
    assert factory.built == 2


def test_a_missing_file_is_made_again(chain, factory):
    label(chain)
    lost = next((chain.folder("label") / "segments").rglob("*.png"))
    lost.unlink()
    assert (label(chain).labelled, factory.built) == (1, 2)
    assert lost.is_file()


def test_an_unfinished_stage_needs_its_teacher(chain, factory):
    halves = [replace(chain, part=Shard(rank, 2)) for rank in (0, 1)]
    label(halves[0])
    assert not (chain.folder("label") / REQUEST_FILE).exists()
    label(halves[0])
    assert factory.built == 2
    assert label(halves[1]).missing == 0
    label(halves[0])
    assert factory.built == 3


def test_skipped_samples_are_tried_again(chain, factory):
    corrupt = replace(chain, open_source=partial(TinySource, 4, corrupt=frozenset({2})))
    assert [entry.index for entry in label(corrupt).skipped] == [2]
    label(corrupt)
    assert factory.built == 2
    assert (label(chain).labelled, factory.built) == (1, 3)  # copied again
    assert label(chain).resumed == 4
    assert factory.built == 3


def test_another_source_is_refused_before_weights_are_loaded(chain, factory):
    label(chain)
    for other in (partial(TinySource, 5), partial(TinySource, 4, blind=frozenset({1}))):
        for request in (REQUEST, None):
            with pytest.raises(InputError, match=r"label was made with settings\.source\.\w+.*delete the folder"):
                label(replace(chain, open_source=other, teacher_request=request))
    assert factory.built == 1


@pytest.mark.parametrize("content", ["{}", "{"])
def test_a_damaged_folder_is_named(chain, factory, content):
    label(chain)
    (chain.folder("label") / "stage.json").write_text(content)
    with pytest.raises(InputError, match=r"stage\.json is damaged .*delete the folder"):
        label(chain)
    assert factory.built == 1


def test_what_a_teacher_is_built_from_is_known_without_it(tmp_path):
    """By kind, words, settings and weights; a folder counts by what lies in it."""
    weights = tmp_path / "san.pth"
    weights.write_bytes(b"weights")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    changes = [
        {"checkpoint": str(weights)},
        {"checkpoint": str(tmp_path / "model")},
        {"checkpoint": "gone.pth"},
        {"checkpoint": str(weights), "device": "cpu"},
    ]
    found = [TeacherChoice.load(TEACHERS / "san.yaml", change).describe() for change in changes]
    assert [list(about["files"]) for about in found] == [["checkpoint"], ["checkpoint"], [], ["checkpoint"]]
    assert found[0]["kind"] == "san"
    assert json.loads(json.dumps(found)) == found
    weights.write_bytes(b"WEIGHTS")
    (tmp_path / "model" / "config.json").write_text("[]")
    again = [TeacherChoice.load(TEACHERS / "san.yaml", change).describe() for change in changes]
    assert [a["files"] != b["files"] for a, b in zip(found, again, strict=True)] == [True, True, False, True]
    assert [a["settings"] == b["settings"] for a, b in zip(found, again, strict=True)] == [True] * 4
    assert found[0]["dictionary"] != DICTIONARY.hash
    odd = {"stem": "x" * 5000, "checkpoint": "a" + chr(0), "device": date(2026, 1, 1)}
    about = TeacherChoice.load(TEACHERS / "san.yaml", odd).describe()
    assert (about["files"], json.loads(json.dumps(about))) == ({}, about)
