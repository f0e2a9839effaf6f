"""Runs a module as ``python -m`` does, in a process that ends with the one that started it, however that ends.

python -m ov_seg_ros.commands.attached PARENT MODULE [ARGUMENT ...]
"""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Sequence

from ov_seg_ros.core.interruption import end_with


def attached_command(module: str, arguments: Sequence[str]) -> list[str]:
    """The command line that runs a module attached to this process; to be used in its main thread.

    Args:
        module: its full name.
        arguments: of the module.
    """
    return [sys.executable, "-m", "ov_seg_ros.commands.attached", str(os.getpid()), module, *arguments]


if __name__ == "__main__":
    end_with(int(sys.argv[1]))
    module = sys.argv[2]
    sys.argv[1:] = sys.argv[3:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
