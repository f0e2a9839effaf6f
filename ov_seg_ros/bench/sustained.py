"""Scans arriving at the LiDAR's own rate for a while: are all of them labelled, and how late?"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from ov_seg_ros.bench.scans import BenchScan
from ov_seg_ros.bench.section import BenchOptions, Cell, Section, Table
from ov_seg_ros.bench.spread import summarize
from ov_seg_ros.messages.pointcloud2 import decode_pointcloud2, encode_segmentation
from ov_seg_ros.runtime.segmenter import Segmenter

RATE_HZ = {32: 10.0, 64: 5.0}
SECONDS, QUICK_SECONDS = 30.0, 5.0


@dataclass(frozen=True)
class SustainedRun:
    """What became of the scans.

    Attributes:
        arrived: how many came.
        latency_ms: of those that were labelled, from arrival to labels.
        lost: how many were replaced by a newer one before anybody looked at them.
        late: how many were labelled later than the next one arrived.
        busy: share of the time that was spent on scans, 0 to 1.
    """

    arrived: int
    latency_ms: tuple[float, ...]
    lost: int
    late: int
    busy: float


def contest(options: BenchOptions) -> Section:
    """Feeds every scan at its rate to the student on the provider that the node would choose."""
    segmenter = Segmenter.load(options.model, "auto", options.threads)
    segmenter.warm_up()
    seconds = QUICK_SECONDS if options.quick else SECONDS
    rows: list[dict[str, Cell]] = []
    measures: dict[str, float] = {}
    for scan in options.scans:
        rate = RATE_HZ[scan.beams]
        options.say(f"  {scan.name} beams at {rate:g} Hz for {seconds:.0f} s")
        found = run_at_rate(labeller(segmenter, scan), rate, int(seconds * rate))
        cells = summarize(found.latency_ms)
        rows.append(
            {
                "scan": scan.name,
                "Hz": rate,
                "scans": found.arrived,
                "lost": found.lost,
                "late": found.late,
                **cells,
                "busy %": 100 * found.busy,
            }
        )
        _keep_worst(measures, f"sustained_{scan.beams}_p99_ms", cells["p99 ms"])
        _keep_worst(measures, f"sustained_{scan.beams}_lost", found.lost)
    return Section(
        name="sustained",
        title=f"scans at the LiDAR's rate, latest one wins, on {segmenter.provider}",
        tables=(Table("arrival of the bytes to labels", tuple(rows)),),
        measures=measures,
        notes=("late: labelled after the next one arrived; lost: replaced by a newer one before its turn came",),
        details={"seconds": seconds, "provider": segmenter.provider},
    )


def labeller(segmenter: Segmenter, scan: BenchScan) -> Callable[[], object]:
    """What a node does per scan, without DDS: decode, label, encode."""

    def label() -> object:
        decoded = decode_pointcloud2(scan.message)
        return encode_segmentation(decoded, segmenter.segment(decoded.cloud), overwrite=True)

    return label


def run_at_rate(
    work: Callable[[], object],
    rate_hz: float,
    count: int,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> SustainedRun:
    """Lets ``count`` scans arrive at a rate, one worker taking always the latest.

    Args:
        work: labels one scan.
        rate_hz: of the arrivals.
        count: how many arrive; at least one.
        clock: seconds.
        sleep: waits for seconds.
    """
    period, begin = 1 / rate_hz, clock()
    latency_ms, lost, late, busy, done = [], 0, 0, 0.0, 0
    while done < count:
        wait = begin + done * period - clock()
        if wait > 0:
            sleep(wait)
        started = clock()
        latest = min(count - 1, max(done, int((started - begin) / period)))
        work()
        finished = clock()
        delay = finished - (begin + latest * period)
        latency_ms.append(1e3 * delay)
        lost, late, busy, done = lost + latest - done, late + (delay > period), busy + finished - started, latest + 1
    return SustainedRun(count, tuple(latency_ms), lost, late, busy / max(clock() - begin, count * period))


def _keep_worst(measures: dict[str, float], name: str, value: float) -> None:
    measures[name] = max(value, measures.get(name, value))
