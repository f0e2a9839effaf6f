"""``replay``: play a recording through a running segmentation node, record what it says, and write a report.

  replay drive --out results          with a segmentation_node running in another process

OUT gets labelled/ (the recording with /ov_seg/points and /ov_seg/label_info), report.json, report.html, overview.png.
Every scan is accounted for: labelled, dropped by the node, or lost on the way. The replay ends by itself.
"""

from __future__ import annotations

import argparse
import logging
import re
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from ov_seg_ros.core.errors import ConfigError, InputError, MissingDependencyError, OvSegError
from ov_seg_ros.core.interruption import describe_end, exit_code, orderly_end
from ov_seg_ros.core.output_paths import require_writable_folder

if TYPE_CHECKING:
    from rclpy.node import Node

    from ov_seg_ros.bags.recording import Recording
    from ov_seg_ros.ros.replay_labels import LabelSpool
    from ov_seg_ros.ros.replay_listener import NodeListener, NodeState
    from ov_seg_ros.ros.replay_player import Player
    from ov_seg_ros.ros.replay_report import ReplayRun

SETTLE_S = 0.5
"""After both sides have found each other, seconds: every topic is matched on its own."""
DIAGNOSTICS_S = 2.5
"""How long to wait for diagnostics that are newer than the last scan."""
NODE_NAME = re.compile(r"/?[A-Za-z_][A-Za-z0-9_]*(/[A-Za-z_][A-Za-z0-9_]*)*\Z")
"""Names that ROS takes: words joined by slashes, each of letters, digits and underscores, none begun by a digit."""
LATE_NS = 20_000_000
"""A scan published this much behind its schedule is worth a note."""

_log = logging.getLogger("replay")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument("bag", type=Path, metavar="BAG", help="rosbag2 folder or .mcap file")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the results")
    parser.add_argument("--rate", type=float, default=1.0, help="recorded seconds per second (default: 1.0)")
    parser.add_argument("--lidar-topic", metavar="TOPIC", help="PointCloud2 topic (default: the only one there is)")
    cameras = parser.add_mutually_exclusive_group()
    cameras.add_argument(
        "--camera-topic", dest="camera_topics", action="append", metavar="TOPIC", help="image topic (default: all)"
    )
    cameras.add_argument("--no-cameras", action="store_true", help="play the LiDAR alone")
    parser.add_argument("--node", default="/segmentation_node", metavar="NAME", help="name of the node")
    parser.add_argument(
        "--model", type=Path, metavar="FILE", help="the node's model file, to describe it in the report"
    )
    parser.add_argument("--timeout", type=float, default=60.0, metavar="S", help="wait this long for the node")
    parser.add_argument("--quiet", type=float, default=10.0, metavar="S", help="give up after a silence this long")
    parser.add_argument("--command", metavar="TEXT", help="command line to show in the report")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")


