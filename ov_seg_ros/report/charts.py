"""Charts as inline SVG: no script, no external file, readable when printed."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.report import theme

LINE = theme.hex_color(theme.LINE)
MUTED = theme.hex_color(theme.MUTED)
ACCENT = theme.hex_color(theme.ACCENT)


def _svg(width: int, height: int, label: str, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label, quote=True)}" '
        f'xmlns="http://www.w3.org/2000/svg">{"".join(parts)}</svg>'
    )


def _text(x: float, y: float, content: str, anchor: str = "middle", color: str = MUTED, size: int = 11) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{color}" font-size="{size}">'
        f"{escape(content)}</text>"
    )


def nice_ceiling(value: float) -> float:
    """The next of 1, 2, 2.5, 5 times a power of ten: an axis that ends on a round number."""
    if not value > 0:
        return 1.0
    power = 10.0 ** np.floor(np.log10(value))
    return float(next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= value * (1 - 1e-9)))


def latency_histogram(values_ms: Sequence[float], width: int = 560, height: int = 190) -> str:
    """Distribution of latencies with the median and the 99th percentile marked.

    Args:
        values_ms: at least one value, milliseconds.
        width: of the view box.
        height: of the view box.
    """
    values = np.asarray(values_ms, np.float64)
    top = nice_ceiling(float(values.max()) * 1.02)
    counts, edges = np.histogram(values, bins=40, range=(0.0, top))
    left, right, base, head = 8.0, width - 8.0, height - 24.0, 22.0
    scale = (right - left) / top
    parts = [f'<line x1="{left}" y1="{base}" x2="{right}" y2="{base}" stroke="{LINE}"/>']
    for count, start, end in zip(counts, edges[:-1], edges[1:], strict=True):
        if count:
            bar = (base - head) * count / counts.max()
            parts.append(
                f'<rect x="{left + start * scale + 0.5:.1f}" y="{base - bar:.1f}" '
                f'width="{(end - start) * scale - 1:.1f}" height="{bar:.1f}" rx="1.5" fill="{ACCENT}">'
                f"<title>{start:.1f} to {end:.1f} ms: {count} scans</title></rect>"
            )
    for value, name in ((np.percentile(values, 50), "p50"), (np.percentile(values, 99), "p99")):
        x = left + float(value) * scale
        parts.append(
            f'<line x1="{x:.1f}" y1="{head - 6}" x2="{x:.1f}" y2="{base}" stroke="#fff" stroke-dasharray="3 3"/>'
        )
        parts.append(_text(min(max(x, 14), width - 14), head - 10, name, color="#fff"))
    parts += [_text(left + top * scale * k / 4, height - 7, f"{top * k / 4:g}") for k in (1, 2, 3)]
    parts += [_text(left, height - 7, "0", "start"), _text(right, height - 7, f"{top:g} ms", "end")]
    return _svg(width, height, "histogram of the latency", parts)


def latency_timeline(values_ms: Sequence[float], width: int = 560, height: int = 190) -> str:
    """Latency of every scan in order, as points on a line.

    Args:
        values_ms: at least one value, milliseconds.
        width: of the view box.
        height: of the view box.
    """
    values = np.asarray(values_ms, np.float64)
    top = nice_ceiling(float(values.max()) * 1.02)
    left, right, base, head = 44.0, width - 8.0, height - 24.0, 12.0
    parts = []
    for k in (0, 1, 2):
        y = base - (base - head) * k / 2
        parts.append(f'<line x1="{left}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}" stroke="{LINE}"/>')
        parts.append(_text(left - 7, y + 4, f"{top * k / 2:g}", "end"))
    x = left + (right - left) * (np.arange(len(values)) + 0.5) / len(values)
    y_values = base - (base - head) * values / top
    track = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y_values, strict=True))
    parts.append(f'<polyline points="{track}" fill="none" stroke="{ACCENT}" stroke-width="1.6"/>')
    parts.append(_text(left, height - 7, "first scan", "start"))
    parts.append(_text(right, height - 7, f"scan {len(values)}", "end"))
    return _svg(width, height, "latency of every scan, milliseconds", parts)


def class_shares(
    histograms: NDArray[np.int64], colors: Sequence[theme.Color], width: int = 1160, height: int = 170
) -> str:
    """Share of every class over time as stacked areas.

    Args:
        histograms: (T, C + 1) points per scan and class, last "unknown"; T >= 1.
        colors: C + 1 colours.
        width: of the view box.
        height: of the view box.
    """
    totals = np.maximum(histograms.sum(axis=1, keepdims=True), 1)
    stacked = np.cumsum(np.hstack([np.zeros((len(histograms), 1)), histograms / totals]), axis=1)
    if len(stacked) == 1:
        stacked = np.repeat(stacked, 2, axis=0)
    x = np.linspace(0, width, len(stacked))
    parts = []
    for index, color in enumerate(colors):
        if histograms[:, index].any():
            lower, upper = height * (1 - stacked[:, index]), height * (1 - stacked[:, index + 1])
            outline = [*zip(x, upper, strict=True), *zip(x[::-1], lower[::-1], strict=True)]
            track = " ".join(f"{a:.1f},{b:.1f}" for a, b in outline)
            parts.append(f'<polygon points="{track}" fill="{theme.hex_color(color)}"/>')
    return _svg(width, height, "share of every class over time", parts)


def confusion_heat_map(counts: NDArray[np.int64], class_names: Sequence[str], cell: int = 30) -> str:
    """Confusion matrix with every row scaled to its truth; the diagonal is the recall.

    Args:
        counts: (C, C + 1) int64, rows truth, columns prediction, last column "unknown".
        class_names: C names.
        cell: side of one cell, units of the view box.
    """
    rows = [i for i in range(len(counts)) if counts[i].any()]
    shown = [j for j in range(counts.shape[1]) if counts[:, j].any() or j in rows]
    names = [*class_names, "unknown"]
    margin_left, margin_top = 150, 120
    width, height = margin_left + cell * len(shown) + 60, margin_top + cell * len(rows) + 8
    parts = []
    for column, j in enumerate(shown):
        x, y = margin_left + cell * (column + 0.62), margin_top - 8
        parts.append(
            f'<g transform="translate({x:.1f} {y}) rotate(-50)">{_text(0, 0, names[j].replace("_", " "), "start")}</g>'
        )
    for row, i in enumerate(rows):
        y = margin_top + cell * row
        parts.append(_text(margin_left - 9, y + cell * 0.62, names[i].replace("_", " "), "end"))
        for column, j in enumerate(shown):
            share = float(counts[i, j] / counts[i].sum())
            parts.append(_heat_cell(margin_left + cell * column, y, cell, share, i == j, f"{names[i]} → {names[j]}"))
    return _svg(width, height, "confusion matrix: rows truth, columns prediction", parts)


def _heat_cell(x: float, y: float, cell: int, share: float, hit: bool, title: str) -> str:
    base = np.array(theme.PANEL, np.float64)
    color = base + (np.array(theme.ACCENT if hit else theme.WRONG) - base) * np.sqrt(share)
    fill = theme.hex_color((int(color[0]), int(color[1]), int(color[2])))
    drawn = (
        f'<rect x="{x + 1:.1f}" y="{y + 1:.1f}" width="{cell - 2}" height="{cell - 2}" rx="3" fill="{fill}">'
        f"<title>{escape(title)}: {100 * share:.1f} %</title></rect>"
    )
    if share < 0.005:
        return drawn
    ink = "#0a0d13" if share > 0.35 else "#e8edf4"
    return drawn + _text(x + cell / 2, y + cell * 0.62, f"{100 * share:.0f}", color=ink, size=10)
