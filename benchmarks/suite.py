"""The whole suite of a checkout: what ``ov-seg bench`` measures, and contests against other libraries and the floor.

    python benchmarks/suite.py [MODEL] [--scans SOURCE ...] [--only SECTION ...] [--cores N] [--quick] [--json FILE]

Scans are real ones of ``../shared/data`` (or of the folder in the variable OV_SEG_SHARED) where that exists, else made
up. Prints tables and the goals, and writes ``benchmarks/results/<machine>/<date>.json`` after every section, so a run
that is stopped keeps what it had. What a contest lacks (a library, ROS, a GPU) is said and left out.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ov_seg_ros.bench.suite import INSTALLED
from ov_seg_ros.commands.bench import add_arguments, run_contests
from ov_seg_ros.core.errors import OvSegError

ROOT = Path(__file__).resolve().parents[1]
CHECKOUT = {
    "maps": "benchmarks.maps",
    "forward": "benchmarks.forward",
    "gpu": "benchmarks.gpu",
    "networks": "benchmarks.networks",
    "vocabulary": "benchmarks.vocabulary",
    "node": "benchmarks.node",
    "transport": "benchmarks.transport",
    "training_backends": "benchmarks.training_backends",
}
"""Contests that need a checkout, and libraries that a robot has not."""

REAL_SCANS = ("nuscenes", "semantickitti")
"""Folders of shared/data: 32 beams and 64 beams."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.set_defaults(out=ROOT / "benchmarks" / "results")
    args = parser.parse_args(arguments)
    args.scans = args.scans or real_scans()
    try:
        run_contests(args, {**INSTALLED, **CHECKOUT})
    except OvSegError as error:
        parser.error(str(error))


def real_scans() -> list[str]:
    """The folders of real scans that are there."""
    data = Path(os.environ.get("OV_SEG_SHARED", ROOT.parent / "shared")) / "data"
    return [str(data / name) for name in REAL_SCANS if (data / name).is_dir()]


if __name__ == "__main__":
    main()
