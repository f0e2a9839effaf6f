"""``python -m training VERB`` on a recording of four tiny scans: every verb, its dry run, and its mistakes."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from command_place import arguments, make_place, stderr_line
from tiny_chain import QUIET, RECIPE, RowTeacher, TinySource
from tiny_model import write_tiny_model

from ov_seg_ros.bags.convert import convert_source
from ov_seg_ros.core.errors import ConfigError, InputError
from ov_seg_ros.runtime.segmenter import Segmenter
from training import cli, pipeline
from training.commands.chain import STAGES
from training.commands.options import print_skipped
from training.labelling_run import label_source
from training.sources.recording import RecordingSource
from training.stage_folder import StageFolder
from training.student.sparse_backends import BACKENDS
from training.teacher_choice import TeacherChoice

pytestmark = pytest.mark.xdist_group("chain")

VERBS = ("label", *STAGES)


@pytest.fixture(autouse=True)
def _without_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those are drawn in the tests of the report, and once in those of the pipeline."""
    monkeypatch.setattr(pipeline, "write_evaluation", partial(pipeline.write_evaluation, with_plots=False))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    return make_place(tmp_path_factory.mktemp("commands"))


@pytest.fixture(scope="module")
def done(place: SimpleNamespace) -> SimpleNamespace:
    """Every stage, verb by verb."""
    for verb in ("label", "lift", "pretrain", "train", "export"):
        assert cli.main(arguments(place, verb)) == 0
    return place


def test_what_is_labelled_needs_no_teacher(done, capsys, monkeypatch):
    monkeypatch.setattr(TeacherChoice, "build", lambda _choice: pytest.fail("built again"))
    assert cli.main(arguments(done, "label")) == 0
    assert "0 samples labelled, 4 were there" in capsys.readouterr().out
    assert cli.main(arguments(done, "all", "--dry-run")) == 0
    assert f"label: done before, 4 samples in {done.work / 'label'}" in capsys.readouterr().out


def snapshot(folder: Path) -> dict[Path, tuple[int, int]]:
    return {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in folder.rglob("*")}


def test_every_verb_leaves_its_stage(done):
    for stage, count in (("label", 4), ("lift", 4), ("pretrain", 2), ("train", 2)):
        found = StageFolder.load(done.work / stage)
        assert (found.stage, found.complete, found.count) == (stage, True, count)
    assert Segmenter.load(done.work / "student.onnx").description.name == "tiny"


def test_verbs_say_what_they_did_and_do_nothing_twice(done, capsys):
    before = {p: t for p, t in snapshot(done.work).items() if p.suffix in (".npz", ".pt", ".png")}
    expected = {
        "label": f"{done.work / 'label'}: 0 samples labelled, 4 were there, 0 skipped\n",
        "lift": f"{done.work / 'lift'}: 4 scans\n",
        "refine": "recipe tiny leaves the lifted labels as they are (refine: labels: false)\n",
        "pretrain": f"{done.work / 'pretrain'}: 2 steps\n",
        "train": f"{done.work / 'train'}: 2 steps\n",
        "export": f"{done.work / 'student.onnx'}: ",
    }
    for verb, text in expected.items():
        assert cli.main(arguments(done, verb)) == 0
        assert capsys.readouterr().out.startswith(text)
    assert {p: t for p, t in snapshot(done.work).items() if p.suffix in (".npz", ".pt", ".png")} == before


def test_evaluate_prints_and_writes_scores(done, capsys, tmp_path):
    assert cli.main(arguments(done, "evaluate", "--out", tmp_path / "scores")) == 0
    shown = capsys.readouterr().out.splitlines()
    rows = ["lifted", "student", "student + AFI", "student + AFI + images"]
    assert [line.split("  ")[0].strip() for line in shown[:4]] == rows
    assert "seen 100.0 % unseen 0.0 %" in shown[0]
    stored = json.loads((tmp_path / "scores" / "evaluation.json").read_text())
    assert list(stored["rows"]) == rows
    tables = (tmp_path / "scores" / "evaluation.md").read_text().replace("*", "")
    for name, line in zip(rows, shown, strict=False):
        whole = re.search(r"mIoU whole ([0-9.]+) %", line)[1]
        assert f"| {name} | {whole} | " in tables  # one number of that name
    student = stored["rows"]["student"]["whole"]
    assert student["miou"] != student["miou_fair"]  # it says classes that are not there
    judge = SimpleNamespace(**{**vars(done), "drive": done.judge})
    more = ["--model", done.work / "student.onnx", "--out", tmp_path / "other"]
    assert cli.main(arguments(judge, "evaluate", *more, work=tmp_path / "nothing")) == 0
    assert "lifted" not in capsys.readouterr().out
    assert not (tmp_path / "nothing").exists()


