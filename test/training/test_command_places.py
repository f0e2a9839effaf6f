"""What the system refuses: one line for every verb of ``python -m training``, and before hours are spent."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from command_place import arguments, make_place, stderr_line

from training import cli, pipeline
from training.teacher_choice import TeacherChoice

pytestmark = pytest.mark.xdist_group("chain")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    return make_place(tmp_path_factory.mktemp("places"))


def test_a_full_disk_is_one_line(place, capsys, monkeypatch, tmp_path):
    def full(*_):
        raise OSError(28, "No space left on device", "lift/scans/000000.npz")

    monkeypatch.setattr(pipeline, "lift", full)
    assert cli.main(arguments(place, "lift", work=tmp_path)) == 2
    assert "no space left for lift/scans/000000.npz; free some and run the same command again" in stderr_line(capsys)


def test_what_the_system_refuses_is_one_line(place, capsys, monkeypatch, tmp_path):
    for error, message in (
        (
            OSError(13, "Permission denied", "lift/stage.json"),
            "lift/stage.json: Permission denied; check that the path",
        ),
        (OSError("no lock"), "the system refused something: no lock; --debug shows where"),
    ):
        monkeypatch.setattr(pipeline, "lift", lambda *_, error=error: (_ for _ in ()).throw(error))
        assert cli.main(arguments(place, "lift", work=tmp_path)) == 2
        assert message in stderr_line(capsys)
        with pytest.raises(OSError, match=str(error.args[-1])):
            cli.main(arguments(place, "lift", "--debug", work=tmp_path))


@pytest.mark.parametrize(
    ("verb", "option", "given", "message"),
    [
        ("label", "--work", "file", "file cannot be written: it is a file, expected a folder"),
        ("label", "--work", "file/below", "below cannot be written: Not a directory"),
        ("lift", "--data", "file", "file is a file, expected a folder"),
        ("evaluate", "--out", "file", "file cannot be written: it is a file, expected a folder"),
        ("all", "--out", "file", "file cannot be written: it is a file, expected a folder"),
        ("export", "--model", "file/x.onnx", "x.onnx cannot be written: Not a directory"),
        ("export", "--model", "folder", "folder cannot be written: it is a folder, expected a file"),
        ("probe", "--model", "folder", "folder cannot be written: it is a folder, expected a file"),
        ("all", "--model", "folder", "folder cannot be written: it is a folder, expected a file"),
        ("label", "--out", "file", "file cannot be written: it is a file, expected a folder"),
    ],
)
def test_places_that_cannot_be_written_are_refused_before_hours_are_spent(
    place, capsys, tmp_path, monkeypatch, verb, option, given, message
):
    monkeypatch.setattr(TeacherChoice, "build", lambda _choice: pytest.fail("built"))
    monkeypatch.setattr(pipeline, "evaluate", lambda *_: pytest.fail("evaluated"))
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    more = [option, tmp_path / given]
    if (verb, option) == ("label", "--out"):
        more += ["--teacher", place.root / "teacher.yaml"]
    assert cli.main(arguments(place, verb, *more, work=None if option == "--work" else tmp_path / "work")) == 2
    line = stderr_line(capsys)
    assert line.startswith(f"training {verb}: {option} {tmp_path}/")
    assert message in line
    assert not (tmp_path / "work").exists()


def test_a_folder_that_cannot_be_made_is_one_line(place, capsys):
    assert cli.main(arguments(place, "label", work=Path("/proc/none/work"))) == 2
    assert stderr_line(capsys).startswith("training label: ")


@pytest.mark.parametrize("more", [["--json", "folder"], ["--work", "file"], ["--model", "folder"]])
def test_places_of_a_student_are_looked_at_first(capsys, tmp_path, monkeypatch, more):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    assert cli.main(["student", *more]) == 2
    assert f"training student: {' '.join(more)}" in capsys.readouterr().err
