"""Scans that cannot be read: left out, counted, and listed at the end of a run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from ov_seg_ros.core.data_types import Sample
from ov_seg_ros.core.errors import ConfigError, InputError

NEVER_FEWER_THAN = 3
"""So many scans end a run at the earliest, unless it is to bear none."""

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


class UnreadableScans:
    """The scans that one run leaves out; too many of them end it.

    Attributes:
        scans: those left out so far.
    """

    def __init__(self, max_share: float) -> None:
        """Nothing is left out yet.

        Args:
            max_share: see ``are_bearable``.

        Raises:
            ConfigError: it is no share.
        """
        if not 0 <= max_share <= 1:
            raise ConfigError(f"the share of unreadable scans that is bearable must be in [0, 1], got {max_share:g}")
        self._max_share = max_share
        self.scans: list[UnreadableScan] = []

    def leave_out(self, scan: UnreadableScan, looked_at: int) -> None:
        """Notes a scan, the last of ``looked_at``.

        Raises:
            InputError: these are too many.
        """
        self.scans.append(scan)
        if not are_bearable(len(self.scans), looked_at, self._max_share):
            raise InputError(
                f"{len(self.scans)} of {looked_at} scans cannot be read, more than a share of {self._max_share:g} of "
                f"them: copy or record them again, or allow more (--max-unreadable). One of them: {self.scans[0]}"
            )


def are_bearable(unreadable: int, looked_at: int, max_share: float) -> bool:
    """Whether a run goes on without so many of the scans it has looked at.

    Args:
        unreadable: how many are left out.
        looked_at: how many there were so far.
        max_share: of these, and of at least 100, that may be left out; fewer than 3 always may. 0 = none may.
    """
    if max_share == 0:
        return unreadable == 0
    return unreadable < NEVER_FEWER_THAN or unreadable <= max_share * max(looked_at, 100)


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
    raise InputError(none_readable(place, ahead, "record again, or choose another topic"))


def none_readable(place: str, scans: Sequence[object], remedy: str) -> str:
    """What to say where no scan of ``place`` can be read."""
    first = f": {scans[0]}" if scans else ""
    return f"{place}: none of the {len(scans)} scans can be read{first}; {remedy}"


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
