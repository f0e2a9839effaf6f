"""Label every scan of a recording and write the labels back, without ROS.

ov-seg segment drive -o labelled                  a copy of the recording with /ov_seg/points and /ov_seg/label_info
ov-seg segment drive -o labels --format label     one SemanticKITTI .label file per scan
ov-seg segment drive -o clouds --format ply       one coloured .ply file per scan
ov-seg segment drive -o labelled --refine afi     labels smoothed along locally straight structure
ov-seg segment drive -o labelled --class-map config/class_maps/autoware.yaml     with the classes of Autoware
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ov_seg_ros.commands.options import (
    add_bag_argument,
    add_class_map_option,
    add_model_options,
    add_refinement_option,
    add_topic_options,
    load_segmenter,
    stream_options,
    track,
)
from ov_seg_ros.core.errors import InputError
from ov_seg_ros.core.output_paths import require_writable_folder

if TYPE_CHECKING:
    from ov_seg_ros.bags.recording import Recording
    from ov_seg_ros.bags.sample_stream import SampleStreamOptions
    from ov_seg_ros.bags.unreadable_scans import UnreadableScan
    from ov_seg_ros.core.data_types import Sample
    from ov_seg_ros.refinement.refined_segmenter import SegmenterLike

    Outcomes = Iterator[Sample | UnreadableScan]

FORMATS = ("mcap", "label", "ply")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    add_bag_argument(parser)
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="OUT", help="recording or folder to write")
    parser.add_argument("--format", choices=FORMATS, default="mcap", help="what to write (default: mcap, a rosbag2)")
    parser.add_argument("--overwrite", action="store_true", help="replace what lies at OUT")
    add_refinement_option(parser)
    add_class_map_option(parser)
    add_model_options(parser)
    add_topic_options(parser)


def run(args: argparse.Namespace) -> None:
    """Labels the recording.

    Raises:
        OvSegError: recording, model or output cannot be used.
    """
    from ov_seg_ros.bags.labelled import find_topic_to_label
    from ov_seg_ros.bags.recording import Recording
    from ov_seg_ros.bags.sample_stream import SampleStream
    from ov_seg_ros.bags.unreadable_scans import list_unreadable, require_readable

    _check_out(args.out, args.format, args.overwrite)
    with Recording.open(args.bag) as recording:
        args.lidar_topic = find_topic_to_label(recording, args.lidar_topic)
        segmenter = load_segmenter(args, args.refine, args.class_map)
        stream = SampleStream(recording, _options(args, recording, segmenter))
        outcomes = require_readable(stream.outcomes(), f"{args.bag}, topic {stream.lidar_topic}")
        if args.format == "mcap":
            count = _write_recording(args, recording, outcomes, segmenter)
        else:
            count = _write_files(args, recording, outcomes, segmenter)
    refined = "" if args.refine == "none" else f", refined with {args.refine}"
    left_out = f", {len(stream.unreadable)} left out" if stream.unreadable else ""
    student = f"{segmenter.description.name} on {segmenter.provider}"
    print(f"{count} scans labelled with {student}{refined}{left_out}: {args.out}")
    for line in list_unreadable(stream.unreadable):
        print(line, file=sys.stderr)


def _write_recording(
    args: argparse.Namespace, recording: Recording, outcomes: Outcomes, segmenter: SegmenterLike
) -> int:
    """Copies the recording; every scan that can be read is followed by its labels."""
    from ov_seg_ros.bags.build_messages import message_types
    from ov_seg_ros.bags.labelled import LABEL_TOPICS, LABELS_TOPIC, write_label_info
    from ov_seg_ros.bags.unreadable_scans import UnreadableScan
    from ov_seg_ros.bags.writer import RecordingWriter
    from ov_seg_ros.messages.pointcloud2 import decode_pointcloud2, encode_segmentation

    count = 0
    with RecordingWriter(args.out, overwrite=args.overwrite) as writer:
        write_label_info(writer, segmenter.description.label_space, recording.start_ns)
        copied = writer.copy_all(recording, leave_out=LABEL_TOPICS)
        for message in track(copied, recording.message_count, "labelling", "message"):
            if message.topic == args.lidar_topic:
                sample = next(outcomes)
                if isinstance(sample, UnreadableScan):
                    continue
                segmented = segmenter.segment(sample.cloud, sample.images)
                labelled = encode_segmentation(decode_pointcloud2(message.decode()), segmented, overwrite=True)
                writer.write(LABELS_TOPIC, labelled.to_message(message_types()), message.received_ns)
                count += 1
    return count


def _options(args: argparse.Namespace, recording: Recording, segmenter: SegmenterLike) -> SampleStreamOptions:
    """Images are read only for a student that looks at them."""
    options = stream_options(args, recording)
    return options if segmenter.uses_color else replace(options, cameras=[])


def _write_files(args: argparse.Namespace, recording: Recording, outcomes: Outcomes, segmenter: SegmenterLike) -> int:
    """Writes one file per scan, numbered in the order of the scans; one that cannot be read keeps its number."""
    from ov_seg_ros.bags.label_files import write_kitti_labels, write_ply
    from ov_seg_ros.bags.unreadable_scans import UnreadableScan

    args.out.mkdir(parents=True, exist_ok=True)
    count = 0
    for number, sample in enumerate(track(outcomes, recording.topics[args.lidar_topic].count, "labelling")):
        if isinstance(sample, UnreadableScan):
            continue
        class_id = segmenter.segment(sample.cloud, sample.images).class_id
        path = args.out / f"{number:06d}.{args.format}"
        if args.format == "label":
            write_kitti_labels(path, class_id)
        else:
            write_ply(path, sample.cloud.points, class_id, segmenter.description.label_space)
        count += 1
    return count


def _check_out(out: Path, written: str, overwrite: bool) -> None:
    """Refuses what cannot be written, or must not be replaced, before anything is labelled."""
    from ov_seg_ros.bags.writer import check_target

    if written == "mcap":
        check_target(out, overwrite)
        return
    require_writable_folder(out)
    if out.is_dir() and any(out.iterdir()) and not overwrite:
        raise InputError(f"{out} is not empty; give another path or --overwrite")
