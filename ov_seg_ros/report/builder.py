"""From labelled scans to ``report.json``, ``report.html`` and ``overview.png``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.data_types import IGNORE_ID, Projection, Sample
from ov_seg_ros.core.errors import InputError
from ov_seg_ros.core.label_space import LabelSpace
from ov_seg_ros.core.output_paths import require_writable_file
from ov_seg_ros.core.projection import project_cloud
from ov_seg_ros.report.html import Page, Picture
from ov_seg_ros.report.pictures import draw_birds_eyes, draw_overview
from ov_seg_ros.report.run_report import ModelIdentity, Provenance, RunReport
from ov_seg_ros.report.scene import Scene, seen_points
from ov_seg_ros.report.statistics import RunStatistics
from ov_seg_ros.report.truth_mapping import foreign_classes, truth_table

STRIP_SCENES = 6
STRIP_SIZE = (560, 420)
"""Width and height of one picture of the strip, pixels."""

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg")

MIN_CLASS_POINTS = 20
"""A class counts as present in a scan from this many points on."""


@dataclass(frozen=True)
class RunFacts:
    """What the labelled scans themselves cannot tell.

    Attributes:
        scans_in: scans handed to the student.
        scans_dropped: scans it reports to have dropped, or that could not be read.
        provider: execution provider that ran.
        model: which student.
        provenance: how to repeat the run.
        measured: between which two moments the latency runs.
        notes: what a reader must know.
    """

    scans_in: int
    scans_dropped: int
    provider: str
    model: ModelIdentity
    provenance: Provenance
    measured: str
    notes: tuple[str, ...] = ()


class ReportBuilder:
    """Takes labelled scans one at a time and keeps only figures and a handful of scenes.

    Args:
        label_space: classes of the student.
        expected_scans: about how many scans will come; spreads the strip of pictures over the run.
        truth_names: classes of the ground truth by id; None = those of the student. Points of a class that the
            student does not know are not counted.
    """

    def __init__(self, label_space: LabelSpace, expected_scans: int, truth_names: Sequence[str] | None = None) -> None:
        self.label_space = label_space
        self._truth_table = truth_table(truth_names, label_space)
        self._foreign = foreign_classes(truth_names, label_space)
        self.statistics = RunStatistics(label_space)
        self._strip_at = set(np.linspace(0, max(0, expected_scans - 1), STRIP_SCENES).round().astype(int).tolist())
        self._strip: list[Picture] = []
        self._showcase: tuple[int, int, Scene] | None = None  # (classes present, scan number, scene)
        self._cameras: list[str] = []
        self._first_stamp_ns: int | None = None

    def add(
        self,
        sample: Sample,
        class_id: NDArray[np.uint8],
        latency_ms: float | None = None,
        stage_ms: Mapping[str, float] | None = None,
    ) -> None:
        """Adds one labelled scan.

        Args:
            sample: the scan with its images and, if known, its ground truth.
            class_id: (N,) uint8 prediction.
            latency_ms: how long it took.
            stage_ms: the same per stage.

        Raises:
            InputError: labels and points differ in number, or a class id is foreign to the label space.
        """
        if sample.class_id is not None:
            sample = replace(sample, class_id=self._truth_table[sample.class_id])
        scene = Scene(sample, class_id)
        self.statistics.add(sample.cloud.stamp_ns, class_id, latency_ms, stage_ms)
        if sample.class_id is not None:
            scene = replace(scene, projections=_project_all(sample))
            seen = seen_points(len(sample.cloud), scene.projections) if scene.projections else None
            self.statistics.compare(sample.class_id, class_id, seen)
        self._note_cameras(sample)
        self._keep_pictures(scene)

    @property
    def showcase_stamp_ns(self) -> int | None:
        """Stamp of the scan that ``overview.png`` shows: the one with the most classes; None before the first."""
        return None if self._showcase is None else self._showcase[2].cloud.stamp_ns

    def show(self, sample: Sample | None) -> None:
        """Gives the showcase its images, where scans were added without: reading all images takes long.

        Args:
            sample: of the stamp ``showcase_stamp_ns``; another one, or None, is passed over.

        Raises:
            InputError: it has another number of points than the scan that was added.
        """
        if self._showcase is not None and sample is not None and sample.cloud.stamp_ns == self.showcase_stamp_ns:
            present, number, scene = self._showcase
            truth = scene.sample.class_id
            self._showcase = (present, number, Scene(replace(sample, class_id=truth), scene.class_id))
            self._note_cameras(sample)

    def report(self, facts: RunFacts) -> RunReport:
        """Closes the books."""
        statistics = self.statistics
        return RunReport(
            scans_in=facts.scans_in,
            scans_labelled=len(statistics.scans),
            scans_dropped=facts.scans_dropped,
            points=statistics.points,
            latency=statistics.latency(facts.measured),
            provider=facts.provider,
            model=facts.model,
            label_histogram=statistics.label_histogram(),
            provenance=facts.provenance,
            cameras=tuple(self._cameras),
            accuracy=statistics.accuracy(),
            notes=facts.notes + self._own_notes(),
        )

    def _own_notes(self) -> tuple[str, ...]:
        if not self._foreign:
            return ()
        names = ", ".join(self._foreign)
        return (f"points of {names} are not counted: the ground truth has these classes, the student has not",)

    def write(
        self, report: RunReport, json: Path | None = None, html: Path | None = None, overview: Path | None = None
    ) -> None:
        """Writes the files that are asked for; folders are made as needed. See ``check_report_paths``."""
        if json is not None:
            report.write_json(json)
        picture = self._overview(report) if html is not None or overview is not None else None
        if overview is not None and picture is not None:
            overview.parent.mkdir(parents=True, exist_ok=True)
            picture.image.save(overview, optimize=False)
        if html is not None:
            html.parent.mkdir(parents=True, exist_ok=True)
            page = Page(report, self.label_space, self.statistics.scans, picture, self._strip)
            html.write_text(page.render(), encoding="utf-8")

    def _note_cameras(self, sample: Sample) -> None:
        self._cameras += [view.name for view in sample.images if view.name not in self._cameras]

    def _keep_pictures(self, scene: Scene) -> None:
        number = len(self.statistics.scans) - 1
        stamp_ns = scene.cloud.stamp_ns
        self._first_stamp_ns = stamp_ns if self._first_stamp_ns is None else self._first_stamp_ns
        if number in self._strip_at:
            lean = Scene(replace(scene.sample, images=(), class_id=None), scene.class_id)
            (_, picture), *_ = draw_birds_eyes(lean, self.label_space, *STRIP_SIZE)
            self._strip.append(Picture(f"{(stamp_ns - self._first_stamp_ns) / 1e9:.1f} s", picture))
        present = int((np.bincount(scene.class_id, minlength=256)[:IGNORE_ID] >= MIN_CLASS_POINTS).sum())
        if self._showcase is None or present > self._showcase[0]:
            self._showcase = (present, number, scene)

    def _overview(self, report: RunReport) -> Picture | None:
        if self._showcase is None:
            return None
        _, number, scene = self._showcase
        scene = scene if scene.projections else replace(scene, projections=_project_all(scene.sample))
        facts = []
        if report.accuracy is not None:
            facts.append(f"mIoU {100 * report.accuracy.whole.miou():.1f} %")
        if report.latency.total is not None:
            facts.append(f"median latency {report.latency.total.p50:.0f} ms")
        facts.append(f"scan {number + 1} of {report.scans_labelled}")
        image = draw_overview(scene, self.label_space, report.provenance.bag, facts)
        return Picture(f"Scan {number + 1} of {report.scans_labelled}: the one with the most classes", image)


def _project_all(sample: Sample) -> dict[str, Projection]:
    """What each camera sees, occluded points left out."""
    points = sample.cloud.points
    return {view.name: project_cloud(points, view.camera_from_lidar, view.camera) for view in sample.images}


def report_paths(folder: Path) -> tuple[Path, Path, Path]:
    """``report.json``, ``report.html`` and ``overview.png`` in a folder, in the order of ``ReportBuilder.write``."""
    return folder / "report.json", folder / "report.html", folder / "overview.png"


def check_report_paths(json: Path | None = None, html: Path | None = None, overview: Path | None = None) -> None:
    """Checks that the files of a report can be written, before the work that they report; arguments as in ``write``.

    Raises:
        InputError: a file cannot be written, or the picture has a suffix that is not in ``PICTURE_SUFFIXES``.
    """
    if overview is not None and overview.suffix.lower() not in PICTURE_SUFFIXES:
        raise InputError(f"the overview is a picture, {' or '.join(PICTURE_SUFFIXES)}, got {overview}")
    for path in (json, html, overview):
        if path is not None:
            require_writable_file(path)
