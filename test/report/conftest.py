from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ov_seg_ros.core.camera import CameraModel
from ov_seg_ros.core.data_types import CameraImage, PointCloud, Sample
from ov_seg_ros.core.label_space import LabelSpace
from ov_seg_ros.report.builder import RunFacts
from ov_seg_ros.report.run_report import ModelIdentity, Provenance

LABEL_SPACE = LabelSpace("three", ("road", "car", "tall_tree"), ((0, 200, 190), (250, 160, 0), (0, 0, 20)))

LOOKING_FORWARD = np.array([[0.0, -1.0, 0.0, 0.0], [0.0, 0.0, -1.0, 0.0], [1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
"""camera_from_lidar of a camera at the LiDAR that looks along x."""


@pytest.fixture
def label_space() -> LabelSpace:
    return LABEL_SPACE


@pytest.fixture
def make_sample() -> Callable[..., Sample]:
    """Four points: 10 m ahead, left, behind and right; a black camera that sees the first."""

    def build(stamp_ns: int = 0, with_camera: bool = True, truth: list[int] | None = None) -> Sample:
        points = np.array([[10, 0, 0], [0, 10, 0], [-10, 0, 0], [0, -10, 0]], np.float32)
        camera = CameraModel(64, 48, 32.0, 32.0, 31.5, 23.5)
        view = CameraImage("front", np.zeros((48, 64, 3), np.uint8), camera, LOOKING_FORWARD)
        cloud = PointCloud(points, np.zeros(4, np.float32), stamp_ns, "lidar")
        known = None if truth is None else np.array(truth, np.uint8)
        return Sample(f"drive/{stamp_ns}", cloud, (view,) if with_camera else (), known)

    return build


@pytest.fixture
def facts() -> RunFacts:
    return RunFacts(
        scans_in=3,
        scans_dropped=1,
        provider="CPUExecutionProvider",
        model=ModelIdentity(
            "ab" * 32,
            LABEL_SPACE.class_names,
            {"name": "tiny", "grid": {"size": [0.1, 0.1, 0.1]}, "recipe": {"a": {"b": 7}}},
        ),
        provenance=Provenance("ov-seg evaluate drive", "drive", "2026-01-01T00:00:00+00:00", {"cores": 2}, {"a": "1"}),
        measured="header stamp to publication",
    )


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "new" / "folder"
