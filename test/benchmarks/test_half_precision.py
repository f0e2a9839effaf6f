"""Storage of 16 bits changes probabilities a little, storage of 32 bits next to nothing."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="provider triton needs torch")
pytest.importorskip("triton", reason="provider triton needs triton")

from benchmarks import half_precision
from ov_seg_ros.bench.scans import as_scan
from ov_seg_ros.core.data_types import PointCloud
from ov_seg_ros.runtime import triton_segmenter
from ov_seg_ros.runtime.model_file import load_model_file, shipped_model_path

pytestmark = pytest.mark.xdist_group("benchmarks")


def test_a_scan_of_the_shipped_student(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_segmenter, "SMALLEST_CAPACITY", 1024)
    random = np.random.default_rng(0)
    points = random.uniform((-20, -20, -2), (20, 20, 1), (900, 3)).astype(np.float32)
    scan = as_scan("random 32", PointCloud(points, random.random(900, dtype=np.float32)))
    section = half_precision.compare(load_model_file(shipped_model_path()), (scan,))
    half, full = section.tables[0].rows
    assert (half["storage"], full["storage"]) == ("float16", "float32")
    assert full["other labels"] == 0
    assert full["largest change of a probability"] < 1e-5 < half["largest change of a probability"] < 0.01
    assert half["other labels"] <= 9
