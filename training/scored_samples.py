"""The samples that a score is taken of: those that can be read and have ground truth; the others are listed."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ov_seg_ros.core.data_types import Sample
from ov_seg_ros.core.errors import InputError
from training.labelling_run import LabellingSettings
from training.sample_journal import JournalEntry
from training.sources.protocol import Source
from training.sources.reading import read_sample

NO_TRUTH = "it has no ground truth"


class ScoredSamples:
    """Iterates over the samples of a source that can be scored.

    Corrupt samples are bearable up to a share, as in the stages before. Samples without ground truth are no damage:
    data sets of which only some scans are labelled are common.

    Attributes:
        skipped: the samples passed over so far, with the reason.
        corrupt: how many of them cannot be read.
    """

    def __init__(self, source: Source, progress: Callable[[int, int], None]) -> None:
        """Reads nothing yet.

        Args:
            source: with a label space.
            progress: called with (samples done, samples in all).
        """
        self._source, self._progress = source, progress
        self._tolerance = LabellingSettings()
        self.skipped: list[JournalEntry] = []
        self.corrupt = 0

    @property
    def without_truth(self) -> int:
        """How many of those passed over could be read."""
        return len(self.skipped) - self.corrupt

    def __iter__(self) -> Iterator[Sample]:
        """Samples with ground truth, in order.

        Raises:
            InputError: too many samples are corrupt, or none has ground truth.
        """
        total = len(self._source)
        for index in range(total):
            sample = self._read(index)
            if sample is not None and sample.class_id is None:
                self.skipped.append(JournalEntry(index, sample.key, error=NO_TRUTH))
            elif sample is not None:
                yield sample
            self._progress(index + 1, total)
        if len(self.skipped) == total:
            raise InputError(
                f"none of the {total} samples of source {self._source.name} can be scored: {self.without_truth} have "
                f"no ground truth, {self.corrupt} cannot be read; install its labels, or choose a split that has some"
            )

    def _read(self, index: int) -> Sample | None:
        try:
            return read_sample(self._source, index)
        except InputError as error:
            self.skipped.append(JournalEntry(index, "", error=str(error)))
            self.corrupt += 1
            if self.corrupt == len(self._source) or not self._tolerance.allows(self.corrupt, index + 1):
                raise InputError(
                    f"{self.corrupt} of {index + 1} samples of source {self._source.name} cannot be read, too many for "
                    f"a score; copy them again. One of them: {error}"
                ) from error
        return None
