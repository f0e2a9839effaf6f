"""What is kept of many timings of one thing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

PERCENTILES = (50, 90, 99)


def summarize(samples: Sequence[float], unit: str = "ms") -> dict[str, float]:
    """The cells of a table that describe ``samples``.

    Args:
        samples: timings, at least one.
        unit: goes into the names of the columns.

    Returns:
        "p50", "p90", "p99" and "max" of the samples, each with its unit, and "spread %": the distance between the
        quartiles in percent of the median, which says how quiet the machine was.
    """
    quartiles = np.percentile(samples, (25, 75))
    cells = {f"p{p} {unit}": float(v) for p, v in zip(PERCENTILES, np.percentile(samples, PERCENTILES), strict=True)}
    median = cells[f"p50 {unit}"]
    cells[f"max {unit}"] = float(np.max(samples))
    cells["spread %"] = float(100 * (quartiles[1] - quartiles[0]) / median) if median else 0.0
    return cells


def median(samples: Sequence[float]) -> float:
    """The median."""
    return float(np.median(samples))


def paired_ratio(samples: Sequence[float], reference: Sequence[float]) -> float:
    """How many times ``reference`` fits into ``samples``: the median of the ratios of each round.

    Args:
        samples: one timing per round.
        reference: of the same rounds, in their order.
    """
    return float(np.median(np.asarray(samples, float) / np.asarray(reference, float)))