def main(argv: Sequence[str] | None = None) -> int:
    """Replays.

    Args:
        argv: arguments without the program's name, None = those of the process (ROS arguments are passed over).

    Returns:
        Exit code: 0; 2 for an error the user can mend, with one line in the log; 130 after Ctrl-C,
        143 after SIGTERM, 129 after SIGHUP.
    """
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    parser = argparse.ArgumentParser("replay", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    add_arguments(parser)
    args = parser.parse_args(_without_ros_arguments(sys.argv[1:] if argv is None else argv))
    try:
        with orderly_end():
            replay(args)
    except OvSegError as error:
        if args.debug:
            raise
        _log.error("replay: %s", error)
        return 2
    except KeyboardInterrupt as end:
        _log.error("replay: %s", describe_end(end))
        return exit_code(end)
    return 0


def replay(args: argparse.Namespace) -> None:
    """Plays, records, and writes the results.

    Raises:
        OvSegError: the recording cannot be played, or the node does not answer.
    """
    from ov_seg_ros.bags.recording import Recording
    from ov_seg_ros.report.summary import headlines
    from ov_seg_ros.ros.replay_labels import write_labelled
    from ov_seg_ros.ros.replay_report import write_report

    _check(args)
    args.out.mkdir(parents=True, exist_ok=True)
    with Recording.open(args.bag) as recording, TemporaryDirectory(dir=args.out, prefix=".replay_") as folder:
        spool = Path(folder) / "labels.mcap"
        run = _run(args, recording, spool)
        _log.info("writing %s", args.out / "labelled")
        write_labelled(recording, run.lidar_topic, spool, args.out / "labelled", run.label_space)
    _log.info("writing the report")
    report = write_report(run, args.out / "labelled", args.out, args.command, args.model)
    for line in headlines(report.to_dict()):
        _log.info("%s", line)


def _check(args: argparse.Namespace) -> None:
    """Refuses, before anything is played, what could not be published or written afterwards.

    Raises:
        OvSegError: an option is out of its range, or OUT cannot be written or must not be replaced.
    """
    from ov_seg_ros.bags.writer import check_target
    from ov_seg_ros.report.builder import check_report_paths, report_paths

    if not 0.01 <= args.rate <= 100.0:
        raise ConfigError(f"--rate must be 0.01 to 100, got {args.rate}")
    if not NODE_NAME.match(args.node):
        raise ConfigError(f"--node must be the name of a node, such as /segmentation_node, got {args.node!r}")
    require_writable_folder(args.out)
    check_target(args.out / "labelled", overwrite=True)
    check_report_paths(*report_paths(args.out))


def _run(args: argparse.Namespace, recording: Recording, spool_path: Path) -> ReplayRun:
    """The part that talks ROS."""
    try:
        import rclpy
        from rclpy.executors import SingleThreadedExecutor
        from rclpy.signals import SignalHandlerOptions
    except ImportError as error:
        install = "source a ROS 2 installation, or pip install 'ov_seg_ros[ros]'"
        raise MissingDependencyError("rclpy", install, "replay") from error
    from ov_seg_ros.bags.labelled import find_topic_to_label
    from ov_seg_ros.ros.replay_labels import LabelSpool
    from ov_seg_ros.ros.replay_listener import NodeListener
    from ov_seg_ros.ros.replay_player import Player

    lidar_topic = find_topic_to_label(recording, args.lidar_topic)
    cameras = [] if args.no_cameras else recording.find_cameras(args.camera_topics)
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    try:
        node = rclpy.create_node("ov_seg_replay")
        player = Player(node, args.node, recording, lidar_topic, cameras)
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        with LabelSpool(spool_path, player.scans) as spool:
            listener = NodeListener(node, args.node, spool.take)
            thread = threading.Thread(target=executor.spin, name="replay_listener", daemon=True)
            try:
                thread.start()  # inside: a signal may come while it starts
                before = _wait_for_node(args, node, player, listener)
                _play(args, recording, player)
                after = _wait_for_labels(args, player, listener, spool, before)
            finally:
                executor.shutdown()
                if thread.is_alive():
                    thread.join()
        return _summarise(args, player, listener, spool, (before, after))
    finally:
        rclpy.try_shutdown()


def _wait_for_node(args: argparse.Namespace, node: Node, player: Player, listener: NodeListener) -> NodeState:
    """Waits until the node is active and each side hears the other; returns its counters at that moment."""

    def missing() -> str:
        if listener.writers == 0:
            others = sorted(name for name in node.get_node_names() if name != node.get_name())
            return f"no node {args.node} was found (there are: {', '.join(others) or 'none'}); start segmentation_node"
        state = listener.state
        if listener.label_info is None or state is None:
            return f"{args.node} is there, but not configured: its log says why"
        if player.readers == 0 or state.values.get("state") != "active":
            return f"{args.node} does not listen: {state.message}"
        return "" if state.count("subscribers") else f"{args.node} does not see this replay yet"

    _wait(lambda: not missing(), args.timeout)
    problem = missing()
    if problem or listener.state is None:
        raise InputError(f"no answer within {args.timeout:g} s: {problem}")
    time.sleep(SETTLE_S)
    return listener.state


def _play(args: argparse.Namespace, recording: Recording, player: Player) -> None:
    from tqdm import tqdm

    count = recording.topics[player.lidar_topic].count
    for _ in tqdm(player.play(args.rate), total=count, desc="playing", unit=" scan", disable=None, dynamic_ncols=True):
        pass


def _wait_for_labels(
    args: argparse.Namespace, player: Player, listener: NodeListener, spool: LabelSpool, before: NodeState
) -> NodeState:
    """Waits until every scan is accounted for, or nothing has come for a while; returns the final counters."""
    last_published_s = time.monotonic()

    def accounted() -> bool:
        return len(spool.received) + _losses(before, listener.state or before) >= player.published

    def silent() -> bool:
        return time.monotonic() - max(last_published_s, listener.last_output_s) > args.quiet

    _wait(lambda: accounted() or silent(), timeout_s=float("inf"))
    last_s = max(last_published_s, listener.last_output_s)
    _wait(lambda: listener.state is not None and listener.state.heard_s > last_s, DIAGNOSTICS_S)
    return listener.state or before


def _summarise(
    args: argparse.Namespace,
    player: Player,
    listener: NodeListener,
    spool: LabelSpool,
    states: tuple[NodeState, NodeState],
) -> ReplayRun:
    from ov_seg_ros.ros.replay_report import ReplayRun

    before, after = states
    label_space = listener.label_space
    if label_space is None:
        raise InputError(f"{args.node} never told its classes on {args.node}/label_info_json")
    unplayable = len(player.unplayable[player.lidar_topic])
    return ReplayRun(
        bag=args.bag,
        lidar_topic=player.lidar_topic,
        cameras=player.cameras,
        label_space=label_space,
        published=player.published + unplayable,
        dropped=_losses(before, after) + unplayable,
        stamps_ns=[scan.stamp_ns for scan in spool.received],
        latencies_ms=listener.latencies_ms,
        stages_ms=listener.stages_ms,
        provider=after.values.get("provider", "unknown"),
        model_sha256=after.values.get("model_sha256", ""),
        has_class_map=after.values.get("class_map", "none") != "none",
        notes=_notes(args, player, spool, states),
    )


def _losses(before: NodeState, after: NodeState) -> int:
    """Scans that the node dropped for newer ones or refused since ``before``."""
    return sum(after.count(key) - before.count(key) for key in ("scans_dropped", "bad_messages"))


def _notes(
    args: argparse.Namespace, player: Player, spool: LabelSpool, states: tuple[NodeState, NodeState]
) -> tuple[str, ...]:
    before, after = states
    refused = after.count("bad_messages") - before.count("bad_messages")
    lost = player.published - len(spool.received) - _losses(before, after)
    notes = []
    if refused:
        notes.append(f"the node refused {refused} scans: {after.values.get('last_bad_reason', 'no reason given')}")
    for topic, reasons in player.unplayable.items():
        if reasons:
            notes.append(f"{len(reasons)} messages of {topic} could not be played: {reasons[0]}")
    if lost:
        notes.append(
            f"{lost} scans were lost on the way: neither labelled nor counted by the node; it says: {after.message}"
        )
    if spool.strangers:
        notes.append(
            f"{spool.strangers} labelled scans came that were not of this replay; does something else publish?"
        )
    if player.worst_lateness_ns > LATE_NS:
        notes.append(
            f"a scan was published {player.worst_lateness_ns * 1e-6:.0f} ms behind its schedule; that is in its latency"
        )
    if player.stamp_shift_ns:
        notes.append(
            f"stamps of the recording are {player.stamp_shift_ns * 1e-9:.1f} s off the time of reception (another "
            "clock); they were aligned at the first scan"
        )
    refinement = after.values.get("refinement", "none")
    if refinement != "none":
        notes.append(f"the labels of the student were refined: {refinement} (docs/afi.md)")
    class_map = after.values.get("class_map", "none")
    if class_map != "none":
        notes.append(f"the classes of the student were translated: {class_map}")
    if args.rate != 1.0:
        notes.append(f"played at {args.rate:g} times the recorded pace")
    return tuple(notes)


def _wait(condition: Callable[[], bool], timeout_s: float) -> None:
    """Returns when the condition holds or the time is up."""
    end = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)


def _without_ros_arguments(argv: Sequence[str]) -> list[str]:
    """Launch files append ``--ros-args ...``; what follows is for ROS."""
    arguments = list(argv)
    return arguments[: arguments.index("--ros-args")] if "--ros-args" in arguments else arguments


if __name__ == "__main__":
    raise SystemExit(main())
