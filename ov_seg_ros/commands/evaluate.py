"""Label every scan of a recording, without ROS, and write a report.

With ground truth in the recording (/ground_truth/points: class_id, same stamp, order and length as the scans) the
report holds IoU per class, whole and split into what cameras see and what they do not; without it, what was found.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from ov_seg_ros.commands.options import (
    add_bag_argument,
    add_model_options,
    add_refinement_option,
    add_topic_options,
    load_segmenter,
    stream_options,
    track,
)

MEASURED = "decoded scan to labels, without ROS"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    add_bag_argument(parser)
    parser.add_argument("--json", type=Path, required=True, metavar="PATH", help="report for machines")
    parser.add_argument("--html", type=Path, metavar="PATH", help="report for people, one self-contained page")
    parser.add_argument("--overview", type=Path, metavar="PATH", help="picture of one scan (.png)")
    add_refinement_option(parser)
    add_model_options(parser)
    add_topic_options(parser)


def run(args: argparse.Namespace) -> None:
    """Evaluates.

    Raises:
        OvSegError: recording, model or output cannot be used.
    """
    from ov_seg_ros.bags.labelled import find_sample, truth_class_names
    from ov_seg_ros.bags.recording import Recording
    from ov_seg_ros.bags.sample_stream import TRUTH_TOPIC, SampleStream
    from ov_seg_ros.bags.unreadable_scans import UnreadableScan, list_unreadable, require_readable
    from ov_seg_ros.report.builder import ReportBuilder, RunFacts, check_report_paths
    from ov_seg_ros.report.model_identity import identify
    from ov_seg_ros.report.provenance import describe_run
    from ov_seg_ros.report.summary import headlines

    check_report_paths(args.json, args.html, args.overview)
    with Recording.open(args.bag) as recording:
        segmenter = load_segmenter(args, args.refine)
        options = stream_options(args, recording, TRUTH_TOPIC)
        reads_images = segmenter.uses_color or TRUTH_TOPIC in recording.topics
        stream = SampleStream(recording, options if reads_images else replace(options, cameras=[]))
        count = recording.topics[stream.lidar_topic].count
        builder = ReportBuilder(segmenter.description.label_space, count, truth_class_names(recording))
        outcomes = require_readable(stream.outcomes(), f"{args.bag}, topic {stream.lidar_topic}")
        for sample in track(outcomes, count, "evaluating"):
            if isinstance(sample, UnreadableScan):
                continue
            segmented = segmenter.segment(sample.cloud, sample.images)
            stage_ms = {name: ms for name, ms in segmented.stage_ms.items() if name != "total"}
            builder.add(sample, segmented.class_id, segmented.stage_ms["total"], stage_ms)
        if not reads_images and (args.html or args.overview) and builder.showcase_stamp_ns is not None:
            builder.show(find_sample(recording, options, builder.showcase_stamp_ns))
        left_out = tuple(list_unreadable(stream.unreadable, stream.unfit_truth))
        facts = RunFacts(
            scans_in=count,
            scans_dropped=len(stream.unreadable),
            provider=segmenter.provider,
            model=identify(segmenter.description, segmenter.sha256),
            provenance=describe_run(args.bag),
            measured=MEASURED,
            notes=(*_notes(args.refine, stream.skipped_cameras), *left_out),
        )
    report = builder.report(facts)
    builder.write(report, args.json, args.html, args.overview)
    print("\n".join(headlines(report.to_dict())))
    for line in left_out:
        print(line, file=sys.stderr)


def _notes(refinement: str, skipped_cameras: Mapping[str, str]) -> Iterator[str]:
    """What a reader of the report must know."""
    if refinement != "none":
        yield f"the labels of the student were refined: {refinement} (docs/afi.md)"
    yield from (f"camera {name} was not used: {why}" for name, why in skipped_cameras.items())
