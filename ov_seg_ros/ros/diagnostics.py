"""What the node tells about itself: counters, and in one sentence why nothing comes out.

Knows no ROS: ``judge`` turns a ``NodeReport`` into a level and a sentence, ``diagnostics_publisher`` sends it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

OK, WARN, ERROR = 0, 1, 2
SILENCE_S = 2.0
"""Without a cloud for longer than this, seconds, the input counts as stopped."""
SLOW_TRANSPORT_MS = 30.0
"""A transport that costs more per cloud is worth a hint: Fast DDS with large data enabled needs under 10 ms."""
OLD_STAMPS_S = 60.0


@dataclass
class ScanCounters:
    """Where the scans went. Every field has one writer (named), so that no lock is needed.

    ``scans_in`` = labelled + dropped + unwanted + bad + those in work. Scans that never reached the node are in
    ``NodeReport.missed``.

    Attributes:
        scans_in: clouds that came (executor).
        scans_unwanted: came while nobody subscribed to an output; not decoded (executor).
        scans_labelled: published (worker).
        points: in them (worker).
        bad_messages: could not be decoded or labelled (worker).
        last_bad_reason: of the latest of them (worker).
        last_bad_s: monotonic time of it, seconds (worker).
    """

    scans_in: int = 0
    scans_unwanted: int = 0
    scans_labelled: int = 0
    points: int = 0
    bad_messages: int = 0
    last_bad_reason: str = ""
    last_bad_s: float = float("-inf")


@dataclass
class Timing:
    """How long it took (worker writes).

    Attributes:
        processing_ms: of the latest scan, from taking it up to the publication.
        latency_ms: of the latest scan, from its stamp to its publication, None before the first.
        slow_since_s: monotonic time since which every scan has been too slow, None if the latest was not.
        negative_latencies: scans published before their own stamp.
        refinement_ms: part of ``processing_ms``, None without a refinement.
    """

    processing_ms: float | None = None
    latency_ms: float | None = None
    slow_since_s: float | None = None
    negative_latencies: int = 0
    refinement_ms: float | None = None


@dataclass(frozen=True)
class NodeReport:
    """All facts that diagnostics are made of.

    Attributes:
        state: lifecycle state of the node.
        topic: name of the input topic, ``publishers`` of it, and ``qos_problem`` with them (empty = none).
        silence_s: seconds since the latest cloud, None before the first.
        subscribers: of all outputs.
        counters, dropped, timing: of the scans.
        missed: clouds that were published but never came, as far as the middleware numbers them.
        transport_ms: from publication to reception of a cloud, None if unknown.
        has_large_data: whether this process runs with a transport for large messages.
        facts: provider, model, classes ..., passed on as they are.
        max_processing_time_ms, max_consecutive_delay_ms: limits from the parameters.
        now_s: monotonic time of the report.
    """

    state: str
    topic: str = ""
    publishers: int = 0
    qos_problem: str = ""
    silence_s: float | None = None
    subscribers: int = 0
    counters: ScanCounters = field(default_factory=ScanCounters)
    dropped: int = 0
    missed: int = 0
    timing: Timing = field(default_factory=Timing)
    transport_ms: float | None = None
    has_large_data: bool = False
    facts: Mapping[str, Any] = field(default_factory=dict)
    max_processing_time_ms: float = 200.0
    max_consecutive_delay_ms: float = 1000.0
    now_s: float = 0.0


def judge(report: NodeReport) -> tuple[int, str]:
    """Level and one sentence: the most important thing an operator should know."""
    for check in (_waiting, _bad_messages, _slow, _clock, _transport):
        found = check(report)
        if found is not None:
            return found
    return OK, "labelling"


def values(report: NodeReport) -> dict[str, str]:
    """Everything in numbers, as text by key."""
    timing, counters = report.timing, report.counters
    expected = timing.processing_ms is None or timing.processing_ms <= report.max_processing_time_ms
    numbers = {
        "state": report.state,
        "scans_in": counters.scans_in,
        "scans_labelled": counters.scans_labelled,
        "scans_dropped": report.dropped,
        "scans_unwanted": counters.scans_unwanted,
        "scans_missed": report.missed,
        "points": counters.points,
        "bad_messages": counters.bad_messages,
        "last_bad_reason": counters.last_bad_reason,
        "subscribers": report.subscribers,
        "processing_time_ms": _number(timing.processing_ms),
        "is_processing_time_ms_in_expected_range": expected,
        "pipeline_latency_ms": _number(timing.latency_ms),
        "negative_latencies": timing.negative_latencies,
        "transport_ms": _number(report.transport_ms),
    }
    if timing.refinement_ms is not None:
        numbers["refinement_time_ms"] = _number(timing.refinement_ms)
    return {key: str(value) for key, value in {**numbers, **report.facts}.items()}


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.1f}"


def _waiting(report: NodeReport) -> tuple[int, str] | None:
    if report.state != "active":
        return WARN, f"not active (lifecycle state {report.state})"
    if report.qos_problem:
        return ERROR, report.qos_problem
    if report.silence_s is None or report.silence_s > SILENCE_S:
        since = "no cloud received yet" if report.silence_s is None else f"no cloud for {report.silence_s:.1f} s"
        if report.publishers == 0:
            return WARN, f"{since}: nobody publishes {report.topic}; remap ~/input/pointcloud to the topic of the LiDAR"
        return WARN, f"{since}: {report.topic} has {report.publishers} publisher(s), but nothing arrives"
    if report.subscribers == 0:
        return OK, "idle: nobody subscribes to an output"
    return None


def _bad_messages(report: NodeReport) -> tuple[int, str] | None:
    if report.now_s - report.counters.last_bad_s > SILENCE_S:
        return None
    return ERROR, f"messages dropped: {report.counters.last_bad_reason}"


def _slow(report: NodeReport) -> tuple[int, str] | None:
    timing = report.timing
    if timing.processing_ms is None or timing.slow_since_s is None:
        return None
    late_ms = (report.now_s - timing.slow_since_s) * 1e3
    text = (
        f"labelling a scan takes {timing.processing_ms:.0f} ms, expected at most {report.max_processing_time_ms:.0f} ms"
    )
    if late_ms > report.max_consecutive_delay_ms:
        return ERROR, f"{text}, for {late_ms:.0f} ms now"
    return WARN, text


def _clock(report: NodeReport) -> tuple[int, str] | None:
    latency_ms = report.timing.latency_ms
    if latency_ms is None:
        return None
    if latency_ms < 0:
        return WARN, f"scans are stamped {-latency_ms:.0f} ms in the future: clocks differ, or use_sim_time is wrong"
    if latency_ms > OLD_STAMPS_S * 1e3:
        return WARN, f"scans are stamped {latency_ms * 1e-3:.0f} s ago: a recording is played without use_sim_time?"
    return None


def _transport(report: NodeReport) -> tuple[int, str] | None:
    if report.transport_ms is None or report.transport_ms < SLOW_TRANSPORT_MS:
        return None
    where = "for the LiDAR driver too" if report.has_large_data else "here and for the LiDAR driver"
    return OK, (
        f"labelling; the transport takes {report.transport_ms:.0f} ms per cloud: set "
        f"FASTDDS_BUILTIN_TRANSPORTS=LARGE_DATA {where} (docs/transport.md)"
    )


def judge_camera(problem: str, images_in: int, wanted: bool) -> tuple[int, str]:
    """Level and one sentence about one camera.

    Args:
        problem: why the latest scan got no image, empty if it got one.
        images_in: images received.
        wanted: whether anybody needs its images.
    """
    if not wanted:
        return OK, "idle: nobody needs its images"
    if problem:
        return WARN, f"no image with the scan: {problem}"
    return OK, f"paired; {images_in} images received"
