"""Files that are whole or not there, and a disk that really is full."""

import errno
import os
from pathlib import Path

import pytest

from training import atomic_files
from training.atomic_files import (
    StorageFullError,
    atomic_path,
    check_free_space,
    explain_full_disk,
    format_bytes,
    write_bytes,
    write_json,
)


def test_a_file_appears_whole(tmp_path):
    path = tmp_path / "new" / "file.json"
    write_json(path, {"a": 1})
    assert path.read_text() == '{\n "a": 1\n}\n'
    write_bytes(path, b"second")
    assert path.read_bytes() == b"second"
    assert os.listdir(path.parent) == ["file.json"]


@pytest.mark.parametrize("shared", [False, True])
def test_an_error_leaves_the_old_file(tmp_path, shared):
    path = tmp_path / "file"
    write_bytes(path, b"old")

    def fail():
        with atomic_path(path, shared=shared) as partial:
            partial.write_bytes(b"half")
            raise ValueError("half way")

    with pytest.raises(ValueError, match="half way"):
        fail()
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_processes_do_not_share_a_partial_file(tmp_path):
    with atomic_path(tmp_path / "file", shared=True) as partial:
        assert partial.name == f"file.{os.getpid()}.part"
        partial.touch()
    with atomic_path(tmp_path / "file") as partial:
        assert partial.name == "file.part"
        partial.touch()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_says_where_how_much_and_what_to_do(tmp_path, monkeypatch, number):
    def full(self, _content):
        self.touch()
        raise OSError(number, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(StorageFullError) as caught:
        write_bytes(tmp_path / "labels.npy", bytes(2_500_000))
    message = str(caught.value)
    assert message.startswith(f"no space left in {tmp_path}: labels.npy needs 2.5 MB more, ")
    assert "are free; free some space and run the same command again" in message
    assert os.listdir(tmp_path) == []


def test_other_errors_of_the_system_stay_what_they_are(tmp_path):
    (tmp_path / "file").write_bytes(b"no folder")
    with pytest.raises((NotADirectoryError, FileExistsError)) as raised:
        write_bytes(tmp_path / "file" / "below", b"1")
    assert raised.value.__context__ is None  # of cleaning up there is nothing to tell


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_the_kernel_says_that_the_device_is_full(tmp_path):
    def fill():
        with atomic_path(tmp_path / "file") as partial:
            partial.symlink_to("/dev/full")
            partial.write_bytes(b"1")

    with pytest.raises(StorageFullError, match="file needs more space"):
        fill()


def test_files_written_in_place_get_the_same_message(tmp_path):
    with (
        pytest.raises(StorageFullError, match=rf"no space left in {tmp_path}: plots needs more space"),
        explain_full_disk(tmp_path / "plots"),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(PermissionError), explain_full_disk(tmp_path / "plots"):
        raise PermissionError("plots")


def test_free_space_is_asked_for_in_a_folder_to_be(tmp_path, monkeypatch):
    check_free_space(tmp_path / "a" / "b", 1, "labels")
    asked = []

    def usage(path):
        asked.append(path)
        return real(path)._replace(free=999)

    real = atomic_files.shutil.disk_usage
    monkeypatch.setattr(atomic_files.shutil, "disk_usage", usage)
    check_free_space(tmp_path / "a" / "b", 999, "labels")
    assert asked == [tmp_path]
    with pytest.raises(StorageFullError, match=r"labels need about 1.0 kB in .*/a/b, where 999 bytes are free; free"):
        check_free_space(tmp_path / "a" / "b", 1000, "labels")


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (999_949, "999.9 kB"),
        (999_950, "1.0 MB"),
        (2.5e9, "2.5 GB"),
        (3e15, "3000.0 TB"),
    ],
)
def test_bytes_in_words(count, text):
    assert format_bytes(count) == text
