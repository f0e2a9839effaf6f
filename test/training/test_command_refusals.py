"""Mistakes on the command line of ``python -m training``: one line, exit code 2, and before hours are spent."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import yaml
from command_place import arguments, make_place, stderr_line
from tiny_chain import QUIET, RECIPE, RowTeacher, TinySource

from ov_seg_ros.bags.convert import convert_source
from ov_seg_ros.core.errors import ConfigError, InputError
from training import cli, pipeline
from training.labelling_run import label_source
from training.sources.recording import RecordingSource
from training.student.sparse_backends import BACKENDS
from training.teacher_choice import TeacherChoice

pytestmark = pytest.mark.xdist_group("chain")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    return make_place(tmp_path_factory.mktemp("refusals"))


MISTAKES = [
    ("lift", ["--source", "nowhere"], "nowhere does not exist; expected a recording"),
    ("train", ["--recipe", "afof"], "afof.yaml does not exist; recipes that come along: afov"),
    ("label", ["--set", "foldr=x"], "unknown key 'foldr'; did you mean folder?"),
    ("label", ["--set", "folder"], "--set expects KEY=VALUE, got 'folder'"),
    (
        "pretrain",
        ["--backend", "minkowski"],
        "sparse backend must be one of auto, tables, compiled, torchsparse, spconv",
    ),
    ("lift", [], "label is no result of a stage"),
    ("pretrain", [], "lift is no result of a stage"),
    ("train", [], "lift is no result of a stage"),
    ("export", [], "train is no result of a stage"),
    ("probe", [], "pretrain is no result of a stage"),
    ("evaluate", [], "student.onnx"),
    ("all", ["--validation", "nowhere"], "nowhere does not exist"),
]


@pytest.mark.parametrize(("verb", "more", "message"), MISTAKES)
def test_mistakes_are_one_line_and_exit_with_2(place, verb, more, message, capsys, tmp_path):
    assert cli.main(arguments(place, verb, *more, work=tmp_path / "work")) == 2
    line = stderr_line(capsys)
    assert line.startswith(f"training {verb}: ")
    assert message in line


def test_debug_shows_where_an_error_comes_from(place, tmp_path):
    with pytest.raises(InputError, match="label is no result"):
        cli.main(arguments(place, "lift", "--debug", work=tmp_path))


@pytest.mark.parametrize(
    "more", [["--processes", "0"], ["--processes", "two"], ["--threads", "-1"], ["--device", "gpu"], ["--unknown"]]
)
def test_wrong_options_are_refused_before_anything_is_read(place, more):
    with pytest.raises(SystemExit) as raised:
        cli.main(["train", "--source", "nowhere", *more])
    assert raised.value.code == 2


def test_a_judge_without_ground_truth_is_refused_before_hours_are_spent(place, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "label", lambda *_: pytest.fail("labelled"))
    silent = convert_source(TinySource(2, truth=False), tmp_path / "silent")
    assert cli.main(arguments(place, "all", "--validation", silent, work=tmp_path / "work")) == 2
    assert "source silent has ground truth of label space none, needed is nuscenes16" in stderr_line(capsys)


def test_a_missing_gpu_is_noticed_before_hours_are_spent(place, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    asked = [a for a in arguments(place, "all", work=tmp_path / "work") if a != "--device"]
    asked[asked.index("cpu")] = "--device=cuda"
    assert cli.main(asked) == 2
    assert "device cuda was asked for, but torch finds no GPU" in capsys.readouterr().err
    assert not (tmp_path / "work").exists()


def test_a_missing_backend_is_noticed_before_hours_are_spent(place, capsys, tmp_path, monkeypatch):
    def missing():
        raise ConfigError("the sparse backend torchsparse needs a CUDA GPU")

    monkeypatch.setitem(BACKENDS, "torchsparse", missing)
    monkeypatch.setattr(pipeline, "label", lambda *_: pytest.fail("labelled"))
    assert cli.main(arguments(place, "all", "--backend", "torchsparse", work=tmp_path / "work")) == 2
    assert "torchsparse needs a CUDA GPU" in stderr_line(capsys)


def test_a_teacher_that_cannot_be_pretrained_with_is_refused_before_it_labels(place, capsys, tmp_path, monkeypatch):
    """Also where it has labelled already: pre-training comes after hours of lifting."""
    source = RecordingSource(place.drive)
    label_source(source, RowTeacher(with_features=False), tmp_path / "exported", settings=QUIET)
    masks = ["--set", f"folder={tmp_path / 'exported'}"]
    message = (
        f"recipe tiny pre-trains (train: start: pretrain), but teacher {place.root / 'teacher.yaml'} has no features"
    )
    with monkeypatch.context() as patched:
        patched.setattr(pipeline, "label", lambda *_: pytest.fail("labelled"))
        for more in ([], ["--dry-run"]):
            assert cli.main(arguments(place, "all", *masks, *more, work=tmp_path / "work")) == 2
            assert message in stderr_line(capsys)
    assert not (tmp_path / "work").exists()
    assert cli.main(arguments(place, "label", *masks, work=tmp_path / "work")) == 0
    capsys.readouterr()
    monkeypatch.setattr(TeacherChoice, "build", lambda _choice: pytest.fail("built again"))
    for more in ([], ["--dry-run"]):
        assert cli.main(arguments(place, "all", *masks, *more, work=tmp_path / "work")) == 2
        assert "has no features in a text space" in stderr_line(capsys)
    assert not (tmp_path / "work" / "lift").exists()


def test_a_source_without_cameras_cannot_be_labelled(place, capsys, tmp_path):
    recording = convert_source(TinySource(2, blind=frozenset({0, 1})), tmp_path / "blind")
    blind = SimpleNamespace(**{**vars(place), "drive": recording})
    for verb in ("label", "lift", "all"):
        assert cli.main(arguments(blind, verb, work=tmp_path / "work")) == 2
        assert "no sample looked at has an image; a 2D teacher needs some" in capsys.readouterr().err


def test_a_teacher_of_other_classes_is_refused(place, capsys, tmp_path):
    words = {"name": "w", "label_space": "semantickitti19", "templates": "plain", "classes": ["car"]}
    (tmp_path / "words.yaml").write_text(yaml.safe_dump(words))
    teacher = {"kind": "precomputed", "label_space": "semantickitti19", "dictionary": str(tmp_path / "words.yaml")}
    (tmp_path / "teacher.yaml").write_text(yaml.safe_dump(teacher))
    recipe = replace(RECIPE, teacher=str(tmp_path / "teacher.yaml"))
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe.to_dict()))
    assert cli.main(arguments(place, "label", "--recipe", tmp_path / "recipe.yaml", work=tmp_path / "work")) == 2
    assert "labels with the classes of semantickitti19, recipe tiny has those of nuscenes16" in stderr_line(capsys)


def test_the_benchmark_refuses_what_it_cannot_run(capsys, monkeypatch, tmp_path):
    given = ["benchmark", "synthetic", "--json", str(tmp_path / "result.json")]
    for more, message in (
        (["--arms", "tmp", "tpm"], ", tmp_no_text, tmp_no_image, ceiling, got tpm"),
        (["--share", "0"], r"--share must be in (0, 1], got 0"),
    ):
        assert cli.main([*given, *more]) == 2
        assert message in stderr_line(capsys)
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert cli.main(given) == 2
    assert "run it without torchrun" in stderr_line(capsys)


def test_a_grid_without_points_is_noticed_before_hours_are_spent(place, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "label", lambda *_: pytest.fail("labelled"))
    far = replace(RECIPE.grid, range_min=(100.0, -16.0, -4.0), range_max=(132.0, 16.0, 4.0))
    recipe = replace(RECIPE, teacher=str(place.root / "teacher.yaml"), grid=far)
    (tmp_path / "far.yaml").write_text(yaml.safe_dump(recipe.to_dict()))
    for more in ([], ["--dry-run"]):
        given = arguments(place, "all", "--recipe", tmp_path / "far.yaml", *more, work=tmp_path / "work")
        assert cli.main(given) == 2
        assert "none of the points of 3 scans lies in the grid: they have x -" in stderr_line(capsys)
    assert not (tmp_path / "work").exists()
