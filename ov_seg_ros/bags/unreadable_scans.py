"""Scans that cannot be read: left out, counted, and listed at the end of a run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from ov_seg_ros.core.data_types import Sample
from ov_seg_ros.core.errors import InputError

LISTED = 20
"""Scans that are listed one by one; of more, the number is said."""


def on_one_line(error: Exception) -> str:
    """What an error says."""
    return " ".join(str(error).split())


@dataclass(frozen=True)
class UnreadableScan:
    """A scan that was left out.

    Attributes:
        place: where it lies: a topic, or a sample of a source.
        stamp_ns: of the scan; its reception where it is cut off before its stamp, None where neither is known.
        reason: what is wrong with it, on one line.
    """

    place: str
    stamp_ns: int | None
    reason: str

    def __str__(self) -> str:
        when = "" if self.stamp_ns is None else f" at {self.stamp_ns} ns"
        return f"{self.place}{when}: {self.reason}"


def require_readable(outcomes: Iterator[Sample | UnreadableScan], place: str) -> Iterator[Sample | UnreadableScan]:
    """Reads ahead to the first scan that can be read, so that work on nothing ends before it begins.

    Args:
        outcomes: of ``SampleStream.outcomes``.
        place: recording and topic, for the message.

    Returns:
        All outcomes, those that were read ahead included.

    Raises:
        InputError: no scan can be read; the message holds the reason of the first.
    """
    ahead: list[Sample | UnreadableScan] = []
    for outcome in outcomes:
        ahead.append(outcome)
        if isinstance(outcome, Sample):
            return chain(ahead, outcomes)
    first = f": {ahead[0]}" if ahead else ""
    raise InputError(
        f"{place}: none of the {len(ahead)} scans can be read{first}; record again, or choose another topic"
    )


def list_unreadable(scans: Sequence[UnreadableScan], unfit_truth: Sequence[str] = ()) -> Iterator[str]:
    """What a run left out, one line for each, at most ``LISTED`` of a kind, and one for the rest.

    Args:
        scans: that could not be read.
        unfit_truth: of ``SampleStream.unfit_truth``.
    """
    yield from (f"a scan could not be read and was left out: {scan}" for scan in scans[:LISTED])
    if len(scans) > LISTED:
        yield f"{len(scans) - LISTED} more scans could not be read and were left out"
    yield from (f"ground truth was left out: {reason}" for reason in unfit_truth[:LISTED])
    if len(unfit_truth) > LISTED:
        yield f"the ground truth of {len(unfit_truth) - LISTED} more scans was left out"
