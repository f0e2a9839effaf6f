"""The label stage: what a 2D teacher says about every image of a source, in a segment store.

Runs as one process, or under ``torchrun`` as many, on one machine or several that share the folder: each labels its
part of the samples, and nothing is exchanged but files. A killed run goes on where it stopped, also with another number
of processes. A corrupt sample is skipped and listed in ``skipped.json``; too many of them end the run.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from ov_seg_ros.bags.unreadable_scans import are_bearable
from ov_seg_ros.core.data_types import Sample
from ov_seg_ros.core.errors import ConfigError, InputError
from training.atomic_files import check_free_space
from training.sample_journal import SKIPPED_FILE, Journal, JournalEntry, read_journals, write_skipped
from training.sharding import Shard, shard
from training.sources.protocol import Source
from training.sources.reading import read_sample
from training.stage_folder import StageFolder
from training.teachers.protocol import Teacher
from training.teachers.segment_store import SegmentStore

STAGE = "label"
FIRST_LOOK = 8
"""Samples after which the space on the disk is compared with what the rest will need."""


@dataclass(frozen=True)
class LabellingSettings:
    """How to run; none of it changes a result.

    Attributes:
        max_skipped_share: of the samples looked at so far (of at least 100) that may be corrupt; a run also goes on
            with fewer than 3 corrupt samples, whatever their share. 0 = stop at the first.
        prefetch: samples loaded ahead while the teacher works in a thread of its own; 0 = none, one thread.
        progress: show a bar with the time left, in the process of rank 0.
    """

    max_skipped_share: float = 0.01
    prefetch: int = 2
    progress: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.max_skipped_share <= 1:
            raise ConfigError(f"max_skipped_share must be in [0, 1], got {self.max_skipped_share}")
        if self.prefetch < 0:
            raise ConfigError(f"prefetch must be >= 0 samples, got {self.prefetch}")

    def allows(self, skipped: int, looked_at: int) -> bool:
        """Whether so many corrupt samples are still bearable."""
        return are_bearable(skipped, looked_at, self.max_skipped_share)


@dataclass(frozen=True)
class LabellingResult:
    """What came of a run.

    Attributes:
        folder: the stage folder; complete once every process has done its part.
        labelled: samples that this process labelled.
        resumed: samples of this process that were done before.
        skipped: corrupt samples of all processes so far.
        missing: samples of other processes that are not done yet.
    """

    folder: StageFolder
    labelled: int
    resumed: int
    skipped: tuple[JournalEntry, ...]
    missing: int


def label_source(
    source: Source,
    teacher: Teacher,
    folder: Path,
    part: Shard | None = None,
    settings: LabellingSettings | None = None,
    inputs: Mapping[str, str] | None = None,
) -> LabellingResult:
    """Labels the part of a source that falls to this process; what is done already stays as it is.

    Args:
        source: of samples.
        teacher: to ask.
        folder: of this source and teacher alone; created if it is not there.
        part: of this process, see ``training.sharding.read_shard``; by default it is the only one.
        settings: of the run.
        inputs: hashes of what source and teacher are made of, beyond their names and descriptions.

    Raises:
        InputError: the folder was made by another source, teacher or dictionary; too many corrupt samples; or two
            samples with the same key.
        StorageFullError: the disk is full, or will be before the end.
    """
    part, settings = part or Shard(), settings or LabellingSettings()
    stage = StageFolder.open(folder, STAGE, stage_settings(source, teacher), inputs)
    store = SegmentStore.create(folder, teacher.dictionary, teacher.text_features, teacher.describe())
    before = still_there(read_journals(folder), store)
    mine = shard(range(len(source)), part.rank, part.world)
    todo = [index for index in mine if index not in before]
    run = _Run(source, teacher, store, settings, {entry.key: index for index, entry in before.items()})
    with (
        Journal(folder, part) as journal,
        _bar(len(mine), len(mine) - len(todo), settings, part) as bar,
        closing(run.entries(todo, settings.prefetch)) as entries,
    ):
        for looked_at, entry in enumerate(entries, 1):
            journal.append(entry)
            if entry.error:
                run.count_skip(entry, looked_at)
                bar.set_postfix_str(f"{run.skipped} skipped")
            bar.update()
            if looked_at == FIRST_LOOK:
                run.check_disk(looked_at, len(todo) * part.world)
    return _close(stage, store, source, settings, (len(todo) - run.skipped, len(mine) - len(todo)))


def stage_settings(source: Source, teacher: Teacher) -> dict[str, object]:
    """What decides the result, for the ``stage.json``."""
    return {"source": source_identity(source), "teacher": teacher.describe()}


def source_identity(source: Source, truth: bool = False) -> dict[str, object]:
    """Which source this is, for the ``stage.json``: name, number of samples, and what it says about itself.

    Args:
        source: any.
        truth: of a stage that uses the ground truth. To the others it makes no difference, so that labels of points
            may be installed or mapped to other classes without losing what was made of the images.
    """
    about = source.describe()
    if not truth:
        about = {key: value for key, value in about.items() if key != "truth"}
    return {"name": source.name, "samples": len(source), "about": about}


class _Run:
    """Counters of this process and what it does with one sample."""

    def __init__(
        self,
        source: Source,
        teacher: Teacher,
        store: SegmentStore,
        settings: LabellingSettings,
        known_keys: dict[str, int],
    ) -> None:
        self._source, self._teacher, self._store, self._settings = source, teacher, store, settings
        self._index_of = known_keys
        self.skipped = 0
        self.bytes_written = 0

    def entries(self, todo: Sequence[int], ahead: int) -> Generator[JournalEntry, None, None]:
        """Labels samples in order, loading up to ``ahead`` of them while the teacher works on an earlier one.

        Samples are loaded in the calling thread, because open recordings may not change threads (SQLite); the teacher
        works in a thread of its own.
        """
        if ahead == 0:
            yield from (self._label(index, self._load(index)) for index in todo)
            return
        pool = ThreadPoolExecutor(1, "teacher", initializer=_current_device())
        waiting: deque[Future[JournalEntry]] = deque()
        try:
            for index in todo:
                waiting.append(pool.submit(self._label, index, self._load(index)))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _load(self, index: int) -> Sample | InputError:
        try:
            return read_sample(self._source, index)
        except InputError as error:
            return error

    def _label(self, index: int, sample: Sample | InputError) -> JournalEntry:
        """Labels one sample; images that are there already are not done again."""
        if isinstance(sample, InputError):
            return JournalEntry(index, "", error=str(sample))
        key = sample.key
        if self._index_of.setdefault(key, index) != index:
            raise InputError(_same_key(self._source.name, key, self._index_of[key], index))
        try:
            for image in sample.images:
                if not self._store.has(key, image.name, image.stamp_ns):
                    segments = self._teacher.segment(image, key)
                    self.bytes_written += self._store.write(key, image.name, segments, image.stamp_ns)
        except InputError as error:
            return JournalEntry(index, key, error=str(error))
        return JournalEntry(index, key, tuple(image.name for image in sample.images))

    def count_skip(self, entry: JournalEntry, looked_at: int) -> None:
        """Decides whether the run may go on after a corrupt sample."""
        self.skipped += 1
        if not self._settings.allows(self.skipped, looked_at):
            write_skipped(self._store.folder)
            raise InputError(_too_many(self._store.folder, self._settings, (self.skipped, looked_at), entry.error))

    def check_disk(self, looked_at: int, total: int) -> None:
        """Stops a run whose results will not fit; ``total`` samples were to do in all processes together."""
        left = total - looked_at
        check_free_space(self._store.folder, self.bytes_written // looked_at * left, f"segments of {left} more samples")


def _close(
    stage: StageFolder, store: SegmentStore, source: Source, settings: LabellingSettings, own: tuple[int, int]
) -> LabellingResult:
    """Marks the stage complete if this was the last process to finish."""
    skipped = write_skipped(stage.path)
    done = still_there(read_journals(stage.path), store)
    missing = len(source) - len(done) - len(skipped)
    if missing == 0:
        _check_whole(stage.path, source, settings, done, skipped)
        stage = stage.finish(len(done))
    return LabellingResult(stage, *own, tuple(skipped), missing)


def _check_whole(
    folder: Path,
    source: Source,
    settings: LabellingSettings,
    done: Mapping[int, JournalEntry],
    skipped: list[JournalEntry],
) -> None:
    """What no single process sees: the share of corrupt samples in all, equal keys, a source without images."""
    if skipped and (not done or not settings.allows(len(skipped), len(source))):
        raise InputError(_too_many(folder, settings, (len(skipped), len(source)), skipped[0].error))
    index_of: dict[str, int] = {}
    for index, entry in done.items():
        if index_of.setdefault(entry.key, index) != index:
            raise InputError(_same_key(source.name, entry.key, index_of[entry.key], index))
    if not any(entry.cameras for entry in done.values()):
        raise InputError(
            f"none of the {len(done)} samples of source {source.name} has an image; a 2D teacher needs some"
        )


def _too_many(folder: Path, settings: LabellingSettings, counts: tuple[int, int], error: str) -> str:
    return (
        f"{counts[0]} of {counts[1]} samples are corrupt, more than max_skipped_share = {settings.max_skipped_share:g} "
        f"allows; they are listed in {folder / SKIPPED_FILE}. One of them: {error}"
    )


def _same_key(source: str, key: str, first: int, second: int) -> str:
    return (
        f"samples {first} and {second} of source {source} have the same key {key!r}: keys must be unique. If the "
        "source was changed since the run began, delete the folder of its labels"
    )


def still_there(entries: Mapping[int, JournalEntry], store: SegmentStore) -> dict[int, JournalEntry]:
    """The samples that are done and whose files nobody removed since, by index; skipped ones are none of them."""
    return {
        index: entry
        for index, entry in entries.items()
        if not entry.error and all(store.has(entry.key, camera) for camera in entry.cameras)
    }


def _current_device() -> Callable[[], None]:
    """A call that makes the GPU of this thread the current one of another; without CUDA, one that does nothing."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return lambda: None
    device = torch.cuda.current_device()
    return lambda: torch.cuda.set_device(device)


def _bar(total: int, done: int, settings: LabellingSettings, part: Shard) -> tqdm:
    label = STAGE if part.world == 1 else f"{STAGE}, process 1 of {part.world}"
    hidden = not settings.progress or part.rank != 0
    return tqdm(total=total, initial=done, desc=label, unit="sample", mininterval=1, file=sys.stderr, disable=hidden)
