"""The bounds this project holds itself to, and whether a run kept them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

GOAL_CORES = 2
"""Cores of the machine that the bounds for a CPU are written for."""
NOT_RUN = "its section was not run"
MET, MISSED, NOT_MEASURED = "met", "missed", "not measured"


@dataclass(frozen=True)
class Goal:
    """One bound.

    Attributes:
        measure: name of the figure in ``Section.measures``.
        section: name of the section that measures it.
        what: for people.
        bound: the figure may be as large as this, or must reach it where ``at_least``.
        unit: of the figure; "x" for ratios.
        at_least: whether more is better.
    """

    measure: str
    section: str
    what: str
    bound: float
    unit: str
    at_least: bool = False

    def holds(self, value: float) -> bool:
        """Whether ``value`` keeps the bound; NaN does not."""
        return value >= self.bound if self.at_least else value <= self.bound


@dataclass(frozen=True)
class Verdict:
    """A goal and what became of it.

    Attributes:
        goal: the bound.
        value: what was measured, None = nothing.
        verdict: ``MET``, ``MISSED`` or ``NOT_MEASURED``.
        why: where nothing was measured, the reason; else what disturbed the measurement.
    """

    goal: Goal
    value: float | None
    verdict: str
    why: str = ""


GOALS = (
    Goal("maps_32_ms", "maps", "voxels and kernel maps of all levels, 32 beams, p50", 10, "ms"),
    Goal("maps_64_ms", "maps", "voxels and kernel maps of all levels, 64 beams, p50", 35, "ms"),
    Goal("maps_unequal", "maps", "test clouds whose maps differ from the reference construction", 0, "clouds"),
    Goal("forward_32_floor_ratio", "forward", "MinkUNet18 on the CPU / gather-free floor, 32 beams", 1.2, "x"),
    Goal("forward_64_floor_ratio", "forward", "MinkUNet18 on the CPU / gather-free floor, 64 beams", 1.3, "x"),
    Goal("forward_error", "forward", "MinkUNet18 on the CPU, largest relative error at one and two threads", 1e-5, ""),
    Goal("forward_32_peer_ratio", "forward", "best peer / MinkUNet18 on the CPU, 32 beams", 1.3, "x", True),
    Goal("forward_64_peer_ratio", "forward", "best peer / MinkUNet18 on the CPU, 64 beams", 1.3, "x", True),
    Goal("sustained_32_p99_ms", "sustained", "student at 10 Hz, 32 beams, arrival to labels, p99", 100, "ms"),
    Goal("sustained_32_lost", "sustained", "student at 10 Hz, 32 beams, scans lost", 0, "scans"),
    Goal("sustained_64_p99_ms", "sustained", "student at 5 Hz, 64 beams, arrival to labels, p99", 200, "ms"),
    Goal("sustained_64_lost", "sustained", "student at 5 Hz, 64 beams, scans lost", 0, "scans"),
    Goal("node_32_p99_ms", "node", "node at 10 Hz, 32 beams, stamp to publication, p99", 100, "ms"),
    Goal("node_32_lost", "node", "node at 10 Hz, 32 beams, scans lost by the node", 0, "scans"),
    Goal("node_64_lost", "node", "node at 5 Hz, 64 beams, scans lost by the node", 0, "scans"),
    Goal("gpu_32_p99_ms", "gpu", "MinkUNet18 in float16 on a GPU, bytes to labels, 32 beams, p99", 8, "ms"),
    Goal("gpu_64_p99_ms", "gpu", "MinkUNet18 in float16 on a GPU, bytes to labels, 64 beams, p99", 15, "ms"),
    Goal("gpu_32_peer_ratio", "gpu", "spconv / MinkUNet18 in float16, same card and maps, 32 beams", 1.5, "x", True),
    Goal("gpu_64_peer_ratio", "gpu", "spconv / MinkUNet18 in float16, same card and maps, 64 beams", 1.5, "x", True),
    Goal("gpu_32_34c_ratio", "gpu", "MinkUNet34C / MinkUNet18 in float16 on a GPU, 32 beams", 2, "x"),
    Goal("gpu_64_34c_ratio", "gpu", "MinkUNet34C / MinkUNet18 in float16 on a GPU, 64 beams", 2, "x"),
    Goal("round_trip_p50_ms", "node", "clouds of 2.6 MB through the node at 10 Hz, without the network, p50", 12, "ms"),
    Goal("start_s", "node", "start of the node's process to the first labelled scan, warm cache", 3, "s"),
    Goal("first_label_s", "startup", "start of a process to the first labelled scan, without ROS, warm cache", 3, "s"),
    Goal("idle_percent", "node", "idle node, large-data transport, nobody subscribes, share of a core", 2, "%"),
    Goal("node_memory_mib", "node", "memory of the node with the student", 400, "MiB"),
    Goal(
        "training_cpu_ratio",
        "training_backends",
        "spconv / our forward pass in training on the CPU, one thread",
        1,
        "x",
        True,
    ),
    Goal("training_data_share", "training_backends", "making a batch in one loader / training step", 1, "x"),
    Goal(
        "training_gpu_ratio",
        "training_backends",
        "best GPU library / our training step, mixed precision",
        0.8,
        "x",
        True,
    ),
)


def judge(
    measures: Mapping[str, Mapping[str, float]],
    missing: Mapping[str, tuple[str, ...]],
    warnings: Mapping[str, str],
    goals: tuple[Goal, ...] = GOALS,
) -> list[Verdict]:
    """Judges every goal.

    Args:
        measures: per section that ran, its ``Section.measures``.
        missing: per section that ran, its ``Section.missing``.
        warnings: per section that ran, what disturbed it, empty = nothing.
        goals: to judge.
    """
    verdicts = []
    for goal in goals:
        if goal.section not in measures:
            verdicts.append(Verdict(goal, None, NOT_MEASURED, NOT_RUN))
        elif (value := measures[goal.section].get(goal.measure)) is None:
            why = "; ".join(missing.get(goal.section, ())) or "this section measured no such figure"
            verdicts.append(Verdict(goal, None, NOT_MEASURED, why))
        else:
            word = MET if goal.holds(value) else MISSED
            verdicts.append(Verdict(goal, float(value), word, warnings.get(goal.section, "")))
    return verdicts
