"""The lift stage: every scan of a source with labels, and with the pairs of points and segments that TMP learns from.

    scans/000012.npz    a ``LabelledScan``
    pairs/000012.npz    ``SegmentPairs``, where the teacher has features

The number is the index of the sample in its source. Labels come from a segment store, where samples without images
are left out, or, for comparison and for learning from few true labels, from the ground truth of the source. A killed
run goes on where it stopped; a corrupt sample is skipped and listed in ``skipped.json``.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.data_types import IGNORE_ID, PseudoLabels, Sample, SegmentPairs
from ov_seg_ros.core.errors import InputError
from ov_seg_ros.core.projection import VisibilityTest
from training.dictionary import ClassDictionary
from training.labelling_run import LabellingSettings
from training.lifting import lift_both, lift_segments
from training.recipe import LiftSettings
from training.sample_journal import SKIPPED_FILE, Journal, JournalEntry, read_journals, write_skipped
from training.scan_colors import colors_by_camera, no_camera
from training.sharding import Shard, shard
from training.sources.protocol import Source
from training.sources.reading import read_sample
from training.stage_folder import StageFolder
from training.student.examples import LabelledScan
from training.student.paired_scans import save_pairs
from training.teachers.segment_store import SegmentStore
from training.worker_pool import WorkerPool

Progress = Callable[[int, int], None]
"""Called with (samples done, samples in all)."""


@dataclass(frozen=True)
class LiftJob:
    """What is lifted; can be sent to other processes.

    Attributes:
        open_source: called once per process.
        settings: of the lifting.
        folder: of the results.
        dictionary: of the store; None for labels from the ground truth.
        store: folder of the segment store; None for labels from the ground truth.
        num_classes: of the label space that true labels must be of.
    """

    open_source: Callable[[], Source]
    settings: LiftSettings
    folder: Path
    num_classes: int
    dictionary: ClassDictionary | None = None
    store: Path | None = None

    def scan_path(self, index: int) -> Path:
        """Of one labelled scan."""
        return self.folder / "scans" / f"{index:06d}.npz"

    def pairs_path(self, index: int) -> Path:
        """Of its pairs."""
        return self.folder / "pairs" / f"{index:06d}.npz"


def lift_source(
    job: LiftJob,
    stage: StageFolder,
    part: Shard,
    processes: int = 1,
    tolerance: LabellingSettings | None = None,
    progress: Progress = lambda done, total: None,
) -> StageFolder:
    """Lifts the part of a source that falls to this process; what is done already stays as it is.

    Args:
        job: what is lifted.
        stage: its folder.
        part: of this process among those of ``torchrun``.
        processes: that share the part on this machine; the results do not depend on it.
        tolerance: how many corrupt samples are bearable.
        progress: told about the part.

    Returns:
        The folder, complete once every process has done its part.

    Raises:
        InputError: source or store cannot be opened, too many corrupt samples, or no point of any sample has a label.
        StorageFullError: the disk is full.
    """
    tolerance = tolerance or LabellingSettings()
    worker = _Worker(job)  # here first, so that errors of source and store come as they are
    total = len(worker.source)
    done = _still_there(job, worker.makes_pairs)
    if stage.complete and not _is_whole(stage):
        stage = stage.reopen()  # others wait for this stage
    mine = shard(range(total), part.rank, part.world)
    todo = [index for index in mine if index not in done]
    skipped = 0
    with Journal(job.folder, part) as journal, closing(_lift_all(worker, todo, processes)) as entries:
        for looked_at, entry in enumerate(entries, 1):
            journal.append(entry)
            progress(len(mine) - len(todo) + looked_at, len(mine))
            skipped += bool(entry.error)
            if entry.error and not tolerance.allows(skipped, looked_at):
                write_skipped(job.folder)
                raise InputError(_too_many(job.folder, skipped, looked_at, entry.error))
    bad = write_skipped(job.folder)
    done = _still_there(job, worker.makes_pairs)
    if len(done) + len(bad) < total:
        return stage  # other processes are still at it
    if bad and (not done or not tolerance.allows(len(bad), total)):
        raise InputError(_too_many(job.folder, len(bad), total, bad[0].error))
    scans, _ = lifted_files(job.folder)
    if not _any_label(scans):
        raise InputError(
            f"none of the {total} samples of source {worker.source.name} gives a point a label: look at the images and "
            f"the calibration (ov-seg convert) and at what the teacher said; delete {job.folder} afterwards"
        )
    return stage.finish(len(scans))


def lifted_files(folder: Path) -> tuple[list[Path], list[Path]]:
    """Paths of the labelled scans of a finished stage, and of their pairs (empty for a teacher without features)."""
    return sorted((folder / "scans").glob("??????.npz")), sorted((folder / "pairs").glob("??????.npz"))


def require_files(stage: StageFolder) -> StageFolder:
    """A finished stage itself.

    Raises:
        InputError: scans or pairs that it made are no longer there.
    """
    if not _is_whole(stage):
        scans, pairs = lifted_files(stage.path)
        raise InputError(
            f"{stage.path} holds {len(scans)} scans and {len(pairs)} of their pairs, but {stage.count} were lifted; "
            f"run {stage.stage} again, it makes what is missing"
        )
    return stage


def _is_whole(stage: StageFolder) -> bool:
    """Whether a finished stage still holds all scans and, if it made any, all pairs."""
    scans, pairs = lifted_files(stage.path)
    return len(scans) == stage.count and (not pairs or [p.name for p in pairs] == [s.name for s in scans])


def _still_there(job: LiftJob, with_pairs: bool) -> dict[int, JournalEntry]:
    """The samples that are done; one without images has no files where labels come from images."""

    def has_files(index: int) -> bool:
        return job.scan_path(index).is_file() and (not with_pairs or job.pairs_path(index).is_file())

    return {
        index: entry
        for index, entry in read_journals(job.folder).items()
        if not entry.error and (has_files(index) or not (entry.cameras or job.store is None))
    }


def _any_label(scans: Sequence[Path]) -> bool:
    return any((LabelledScan.load(path, False).class_id != IGNORE_ID).any() for path in scans)


def _lift_all(worker: _Worker, todo: Sequence[int], processes: int) -> Generator[JournalEntry, None, None]:
    if processes == 1 or len(todo) < 2:
        yield from (worker.lift(index) for index in todo)
        return
    with WorkerPool(processes, _begin, (worker.job,)) as pool:
        yield from pool.map(_lift_in_worker, todo)


_WORKER: list[_Worker] = []
"""The one of this process, once ``_begin`` has run."""


def _begin(job: LiftJob) -> None:
    _WORKER.append(_Worker(job))


def _lift_in_worker(index: int) -> JournalEntry:
    return _WORKER[0].lift(index)


class _Worker:
    """Lifts single samples of one job."""

    def __init__(self, job: LiftJob) -> None:
        self.job, self.source = job, job.open_source()
        self._store: SegmentStore | None = None
        if job.store is not None and job.dictionary is not None:
            self._store = SegmentStore.open(job.store, job.dictionary)

    @property
    def makes_pairs(self) -> bool:
        """Where the teacher has features."""
        return self._store is not None and self._store.text_features is not None

    def lift(self, index: int) -> JournalEntry:
        """Writes the files of one sample, whole or not at all; none where there are no images to lift from."""
        key = ""
        try:
            sample = read_sample(self.source, index)
            key = sample.key
            if self._store is not None and not sample.images:
                return JournalEntry(index, key)
            cameras = self._write(index, sample)
        except InputError as error:
            return JournalEntry(index, key, error=str(error))
        return JournalEntry(index, key, cameras)

    def _write(self, index: int, sample: Sample) -> tuple[str, ...]:
        cameras: tuple[str, ...] = ()
        if self._store is None:
            labels = self._true_labels(sample)
        else:
            labels, pairs, cameras = self._lifted(index, sample, self._store)
            if pairs is not None:
                save_pairs(self.job.pairs_path(index), pairs)
        color, camera = colors_by_camera(sample) if self.job.settings.colors else (None, no_camera(sample))
        cloud = sample.cloud
        scan = LabelledScan(
            cloud.points, cloud.intensity, self._ring(index, sample), labels.class_id, labels.confidence, color, camera
        )
        scan.save(self.job.scan_path(index))
        return cameras

    def _lifted(
        self, index: int, sample: Sample, store: SegmentStore
    ) -> tuple[PseudoLabels, SegmentPairs | None, tuple[str, ...]]:
        stored = [image for image in sample.images if store.has(sample.key, image.name, image.stamp_ns)]
        if not stored:
            raise InputError(f"sample {sample.key}: the store holds segments of none of its images; label it first")
        segments = {image.name: store.read(sample.key, image.name, image.stamp_ns) for image in stored}
        occlusion, min_depth = self._occlusion(index), self.job.settings.min_depth
        if store.text_features is None:
            return lift_segments(sample, segments, occlusion, min_depth), None, tuple(segments)
        return *lift_both(sample, segments, occlusion, min_depth), tuple(segments)

    def _occlusion(self, index: int) -> VisibilityTest | None:
        """By the depth images of the source where it has some."""
        own = getattr(self.source, "load_occlusion", None)
        if not self.job.settings.occlusion or own is None:
            return self.job.settings.visibility
        test: VisibilityTest | None = own(index)
        return test

    def _true_labels(self, sample: Sample) -> PseudoLabels:
        if sample.class_id is None:
            raise InputError(f"sample {sample.key} has no ground truth to learn from")
        if sample.class_id.shape != (len(sample.cloud),):
            shape = sample.class_id.shape
            raise InputError(f"sample {sample.key} has {len(sample.cloud)} points, but labels of shape {shape}")
        known = sample.class_id != IGNORE_ID
        if sample.class_id[known].max(initial=0) >= self.job.num_classes:
            highest = sample.class_id[known].max()
            raise InputError(f"sample {sample.key} has label {highest}, but there are {self.job.num_classes} classes")
        return PseudoLabels(sample.class_id, known.astype(np.float32), np.full(len(known), -1, np.int32))

    def _ring(self, index: int, sample: Sample) -> NDArray[np.uint16]:
        own = getattr(self.source, "load_ring", None)
        ring = None if own is None else own(index)
        return np.zeros(len(sample.cloud), np.uint16) if ring is None else ring


def _too_many(folder: Path, skipped: int, looked_at: int, error: str) -> str:
    return (
        f"{skipped} of {looked_at} samples cannot be lifted; they are listed in {folder / SKIPPED_FILE}. "
        f"One of them: {error}"
    )
