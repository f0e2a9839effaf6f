"""Label every scan of a recording and write the labels back, without ROS.

ov-seg segment drive -o labelled                  a copy of the recording with /ov_seg/points and /ov_seg/label_info
ov-seg segment drive -o labels --format label     one SemanticKITTI .label file per scan
ov-seg segment drive -o clouds --format ply       one coloured .ply file per scan
ov-seg segment drive -o labelled --refine afi     labels smoothed along locally straight structure
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ov_seg_ros.commands.options import (
    add_bag_argument,
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
    from ov_seg_ros.refinement.refined_segmenter import SegmenterLike

FORMATS = ("mcap", "label", "ply")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    add_bag_argument(parser)
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="OUT", help="recording or folder to write")
    parser.add_argument("--format", choices=FORMATS, default="mcap", help="what to write (default: mcap, a rosbag2)")
    parser.add_argument("--overwrite", action="store_true", help="replace what lies at OUT")
    add_refinement_option(parser)
    add_model_options(parser)
    add_topic_options(parser)


def run(args: argparse.Namespace) -> None:
    """Labels the recording.

    Raises:
        OvSegError: recording, model or output cannot be used.
    """
    from ov_seg_ros.bags.recording import Recording

    _check_out(args.out, args.format, args.overwrite)
    with Recording.open(args.bag) as recording:
        lidar_topic = recording.find_lidar_topic(args.lidar_topic)
        segmenter = load_segmenter(args, args.refine)
        if args.format == "mcap":
            count = _write_recording(args, recording, lidar_topic, segmenter)
        else:
            count = _write_files(args, recording, lidar_topic, segmenter)
    refined = "" if args.refine == "none" else f", refined with {args.refine}"
    print(f"{count} scans labelled with {segmenter.description.name} on {segmenter.provider}{refined}: {args.out}")


def _write_recording(args: argparse.Namespace, recording: Recording, lidar_topic: str, segmenter: SegmenterLike) -> int:
    """Copies the recording; every scan is followed by its labels."""
    from ov_seg_ros.bags.build_messages import message_types
    from ov_seg_ros.bags.labelled import LABEL_TOPICS, LABELS_TOPIC, write_label_info
    from ov_seg_ros.bags.sample_stream import SampleStream
    from ov_seg_ros.bags.writer import RecordingWriter
    from ov_seg_ros.messages.pointcloud2 import decode_pointcloud2, encode_segmentation

    samples = iter(SampleStream(recording, _options(args, recording, segmenter)))
    count = 0
    with RecordingWriter(args.out, overwrite=args.overwrite) as writer:
        write_label_info(writer, segmenter.description.label_space, recording.start_ns)
        copied = writer.copy_all(recording, leave_out=LABEL_TOPICS)
        for message in track(copied, recording.message_count, "labelling", "message"):
            if message.topic == lidar_topic:
                sample = next(samples)
                segmented = segmenter.segment(sample.cloud, sample.images)
                labelled = encode_segmentation(decode_pointcloud2(message.decode()), segmented, overwrite=True)
                writer.write(LABELS_TOPIC, labelled.to_message(message_types()), message.received_ns)
                count += 1
    return count


def _options(args: argparse.Namespace, recording: Recording, segmenter: SegmenterLike) -> SampleStreamOptions:
    """Images are read only for a student that looks at them."""
    options = stream_options(args, recording)
    return options if segmenter.uses_color else replace(options, cameras=[])


def _write_files(args: argparse.Namespace, recording: Recording, lidar_topic: str, segmenter: SegmenterLike) -> int:
    """Writes one file per scan, numbered in the order of the scans."""
    from ov_seg_ros.bags.label_files import write_kitti_labels, write_ply
    from ov_seg_ros.bags.sample_stream import SampleStream

    args.out.mkdir(parents=True, exist_ok=True)
    stream = SampleStream(recording, _options(args, recording, segmenter))
    count = 0
    for sample in track(stream, recording.topics[lidar_topic].count, "labelling"):
        class_id = segmenter.segment(sample.cloud, sample.images).class_id
        path = args.out / f"{count:06d}.{args.format}"
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
