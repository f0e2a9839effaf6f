"""The gate before a long run: errors stop it with all that was found, warnings are passed on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ov_seg_ros.core.camera import CameraModel
from ov_seg_ros.core.data_types import CameraImage, PointCloud, Sample
from ov_seg_ros.core.errors import InputError
from ov_seg_ros.core.voxels import VoxelGrid
from training.source_gate import refuse_bad_source, refuse_foreign_grid

FORWARD = np.array([[0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]], np.float64)
"""A camera at the LiDAR that looks along its x."""


class Wall:
    """Scans of a wall 10 m ahead with an image of it."""

    name, label_space = "wall", None

    def __init__(self, camera_from_lidar: Any = FORWARD, **changes: Any) -> None:
        self.camera_from_lidar, self.changes = camera_from_lidar, changes

    def __len__(self) -> int:
        return 9

    def load_sample(self, index: int) -> Sample:
        side = np.stack(np.meshgrid(10.0, np.linspace(-2, 2, 10), np.linspace(-2, 2, 10)), -1).reshape(-1, 3)
        pixels = np.arange(1200, dtype=np.uint8).reshape(20, 20, 3)
        image = CameraImage("front", pixels, CameraModel(20, 20, 10, 10, 10, 10), self.camera_from_lidar)
        cloud = PointCloud(side.astype(np.float32), np.zeros(100, np.float32))
        return replace(Sample(f"wall/{index}", cloud, (image,)), **self.changes)


def test_a_good_source_passes_in_silence() -> None:
    reported: list[str] = []
    refuse_bad_source(Wall(), reported.append, needs_images=True)
    assert reported == []


def test_all_errors_are_listed_with_their_places() -> None:
    with pytest.raises(InputError) as caught:
        refuse_bad_source(Wall(FORWARD @ np.diag([-1.0, -1, 1, 1]), key="elsewhere/1"), pytest.fail)
    first, *listed = str(caught.value).splitlines()
    assert first == "source wall cannot be used, a look at a few of its samples found:"
    assert sum("its key must begin with the name of the source, wall/" in line for line in listed) == 3
    assert any("wall: several samples have the key elsewhere/1" in line for line in listed)
    assert any("camera front: none of 100 points falls into the image" in line for line in listed)


def test_warnings_are_reported_and_do_not_stop() -> None:
    class OneCut(Wall):
        def load_sample(self, index: int) -> Sample:
            if index == 4:
                raise InputError("000004.bin is cut off")
            return super().load_sample(index)

    reported: list[str] = []
    refuse_bad_source(OneCut(), reported.append)
    assert reported == ["warning: wall, sample 4: 000004.bin is cut off"]


def test_a_teacher_is_not_sent_to_a_source_without_cameras() -> None:
    blind = Wall(images=())
    refuse_bad_source(blind, pytest.fail)
    with pytest.raises(InputError, match=r"wall: no sample looked at has an image"):
        refuse_bad_source(blind, pytest.fail, needs_images=True)


def test_a_grid_that_no_scan_reaches_into_is_refused() -> None:
    near = VoxelGrid("cartesian", (0.1, 0.1, 0.1), (0.0, -1.0, -1.0), (5.0, 1.0, 1.0))
    refuse_foreign_grid(Wall(), replace(near, range_max=(11.0, 1.0, 1.0)))
    with pytest.raises(
        InputError, match=r"none of the points of 3 scans lies in the grid: they have x 10 to 10, .* x 0"
    ):
        refuse_foreign_grid(Wall(), near)


def test_scans_that_cannot_be_read_say_nothing_about_the_grid() -> None:
    class Broken(Wall):
        def load_sample(self, index: int) -> Sample:
            raise InputError("cut off")

    refuse_foreign_grid(Broken(), VoxelGrid("cartesian", (0.1, 0.1, 0.1), (0.0, -1.0, -1.0), (5.0, 1.0, 1.0)))
