"""``python -m training VERB``: the offline stages from a checkout."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import suppress

from ov_seg_ros.core.errors import OvSegError
from ov_seg_ros.core.interruption import describe_end, exit_code, orderly_end
from training.atomic_files import FULL_DISK
from training.commands import benchmark, label, student, vocabulary
from training.commands.chain import add_stages

USER_ERROR = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one verb.

    Args:
        arguments: without the program's name, None = those of the process.

    Returns:
        Exit code: 0, 2 for an error the user can mend (one line on stderr), 130 after Ctrl-C, 143 after SIGTERM, 129
        after SIGHUP.
    """
    options = _parser().parse_args(arguments)
    try:
        with orderly_end():
            options.run(options)
    except OvSegError as error:
        if options.debug:
            raise
        print(f"training {options.verb}: {error}", file=sys.stderr)
        return USER_ERROR
    except OSError as error:
        if options.debug:
            raise
        print(f"training {options.verb}: {_system_error(error)}", file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt as end:
        if options.debug:
            raise
        remedy = "what is done stays, run the same command again to go on"
        with suppress(OSError):  # after SIGHUP the terminal may be gone
            print(f"training {options.verb}: {describe_end(end)}; {remedy}", file=sys.stderr)
        return exit_code(end)
    return 0


def _system_error(error: OSError) -> str:
    """What the system refused, where, and what to do."""
    reason, where = error.strerror or str(error) or type(error).__name__, error.filename
    if error.errno in FULL_DISK:
        place = f" for {where}" if where else ""
        return f"no space left{place}; free some and run the same command again, it continues where it stopped"
    if where:
        return f"{where}: {reason}; check that the path is the one you mean and that you may read and write there"
    return f"the system refused something: {reason}; --debug shows where"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training", description="Distil students without labels.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    label.add_arguments(verbs.add_parser("label", help="let a 2D teacher label the images of a source"))
    add_stages(verbs)
    vocabulary.add_arguments(
        verbs.add_parser("vocabulary", help="show and check the texts that a teacher is asked for")
    )
    student.add_arguments(verbs.add_parser("student", help="synthetic drives to an exported, evaluated student"))
    benchmark.add_arguments(verbs.add_parser("benchmark", help="what each part of the method gains"))
    for verb in verbs.choices.values():
        verb.add_argument("--debug", action="store_true", help="show a traceback on errors")
    return parser
