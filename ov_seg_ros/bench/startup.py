"""From the start of a process to the first labelled scan, without ROS."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ov_seg_ros.bench.fresh_process import ask, save_scan
from ov_seg_ros.bench.rounds import take_turns
from ov_seg_ros.bench.section import BenchOptions, Cell, Section, Table
from ov_seg_ros.bench.spread import median, summarize

ROUNDS, QUICK_ROUNDS = 5, 1
STEPS = ("process", "imports", "load", "warm-up", "first scan")


def contest(options: BenchOptions) -> Section:
    """Starts processes with an empty cache of compiled code, once, and with a warm one."""
    scan = options.scans[0]
    cache = options.scratch / "cache"
    request = {
        "model": str(options.model.resolve()),
        "provider": "auto",
        "threads": options.threads,
        "scan": save_scan(scan.cloud, options.scratch / "scan.npy"),
    }
    options.say("  cold start (compiles everything)")
    cold = _start(request, cache)()
    options.say("  warm starts")
    rounds = QUICK_ROUNDS if options.quick else min(options.rounds, ROUNDS)
    warm = take_turns({"warm": _start(request, cache)}, rounds)["warm"]
    return Section(
        name="startup",
        title=f"start of a process to the first labelled scan ({scan.name} beams), without ROS",
        tables=(Table("seconds", (_row("cold", [cold]), _row("warm", warm))),),
        measures={"first_label_s": median([answer["total ms"] for answer in warm]) * 1e-3},
        notes=(
            "process: until Python runs; warm-up: labels a made-up scan, as the node does before the first real one",
            "cold: no compiled code in Numba's cache; files may be in the cache of the disk in both",
        ),
        details={"cold": cold, "warm": warm, "rounds": rounds},
    )


def _start(request: dict[str, Any], cache: Path) -> Callable[[], dict[str, Any]]:
    return lambda: ask("first_label", request, {"NUMBA_CACHE_DIR": str(cache)})


def _row(name: str, answers: list[dict[str, Any]]) -> dict[str, Cell]:
    steps: dict[str, Cell] = {
        f"{step} s": 1e-3 * median([answer[f"{step} ms"] for answer in answers]) for step in STEPS
    }
    total = summarize([1e-3 * answer["total ms"] for answer in answers], "s")
    return {"cache": name, "starts": len(answers), **steps, "p50 s": total["p50 s"], "max s": total["max s"]}
