"""``python -m training VERB`` on a recording of four tiny scans: every verb leaves what it promises."""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from command_place import arguments, make_place, stderr_line

from ov_seg_ros.core.errors import InputError
from ov_seg_ros.runtime.segmenter import Segmenter
from training import cli, pipeline
from training.commands.options import print_skipped
from training.stage_folder import StageFolder
from training.teacher_choice import TeacherChoice

pytestmark = pytest.mark.xdist_group("chain")


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


def test_corrupt_samples_are_listed_at_the_end(tmp_path, capsys):
    rows = [{"index": i, "key": f"drive/{i:06d}", "error": "it is cut off"} for i in range(12)]
    print_skipped(tmp_path)
    assert capsys.readouterr().out == ""
    (tmp_path / "skipped.json").write_text(json.dumps(rows))
    print_skipped(tmp_path)
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "skipped sample 0 drive/000000: it is cut off"
    assert said[10:] == [f"and 2 more, see {tmp_path / 'skipped.json'}"]


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


def test_all_builds_its_teacher_once(place, capsys, tmp_path, monkeypatch):
    built, build = [], TeacherChoice.build
    monkeypatch.setattr(TeacherChoice, "build", lambda choice: built.append(choice) or build(choice))
    monkeypatch.setattr(pipeline, "lift", lambda *_: (_ for _ in ()).throw(InputError("enough")))
    assert cli.main(arguments(place, "all", "--dry-run", work=tmp_path / "work")) == 0
    assert len(built) == 1
    assert cli.main(arguments(place, "all", work=tmp_path / "work")) == 2
    assert "training all: enough" in capsys.readouterr().err
    assert len(built) == 2


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


def test_the_vocabulary_is_shown(place, capsys):
    assert cli.main(["vocabulary", "--teacher", str(place.root / "teacher.yaml")]) == 0
    shown = capsys.readouterr().out
    assert "driveable_surface    way: road, asphalt" in shown
    assert "(ignored)            sky: sky" in shown
    assert "5 texts, 3 groups, templates: 1" in shown
