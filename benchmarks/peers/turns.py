"""The process of one contender: it loads, says that it is ready, and computes when it is its turn.

    python -m benchmarks.peers.turns MODULE:CALLABLE TRIAL_FOLDER CASE_FOLDER THREADS

Started by ``contest``. Each line on its standard input is a file name: the contender runs once, writes its logits
there and answers with one line of JSON. What libraries print goes to standard error. A turn ends only when the
threads of the process have gone to sleep, so a pool that spins while it waits takes no time from the next contender.

The contender first plays a case of a few voxels: what loading the library costs is then behind it, and the memory
that is counted afterwards is that of the network on the scan.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from benchmarks.peers.case import Case
from ov_seg_ros.bench.resident_memory import peak_mib, reset_peak, resident_mib
from ov_seg_ros.core.errors import ConfigError, MissingDependencyError

_LONGEST_REST_S = 1.0


def main() -> None:
    """Runs until its standard input ends."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    target, trial, folder, threads = sys.argv[1:]
    try:
        pin_to_cores(int(threads))
        make = _find(target)
        contender = make(Case(Path(trial)), int(threads))
        contender.logits(contender.run())
        del contender
        gc.collect()
        reset_peak()
        memory = {"before_mib": resident_mib()}
        contender = make(Case(Path(folder)), int(threads))
    except (MissingDependencyError, ConfigError) as error:
        _say(answers, {"missing": str(error)})
        return
    except Exception as error:  # whatever a library of others raises
        _say(answers, {"failed": f"{type(error).__name__}: {error}"})
        return
    _rest()
    _say(answers, {"ready": True, **memory})
    for line in sys.stdin:
        try:
            _say(answers, _turn(contender, Path(line.strip())) | memory)
        except Exception as error:
            _say(answers, {"failed": f"{type(error).__name__}: {error}"})
            return


def pin_to_cores(count: int) -> None:
    """Lets all threads of this process run on ``count`` cores only, also those of libraries that read no variable."""
    if not hasattr(os, "sched_setaffinity"):
        return
    allowed = sorted(os.sched_getaffinity(0))
    first_of_core = {_physical_core(cpu): cpu for cpu in reversed(allowed)}
    chosen = sorted(first_of_core.values()) + [cpu for cpu in allowed if cpu not in first_of_core.values()]
    os.sched_setaffinity(0, chosen[:count])


def _physical_core(cpu: int) -> tuple[str, str]:
    """Processor and core of a logical CPU, which two of them may share."""
    topology = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology")
    if not topology.is_dir():
        return "", str(cpu)
    return (topology / "physical_package_id").read_text().strip(), (topology / "core_id").read_text().strip()


def _find(target: str) -> Any:
    module, name = target.split(":")
    return getattr(importlib.import_module(module), name)


def _turn(contender: Any, path: Path) -> dict[str, Any]:
    cpu_begin, begin = time.process_time(), time.perf_counter()
    result = contender.run()
    end, cpu_end = time.perf_counter(), time.process_time()
    answer = {"ms": 1e3 * (end - begin), "cpu_ms": 1e3 * (cpu_end - cpu_begin), "peak_mib": peak_mib()}
    answer["held_mib"] = resident_mib()
    logits = contender.logits(result)
    if logits is not None:
        np.save(path, logits)
    _rest()
    return answer | {"logits": logits is not None}


def _rest() -> None:
    """Waits until this process uses no processor time any more."""
    deadline = time.monotonic() + _LONGEST_REST_S
    while time.monotonic() < deadline:
        before = time.process_time()
        time.sleep(0.005)
        if time.process_time() - before < 0.0005:
            return


def _say(answers: TextIO, content: dict[str, Any]) -> None:
    answers.write(json.dumps(content) + "\n")


if __name__ == "__main__":
    main()
