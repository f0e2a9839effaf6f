"""Goals, the file of a run, its text, and two files next to each other."""

from __future__ import annotations

import json
from datetime import date

import numpy as np
import pytest

from ov_seg_ros.bench.compare import CAUTION, compare_results
from ov_seg_ros.bench.goals import GOALS, MET, MISSED, NOT_MEASURED, NOT_RUN, Goal, judge
from ov_seg_ros.bench.results import ResultFile, load_result, result_path
from ov_seg_ros.bench.section import Section, Table
from ov_seg_ros.bench.text_tables import format_cell, format_goals, format_section
from ov_seg_ros.core.errors import InputError

MACHINE = {"processor": "Abacus", "cores": 2, "gpus": []}
MAPS = Section(
    "maps",
    "kernel maps",
    (Table("ms", ({"scan": "a", "p50 ms": 12.0}, {"scan": "b", "p50 ms": 30.0})),),
    {"maps_32_ms": 12.0, "maps_64_ms": 30.0},
    missing=("a third scan: not measured, there is none",),
    details={"array": np.arange(2), "nothing": float("nan"), "number": np.float32(0.5)},
)


def test_goals_are_met_missed_or_not_measured():
    goals = (
        Goal("small", "s", "", 10, "ms"),
        Goal("large", "s", "", 2, "x", at_least=True),
        Goal("absent", "s", "", 1, "ms"),
        Goal("other", "t", "", 1, "ms"),
    )
    found = judge({"s": {"small": 10, "large": 1.9}}, {"s": ("no tape measure",)}, {"s": "busy"}, goals)
    assert [(v.verdict, v.value) for v in found] == [
        (MET, 10),
        (MISSED, 1.9),
        (NOT_MEASURED, None),
        (NOT_MEASURED, None),
    ]
    assert [v.why for v in found] == ["busy", "busy", "no tape measure", NOT_RUN]
    assert not goals[0].holds(float("nan"))
    assert not goals[1].holds(float("nan"))


def test_every_goal_has_a_figure_of_its_own():
    assert len({goal.measure for goal in GOALS}) == len(GOALS)


def test_the_file_is_whole_after_every_section(tmp_path):
    path = tmp_path / "new" / "run.json"
    file = ResultFile(path, {"machine": MACHINE})
    assert load_result(path)["complete"] is False
    file.add(MAPS, seconds=1.5)
    content = load_result(path)
    assert content["sections"]["maps"]["tables"][0]["rows"][1] == {"scan": "b", "p50 ms": 30.0}
    assert content["sections"]["maps"]["seconds"] == 1.5
    assert content["sections"]["maps"]["details"] == {"array": [0, 1], "nothing": None, "number": 0.5}
    verdicts = {goal["measure"]: goal["verdict"] for goal in content["goals"]}
    assert (verdicts["maps_32_ms"], verdicts["maps_64_ms"], verdicts["start_s"]) == (MISSED, MET, NOT_MEASURED)
    file.finish()
    assert load_result(path)["complete"] is True
    assert [each.name for each in path.parent.iterdir()] == ["run.json"]


def test_a_second_run_of_a_day_does_not_replace_the_first(tmp_path):
    first = result_path(tmp_path, MACHINE, date(2026, 11, 21))
    assert first == tmp_path / "abacus-2-cores" / "2026-11-21.json"
    ResultFile(first, {})
    assert result_path(tmp_path, MACHINE, date(2026, 11, 21)).name == "2026-11-21-2.json"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 99, "sections": {}}'])
def test_what_is_no_result_is_refused(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(InputError, match=r"x\.json"):
        load_result(tmp_path / "x.json")
    with pytest.raises(InputError, match="does not exist"):
        load_result(tmp_path / "nothing.json")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (True, "yes"),
        (1234567, "1,234,567"),
        (1234.5, "1,234"),
        (123.4, "123"),
        (12.34, "12.3"),
        (1.234, "1.23"),
        (0.0, "0.00"),
        (3.2e-7, "3.2e-07"),
        ("word", "word"),
    ],
)
def test_cells(value, text):
    assert format_cell(value) == text


def test_a_section_as_text():
    assert format_section(MAPS, "it was loud").splitlines() == [
        "== maps: kernel maps",
        "!! it was loud",
        "   ms",
        "   scan  p50 ms",
        "   a       12.0",
        "   b       30.0",
        "-- a third scan: not measured, there is none",
    ]


def test_goals_as_text():
    goals = (Goal("ms", "maps", "maps", 10, "ms"), Goal("gain", "gpu", "gain", 1.5, "x", True))
    text = format_goals(judge({"maps": {"ms": 12.0}}, {}, {"maps": "busy"}, goals), cores=4)
    assert text.splitlines() == [
        "== goals (bounds are for 2 cores, measured on 4)",
        "goal  bound     measured  verdict",
        "maps  <= 10 ms     12 ms  MISSED",
        "-- not measured: gain (its section was not run)",
        "!! measured while the machine was busy: maps",
    ]


def write_run(path, p50, cores=2, warning=""):
    file = ResultFile(path, {"machine": {**MACHINE, "cores": cores}, "versions": {"numpy": "2"}})
    rows = ({"scan": "a", "p50 ms": p50, "max ms": 99.0}, {"scan": f"only in {path.stem}", "p50 ms": 1.0})
    file.add(Section("maps", "", (Table("ms", rows),)), warning)
    return path


def test_two_files_next_to_each_other(tmp_path):
    old, new = write_run(tmp_path / "old.json", 10.0), write_run(tmp_path / "new.json", 5.0, cores=4, warning="busy")
    lines = compare_results(old, new).splitlines()
    assert lines[0] == CAUTION
    assert lines[1] == "!! another cores: 2 -> 4"
    assert lines[2] == "!! the machine of the new run was busy during: maps"
    assert lines[-2].split() == ["maps", "a", "p50", "ms", "10.0", "5.00", "0.50"]
    assert lines[-1] == "-- 2 figures stand in one file only"


def test_files_without_a_common_figure_say_so(tmp_path):
    ResultFile(tmp_path / "empty.json", {})
    text = compare_results(tmp_path / "empty.json", write_run(tmp_path / "new.json", 5.0))
    assert text.endswith("The files have no figure in common.")


def test_the_file_holds_six_digits(tmp_path):
    file = ResultFile(tmp_path / "x.json", {"third": 1 / 3})
    assert json.loads(file.path.read_text())["third"] == 0.333333
