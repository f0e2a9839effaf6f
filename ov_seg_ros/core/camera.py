"""Camera models: pinhole (plumb_bob, rational polynomial) and fisheye (equidistant)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class CameraModel:
    """Intrinsics of one camera as in sensor_msgs/CameraInfo.

    Attributes:
        width: image columns.
        height: image rows.
        fx, fy, cx, cy: of K, pixels.
        distortion_model: "plumb_bob", "rational_polynomial" or "equidistant".
        distortion: coefficients in the order of CameraInfo.d; empty = none.
    """

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    distortion_model: str = "plumb_bob"
    distortion: tuple[float, ...] = ()

    def project(self, points: NDArray[np.floating]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Projects points of the camera frame.

        Args:
            points: (N, 3) metres, camera axes.

        Returns:
            (N, 2) float32 pixels (u, v) and (N,) bool: in front of the camera, inside the model's
            valid region and inside the image (-0.5 <= u < width - 0.5, likewise v). Pixels of invalid points are NaN.
        """
        raise NotImplementedError

    def unproject(self, pixels: NDArray[np.floating]) -> NDArray[np.float64]:
        """Rays of pixels: (M, 2) (u, v) to (M, 3) unit vectors in camera axes."""
        raise NotImplementedError
