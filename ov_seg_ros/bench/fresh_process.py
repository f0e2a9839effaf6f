"""Asks ``bench.probe`` in a fresh process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import ov_seg_ros
from ov_seg_ros.core.data_types import PointCloud
from ov_seg_ros.core.errors import ProcessError

_ROOT = Path(ov_seg_ros.__file__).resolve().parents[1]
LIMIT_S = 600


def ask(measurement: str, request: Mapping[str, Any], variables: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Starts the process, hands it the request and returns its answer.

    Args:
        measurement: "first_label" or "memory".
        request: what the measurement takes; "spawned_ns" is added.
        variables: of the environment, besides those of this process.

    Raises:
        ProcessError: it failed or took longer than ``LIMIT_S``; the message holds its last words.
    """
    path = os.pathsep.join([str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path, **(variables or {})}
    command = [sys.executable, "-m", "ov_seg_ros.bench.probe"]
    content = json.dumps({"measurement": measurement, **request, "spawned_ns": time.monotonic_ns()})
    try:
        done = subprocess.run(
            command, input=content, env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=True
        )
    except subprocess.TimeoutExpired as error:
        raise ProcessError(
            f"measuring {measurement} in a fresh process took longer than {LIMIT_S} s: measure again when the"
            " machine has nothing else to do"
        ) from error
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise ProcessError(
            f"measuring {measurement} in a fresh process failed with exit code {error.returncode}: {last}"
        ) from error
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def save_scan(cloud: PointCloud, path: Path) -> str:
    """Writes a scan for the process to read and returns the path: an .npy of (N, 4) float32."""
    np.save(path, np.concatenate([cloud.points, cloud.intensity[:, None]], axis=1).astype(np.float32))
    return str(path)
