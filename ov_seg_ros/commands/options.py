"""Options that several verbs share, and what they stand for."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ov_seg_ros.core.errors import ConfigError

if TYPE_CHECKING:
    from ov_seg_ros.bags.recording import Recording
    from ov_seg_ros.bags.sample_stream import SampleStreamOptions
    from ov_seg_ros.refinement.refined_segmenter import SegmenterLike

T = TypeVar("T")
REFINEMENTS = ("none", "afi")
"""Those of ``refinement.refined_segmenter``, which is too heavy for ``--help``."""


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """``--model``, ``--provider`` and ``--threads``."""
    group = parser.add_argument_group("model")
    group.add_argument("--model", type=Path, metavar="FILE", help="student to run (default: the one that is shipped)")
    group.add_argument(
        "--provider",
        default="auto",
        metavar="NAME",
        help="auto, cpu, compiled, triton (ours for NVIDIA), cuda, tensorrt or ONNX Runtime's own name (default: auto)",
    )
    group.add_argument(
        "--threads", type=int, default=0, metavar="N", help="CPU threads of the network (default: 0, one per core)"
    )


def add_refinement_option(parser: argparse.ArgumentParser) -> None:
    """``--refine``."""
    parser.add_argument(
        "--refine",
        choices=REFINEMENTS,
        default="none",
        help="refine the student's labels; afi smooths them along locally straight structure (default: none)",
    )


def add_class_map_option(parser: argparse.ArgumentParser) -> None:
    """``--class-map``."""
    parser.add_argument(
        "--class-map",
        default="",
        metavar="FILE",
        help="translate the student's classes, like config/class_maps/autoware.yaml (default: they stay as they are)",
    )


def add_topic_options(parser: argparse.ArgumentParser) -> None:
    """``--lidar-topic``, ``--camera-topic`` and ``--no-cameras``."""
    group = parser.add_argument_group("topics")
    group.add_argument("--lidar-topic", metavar="TOPIC", help="PointCloud2 topic (default: the only one there is)")
    cameras = group.add_mutually_exclusive_group()
    cameras.add_argument(
        "--camera-topic",
        dest="camera_topics",
        action="append",
        metavar="TOPIC",
        help="image topic to use, may be given several times (default: all that have a camera_info)",
    )
    cameras.add_argument("--no-cameras", action="store_true", help="go by the LiDAR alone")


def add_bag_argument(parser: argparse.ArgumentParser) -> None:
    """The positional BAG."""
    parser.add_argument("bag", type=Path, metavar="BAG", help="rosbag2 folder, .mcap, .db3 or ROS 1 .bag file")


def model_path(args: argparse.Namespace) -> Path:
    """The model that was asked for, else the shipped one.

    Raises:
        ModelError: none was asked for and none is shipped.
    """
    from ov_seg_ros.runtime.model_file import shipped_model_path

    return args.model if args.model is not None else shipped_model_path()


def load_segmenter(args: argparse.Namespace, refinement: str = "none", class_map: str = "") -> SegmenterLike:
    """Loads the student and warms it up, so that the first scan is as fast as the others.

    Args:
        args: with the options of ``add_model_options``.
        refinement: of its labels, one of ``REFINEMENTS``.
        class_map: YAML file that translates its classes; "" = none.

    Raises:
        ModelError: the file or the provider cannot be used.
        ConfigError: the provider is unknown, ``--threads`` is negative, or the class map cannot be used.
    """
    from ov_seg_ros.refinement.mapped_segmenter import map_classes
    from ov_seg_ros.refinement.refined_segmenter import refine_segmenter
    from ov_seg_ros.runtime.segmenter import Segmenter

    if args.threads < 0:
        raise ConfigError(f"--threads must be >= 0, got {args.threads}")
    refined = refine_segmenter(Segmenter.load(model_path(args), args.provider, args.threads), refinement)
    segmenter = map_classes(refined, class_map)
    segmenter.warm_up()
    return segmenter


def stream_options(
    args: argparse.Namespace, recording: Recording, truth_topic: str | None = None
) -> SampleStreamOptions:
    """What to read of a recording.

    Args:
        args: with the options of ``add_topic_options``.
        recording: to find the cameras in.
        truth_topic: topic of the ground truth, None = do not read it.

    Raises:
        InputError: a camera topic that was asked for does not exist.
    """
    from ov_seg_ros.bags.sample_stream import SampleStreamOptions

    cameras = [] if args.no_cameras else recording.find_cameras(args.camera_topics)
    return SampleStreamOptions(lidar_topic=args.lidar_topic, cameras=cameras, truth_topic=truth_topic)


def track(items: Iterable[T], total: int, what: str, unit: str = "scan") -> Iterator[T]:
    """Shows a progress bar on stderr if that is a terminal.

    Args:
        items: to pass on.
        total: how many there are.
        what: left of the bar.
        unit: what is counted.
    """
    from tqdm import tqdm

    yield from tqdm(items, total=total, desc=what, unit=f" {unit}", disable=None, dynamic_ncols=True)
