"""Turn a dataset folder (KITTI raw, SemanticKITTI, nuScenes) or a synthetic drive into a rosbag2.

ov-seg convert kitti/2011_09_26 drive
ov-seg convert nuscenes:scene-0061 drive
ov-seg convert synthetic:seed=7,scans=40 drive.mcap
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ov_seg_ros.core.errors import MissingDependencyError

MAX_UNREADABLE = 0.01


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument("source", metavar="SOURCE", help="dataset folder, recording, or synthetic:seed=N,scans=N")
    parser.add_argument("out", type=Path, metavar="OUT", help="recording to write: a folder, or a single .mcap file")
    parser.add_argument("--storage", choices=("mcap", "sqlite3"), default="mcap", help="of the rosbag2 (default: mcap)")
    parser.add_argument("--overwrite", action="store_true", help="replace a recording that lies at OUT")
    parser.add_argument(
        "--max-unreadable",
        type=float,
        default=MAX_UNREADABLE,
        metavar="SHARE",
        help="of the scans that may be left out because they cannot be read; fewer than 3 always may, with 0 none "
        "(default: %(default)s)",
    )


def run(args: argparse.Namespace) -> None:
    """Converts.

    Raises:
        InputError: the source is unknown or damaged, too many of its scans cannot be read, or OUT exists.
        ConfigError: ``--max-unreadable`` is no share.
        MissingDependencyError: the readers of datasets are part of the checkout, not of the installed package.
    """
    try:
        from training.sources.resolve import open_source
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "training":
            raise
        install = "run ov-seg in a checkout of ov_seg_ros"
        raise MissingDependencyError("training", install, "reading datasets") from error
    from tqdm import tqdm

    from ov_seg_ros.bags.convert import convert_source
    from ov_seg_ros.bags.unreadable_scans import UnreadableScans, list_unreadable

    unreadable = UnreadableScans(args.max_unreadable)
    source = open_source(args.source)
    with tqdm(total=len(source), desc="converting", unit=" scan", disable=None, dynamic_ncols=True) as bar:

        def show(done: int, _: int) -> None:
            bar.update(done - bar.n)

        convert_source(source, args.out, args.storage, show, args.overwrite, unreadable)
    left_out = f", {len(unreadable.scans)} left out" if unreadable.scans else ""
    print(f"{len(source) - len(unreadable.scans)} scans of {source.name}{left_out}: {args.out}")
    for line in list_unreadable(unreadable.scans):
        print(line, file=sys.stderr)
