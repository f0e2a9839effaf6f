"""One measurement in a process of its own: ``python -m ov_seg_ros.bench.probe``, a JSON request in, a JSON answer out.

Only a fresh process shows how long starting takes and how much memory a student needs. Nothing but the standard library
is imported before the clock is read.
"""

from __future__ import annotations

import time

_BEGIN_NS = time.monotonic_ns()

import json  # noqa: E402
import sys  # noqa: E402
from collections.abc import Callable  # noqa: E402
from typing import TYPE_CHECKING, Any  # noqa: E402

if TYPE_CHECKING:
    from ov_seg_ros.runtime.segmenter import Segmenter


def first_label(request: dict[str, Any]) -> dict[str, float]:
    """Milliseconds of every step from the start of the process to the first labelled scan.

    Args:
        request: "model", "provider", "threads", "scan" (.npy of (N, 4) float32) and "spawned_ns", the monotonic clock
            before the process was started.
    """
    marks = [("process", request["spawned_ns"], _BEGIN_NS)]

    def step(name: str, work: Callable[[], Any]) -> Any:
        result = work()
        marks.append((name, marks[-1][2], time.monotonic_ns()))
        return result

    segmenter_class = step("imports", _import_segmenter)
    message = _load_message(request["scan"])  # a node gets it from outside, so it is not counted
    marks.append(("", marks[-1][2], time.monotonic_ns()))
    segmenter = step("load", lambda: segmenter_class.load(request["model"], request["provider"], request["threads"]))
    step("warm-up", segmenter.warm_up)
    step("first scan", lambda: _label(segmenter, message))
    found = {f"{name} ms": (end - begin) * 1e-6 for name, begin, end in marks if name}
    return {**found, "total ms": sum(found.values())}


def memory(request: dict[str, Any]) -> dict[str, Any]:
    """Memory of this process, MiB: with the student loaded, and at its peak while each scan was labelled.

    Args:
        request: "model", "provider", "threads", "scans" (.npy files of (N, 4) float32, small ones first) and "repeats".
    """
    from ov_seg_ros.bench.resident_memory import peak_mib, reset_peak, resident_mib

    segmenter_class = _import_segmenter()
    imported = resident_mib()
    segmenter = segmenter_class.load(request["model"], request["provider"], request["threads"])
    loaded = resident_mib()
    peaks = []
    for path in request["scans"]:
        message = _load_message(path)
        reset_peak()
        before = resident_mib()
        for _ in range(request["repeats"]):
            _label(segmenter, message)
        peaks.append({"before MiB": before, "peak MiB": peak_mib(), "rise MiB": max(0.0, peak_mib() - loaded)})
    return {"imported MiB": imported, "loaded MiB": loaded, "scans": peaks}


def main() -> None:
    """Answers the request on standard input."""
    request = json.loads(sys.stdin.read())
    answer = {"first_label": first_label, "memory": memory}[request["measurement"]](request)
    sys.stdout.write(f"\n{json.dumps(answer)}\n")


def _import_segmenter() -> type[Segmenter]:
    from ov_seg_ros.messages import pointcloud2  # noqa: F401
    from ov_seg_ros.runtime.segmenter import Segmenter

    return Segmenter


def _load_message(path: str) -> Any:
    import numpy as np

    from ov_seg_ros.bench.scans import as_scan
    from ov_seg_ros.core.data_types import PointCloud

    values = np.load(path)
    return as_scan("", PointCloud(values[:, :3].copy(), values[:, 3].copy())).message


def _label(segmenter: Segmenter, message: Any) -> object:
    from ov_seg_ros.messages.pointcloud2 import decode_pointcloud2, encode_segmentation

    decoded = decode_pointcloud2(message)
    return encode_segmentation(decoded, segmenter.segment(decoded.cloud), overwrite=True)


if __name__ == "__main__":
    main()
