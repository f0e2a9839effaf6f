"""Occlusion test by depth images: a camera sees a point if its depth image measured the point's surface there.

For RGB-D data, where no beams start at the origin of the cloud and ``ov_seg_ros.core.occlusion`` cannot work. It has
the same ``visible`` method, so ``project_cloud`` and lifting take it instead. OpenScene (Peng et al., CVPR 2023) links
3D points and pixels by the same comparison.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.camera import CameraModel
from ov_seg_ros.core.errors import ConfigError, InputError
from training.sources.rgbd_axes import move_points

_SAME = 1e-6


@dataclass(frozen=True)
class DepthView:
    """What one depth camera measured.

    Attributes:
        depth: (h, w) float32 metres along the optical axis, 0 = not measured.
        camera: of the depth image.
        camera_from_lidar: (4, 4) float64, that of the colour image it belongs to; it tells the views apart.
    """

    depth: NDArray[np.float32]
    camera: CameraModel
    camera_from_lidar: NDArray[np.float64]


@dataclass(frozen=True)
class DepthOcclusion:
    """Finds the points of one sample that a view's depth image does not confirm.

    Attributes:
        views: of the sample, one per colour image.
        margin: between a point and the measured surface, metres; covers noise of depth and poses.
        relative_margin: the same as a share of the point's depth; the larger of the two counts.
        keep_unmeasured: whether a point counts as visible where the depth image has no value (dark, shiny, beyond
            the sensor's range) or does not reach.
    """

    views: tuple[DepthView, ...]
    margin: float = 0.1
    relative_margin: float = 0.05
    keep_unmeasured: bool = False

    def __post_init__(self) -> None:
        for name in ("margin", "relative_margin"):
            value = getattr(self, name)
            if not 0.0 <= value < float("inf"):
                raise ConfigError(f"occlusion {name} must be a number >= 0, got {value}")

    def visible(self, points: NDArray[np.floating], camera_from_lidar: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Tests points in the field of view of one colour camera.

        Both sides count: a point in front of the measured surface was not there when the image was taken.

        Args:
            points: (M, 3) metres, frame of the sample's cloud.
            camera_from_lidar: (4, 4) of one of ``views``.

        Returns:
            (M,) bool, True where the depth image holds the point's own depth.

        Raises:
            InputError: no view has this transform.
        """
        view = self._view(np.asarray(camera_from_lidar, np.float64))
        in_camera = move_points(view.camera_from_lidar, points)
        pixels, inside = view.camera.project(in_camera)
        measured = np.zeros(len(points), np.float32)
        column, row = np.rint(pixels[inside]).astype(np.int64).T
        measured[inside] = view.depth[row, column]
        depth = in_camera[:, 2]
        agrees = np.abs(measured - depth) <= np.maximum(self.margin, self.relative_margin * depth)
        return np.where(measured > 0, agrees, self.keep_unmeasured)

    def _view(self, camera_from_lidar: NDArray[np.float64]) -> DepthView:
        for view in self.views:
            if np.allclose(view.camera_from_lidar, camera_from_lidar, rtol=0, atol=_SAME):
                return view
        raise InputError(
            f"none of the {len(self.views)} depth views has the transform of this camera; the occlusion test must be "
            "loaded for the same sample as the images, with load_occlusion(index) of the source"
        )
