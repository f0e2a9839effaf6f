"""What contests found, as tables and as the figures that goals are judged by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.peers.contest import Outcome
from benchmarks.peers.entrants import COPY, GAUGE, GEMM_ONLY, GEMM_PEAK, OURS, PEER, REDUCED, TOLERANCE, Entrant
from benchmarks.peers.workload import Workload
from ov_seg_ros.bench.scans import BenchScan
from ov_seg_ros.bench.section import Cell, Section, Table
from ov_seg_ros.bench.spread import median, paired_ratio, summarize

GOAL_NETWORK = "minkunet18"
VOXEL_SIZES = {32: 0.1, 64: 0.05}
"""Metres, by beams."""
SHOWN = ("contender", "p50 ms", "spread %", "x floor", "GFLOP/s", "cores", "error", "peak MiB", "held MiB", "n")


@dataclass(frozen=True)
class Setting:
    """What one table is about."""

    network: str
    scan: BenchScan
    threads: int

    def __str__(self) -> str:
        return f"{self.network}, {self.scan.name}, {self.threads} thread{'s' * (self.threads > 1)}"


@dataclass(frozen=True)
class Found:
    """One setting, measured."""

    setting: Setting
    work: Workload
    voxels: tuple[int, ...]
    outcomes: tuple[Outcome, ...]

    def of_role(self, role: str) -> list[Outcome]:
        """Those of a role that have a time, the fastest first."""
        timed = [o for o in self.outcomes if o.entrant.role == role and o.ms]
        return sorted(timed, key=lambda o: median(o.counted_ms))

    def of(self, entrant: Entrant) -> Outcome | None:
        """The outcome of an entrant, if it has a time."""
        return next((o for o in self.outcomes if o.entrant == entrant and o.ms), None)


def as_section(found: Sequence[Found], command: str = "") -> Section:
    """Tables, the figures of the goals, raw times, and a sentence per contender and reason for which it has no time."""
    notes = (
        "x floor: how many times the time of the matrix products alone, paired round by round",
        "cores: processor time / time; GFLOP/s: multiply-adds of true neighbours only, two operations each",
        "error: largest error of a logit / largest logit; n: rounds; who is far behind after the first leaves early",
        "peak and held MiB: at most (loading included) and after a run, above the process before network and scan",
        *_goal_notes(found),
    )
    return Section(
        name="forward",
        title="forward passes on the CPU, float32 and kernel maps built before unless said",
        tables=tuple(_table(each) for each in found),
        measures=goal_measures(found),
        missing=tuple(_sentences(found)),
        notes=notes,
        details={"tolerance": TOLERANCE, "settings": [_details(each) for each in found]},
        command=command,
    )


def _sentences(found: Sequence[Found]) -> list[str]:
    """Who has no time, and why; those with the same reason together."""
    names: dict[str, list[str]] = {}
    for each in found:
        for outcome in each.outcomes:
            if outcome.reason:
                where = f" ({each.setting})" if outcome.error else ""
                said = names.setdefault(outcome.reason + where, [])
                said += [outcome.entrant.name] * (outcome.entrant.name not in said)
    return [f"no time for {' / '.join(who)}: {reason}" for reason, who in names.items()]


def goal_measures(found: Sequence[Found]) -> dict[str, float]:
    """Figures of ``bench.goals``: ratios of MinkUNet18 at the highest number of threads, and its largest error."""
    measures: dict[str, float] = {}
    of_goal = [each for each in found if each.setting.network == GOAL_NETWORK]
    for each in of_goal:
        if each.setting.threads < max(f.setting.threads for f in of_goal):
            continue
        beams, ours, peers, floor = each.setting.scan.beams, each.of_role(OURS), each.of_role(PEER), each.of(GEMM_ONLY)
        if ours and floor:
            _keep_worst(measures, f"forward_{beams}_floor_ratio", _ratio(ours[0], floor), max)
        if ours and peers:
            _keep_worst(measures, f"forward_{beams}_peer_ratio", _ratio(peers[0], ours[0]), min)
    errors = [o.error for each in of_goal for o in each.outcomes if o.entrant.role == OURS and o.error is not None]
    return measures | ({"forward_error": max(errors)} if errors else {})


def _keep_worst(measures: dict[str, float], name: str, value: float, worst: Callable[[float, float], float]) -> None:
    measures[name] = worst(value, measures.get(name, value))


def _goal_notes(found: Sequence[Found]) -> list[str]:
    notes = []
    for each in found:
        ours, peers = each.of_role(OURS), each.of_role(PEER)
        if ours and peers:
            ratio = _ratio(peers[0], ours[0])
            who, best = ours[0].entrant.name, peers[0].entrant.name
            notes.append(f"{each.setting}: {who} is {ratio:.2f} times as fast as the best peer, {best}")
    return notes


def _ratio(outcome: Outcome, reference: Outcome) -> float:
    """Median over the rounds that both took part in."""
    pairs = [(a, b) for a, b in zip(outcome.ms, reference.ms, strict=True) if a is not None and b is not None]
    return paired_ratio(*zip(*pairs, strict=True))


def _table(found: Found) -> Table:
    size = VOXEL_SIZES[found.setting.scan.beams]
    title = f"{found.setting}: {found.voxels[0]:,} voxels of {size} m, {found.work.macs / 1e9:.1f} GMAC"
    order = {OURS: 0, PEER: 1, REDUCED: 2}
    contenders = sorted(found.outcomes, key=lambda o: order.get(o.entrant.role, 3))
    rows = [_row(o, found) for o in contenders if o.entrant.role != GAUGE and (o.ms or o.error is not None)]
    return Table(title, (*rows, *_computed_floors(found)), SHOWN)


def _row(outcome: Outcome, found: Found) -> dict[str, Cell]:
    row: dict[str, Cell] = {"contender": outcome.entrant.name, "role": outcome.entrant.role}
    row |= {"network": found.setting.network, "scan": found.setting.scan.name, "threads": found.setting.threads}
    row |= {"error": outcome.error, "peak MiB": outcome.peak_mib, "process MiB": outcome.process_mib}
    row["held MiB"] = outcome.held_mib
    if not outcome.ms:
        return row
    floor = found.of(GEMM_ONLY)
    summary = summarize(outcome.counted_ms)
    counted_cpu = [ms for ms in outcome.cpu_ms if ms is not None]
    row |= summary | {"n": len(outcome.counted_ms), "x floor": _ratio(outcome, floor) if floor else None}
    row["GFLOP/s"] = 2e-6 * found.work.macs / summary["p50 ms"]
    row["cores"] = sum(counted_cpu) / sum(outcome.counted_ms)
    return row


def _computed_floors(found: Found) -> list[dict[str, Cell]]:
    """What follows from the gauges: bytes over bandwidth, multiply-adds over the speed of a large product."""
    from benchmarks.peers.floors import COPY_BYTES, PEAK_FLOP

    rows: list[dict[str, Cell]] = []
    for entrant, name, amount, of_gauge, unit in (
        (COPY, "bytes / bandwidth", found.work.bytes, COPY_BYTES, "GB/s"),
        (GEMM_PEAK, "multiply-adds / peak", 2 * found.work.macs, PEAK_FLOP, "GFLOP/s"),
    ):
        gauge, floor = found.of(entrant), found.of(GEMM_ONLY)
        if gauge is None:
            continue
        rate = of_gauge / median(gauge.counted_ms)  # per millisecond
        ms = amount / rate
        row: dict[str, Cell] = {"contender": f"{name} ({1e-6 * rate:.0f} {unit})", "role": "floor", "p50 ms": ms}
        row |= {"network": found.setting.network, "scan": found.setting.scan.name, "threads": found.setting.threads}
        row |= {"x floor": ms / median(floor.counted_ms) if floor else None, "rate": 1e-6 * rate, "unit": unit}
        rows.append(row)
    return rows


def _details(found: Found) -> dict[str, Any]:
    return {
        "network": found.setting.network,
        "scan": found.setting.scan.name,
        "points": len(found.setting.scan),
        "beams": found.setting.scan.beams,
        "voxel_size": VOXEL_SIZES[found.setting.scan.beams],
        "threads": found.setting.threads,
        "voxels_by_level": list(found.voxels),
        "macs": found.work.macs,
        "bytes": found.work.bytes,
        "outcomes": [asdict(outcome) for outcome in found.outcomes],
    }
