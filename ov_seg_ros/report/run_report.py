"""The typed content of ``report.json``, the contract that measuring scripts rely on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ov_seg_ros.core.metrics import ConfusionMatrix

SCHEMA_VERSION = 1
"""Raised when a key of ``report.json`` changes its meaning; new keys do not raise it."""

UNKNOWN = "unknown"
"""Name of ``IGNORE_ID`` in histograms."""


@dataclass(frozen=True)
class Percentiles:
    """Median and tails of a series, in the unit of the series."""

    p50: float
    p90: float
    p99: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Percentiles | None:
        """Percentiles with linear interpolation; None of an empty series."""
        if len(values) == 0:
            return None
        return cls(*(round(float(v), 4) for v in np.percentile(np.asarray(values, np.float64), (50, 90, 99))))


@dataclass(frozen=True)
class Latency:
    """How long a scan takes.

    Attributes:
        total: milliseconds from ``measured``, None if no scan was labelled.
        stages: milliseconds per stage of the node or segmenter.
        measured: between which two moments ``total`` runs.
    """

    total: Percentiles | None
    stages: Mapping[str, Percentiles] = field(default_factory=dict)
    measured: str = "header stamp to publication"

    def to_dict(self) -> dict[str, Any]:
        """``{p50, p90, p99, measured, stages: {name: {p50, p90, p99}}}``."""
        empty = {"p50": None, "p90": None, "p99": None}
        total = asdict(self.total) if self.total else empty
        return {**total, "measured": self.measured, "stages": {k: asdict(v) for k, v in self.stages.items()}}


@dataclass(frozen=True)
class ModelIdentity:
    """Which student answered.

    Attributes:
        sha256: of the model file, hexadecimal.
        classes: names by the class id of its labels, those of the class map if there was one.
        about: what else the model file says of itself (JSON types only), shown in the HTML report.
    """

    sha256: str
    classes: tuple[str, ...]
    about: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Provenance:
    """What it takes to repeat the run.

    Attributes:
        command: the command line that made the report.
        bag: name of the recording.
        date: UTC, ISO 8601.
        machine: processor, cores, operating system.
        versions: package name to version.
    """

    command: str
    bag: str
    date: str
    machine: Mapping[str, Any]
    versions: Mapping[str, str]


@dataclass(frozen=True)
class Accuracy:
    """Agreement with the ground truth, whole and split by what cameras see.

    Attributes:
        whole: all points with a truth.
        seen: of these, the points that at least one camera sees; None without calibrated cameras.
        unseen: the points that no camera sees; None without calibrated cameras.
    """

    whole: ConfusionMatrix
    seen: ConfusionMatrix | None = None
    unseen: ConfusionMatrix | None = None


@dataclass(frozen=True)
class RunReport:
    """One run of a student over a recording.

    Attributes:
        scans_in: scans handed to the student.
        scans_labelled: labelled scans that came back.
        scans_dropped: scans the node reports to have dropped (latest scan wins), or that could not be read.
        points: points in the labelled scans.
        latency: see there.
        provider: ONNX Runtime execution provider that ran.
        model: which student.
        label_histogram: points per class name and ``UNKNOWN``.
        provenance: how to repeat it.
        cameras: names of the cameras that took part.
        accuracy: None without ground truth.
        notes: what a reader must know, such as losses on the way.
    """

    scans_in: int
    scans_labelled: int
    scans_dropped: int
    points: int
    latency: Latency
    provider: str
    model: ModelIdentity
    label_histogram: Mapping[str, int]
    provenance: Provenance
    cameras: tuple[str, ...] = ()
    accuracy: Accuracy | None = None
    notes: tuple[str, ...] = ()

    @property
    def scans_lost(self) -> int:
        """Scans that came back neither labelled nor counted as dropped: lost on the way."""
        return self.scans_in - self.scans_labelled - self.scans_dropped

    def to_dict(self) -> dict[str, Any]:
        """JSON types in the layout of ``schema.REPORT_SCHEMA``."""
        content: dict[str, Any] = {
            "schema_version": SCHEMA_VERSION,
            "scans_in": self.scans_in,
            "scans_labelled": self.scans_labelled,
            "scans_dropped": self.scans_dropped,
            "scans_lost": self.scans_lost,
            "points": self.points,
            "latency_ms": self.latency.to_dict(),
            "provider": self.provider,
            "model": {
                "sha256": self.model.sha256,
                "classes": list(self.model.classes),
                "about": dict(self.model.about),
            },
            "label_histogram": dict(self.label_histogram),
            "cameras": list(self.cameras),
            "notes": list(self.notes),
            **asdict(self.provenance),
        }
        return {**content, **self._accuracy_dict()}

    def _accuracy_dict(self) -> dict[str, Any]:
        if self.accuracy is None:
            return {}
        whole = self.accuracy.whole.to_dict(self.model.classes)
        content: dict[str, Any] = {"points_with_truth": whole.pop("points"), **whole}
        for part in ("seen", "unseen"):
            matrix = getattr(self.accuracy, part)
            if matrix is not None:
                content[part] = matrix.to_dict(self.model.classes)
        return content

    def write_json(self, path: Path) -> None:
        """Writes ``report.json``; folders are made as needed."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.to_dict(), indent=2, allow_nan=False) + "\n")
