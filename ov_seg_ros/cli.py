"""``ov-seg``: label, evaluate and convert recordings without ROS, and the demo with it."""

from __future__ import annotations

import argparse
import errno
import importlib
import logging
import os
import sys
from collections.abc import Sequence
from contextlib import suppress

import ov_seg_ros
from ov_seg_ros.core.errors import OvSegError
from ov_seg_ros.core.interruption import describe_end, exit_code, orderly_end

VERBS = {
    "demo": "label a recording with the real ROS 2 node and write pictures and a report",
    "segment": "label every scan of a recording and write the labels back",
    "evaluate": "label every scan and write a report: accuracy if there is ground truth, speed, what was found",
    "bench": "measure a student on this machine: time, memory, sustained rate, start-up, scaling",
    "info": "print what a model knows about itself",
    "convert": "turn a dataset folder into a rosbag2",
}
"""Verb to what it does; the code is in ``ov_seg_ros.commands.<verb>``."""

USER_ERROR, READER_GONE = 2, 128 + 13
"""The second is what a shell reports for a program whose output nobody reads any more (SIGPIPE), as in ``| head``."""

FULL_DISK = (errno.ENOSPC, errno.EDQUOT)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one verb.

    Args:
        argv: arguments without the program's name, None = those of the process.

    Returns:
        Exit code: 0, 2 for an error the user can mend (one line on stderr), 130 after Ctrl-C, 143 after
        SIGTERM, 129 after SIGHUP, 141 if nobody reads the output any more.
    """
    args = build_parser().parse_args(argv)
    logging.basicConfig(format="%(message)s", level=logging.DEBUG if args.debug else logging.WARNING)
    try:
        with orderly_end():
            code = int(args.run(args) or 0)
        if sys.stdout is not None:
            sys.stdout.flush()  # here, where a reader that has gone is noticed in good order
        return code
    except OvSegError as error:
        if args.debug:
            raise
        print(f"ov-seg {args.verb}: {error}", file=sys.stderr)
        return USER_ERROR
    except BrokenPipeError:
        if args.debug:
            raise
        with suppress(OSError):  # else Python complains of the rest at its exit; an output may be no file
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return READER_GONE
    except OSError as error:
        if args.debug or error.errno not in FULL_DISK:
            raise
        where = f" for {error.filename}" if error.filename else ""
        print(f"ov-seg {args.verb}: no space left{where}; free some and run the same command again", file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt as end:
        if args.debug:
            raise
        with suppress(OSError):  # after SIGHUP the terminal may be gone
            print(f"ov-seg {args.verb}: {describe_end(end)}", file=sys.stderr)
        return exit_code(end)


def build_parser() -> argparse.ArgumentParser:
    """The parser with all verbs; imports nothing heavy."""
    parser = argparse.ArgumentParser(prog="ov-seg", description=ov_seg_ros.__doc__, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"ov-seg {_version()}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name, summary in VERBS.items():
        verb = importlib.import_module(f"ov_seg_ros.commands.{name}")
        sub = verbs.add_parser(
            name,
            help=summary,
            description=verb.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        verb.add_arguments(sub)
        sub.add_argument("--debug", action="store_true", help="show the traceback of an error and debug messages")
        sub.set_defaults(run=verb.run)
    return parser


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("ov_seg_ros")
    except PackageNotFoundError:
        return "of an uninstalled checkout"


if __name__ == "__main__":
    sys.exit(main())
