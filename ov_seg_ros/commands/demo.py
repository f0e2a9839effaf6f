"""Label a recording with the real ROS 2 node, over real topics, and write pictures and a report.

Without BAG a synthetic drive is made first (LiDAR, six cameras, ground truth), one that the shipped student has never
seen; this needs a checkout. BAG is any rosbag2 folder or .mcap file; it needs no ground truth.
"""

from __future__ import annotations

import argparse
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ov_seg_ros.commands import convert
from ov_seg_ros.commands.node_process import NodeProcess, require_ros, ros_environment, write_parameters
from ov_seg_ros.commands.options import add_model_options, add_topic_options, load_segmenter, model_path, stream_options
from ov_seg_ros.core.errors import ConfigError
from ov_seg_ros.core.output_paths import require_writable_folder

if TYPE_CHECKING:
    from ov_seg_ros.bags.cameras import CameraTopics
    from ov_seg_ros.bags.recording import Recording

HELD_OUT_SEED = 9001
"""Of the demo's drive; no recipe trains on it."""
DEMO_SCANS = 50
TOLERANCE_MS = 50.0
HEADROOM = 0.6
"""Share of the time between two scans that the node may need; above that the recording is played slower."""
PROBE_SCANS = 5
QUEUE_LIMIT = 1000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument("bag", type=Path, nargs="?", metavar="BAG", help="your recording (default: a synthetic drive)")
    parser.add_argument(
        "-o", "--out", type=Path, default=Path("build/demo"), metavar="DIR", help="folder (default: build/demo)"
    )
    parser.add_argument("--scans", type=int, default=DEMO_SCANS, help=f"of the synthetic drive (default: {DEMO_SCANS})")
    parser.add_argument("--seed", type=int, default=HELD_OUT_SEED, help="of the synthetic drive")
    parser.add_argument(
        "--rate", type=float, help="recorded seconds per second (default: 1, slower if this machine cannot keep up)"
    )
    add_model_options(parser)
    add_topic_options(parser)


def run(args: argparse.Namespace) -> None:
    """Runs the demo.

    Raises:
        OvSegError: rclpy is missing, or recording, model or node cannot be used.
    """
    from ov_seg_ros.bags.recording import Recording
    from ov_seg_ros.runtime.model_file import load_model_file

    require_ros()
    _check_out(args.out)
    model = model_path(args)
    load_model_file(model)  # what cannot run is said before a drive is made
    args.out.mkdir(parents=True, exist_ok=True)
    bag = args.bag if args.bag is not None else _make_drive(args)
    with Recording.open(bag) as recording:
        plan = _plan(args, recording, bag)
        parameters = _write_node_files(args, recording, plan, model)
    print(f"playing {plan.scans} scans at {plan.rate:g} times the recorded pace through segmentation_node", flush=True)
    with NodeProcess(parameters, args.out / "node" / "node.log", ros_environment()) as node:
        node.run_beside(_replay_arguments(args, plan, model))
    _print_results(args.out, plan)


def _check_out(out: Path) -> None:
    """Refuses, before a drive is made and played, what node or replay could not write or must not replace."""
    from ov_seg_ros.bags.writer import check_target
    from ov_seg_ros.report.builder import check_report_paths, report_paths

    require_writable_folder(out)
    require_writable_folder(out / "node")
    check_target(out / "labelled", overwrite=True)
    check_report_paths(*report_paths(out))


@dataclass(frozen=True)
class Plan:
    """What is played and how.

    Attributes:
        bag: the recording.
        lidar_topic: its LiDAR.
        scans: how many.
        cameras: that have a calibration.
        rate: recorded seconds per second.
    """

    bag: Path
    lidar_topic: str
    scans: int
    cameras: list[CameraTopics]
    rate: float


def _make_drive(args: argparse.Namespace) -> Path:
    drive = args.out / "drive"
    source = f"synthetic:seed={args.seed},scans={args.scans}"
    convert.run(argparse.Namespace(source=source, out=drive, storage="mcap", overwrite=True, max_unreadable=0.0))
    return Path(drive)


def _plan(args: argparse.Namespace, recording: Recording, bag: Path) -> Plan:
    from ov_seg_ros.bags.labelled import find_topic_to_label

    lidar_topic = find_topic_to_label(recording, args.lidar_topic)
    scans = recording.topics[lidar_topic].count
    cameras = [] if args.no_cameras else recording.find_cameras(args.camera_topics)
    usable = [camera for camera in cameras if camera.info_topic is not None]
    if args.rate is not None and not 0.01 <= args.rate <= 100.0:
        raise ConfigError(f"--rate must be 0.01 to 100, got {args.rate}")
    rate = args.rate if args.rate is not None else _sustainable_rate(args, recording, scans)
    return Plan(bag, lidar_topic, scans, usable, rate)


