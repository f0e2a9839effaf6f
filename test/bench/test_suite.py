"""Whatever happens in a contest, the run goes on and says what is missing."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from ov_seg_ros.bench.results import ResultFile, load_result
from ov_seg_ros.bench.section import BenchOptions, Section
from ov_seg_ros.bench.suite import INSTALLED, choose, measure_section, run_suite
from ov_seg_ros.core.errors import ConfigError, MissingDependencyError


def good(options):
    assert options.scratch.is_dir()
    return Section("any name", "went well", measures={"maps_32_ms": 1.0})


def without_a_library(options):
    raise MissingDependencyError("spconv", "pip install spconv", "the contest")


def broken(options):
    return 1 / 0


@pytest.fixture
def modules(monkeypatch):
    for contest in (good, without_a_library, broken):
        module = ModuleType(f"contest_{contest.__name__}")
        module.contest = contest
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return {
        "broken": "contest_broken",
        "lacking": "contest_without_a_library",
        "absent": "contest_that_is_not_there",
        "maps": "contest_good",
    }


def test_a_contest_that_fails_does_not_end_the_run(tmp_path, modules):
    shown, said = [], []
    file = ResultFile(tmp_path / "run.json", {})
    options = BenchOptions(tmp_path / "m.onnx", (), scratch=tmp_path / "scratch", say=said.append)
    run_suite(modules, options, file, shown.append)
    sections = load_result(file.path)["sections"]
    assert list(sections) == said == list(modules)
    assert sections["broken"]["missing"] == [
        "broken was not measured: it failed with ZeroDivisionError: division by zero"
    ]
    assert "1 / 0" in sections["broken"]["details"]["traceback"]
    assert "pip install spconv" in sections["lacking"]["missing"][0]
    assert "No module named 'contest_that_is_not_there'" in sections["absent"]["missing"][0]
    assert sections["maps"]["title"] == "went well"
    assert sections["maps"]["seconds"] >= 0
    assert "voxels and kernel maps of all levels, 32 beams" in shown[-1]


def test_a_run_that_is_stopped_keeps_what_it_had(tmp_path, modules, monkeypatch):
    def stopped(options):
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["contest_broken"], "contest", stopped)
    file = ResultFile(tmp_path / "run.json", {})
    options = BenchOptions(tmp_path / "m.onnx", (), scratch=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run_suite({"maps": "contest_good", "broken": "contest_broken"}, options, file, lambda text: None)
    content = load_result(file.path)
    assert list(content["sections"]) == ["maps"]
    assert content["complete"] is False


def test_a_sentence_that_was_said_is_not_said_again(tmp_path, modules):
    shown = []
    for name in ("first", "second"):
        modules[name] = "contest_without_a_library"
    options = BenchOptions(tmp_path / "m.onnx", (), scratch=tmp_path)
    lacking = {"same": "contest_without_a_library"}
    run_suite(lacking, options, ResultFile(tmp_path / "run.json", {}), shown.append)
    assert sum(text.count("pip install spconv") for text in shown) == 1


def test_a_section_is_called_what_the_suite_calls_it(tmp_path):
    section, seconds, _ = measure_section("x", lambda: good, BenchOptions(tmp_path, (), scratch=tmp_path))
    assert section.name == "x"
    assert seconds >= 0


def test_sections_are_chosen_by_name():
    assert choose(INSTALLED, ()) == INSTALLED
    assert list(choose(INSTALLED, ("scaling", "stages"))) == ["stages", "scaling"]
    with pytest.raises(ConfigError, match=r"there is no section speed; known here: stages, memory"):
        choose(INSTALLED, ("speed",))
