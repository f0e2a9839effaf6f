"""Fingerprints of files: what changes them, what does not, and how little is read."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training import fingerprint
from training.fingerprint import (
    PIECE,
    PROBES,
    fingerprint_contents,
    fingerprint_files,
    fingerprint_values,
    spread,
)


def write(folder: Path, **contents: bytes) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return sorted(folder.iterdir())


def test_place_order_and_time_of_the_files_do_not_count(tmp_path):
    first = write(tmp_path / "a" / "scans", x=b"1", y=b"22")
    shutil.copytree(tmp_path / "a", tmp_path / "moved")
    second = [tmp_path / "moved" / "scans" / name for name in "yx"]
    for path in second:
        os.utime(path, (0, 0))
    assert fingerprint_files(first, tmp_path / "a") == fingerprint_files(second, tmp_path / "moved")
    assert fingerprint_files(first).startswith("2 files, ")
    assert fingerprint_files(first[:1]).startswith("1 file, ")
    assert fingerprint_files([]) == "none"


@pytest.mark.parametrize(
    "other",
    [
        {"x": b"1", "z": b"22"},
        {"x": b"1"},
        {"x": b"1", "y": b"22", "z": b""},
        {"x": b"1", "y": b"2"},
        {"x": b"1", "y": b"23"},
        {"x": b"22", "y": b"1"},
    ],
)
def test_name_number_size_and_content_count(tmp_path, other):
    assert fingerprint_files(write(tmp_path / "a", x=b"1", y=b"22")) != fingerprint_files(
        write(tmp_path / "b", **other)
    )


def test_names_below_the_root_count(tmp_path):
    assert fingerprint_files(write(tmp_path / "one", x=b"1"), tmp_path) != fingerprint_files(
        write(tmp_path / "two", x=b"1"), tmp_path
    )


def test_a_piece_of_the_middle_is_looked_at(tmp_path):
    """Headers and ends may be alike, as in files of a fixed size."""
    content = bytearray(3 * PIECE)
    before = fingerprint_files(write(tmp_path, scan=bytes(content)))
    content[0] = content[-1] = 1
    assert fingerprint_files(write(tmp_path, scan=bytes(content))) == before
    content[len(content) // 2] = 1
    assert fingerprint_files(write(tmp_path, scan=bytes(content))) != before


def test_few_of_many_files_are_opened(tmp_path, monkeypatch):
    """A damaged file in a large data set can be copied again without making its stages stale."""
    paths = write(tmp_path, **{f"{i:04d}": b"whole" for i in range(10 * PROBES)})
    opened = []
    probe = fingerprint._probe
    monkeypatch.setattr(fingerprint, "_probe", lambda path: opened.append(path) or probe(path))
    before = fingerprint_files(paths)
    assert len(opened) == PROBES
    assert (opened[0], opened[-1]) == (paths[0], paths[-1])
    other = next(path for path in paths if path not in opened)
    other.write_bytes(b"cut")
    assert fingerprint_files(paths) == before


def test_a_file_that_cannot_be_read_is_part_of_it(tmp_path):
    paths = [*write(tmp_path, x=b"1"), tmp_path / "gone"]
    before = fingerprint_files(paths)
    assert before.startswith("2 files")
    (tmp_path / "gone").write_bytes(b"here")
    assert fingerprint_files(paths) != before


def test_contents_count_to_the_last_byte(tmp_path):
    first, second = write(tmp_path, a=b"calibration", b=b"stamps")
    before = fingerprint_contents(first, second)
    assert fingerprint_contents(second, first) != before
    assert fingerprint_contents(first, tmp_path / "gone") != before
    assert fingerprint_contents(tmp_path / "gone") == "none"
    first.write_bytes(b"calibratioN")
    assert fingerprint_contents(first, second) != before


def test_values_count_with_their_types():
    one = np.ones(2, np.float32)
    found = [
        fingerprint_values(*values)
        for values in (
            [one],
            [one.astype(np.float64)],
            [one.reshape(1, 2)],
            [one, one],
            [[1.0, 1.0]],
            [[1.0], [1.0]],
            [{"a": 1, "b": 2}],
        )
    ]
    assert len(set(found)) == len(found)
    assert fingerprint_values({"b": 2, "a": 1}) == found[-1]
    assert fingerprint_values(one[::-1]) == found[0]


@given(st.integers(0, 200), st.integers(2, 40))
def test_values_are_spread_from_the_first_to_the_last(length, count):
    values = list(range(length))
    chosen = spread(values, count)
    assert chosen == sorted(set(chosen))
    assert len(chosen) == min(length, count)
    if values:
        assert (chosen[0], chosen[-1]) == (0, length - 1)
        gaps = np.diff(chosen)
        assert not len(gaps) or gaps.max() - gaps.min() <= 1
