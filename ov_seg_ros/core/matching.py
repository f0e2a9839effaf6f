"""Matches images to scans by stamp: the LiDAR triggers, the nearest image of every camera answers.

Pure bookkeeping: no thread, no clock, no callback. The caller says what came and what time it is.

A match is final as soon as nothing nearer can come, which is when every camera has shown an image stamped at or
after the scan, or when the deadline since the arrival of the scan has passed. Every scan that goes in comes out,
once, with or without images. Per scan every camera is counted exactly once:

* ``paired``: the nearest image is at most ``tolerance_ns`` away (equality counts).
* ``too_far``: images exist after the scan, but none within the tolerance.
* ``stale``: the newest image is older than the scan by more than the tolerance; the camera lags or has stopped.
* ``missing``: no image at all since the start or the last reset.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from ov_seg_ros.core.errors import ConfigError, InputError

ScanT = TypeVar("ScanT")
OUTCOMES = ("paired", "too_far", "missing", "stale")


@dataclass(frozen=True)
class CameraTiming:
    """When an image of this camera belongs to a scan.

    Attributes:
        offset_ns: added to the stamp of every image before it is compared with a scan. A camera whose stamps are
            20 ms too late (stamped at the end of the transfer) needs -20_000_000.
        tolerance_ns: largest accepted distance between scan and image, inclusive.
    """

    offset_ns: int = 0
    tolerance_ns: int = 50_000_000

    def __post_init__(self) -> None:
        if self.tolerance_ns < 0:
            raise ConfigError(f"tolerance_ns must be >= 0, got {self.tolerance_ns}")


@dataclass(frozen=True)
class MatchedImage:
    """The image of one camera nearest to a scan.

    Attributes:
        outcome: one of ``OUTCOMES``.
        image: what was given to ``add_image``; None unless the outcome is "paired".
        stamp_ns: stamp of the nearest image as it came (offset not added), None if there was none.
        gap_ns: image stamp + offset - scan stamp; None if there was no image.
    """

    outcome: str
    image: Any = None
    stamp_ns: int | None = None
    gap_ns: int | None = None


@dataclass(frozen=True)
class Match(Generic[ScanT]):
    """A scan and, for every camera, the image that belongs to it.

    Attributes:
        scan: what was given to ``add_scan``.
        stamp_ns: stamp of the scan.
        images: one entry per camera, paired or not.
        complete: False if the deadline, or a backward jump of the scans, ended the wait.
    """

    scan: ScanT
    stamp_ns: int
    images: Mapping[str, MatchedImage]
    complete: bool


@dataclass
class _Camera:
    """Bounded history of one camera, sorted by stamp, oldest first."""

    timing: CameraTiming
    counters: dict[str, int] = field(default_factory=lambda: dict.fromkeys(OUTCOMES, 0))
    stamps: list[int] = field(default_factory=list)
    images: dict[int, Any] = field(default_factory=dict)

    def insert(self, stamp_ns: int, image: Any, history: int) -> None:
        """Adds an image; one with the same stamp is replaced, the oldest beyond ``history`` are forgotten."""
        if stamp_ns not in self.images:
            insort(self.stamps, stamp_ns)
        self.images[stamp_ns] = image
        while len(self.stamps) > history:
            del self.images[self.stamps.pop(0)]

    def forget_after(self, stamp_ns: int) -> None:
        """Forgets all images stamped (offset added) after ``stamp_ns``: they are of the time before a jump."""
        kept = [s for s in self.stamps if s + self.timing.offset_ns <= stamp_ns]
        self.images = {s: self.images[s] for s in kept}
        self.stamps = kept

    def nearest(self, scan_stamp_ns: int) -> int | None:
        """Stamp of the image nearest to the scan; of two equally near ones the earlier."""
        target = scan_stamp_ns - self.timing.offset_ns
        at = bisect_left(self.stamps, target)
        around = self.stamps[max(0, at - 1) : at + 1]
        return min(around, key=lambda s: abs(s - target), default=None)


@dataclass
class _Pending(Generic[ScanT]):
    """A scan that still waits: its best image per camera so far, and the cameras that may still improve."""

    scan: ScanT
    stamp_ns: int
    deadline_ns: int
    open: set[str]
    best: dict[str, tuple[int, Any]]


class ScanMatcher(Generic[ScanT]):
    """Pairs every scan with the nearest image of each camera.

    Stamps may jump backward (a recording that starts over): when the scans or one camera jump by more than
    ``backward_jump_ns``, what was stamped after the jump's target is forgotten and waiting scans are released with
    the images they have. Smaller steps back count as reordering and are sorted in.
    """

    def __init__(
        self,
        cameras: Mapping[str, CameraTiming],
        deadline_ns: int = 100_000_000,
        history: int = 15,
        backward_jump_ns: int = 500_000_000,
    ) -> None:
        """Starts empty.

        Args:
            cameras: timing per camera name; may be empty, then every scan is final at once.
            deadline_ns: longest wait of a scan for its images, counted from its arrival.
            history: images kept per camera, at least 1.
            backward_jump_ns: smallest step back of a stream's stamps that is a reset.

        Raises:
            ConfigError: a number is out of its range.
        """
        if deadline_ns < 0 or backward_jump_ns < 0 or history < 1:
            raise ConfigError(
                "deadline_ns and backward_jump_ns must be >= 0 and history >= 1, "
                f"got {deadline_ns}, {backward_jump_ns} and {history}"
            )
        self._cameras = {name: _Camera(timing) for name, timing in cameras.items()}
        self._deadline_ns = deadline_ns
        self._history = history
        self._jump_ns = backward_jump_ns
        self._newest_scan_ns: int | None = None
        self._pending: list[_Pending[ScanT]] = []
        self._ready: deque[Match[ScanT]] = deque()
        self.resets = 0

    @property
    def counters(self) -> dict[str, dict[str, int]]:
        """How often each outcome came per camera; the sum over a camera is the number of scans that came out."""
        return {name: dict(camera.counters) for name, camera in self._cameras.items()}

    @property
    def waiting(self) -> int:
        """Scans whose match is not final yet."""
        return len(self._pending)

    def add_scan(self, stamp_ns: int, scan: ScanT, now_ns: int) -> None:
        """Takes a scan in.

        Args:
            stamp_ns: stamp of the scan.
            scan: anything; comes back in the match.
            now_ns: arrival on any monotonic clock, the same as in ``pop_ready``.
        """
        if self._newest_scan_ns is not None and stamp_ns < self._newest_scan_ns - self._jump_ns:
            self._reset_scans(stamp_ns)
        self._newest_scan_ns = max(stamp_ns, self._newest_scan_ns or stamp_ns)
        waiting = _Pending(scan, stamp_ns, now_ns + self._deadline_ns, set(self._cameras), {})
        for name, camera in self._cameras.items():
            nearest = camera.nearest(stamp_ns)
            if nearest is not None:
                waiting.best[name] = (nearest, camera.images[nearest])
                if any(self._closes(camera, s, stamp_ns) for s in camera.stamps):
                    waiting.open.discard(name)
        self._pending.append(waiting)
        self._release(lambda pending: not pending.open)

    def add_image(self, camera: str, stamp_ns: int, image: Any) -> None:
        """Takes an image in.

        Args:
            camera: name from the constructor.
            stamp_ns: stamp of the image as it came; the camera's offset is added here.
            image: anything; comes back in the match.

        Raises:
            InputError: the camera is not known.
        """
        if camera not in self._cameras:
            raise InputError(f"image of unknown camera {camera!r}; known: {', '.join(self._cameras) or 'none'}")
        state = self._cameras[camera]
        if state.stamps and stamp_ns < state.stamps[-1] - self._jump_ns:
            self._reset_camera(camera, stamp_ns)
        state.insert(stamp_ns, image, self._history)
        for pending in self._pending:
            if camera in pending.open:
                self._offer(pending, camera, stamp_ns, image)
        self._release(lambda pending: not pending.open)

    def pop_ready(self, now_ns: int) -> list[Match[ScanT]]:
        """Hands out the matches that are final, in the order in which they became so."""
        self._release(lambda pending: not pending.open or now_ns >= pending.deadline_ns)
        ready = list(self._ready)
        self._ready.clear()
        return ready

    def _closes(self, camera: _Camera, stamp_ns: int, scan_stamp_ns: int) -> bool:
        """Whether nothing nearer can follow an image; one far ahead may be left over from before a jump."""
        return 0 <= stamp_ns + camera.timing.offset_ns - scan_stamp_ns <= max(self._jump_ns, camera.timing.tolerance_ns)

    def _offer(self, pending: _Pending[ScanT], name: str, stamp_ns: int, image: Any) -> None:
        camera = self._cameras[name]
        target = pending.stamp_ns - camera.timing.offset_ns
        best = pending.best.get(name)
        if best is None or (abs(stamp_ns - target), stamp_ns) <= (abs(best[0] - target), best[0]):
            pending.best[name] = (stamp_ns, image)
        if self._closes(camera, stamp_ns, pending.stamp_ns):
            pending.open.discard(name)

    def _reset_scans(self, stamp_ns: int) -> None:
        self.resets += 1
        self._release(lambda pending: True)
        self._newest_scan_ns = None
        for camera in self._cameras.values():
            camera.forget_after(stamp_ns + self._jump_ns)

    def _reset_camera(self, name: str, stamp_ns: int) -> None:
        self.resets += 1
        camera = self._cameras[name]
        horizon = stamp_ns + camera.timing.offset_ns
        camera.forget_after(horizon)
        for pending in self._pending:
            if pending.stamp_ns > horizon + self._jump_ns:
                pending.open.discard(name)

    def _release(self, is_final: Callable[[_Pending[ScanT]], bool]) -> None:
        """Moves final matches out; a scan behind a waiting one may leave first."""
        still: list[_Pending[ScanT]] = []
        for pending in self._pending:
            if is_final(pending):
                self._ready.append(self._finish(pending))
            else:
                still.append(pending)
        self._pending = still

    def _finish(self, pending: _Pending[ScanT]) -> Match[ScanT]:
        images = {}
        for name, camera in self._cameras.items():
            images[name] = _judge(camera, pending.stamp_ns, pending.best.get(name))
            camera.counters[images[name].outcome] += 1
        return Match(pending.scan, pending.stamp_ns, images, complete=not pending.open)


def _judge(camera: _Camera, scan_stamp_ns: int, best: tuple[int, Any] | None) -> MatchedImage:
    if best is None:
        return MatchedImage("missing")
    gap = best[0] + camera.timing.offset_ns - scan_stamp_ns
    if abs(gap) <= camera.timing.tolerance_ns:
        return MatchedImage("paired", best[1], best[0], gap)
    newest = camera.stamps[-1] + camera.timing.offset_ns if camera.stamps else best[0] + camera.timing.offset_ns
    return MatchedImage("too_far" if newest >= scan_stamp_ns else "stale", None, best[0], gap)
