"""The report as one self-contained HTML page: no script, no link, every picture inside."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from PIL import Image

from ov_seg_ros.core.data_types import IGNORE_ID
from ov_seg_ros.core.label_space import LabelSpace
from ov_seg_ros.core.metrics import ConfusionMatrix
from ov_seg_ros.report import charts, theme
from ov_seg_ros.report.page_style import style_sheet
from ov_seg_ros.report.run_report import UNKNOWN, Percentiles, RunReport
from ov_seg_ros.report.statistics import ScanRecord

JPEG_QUALITY = 86


@dataclass(frozen=True)
class Picture:
    """An image on the page.

    Attributes:
        caption: one line below it.
        image: the picture.
    """

    caption: str
    image: Image.Image


@dataclass(frozen=True)
class Page:
    """Everything one report page shows.

    Attributes:
        report: the figures.
        label_space: names and colours.
        scans: of the run, in order.
        overview: the large picture at the top, None if no scan was labelled.
        strip: scans over time.
    """

    report: RunReport
    label_space: LabelSpace
    scans: Sequence[ScanRecord]
    overview: Picture | None = None
    strip: Sequence[Picture] = ()

    def render(self) -> str:
        """The whole document."""
        sections: tuple[Callable[[], str], ...] = (
            self._header,
            self._tiles,
            self._overview_section,
            self._notes_section,
            self._accuracy_section,
            self._latency_section,
            self._time_section,
            self._model_section,
            self._origin_section,
        )
        body = "".join(section() for section in sections)
        title = escape(f"{self.report.provenance.bag} · ov_seg_ros report")
        return (
            f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<style>{style_sheet()}</style></head><body><main>{body}</main></body></html>\n"
        )

    def _header(self) -> str:
        report = self.report
        cameras = f"{len(report.cameras) or 'no'} camera{'' if len(report.cameras) == 1 else 's'}"
        facts = (report.provenance.date.replace("T", " "), report.provider, cameras)
        return f"<header><h1>{escape(report.provenance.bag)}</h1><p>{escape(' · '.join(facts))}</p></header>"

    def _tiles(self) -> str:
        report, total = self.report, self.report.latency.total
        lossless = report.scans_labelled == report.scans_in
        losses = (
            f"{report.scans_dropped} dropped, {report.scans_lost} lost" if not lossless else "none dropped, none lost"
        )
        tiles = [_tile(f"{report.scans_labelled} / {report.scans_in}", f"scans labelled, {losses}", bad=not lossless)]
        tiles.append(_tile(_count(report.points), "points labelled"))
        if total is not None:
            tiles.append(_tile(f"{total.p50:.0f} ms", f"median latency, p99 {total.p99:.0f} ms"))
        if report.accuracy is not None:
            tiles.append(_tile(_percent(report.accuracy.whole.miou()), "mIoU, whole cloud"))
            if report.accuracy.unseen is not None:
                tiles.append(_tile(_percent(report.accuracy.unseen.miou()), "mIoU where no camera sees"))
        else:
            tiles.append(
                _tile(str(sum(1 for n in self._known_counts() if n)), f"of {len(self.label_space)} classes found")
            )
        return f'<div class="tiles">{"".join(tiles)}</div>'

    def _known_counts(self) -> list[int]:
        return [self.report.label_histogram.get(name, 0) for name in self.label_space.class_names]

    def _overview_section(self) -> str:
        return _figure(self.overview) if self.overview is not None else ""

    def _notes_section(self) -> str:
        if not self.report.notes:
            return ""
        rows = "".join(f"<li>{escape(note)}</li>" for note in self.report.notes)
        return f'<h2>Mind</h2><div class="panel"><ul class="notes">{rows}</ul></div>'

    def _accuracy_section(self) -> str:
        accuracy = self.report.accuracy
        if accuracy is None:
            return self._histogram_section()
        parts = [("all", accuracy.whole), ("seen", accuracy.seen), ("unseen", accuracy.unseen)]
        known = [(name, matrix) for name, matrix in parts if matrix is not None]
        heat = charts.confusion_heat_map(accuracy.whole.counts, self.label_space.class_names)
        return (
            '<h2>Accuracy</h2><p class="lead">Intersection over union against the ground truth in the recording. '
            "A point without an answer counts as a miss. Seen and unseen: whether any camera sees the point.</p>"
            f'<div class="columns"><div class="panel">{self._iou_table(known)}</div><div class="panel">'
            f"<h3>Confusion: rows truth, columns prediction, per cent of the truth</h3>{heat}</div></div>"
        )

    def _iou_table(self, parts: Sequence[tuple[str, ConfusionMatrix]]) -> str:
        values = [matrix.iou() for _, matrix in parts]
        head = "".join(f'<th class="number">{name}</th>' for name, _ in parts)
        rows = []
        for class_id in np.argsort(-np.nan_to_num(values[0], nan=-1.0), kind="stable"):
            cells = "".join(f'<td class="number">{_percent(value[class_id])}</td>' for value in values)
            bar = self._bar(class_id, values[0][class_id])
            rows.append(f"<tr><td>{self._class_cell(class_id)}</td><td>{bar}</td>{cells}</tr>")
        means = "".join(f'<td class="number"><strong>{_percent(matrix.miou())}</strong></td>' for _, matrix in parts)
        counts = "".join(f'<td class="number">{_count(matrix.points)}</td>' for _, matrix in parts)
        return (
            f"<table><tr><th>Class</th><th></th>{head}</tr><tr><td><strong>mean</strong></td><td></td>{means}</tr>"
            f"{''.join(rows)}<tr><td>points</td><td></td>{counts}</tr></table>"
        )

    def _histogram_section(self) -> str:
        histogram = self.report.label_histogram
        total = max(1, sum(histogram.values()))
        rows = []
        by_share = sorted(enumerate(self.label_space.class_names), key=lambda item: -histogram.get(item[1], 0))
        for class_id, name in [*by_share, (IGNORE_ID, UNKNOWN)]:
            share = histogram.get(name, 0) / total
            rows.append(
                f"<tr><td>{self._class_cell(class_id)}</td><td>{self._bar(class_id, share)}</td>"
                f'<td class="number">{_percent(share)}</td><td class="number">{histogram.get(name, 0):,}</td></tr>'
            )
        return (
            '<h2>Labels</h2><p class="lead">The recording holds no ground truth, so this page says what the student '
            f'found, not how right it is.</p><div class="panel"><table>{"".join(rows)}</table></div>'
        )

    def _latency_section(self) -> str:
        latency, values = self.report.latency, [s.latency_ms for s in self.scans if s.latency_ms is not None]
        if latency.total is None or not values:
            return ""
        rows = [_percentile_row("total", latency.total)]
        rows += [_percentile_row(name, stage) for name, stage in latency.stages.items()]
        return (
            f'<h2>Latency</h2><p class="lead">Milliseconds, {escape(latency.measured)}.</p>'
            '<div class="panel"><table><tr><th></th><th class="number">p50</th><th class="number">p90</th>'
            f'<th class="number">p99</th></tr>{"".join(rows)}</table></div><div class="columns below">'
            f'<div class="panel"><h3>Distribution</h3>{charts.latency_histogram(values)}</div>'
            f'<div class="panel"><h3>Scan by scan</h3>{charts.latency_timeline(values)}</div></div>'
        )

    def _time_section(self) -> str:
        if not self.scans:
            return ""
        histograms = np.stack([scan.histogram for scan in self.scans])
        classes = [*range(len(self.label_space)), IGNORE_ID]
        shares = charts.class_shares(histograms, [theme.class_color(self.label_space, c) for c in classes])
        present = [c for c, column in zip(classes, histograms.T, strict=True) if column.any()]
        legend = "".join(f"<span>{self._class_cell(class_id)}</span>" for class_id in present)
        strip = "".join(_figure(picture) for picture in self.strip)
        return (
            '<h2>Over time</h2><p class="lead">Share of every class from the first scan to the last, and scans on the '
            f'way.</p><div class="panel">{shares}<div class="legend">{legend}</div></div>'
            f'<div class="strip below">{strip}</div>'
        )

    def _model_section(self) -> str:
        model = self.report.model
        short = {key: value for key, value in model.about.items() if key != "recipe"}
        recipe = _flatten(model.about.get("recipe", {}))
        settings = f"<details><summary>Settings of its recipe ({len(recipe)})</summary>{_key_table(recipe)}</details>"
        legend = "".join(f"<span>{self._class_cell(class_id)}</span>" for class_id in range(len(self.label_space)))
        return (
            '<h2>The student</h2><p class="lead">Everything below was read from the model file.</p>'
            f'<div class="panel">{_key_table([("sha256", model.sha256), *_flatten(short)])}{settings if recipe else ""}'
            f'<div class="legend">{legend}</div></div>'
        )

    def _origin_section(self) -> str:
        origin = self.report.provenance
        rows = [("machine", ", ".join(f"{k} {v}" for k, v in origin.machine.items()))]
        rows += [("versions", ", ".join(f"{k} {v}" for k, v in origin.versions.items()))]
        rows += [("cameras", ", ".join(self.report.cameras) or "none"), ("date", origin.date)]
        return (
            f'<h2>How this was made</h2><div class="panel"><code>{escape(origin.command)}</code>'
            f'<div class="below">{_key_table(rows)}</div></div>'
            "<footer>The same figures for machines: report.json beside this page.</footer>"
        )

    def _class_cell(self, class_id: int) -> str:
        name = UNKNOWN if class_id == IGNORE_ID else self.label_space.class_names[class_id]
        color = theme.hex_color(theme.class_color(self.label_space, int(class_id)))
        return f'<i class="swatch" style="background:{color}"></i>{escape(name.replace("_", " "))}'

    def _bar(self, class_id: int, share: float) -> str:
        color = theme.hex_color(theme.class_color(self.label_space, int(class_id)))
        width = 0.0 if np.isnan(share) else 100.0 * share
        return f'<div class="bar"><i style="width:{width:.1f}%;background:{color}"></i></div>'


def _tile(value: str, caption: str, bad: bool = False) -> str:
    return f'<div class="tile{" bad" if bad else ""}"><b>{escape(value)}</b><span>{escape(caption)}</span></div>'


def _figure(picture: Picture) -> str:
    buffer = io.BytesIO()
    picture.image.convert("RGB").save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling=0, optimize=True)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    caption = escape(picture.caption)
    return (
        f'<figure><img alt="{caption}" src="data:image/jpeg;base64,{data}"><figcaption>{caption}</figcaption></figure>'
    )


def _percentile_row(name: str, values: Percentiles) -> str:
    cells = "".join(f'<td class="number">{value:.1f}</td>' for value in (values.p50, values.p90, values.p99))
    label = escape(name.replace("_", " "))
    return f"<tr><td>{label}</td>{cells}</tr>"


def _key_table(rows: Iterable[tuple[str, str]]) -> str:
    cells = (
        f'<tr><td class="key">{escape(key)}</td><td class="value">{escape(value)}</td></tr>' for key, value in rows
    )
    return f"<table>{''.join(cells)}</table>"


def _flatten(content: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested keys as ``a.b``, so that any model description fits one table."""
    rows: list[tuple[str, str]] = []
    for key, value in content.items():
        if isinstance(value, Mapping):
            rows += _flatten(value, f"{prefix}{key}.")
        else:
            rows.append(
                (f"{prefix}{key}", ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value))
            )
    return rows


def _count(value: int) -> str:
    for size, unit in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return str(value)


def _percent(share: float) -> str:
    return "–" if np.isnan(share) else f"{100 * share:.1f} %"
