"""The few lines a run ends with on a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def headlines(report: Mapping[str, Any]) -> list[str]:
    """What happened, how fast, how right: at most three lines.

    Args:
        report: content of ``report.json``.
    """
    labelled, scans_in = report["scans_labelled"], report["scans_in"]
    lines = [f"scans    {labelled} of {scans_in} labelled{_losses(report)}, {report['points']:,} points"]
    latency = report["latency_ms"]
    if latency["p50"] is not None:
        values = ", ".join(f"{name} {latency[name]:.0f} ms" for name in ("p50", "p90", "p99"))
        lines.append(f"latency  {values} ({latency['measured']}, {report['provider']})")
    if "miou" in report:
        parts = [f"{_percent(report['miou'])} whole cloud"]
        if "unseen" in report:
            parts.append(f"{_percent(report['seen']['miou'])} where cameras see")
            parts.append(f"{_percent(report['unseen']['miou'])} where none does")
        lines.append(f"mIoU     {', '.join(parts)}")
    else:
        common = sorted(report["label_histogram"].items(), key=lambda item: -item[1])[:3]
        total = max(1, report["points"])
        lines.append("found    " + ", ".join(f"{name} {count / total:.0%}" for name, count in common))
    return lines


def _losses(report: Mapping[str, Any]) -> str:
    if not report["scans_dropped"] and not report["scans_lost"]:
        return ", none lost"
    return f", {report['scans_dropped']} dropped, {report['scans_lost']} lost on the way"


def _percent(share: float | None) -> str:
    return "no truth" if share is None else f"{100 * share:.1f} %"
