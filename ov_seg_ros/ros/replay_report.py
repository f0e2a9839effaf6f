"""The report of a replay, from the labelled recording and what the node said about itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ov_seg_ros.bags.cameras import CameraTopics
from ov_seg_ros.bags.convert import TRUTH_TOPIC
from ov_seg_ros.bags.labelled import find_sample, iter_labelled, truth_class_names
from ov_seg_ros.bags.recording import Recording
from ov_seg_ros.bags.sample_stream import SampleStream, SampleStreamOptions
from ov_seg_ros.bags.unreadable_scans import list_unreadable
from ov_seg_ros.core.errors import ModelError
from ov_seg_ros.core.label_space import LabelSpace
from ov_seg_ros.report.builder import ReportBuilder, RunFacts, report_paths
from ov_seg_ros.report.model_identity import identify
from ov_seg_ros.report.provenance import describe_run
from ov_seg_ros.report.run_report import ModelIdentity, RunReport
from ov_seg_ros.ros.replay_clock import NO_TIME
from ov_seg_ros.runtime.model_file import load_model_file, shipped_model_path

MEASURED = "header stamp to publication"
WAITING = "transport_and_waiting"
"""Stage of what is left of the latency: the sensor's delay, the way to the node, and waiting for the scan before."""


@dataclass(frozen=True)
class ReplayRun:
    """What a replay yielded besides the labelled recording.

    Attributes:
        bag: the recording that was played.
        lidar_topic: its LiDAR.
        cameras: its cameras.
        label_space: the node's classes.
        published: scans of the recording.
        dropped: of these, what the node reports to have dropped or refused, or what could not be published.
        stamps_ns: of the labelled scans, in the order in which the labels came.
        latencies_ms: of the same scans, in the same order; fewer if some were not heard.
        stages_ms: the same per stage.
        provider: execution provider of the node.
        model_sha256: of the node's model.
        has_class_map: whether the node's classes are not those of its student.
        notes: what a reader must know.
    """

    bag: Path
    lidar_topic: str
    cameras: Sequence[CameraTopics]
    label_space: LabelSpace
    published: int
    dropped: int
    stamps_ns: Sequence[int]
    latencies_ms: Sequence[float]
    stages_ms: dict[str, list[float]]
    provider: str
    model_sha256: str
    has_class_map: bool = False
    notes: tuple[str, ...] = field(default=())


def write_report(run: ReplayRun, labelled: Path, out: Path, command: str | None, model: Path | None) -> RunReport:
    """Writes ``report.json``, ``report.html`` and ``overview.png`` into ``out``.

    Args:
        run: the replay.
        labelled: the labelled recording.
        out: folder.
        command: command line to show; None = that of this process.
        model: the node's model file, for what it says about itself; None = the shipped one, if it is that.

    Raises:
        InputError: the labelled recording cannot be read.
    """
    with Recording.open(labelled) as recording:
        truth_names = truth_class_names(recording)
        is_unknown = run.has_class_map and truth_names is None  # ids of the student, whose names are not at hand
        has_truth = TRUTH_TOPIC in recording.topics and not is_unknown
        options = SampleStreamOptions(run.lidar_topic, run.cameras, truth_topic=TRUTH_TOPIC if has_truth else None)
        builder = ReportBuilder(run.label_space, len(run.stamps_ns), truth_names)
        timings = _timings(run)
        quick = options if has_truth else replace(options, cameras=[])  # decoding all images takes long
        stream = SampleStream(recording, quick)
        for sample, class_id in iter_labelled(recording, stream):
            builder.add(sample, class_id, *timings.get(sample.cloud.stamp_ns, (None, None)))
        if not has_truth and builder.showcase_stamp_ns is not None:
            builder.show(find_sample(recording, options, builder.showcase_stamp_ns))
    notes = [*run.notes, *_timing_notes(run), *list_unreadable((), stream.unfit_truth)]
    if is_unknown and TRUTH_TOPIC in recording.topics:
        notes.append(
            "ground truth was left out: the recording does not name its classes, and those of the node are mapped"
        )
    facts = RunFacts(
        scans_in=run.published,
        scans_dropped=run.dropped,
        provider=run.provider,
        model=_identify(run, model),
        provenance=describe_run(run.bag, command),
        measured=MEASURED,
        notes=tuple(notes),
    )
    report = builder.report(facts)
    builder.write(report, *report_paths(out))
    return report


def _timings(run: ReplayRun) -> dict[int, tuple[float, dict[str, float]]]:
    """Latency and stages by stamp; the node publishes them without a stamp, in the order of the scans."""
    if len(run.latencies_ms) != len(run.stamps_ns) or NO_TIME in run.stamps_ns:
        return {}
    stages = {name: values for name, values in run.stages_ms.items() if len(values) == len(run.stamps_ns)}
    rows = []
    for index, latency in enumerate(run.latencies_ms):
        stage_ms = {name: values[index] for name, values in stages.items()}
        rows.append((latency, {WAITING: max(0.0, latency - sum(stage_ms.values())), **stage_ms}))
    return dict(zip(run.stamps_ns, rows, strict=True))


def _timing_notes(run: ReplayRun) -> Iterator[str]:
    if len(run.latencies_ms) != len(run.stamps_ns):
        yield (
            f"{len(run.latencies_ms)} latencies were heard for {len(run.stamps_ns)} labelled scans, so they cannot be "
            "told apart and are left out"
        )
    elif NO_TIME in run.stamps_ns:
        yield "scans of the recording have no stamp (0), so there is no latency to measure"


def _identify(run: ReplayRun, model: Path | None) -> ModelIdentity:
    """What the node says, and what the model file says where it is at hand and the same.

    The classes are those of the node: with a class map they are others than those of the file.
    """
    identity = ModelIdentity(run.model_sha256, run.label_space.class_names)
    try:
        file = load_model_file(model if model is not None else shipped_model_path())
    except ModelError:
        return identity
    return (
        replace(identity, about=identify(file.description, file.sha256).about)
        if file.sha256 == run.model_sha256
        else identity
    )
