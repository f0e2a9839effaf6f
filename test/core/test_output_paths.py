"""Paths that can be written and paths that cannot; none of them is there afterwards."""

import os
from pathlib import Path

import pytest

from ov_seg_ros.core.errors import InputError
from ov_seg_ros.core.output_paths import require_writable_file, require_writable_folder

BOTH = pytest.mark.parametrize("require", [require_writable_file, require_writable_folder])


@BOTH
@pytest.mark.parametrize("name", ["new", "new/x", "folder/new"])
def test_what_can_be_made_is_not_made_yet(require, tmp_path, name):
    (tmp_path / "folder").mkdir()
    require(tmp_path / name)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["folder"]


def test_what_exists_is_left_alone(tmp_path):
    (tmp_path / "file").write_text("mine")
    require_writable_file(tmp_path / "file")
    require_writable_folder(tmp_path)
    assert (tmp_path / "file").read_text() == "mine"


@BOTH
@pytest.mark.parametrize("name", ["file/x", "file/x/y", "n" * 300])
def test_no_place_for_it(require, tmp_path, name):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(
        InputError, match=r" cannot be written: (Not a directory|File name too long); give another path$"
    ):
        require(tmp_path / name)


def test_file_and_folder_are_told_apart(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="file cannot be written: it is a file, expected a folder; give another path"):
        require_writable_folder(tmp_path / "file")
    with pytest.raises(InputError, match="cannot be written: it is a folder, expected a file; give another path"):
        require_writable_file(tmp_path)


@BOTH
@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc, where not even root may create files")
def test_a_folder_that_takes_no_files(require):
    with pytest.raises(InputError, match=r"^/proc/x cannot be written: "):
        require(Path("/proc/x"))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    require_writable_file(tmp_path / "pipe")  # opening it would wait for a reader
