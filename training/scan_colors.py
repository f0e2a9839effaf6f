"""Camera colours of the points of a scan, for students that see them, and which camera each came from."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.data_types import Sample
from ov_seg_ros.core.point_color import sample_colors


def colors_by_camera(sample: Sample) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    """(N, 4) colours and (N,) the camera each came from, so that whole cameras can be dropped in training."""
    color, camera = sample_colors(sample.cloud.points, sample.images), no_camera(sample)
    for number, image in enumerate(sample.images):
        alone = sample_colors(sample.cloud.points, (image,))
        same = (alone[:, 3] > 0) & (alone[:, :3] == color[:, :3]).all(axis=1)
        camera[same & (camera < 0)] = number
    return color, camera


def no_camera(sample: Sample) -> NDArray[np.int8]:
    """(N,) -1 for every point: no colour at all."""
    return np.full(len(sample.cloud), -1, np.int8)