def test_probe_writes_a_student_beside_its_stage(done, capsys):
    assert cli.main(arguments(done, "probe")) == 0
    folder = done.work / "linear-drive-4"
    assert capsys.readouterr().out == f"{folder}: 2 steps, student: {folder / 'student.onnx'}\n"
    assert Segmenter.load(folder / "student.onnx").description.provenance["stage"] == "linear"


def test_all_shares_the_data_of_another_run(done, tmp_path, capsys):
    work = tmp_path / "all"
    assert cli.main(arguments(done, "all", "--data", done.work, "--validation", done.judge, work=work)) == 0
    shown = capsys.readouterr().out
    assert sorted(p.name for p in work.iterdir()) == ["evaluation", "pretrain", "student.onnx", "train"]
    assert f"{work / 'student.onnx'}: " in shown
    assert "student + AFI" in shown
    assert "lifted" not in shown  # those are of another source
    for stage in ("pretrain", "train"):
        assert StageFolder.load(work / stage).hash == StageFolder.load(done.work / stage).hash


DRY = {
    "label": [r"label: 4 samples, 4 images: .*kB on disk", "min of the teacher"],
    "lift": ["lift: 4 scans of about 240 points, ", "kB on disk"],
    "refine": ["refine: the recipe leaves lifted labels as they are"],
    "pretrain": [r"pretrain: 2 steps of 2 scans \(1.0 passes over 4 scans\), .* M parameters, checkpoint .* MB"],
    "train": [r"train: 2 steps of 2 scans \(1.0 passes over 4 scans\)"],
    "probe": [r"linear: true labels of 4 scans, 23.0 kB on disk, then 2 steps"],
    "evaluate": ["evaluate: student, student . AFI on the ground truth of 4 samples of drive"],
    "export": ["export: .*student.onnx"],
    "all": ["label: 4 samples", "lift: 4 scans", "refine: ", "pretrain: 2 steps", "train: 2 steps", "export: "],
}


@pytest.mark.parametrize("verb", VERBS)
def test_dry_runs_name_what_would_run_and_write_nothing(place, verb, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = snapshot(place.root)
    assert cli.main(arguments(place, verb, "--dry-run", work=tmp_path / "work")) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"recipe tiny, source drive: 4 samples, results in {tmp_path / 'work'}\n")
    for pattern in DRY[verb]:
        assert re.search(pattern, shown), shown
    assert ("evaluate: " in shown) == (verb == "evaluate")  # all evaluates only with --validation
    assert snapshot(place.root) == before
    assert list(tmp_path.iterdir()) == []


def test_corrupt_samples_are_listed_at_the_end(tmp_path, capsys):
    rows = [{"index": i, "key": f"drive/{i:06d}", "error": "it is cut off"} for i in range(12)]
    print_skipped(tmp_path)
    assert capsys.readouterr().out == ""
    (tmp_path / "skipped.json").write_text(json.dumps(rows))
    print_skipped(tmp_path)
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "skipped sample 0 drive/000000: it is cut off"
    assert said[10:] == [f"and 2 more, see {tmp_path / 'skipped.json'}"]


def test_several_sources_are_one(place, capsys, tmp_path):
    assert cli.main(arguments(place, "train", "--source", place.judge, "--dry-run", work=tmp_path / "none")) == 0
    assert re.search(r"source drive\+judge: 6 samples", capsys.readouterr().out)


def test_dry_runs_of_all_name_the_judge_and_of_probe_the_mode(place, capsys, tmp_path):
    assert cli.main(arguments(place, "all", "--dry-run", "--validation", place.judge, work=tmp_path / "w")) == 0
    assert "on the ground truth of 2 samples of judge" in capsys.readouterr().out
    assert cli.main(arguments(place, "probe", "--dry-run", "--mode", "finetune", work=tmp_path / "w")) == 0
    shown = capsys.readouterr().out
    assert "finetune: true labels of 4 scans" in shown
    assert "linear" not in shown
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize("verb", ["evaluate", "probe"])
def test_dry_runs_refuse_a_source_without_ground_truth(place, capsys, tmp_path, verb):
    silent = SimpleNamespace(
        **{**vars(place), "drive": convert_source(TinySource(2, truth=False), tmp_path / "silent")}
    )
    assert cli.main(arguments(silent, verb, "--dry-run", work=tmp_path / "work")) == 2
    shown = capsys.readouterr()
    assert "source silent has ground truth of label space none, needed is nuscenes16" in shown.err
    assert "ground truth of 2" not in shown.out


