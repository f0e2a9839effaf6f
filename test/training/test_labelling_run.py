"""The label stage: real processes that are killed, shards, corrupt samples, full disks, estimates."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import painted_source
import pytest
from hypothesis import given
from hypothesis import strategies as st
from painted_source import DICTIONARY, PaintedSource, PaintTeacher

from ov_seg_ros.bags.convert import convert_source
from ov_seg_ros.core.errors import ConfigError, InputError
from training import atomic_files, labelling_run
from training.atomic_files import StorageFullError
from training.labelling_estimate import disk_estimate
from training.labelling_run import LabellingSettings, label_source
from training.sample_journal import Journal, JournalEntry, read_journals
from training.sharding import Shard
from training.sources.recording import RecordingSource
from training.stage_folder import StageFolder
from training.teachers.segment_store import SegmentStore

ROOT = Path(__file__).resolve().parents[2]
QUIET = LabellingSettings(progress=False)


def contents(folder):
    """Every file of a store by name, except the journals, whose lines say who did what."""
    files = (p for p in folder.rglob("*") if p.is_file() and p.parent.name != "journal")
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


def start(folder, log, count, seconds, rank=None, world=2):
    shard = {} if rank is None else {"RANK": str(rank), "WORLD_SIZE": str(world), "LOCAL_RANK": str(rank)}
    path = os.pathsep.join([str(ROOT), str(ROOT / "test")])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **shard}
    program = [sys.executable, painted_source.__file__, str(folder), str(log), str(count), str(seconds)]
    return subprocess.Popen(program, env=environment, stderr=subprocess.PIPE)


def finish(process):
    _, error = process.communicate(timeout=60)
    assert process.returncode == 0, error.decode()


def wait_for_lines(log, count, process):
    deadline = time.monotonic() + 60
    while not log.exists() or len(log.read_text().splitlines()) < count:
        assert process.poll() is None, process.stderr.read().decode()
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_a_killed_run_goes_on_without_redoing_or_losing_an_image(tmp_path):
    whole = label_source(PaintedSource(20), PaintTeacher(), tmp_path / "whole", settings=QUIET)
    log = tmp_path / "log"
    for images in (11, 24):  # killed twice: in the middle of a sample, and while resuming
        process = start(tmp_path / "killed", log, 20, 0.01)
        wait_for_lines(log, images, process)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert not StageFolder.load(tmp_path / "killed").complete
    finish(start(tmp_path / "killed", log, 20, 0.0))
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
    calls = log.read_text().splitlines()
    assert len(set(calls)) == 40
    assert len(calls) <= 42  # at most the image in work at each kill was done twice
    assert whole.folder.complete
    assert (whole.labelled, whole.resumed, whole.missing, whole.skipped) == (20, 0, 0, ())


def test_two_processes_make_what_one_makes(tmp_path):
    label_source(PaintedSource(9), PaintTeacher(), tmp_path / "one", settings=QUIET)
    log = tmp_path / "log"
    processes = [start(tmp_path / "two", log, 9, 0.005, rank) for rank in (0, 1)]
    for process in processes:
        finish(process)
    assert contents(tmp_path / "two") == contents(tmp_path / "one")
    assert json.loads((tmp_path / "two" / "stage.json").read_text())["complete"]
    calls = log.read_text().splitlines()
    assert len(calls) == len(set(calls)) == 18


def test_a_run_may_go_on_with_another_number_of_processes(tmp_path):
    first = label_source(PaintedSource(7), PaintTeacher(), tmp_path / "a", Shard(1, 3), QUIET)
    assert (first.labelled, first.missing, first.folder.complete) == (2, 5, False)
    source, teacher = PaintedSource(7), PaintTeacher()
    rest = label_source(source, teacher, tmp_path / "a", settings=QUIET)
    assert (rest.labelled, rest.resumed, rest.missing, rest.folder.complete) == (5, 2, 0, True)
    assert source.loaded == [0, 1, 4, 5, 6]
    assert rest.folder.count == 7
    label_source(PaintedSource(7), PaintTeacher(), tmp_path / "b", settings=QUIET)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_what_was_removed_is_made_again(tmp_path):
    label_source(PaintedSource(4), PaintTeacher(), tmp_path, settings=QUIET)
    before = contents(tmp_path)
    (tmp_path / "segments/painted/000002_right.png").unlink()
    (tmp_path / "segments/painted/000003_left.npy").write_bytes(b"not looked at: the picture is there")
    teacher = PaintTeacher()
    label_source(PaintedSource(4), teacher, tmp_path, settings=QUIET)
    assert teacher.calls == [("painted/000002", "right")]
    after = contents(tmp_path)
    assert after.keys() == before.keys()
    assert [name for name in after if after[name] != before[name]] == ["segments/painted/000003_left.npy"]


def test_the_store_holds_what_the_teacher_said(tmp_path):
    label_source(PaintedSource(2), PaintTeacher(), tmp_path, settings=QUIET)
    store = SegmentStore.open(tmp_path, DICTIONARY)
    image = PaintedSource(2).load_sample(1).images[1]
    said, read = PaintTeacher().segment(image, ""), store.read("painted/000001", "right")
    for name in ("segment_id", "class_id", "confidence", "text_id"):
        np.testing.assert_array_equal(getattr(read, name), getattr(said, name))
    np.testing.assert_allclose(read.features, said.features, atol=1e-3)  # half precision
    np.testing.assert_array_equal(store.text_features, PaintTeacher.text_features)


@pytest.mark.parametrize("prefetch", [0, 1, 5])
def test_prefetching_changes_no_byte(tmp_path, prefetch):
    label_source(PaintedSource(5), PaintTeacher(), tmp_path / "a", settings=QUIET)
    settings = LabellingSettings(prefetch=prefetch, progress=False)
    label_source(PaintedSource(5), PaintTeacher(), tmp_path / "b", settings=settings)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_samples_are_loaded_while_the_teacher_works(tmp_path):
    third_is_loaded = threading.Event()

    class Source(PaintedSource):
        def load_sample(self, index):
            sample = super().load_sample(index)
            if index == 2:
                third_is_loaded.set()
            return sample

    class Waiting(PaintTeacher):
        def segment(self, image, key):
            assert third_is_loaded.wait(20), "the teacher alone keeps the run busy"
            return super().segment(image, key)

    assert label_source(Source(4), Waiting(), tmp_path, settings=QUIET).labelled == 4


def test_recordings_can_be_labelled(tmp_path):
    """An open SQLite file may be read only in the thread that opened it."""
    convert_source(PaintedSource(5), tmp_path / "bag.db3")
    result = label_source(RecordingSource(tmp_path / "bag.db3"), PaintTeacher(), tmp_path / "out", settings=QUIET)
    assert result.folder.complete


def test_corrupt_samples_are_skipped_listed_and_tried_again(tmp_path):
    result = label_source(PaintedSource(6, frozenset({1, 4})), PaintTeacher(), tmp_path, settings=QUIET)
    assert (result.labelled, len(result.skipped), result.folder.count) == (4, 2, 4)
    listed = json.loads((tmp_path / "skipped.json").read_text())
    assert listed == [{"index": i, "key": "", "error": f"scan {i} is cut off"} for i in (1, 4)]
    source = PaintedSource(6, frozenset({4}))
    assert len(label_source(source, PaintTeacher(), tmp_path, settings=QUIET).skipped) == 1
    assert source.loaded == [1, 4]
    label_source(PaintedSource(6), PaintTeacher(), tmp_path, settings=QUIET)
    assert not (tmp_path / "skipped.json").exists()
    label_source(PaintedSource(6), PaintTeacher(), tmp_path.parent / f"{tmp_path.name}_whole", settings=QUIET)
    assert contents(tmp_path) == contents(tmp_path.parent / f"{tmp_path.name}_whole")


def test_an_image_the_teacher_refuses_is_skipped_with_its_key(tmp_path):
    class Choosy(PaintTeacher):
        def segment(self, image, key):
            if key.endswith("2") and image.name == "right":
                raise InputError(f"{key}: too dark")
            return super().segment(image, key)

    (entry,) = label_source(PaintedSource(4), Choosy(), tmp_path, settings=QUIET).skipped
    assert (entry.index, entry.key, entry.error) == (2, "painted/000002", "painted/000002: too dark")


def test_too_many_corrupt_samples_end_the_run(tmp_path):
    source = PaintedSource(50, frozenset(range(10, 50)))
    with pytest.raises(InputError, match=r"3 of 13 samples are corrupt, more than max_skipped_share = 0.01 allows.*12"):
        label_source(source, PaintTeacher(), tmp_path, settings=QUIET)
    assert [row["index"] for row in json.loads((tmp_path / "skipped.json").read_text())] == [10, 11, 12]
    assert not StageFolder.load(tmp_path).complete


def test_shards_add_up_their_corrupt_samples(tmp_path):
    """Two of five in each part are bearable alone, four of ten together are not."""
    source = PaintedSource(10, frozenset({0, 1, 8, 9}))
    label_source(source, PaintTeacher(), tmp_path, Shard(0, 2), QUIET)
    with pytest.raises(InputError, match=r"4 of 10 samples are corrupt.*scan 0 is cut off"):
        label_source(source, PaintTeacher(), tmp_path, Shard(1, 2), QUIET)


def test_a_source_of_which_nothing_can_be_read(tmp_path):
    with pytest.raises(InputError, match="2 of 2 samples are corrupt"):
        label_source(PaintedSource(2, frozenset({0, 1})), PaintTeacher(), tmp_path, settings=QUIET)


@pytest.mark.parametrize(
    ("share", "skipped", "looked_at", "allowed"),
    [
        (0.01, 2, 2, True),  # a bad beginning
        (0.01, 3, 100, False),
        (0.01, 3, 299, False),
        (0.01, 3, 300, True),
        (0.05, 5, 6, True),  # as if they were the first of a hundred
        (0.05, 6, 100, False),
        (0.0, 1, 10_000, False),
        (1.0, 100, 100, True),
    ],
)
def test_how_many_corrupt_samples_are_bearable(share, skipped, looked_at, allowed):
    assert LabellingSettings(max_skipped_share=share).allows(skipped, looked_at) is allowed


def test_settings_out_of_range():
    with pytest.raises(ConfigError, match=r"max_skipped_share must be in \[0, 1\], got 1.5"):
        LabellingSettings(max_skipped_share=1.5)
    with pytest.raises(ConfigError, match="prefetch must be >= 0"):
        LabellingSettings(prefetch=-1)


def test_another_teacher_or_source_is_refused(tmp_path):
    label_source(PaintedSource(3), PaintTeacher(), tmp_path, settings=QUIET)

    class Other(PaintTeacher):
        def describe(self):
            return {**super().describe(), "teacher": "other"}

    with pytest.raises(InputError, match=r'settings.teacher.teacher = "paint", now it is "other"'):
        label_source(PaintedSource(3), Other(), tmp_path, settings=QUIET)
    with pytest.raises(InputError, match=r"settings.source.samples = 3, now it is 4"):
        label_source(PaintedSource(4), PaintTeacher(), tmp_path, settings=QUIET)


def test_errors_of_ours_are_not_taken_for_corrupt_samples(tmp_path):
    class Broken(PaintTeacher):
        def segment(self, image, key):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        label_source(PaintedSource(3), Broken(), tmp_path, settings=QUIET)


@pytest.mark.parametrize("parts", [1, 2])
def test_equal_keys_are_refused(tmp_path, parts):
    def run():
        for rank in range(parts):
            source = PaintedSource(4, keys={3: "painted/000000"})
            label_source(source, PaintTeacher(), tmp_path, Shard(rank, parts), QUIET)

    with pytest.raises(InputError, match=r"samples 0 and 3 of source painted have the same key 'painted/000000'"):
        run()


def test_a_source_without_images(tmp_path):
    class Blind(PaintedSource):
        def load_sample(self, index):
            sample = super().load_sample(index)
            return type(sample)(sample.key, sample.cloud)

    with pytest.raises(InputError, match="none of the 3 samples of source painted has an image"):
        label_source(Blind(3), PaintTeacher(), tmp_path, settings=QUIET)
    with pytest.raises(InputError, match="3 samples of source painted have no image"):
        disk_estimate(Blind(3), PaintTeacher())


def test_a_disk_that_will_not_do_is_noticed_at_the_beginning(tmp_path, monkeypatch):
    free = atomic_files.shutil.disk_usage(tmp_path)._replace(free=10_000)
    monkeypatch.setattr(atomic_files.shutil, "disk_usage", lambda _path: free)
    teacher = PaintTeacher()
    with pytest.raises(StorageFullError, match=r"segments of 992 more samples need about .* where 10.0 kB are free"):
        label_source(PaintedSource(1000), teacher, tmp_path, settings=LabellingSettings(prefetch=0, progress=False))
    assert len(teacher.calls) == 2 * labelling_run.FIRST_LOOK


def test_the_estimate_is_what_a_run_writes(tmp_path):
    estimate = disk_estimate(PaintedSource(6), PaintTeacher(), samples=6)
    label_source(PaintedSource(6), PaintTeacher(), tmp_path, settings=QUIET)
    blocks = sum(-(-p.stat().st_size // 4096) * 4096 for p in (tmp_path / "segments").rglob("*.*"))
    assert (estimate.samples, estimate.images, estimate.total_bytes) == (6, 12, blocks)
    assert "6 samples, 12 images: 147.5 kB on disk (12.3 kB per image)" in str(estimate)


def test_the_estimate_skips_corrupt_samples():
    assert disk_estimate(PaintedSource(9, frozenset({0, 3})), PaintTeacher()).images_per_sample == 2
    with pytest.raises(InputError, match="scan 6 is cut off"):
        disk_estimate(PaintedSource(9, frozenset({0, 3, 6})), PaintTeacher())
    with pytest.raises(InputError, match="source painted has no samples"):
        disk_estimate(PaintedSource(0), PaintTeacher())


def test_only_rank_0_shows_a_bar(tmp_path, capsys):
    for rank in (0, 1):
        label_source(PaintedSource(4), PaintTeacher(), tmp_path, Shard(rank, 2))
        shown = capsys.readouterr()
        assert shown.out == ""
        assert ("label, process 1 of 2" in shown.err) == (rank == 0)


def test_a_second_process_with_the_same_part_is_refused(tmp_path):
    with Journal(tmp_path, Shard(0, 2)), pytest.raises(InputError, match=r"another process writes .*0-of-2.jsonl"):
        Journal(tmp_path, Shard(0, 2))


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=12), st.integers(0, 200))
def test_a_journal_cut_anywhere_loses_only_its_last_line(tmp_path_factory, events, cut):
    folder = tmp_path_factory.mktemp("journal")
    entries = [JournalEntry(i, f"k{i}", () if bad else ("left",), "torn\n" if bad else "") for i, bad in events]
    with Journal(folder, Shard()) as journal:
        for entry in entries:
            journal.append(entry)
    path = folder / "journal" / "0-of-1.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) - min(cut, len(whole))])
    kept = path.read_bytes().count(b"\n")
    with Journal(folder, Shard()) as journal:
        journal.append(JournalEntry(99, "last"))
    found = read_journals(folder)
    assert found.pop(99) == JournalEntry(99, "last")
    expected = {}
    for entry in entries[: kept + 1]:
        if entry.index not in expected or expected[entry.index].error:
            expected[entry.index] = entry
    # the line after the last whole one may be whole but for its end of line
    shorter = {}
    for entry in entries[:kept]:
        if entry.index not in shorter or shorter[entry.index].error:
            shorter[entry.index] = entry
    assert found in (expected, shorter)