def _sustainable_rate(args: argparse.Namespace, recording: Recording, scans: int) -> float:
    """1, or what leaves the student enough time per scan on this machine; in steps of a tenth."""
    from itertools import islice
    from statistics import median

    from ov_seg_ros.bags.sample_stream import SampleStream
    from ov_seg_ros.bags.unreadable_scans import require_readable
    from ov_seg_ros.core.data_types import Sample

    if scans < 2:
        return 1.0
    segmenter = load_segmenter(args)
    options = stream_options(args, recording)
    stream = SampleStream(recording, options if segmenter.uses_color else replace(options, cameras=[]))
    outcomes = require_readable(stream.outcomes(), f"{recording.path}, topic {stream.lidar_topic}")
    samples = islice((outcome for outcome in outcomes if isinstance(outcome, Sample)), PROBE_SCANS)
    typical_ms = median(segmenter.segment(sample.cloud, sample.images).stage_ms["total"] for sample in samples)
    period_ms = recording.duration_ns / (scans - 1) * 1e-6
    return min(1.0, max(0.1, int(10 * HEADROOM * period_ms / typical_ms) / 10))


def _write_node_files(args: argparse.Namespace, recording: Recording, plan: Plan, model: Path) -> Path:
    """Parameters and camera poses for the node, kept beside its log for whoever wants to run it again."""
    folder = args.out / "node"
    folder.mkdir(exist_ok=True)
    parameters: dict[str, Any] = {
        "model_path": str(model.resolve()),
        "provider": args.provider,
        "num_threads": args.threads,
        "queue_size": min(QUEUE_LIMIT, plan.scans),
    }
    extrinsics = _extrinsics(recording, plan)
    if extrinsics["cameras"]:
        parameters["cameras"] = list(extrinsics["cameras"])
        parameters["extrinsics_file"] = str((folder / "extrinsics.yaml").resolve())
        parameters["matching.tolerance_ms"] = TOLERANCE_MS / plan.rate
        (folder / "extrinsics.yaml").write_text(_as_yaml(extrinsics))
    write_parameters(folder / "parameters.yaml", parameters)
    return Path(folder / "parameters.yaml")


def _extrinsics(recording: Recording, plan: Plan) -> dict[str, Any]:
    """Camera poses at the first scan as the node's ``extrinsics_file`` wants them; unknown ones are left out."""
    from ov_seg_ros.core.errors import InputError
    from ov_seg_ros.core.transforms import quaternion_from_matrix
    from ov_seg_ros.messages.assembly import read_stamp_ns

    first = recording.first_decodable(plan.lidar_topic)
    if first is None:
        raise InputError(f"{recording.path}: topic {plan.lidar_topic} holds no messages that can be read; record again")
    header = first.header
    tree, poses = recording.transform_tree(), {}
    for camera in plan.cameras:
        image = recording.first_decodable(camera.image_topic)
        if image is None:
            continue
        frame = image.header.frame_id
        try:
            matrix = tree.lookup(frame, header.frame_id, read_stamp_ns(header))
        except InputError:
            continue
        translation, rotation = quaternion_from_matrix(matrix)
        pose = {"translation": translation.tolist(), "rotation_xyzw": rotation.tolist()}
        poses[camera.name] = {"frame": frame, "camera_from_lidar": pose}
    return {"lidar_frame": header.frame_id, "cameras": poses}


def _as_yaml(content: dict[str, Any]) -> str:
    import yaml

    return str(yaml.safe_dump(content, sort_keys=False))


def _replay_arguments(args: argparse.Namespace, plan: Plan, model: Path) -> list[str]:
    arguments = [str(plan.bag), "--out", str(args.out), "--rate", str(plan.rate), "--lidar-topic", plan.lidar_topic]
    arguments += ["--model", str(model), "--timeout", "180", "--command", _shown_command(args)]
    for camera in plan.cameras:
        arguments += ["--camera-topic", camera.image_topic]
    return arguments if plan.cameras else [*arguments, "--no-cameras"]


def _shown_command(args: argparse.Namespace) -> str:
    words = ["ov-seg", "demo"]
    words += [str(args.bag)] if args.bag is not None else ["--seed", str(args.seed), "--scans", str(args.scans)]
    words += ["--model", str(args.model)] if args.model is not None else []
    words += ["--rate", str(args.rate)] if args.rate is not None else []
    return shlex.join(words)


def _print_results(out: Path, plan: Plan) -> None:
    """The figures were printed by the replay."""
    for name, what in (
        ("report.html", "the report, open it in a browser"),
        ("overview.png", "one scan from above and in the cameras"),
        ("labelled", "the recording with /ov_seg/points"),
        ("report.json", "the figures for machines"),
    ):
        print(f"  {out / name}  {what}")
    if plan.bag == out / "drive":
        print(f"  {plan.bag}  the drive itself")