def test_a_dry_run_of_evaluate_asks_for_the_classes_of_the_student(place, capsys, tmp_path):
    write_tiny_model(tmp_path / "student.onnx")
    for more in (["--model", tmp_path / "student.onnx"], []):
        assert cli.main(arguments(place, "evaluate", "--dry-run", *more, work=tmp_path)) == 2
        assert re.search("source drive has ground truth of label space .*, needed is tiny", capsys.readouterr().err)


def test_dry_runs_name_the_student_that_would_be_written(place, capsys, tmp_path):
    for verb in ("export", "all"):
        assert cli.main(arguments(place, verb, "--dry-run", "--model", tmp_path / "mine.onnx")) == 0
        assert f"export: {tmp_path / 'mine.onnx'}" in capsys.readouterr().out


def test_a_dry_run_says_that_the_teacher_would_fail(place, capsys, tmp_path):
    assert cli.main(arguments(place, "label", "--dry-run", "--set", "folder=nowhere", work=tmp_path / "w")) == 0
    assert "label: would fail now: " in capsys.readouterr().out


def test_a_teacher_of_your_own_labels_into_a_folder(place, capsys, tmp_path, monkeypatch):
    own = ["--teacher", place.root / "teacher.yaml", "--out", tmp_path / "own"]
    assert cli.main(arguments(place, "label", *own, "--dry-run")) == 0
    assert "4 samples, 4 images" in capsys.readouterr().out
    assert not (tmp_path / "own").exists()
    assert cli.main(arguments(place, "label", *own)) == 0
    assert StageFolder.load(tmp_path / "own").complete
    with monkeypatch.context() as patched:  # done, so no teacher is needed
        patched.setattr(TeacherChoice, "build", lambda _choice: pytest.fail("built again"))
        capsys.readouterr()
        assert cli.main(arguments(place, "label", *own)) == 0
        assert "0 samples labelled, 4 were there, 0 skipped" in capsys.readouterr().out
    assert cli.main(arguments(place, "label", *own[:2])) == 2
    assert "--teacher and --out belong together" in capsys.readouterr().err


def test_processes_of_torchrun_share_label_and_lift(done, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "0")
    for verb, states in (
        ("label", ("2 samples labelled", "2 samples labelled")),
        ("lift", ("part is done", "4 scans")),
    ):
        for rank, state in enumerate(states):
            monkeypatch.setenv("RANK", str(rank))
            assert cli.main(arguments(done, verb, work=tmp_path)) == 0
            assert state in capsys.readouterr().out
    for path in (done.work / "lift").rglob("*.npz"):
        assert path.read_bytes() == (tmp_path / path.relative_to(done.work)).read_bytes()
    monkeypatch.delenv("RANK")
    assert cli.main(arguments(done, "lift", work=tmp_path)) == 2
    assert "of RANK and WORLD_SIZE only one is set" in stderr_line(capsys)


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


def test_all_builds_its_teacher_once(place, capsys, tmp_path, monkeypatch):
    built, build = [], TeacherChoice.build
    monkeypatch.setattr(TeacherChoice, "build", lambda choice: built.append(choice) or build(choice))
    monkeypatch.setattr(pipeline, "lift", lambda *_: (_ for _ in ()).throw(InputError("enough")))
    assert cli.main(arguments(place, "all", "--dry-run", work=tmp_path / "work")) == 0
    assert len(built) == 1
    assert cli.main(arguments(place, "all", work=tmp_path / "work")) == 2
    assert "training all: enough" in capsys.readouterr().err
    assert len(built) == 2


def test_a_dry_run_of_all_says_that_the_teacher_would_fail(place, capsys, tmp_path):
    assert cli.main(arguments(place, "all", "--dry-run", "--set", "folder=nowhere", work=tmp_path / "w")) == 0
    assert "label: would fail now: " in capsys.readouterr().out


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


@pytest.mark.parametrize(
    ("verb", "more", "threads"), [("train", [], 1), ("lift", ["--threads", "2"], 2), ("label", [], 3)]
)
def test_threads_are_for_the_teacher(place, verb, more, threads, tmp_path):
    """Training is fastest with one thread, a teacher with all there are."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        assert cli.main(arguments(place, verb, *more, "--dry-run", work=tmp_path)) == 0
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


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


def test_the_vocabulary_is_shown(place, capsys):
    assert cli.main(["vocabulary", "--teacher", str(place.root / "teacher.yaml")]) == 0
    shown = capsys.readouterr().out
    assert "driveable_surface    way: road, asphalt" in shown
    assert "(ignored)            sky: sky" in shown
    assert "5 texts, 3 groups, templates: 1" in shown
