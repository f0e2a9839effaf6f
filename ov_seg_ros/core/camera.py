"""Camera models: pinhole (plumb_bob, rational polynomial) and fisheye (equidistant)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.distortion import Distortion, make_distortion
from ov_seg_ros.core.errors import ConfigError, InputError


@dataclass(frozen=True)
class CameraModel:
    """Intrinsics of one camera as in sensor_msgs/CameraInfo.

    Attributes:
        width: image columns.
        height: image rows.
        fx, fy, cx, cy: of K, pixels.
        distortion_model: "plumb_bob", "rational_polynomial" or "equidistant"; "" = no distortion.
        distortion: coefficients in the order of CameraInfo.d; empty = all zero.

    Raises:
        ConfigError: sizes or focal lengths that are not positive, values that are not finite, an unknown
            model or a number of coefficients that does not belong to it.
    """

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    distortion_model: str = "plumb_bob"
    distortion: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.width <= 0 or self.height <= 0:
            raise ConfigError(f"image size must be positive, got width {self.width}, height {self.height}")
        if self.fx == 0 and self.fy == 0:
            raise ConfigError("CameraInfo K is zero - uncalibrated camera; calibrate it or leave the camera out")
        if not np.all(np.isfinite([self.fx, self.fy, self.cx, self.cy])):
            raise ConfigError(f"K must be finite, got fx {self.fx}, fy {self.fy}, cx {self.cx}, cy {self.cy}")
        if self.fx <= 0 or self.fy <= 0:
            raise ConfigError(f"focal lengths must be > 0 px, got fx {self.fx}, fy {self.fy}")
        object.__setattr__(self, "distortion", tuple(float(value) for value in self.distortion))
        self._lens  # built now, so that a wrong model is refused here  # noqa: B018

    @property
    def matrix(self) -> NDArray[np.float64]:
        """K, (3, 3)."""
        return np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1]], np.float64)

    def project(self, points: NDArray[np.floating]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Projects points of the camera frame.

        Args:
            points: (N, 3) metres, camera axes; NaN and infinite ones are invalid.

        Returns:
            (N, 2) float32 pixels (u, v) and (N,) bool: in front of the camera (depth > 0), inside the model's
            valid region (before the distortion polynomial folds back) and inside the image
            (-0.5 <= u < width - 0.5, likewise v). Pixels of invalid points are NaN.

        Raises:
            InputError: ``points`` is not (N, 3).
        """
        points = np.asarray(points)
        if points.ndim != 2 or points.shape[1] != 3:
            raise InputError(f"points must have shape (N, 3), got {points.shape}")
        pixels = np.full((len(points), 2), np.nan, np.float32)
        visible = np.zeros(len(points), np.bool_)
        index = np.flatnonzero(self._in_cone(points))
        near = points[index].astype(np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            x, y = near[:, 0] / near[:, 2], near[:, 1] / near[:, 2]
            valid = x * x + y * y < self._lens.limit**2
            x_d, y_d = self._lens.distort(x, y)
            u = (self.fx * x_d + self.cx).astype(np.float32)
            v = (self.fy * y_d + self.cy).astype(np.float32)
        valid &= (u >= -0.5) & (u < self.width - 0.5) & (v >= -0.5) & (v < self.height - 0.5)
        index = index[valid]
        pixels[index, 0], pixels[index, 1] = u[valid], v[valid]
        visible[index] = True
        return pixels, visible

    def unproject(self, pixels: NDArray[np.floating]) -> NDArray[np.float64]:
        """Rays of pixels, also of pixels outside the image.

        Args:
            pixels: (M, 2) (u, v).

        Returns:
            (M, 3) unit vectors in camera axes; NaN where no valid direction leads to the pixel (corners of a
            distorted image can lie beyond the model's valid region).

        Raises:
            InputError: ``pixels`` is not (M, 2).
        """
        pixels = np.asarray(pixels)
        if pixels.ndim != 2 or pixels.shape[1] != 2:
            raise InputError(f"pixels must have shape (M, 2), got {pixels.shape}")
        u, v = pixels.astype(np.float64).T
        x, y = self._lens.undistort((u - self.cx) / self.fx, (v - self.cy) / self.fy)
        rays = np.stack([x, y, np.ones_like(x)], axis=1)
        return rays / np.linalg.norm(rays, axis=1, keepdims=True)

    @cached_property
    def _lens(self) -> Distortion:
        return make_distortion(self.distortion_model, self.distortion)

    def _in_cone(self, points: NDArray[np.floating]) -> NDArray[np.bool_]:
        """(N,) bool: a cheap superset of the visible points."""
        x, y, z = points[:, 0], points[:, 1], points[:, 2]
        slope = _widest_slope(self, self._lens.limit)
        with np.errstate(over="ignore", invalid="ignore"):
            in_front = (z > 0) & (z < np.inf)
            if np.isfinite(slope):
                in_front &= x * x + y * y <= (z * slope) ** 2
        return in_front


@lru_cache(maxsize=256)  # a CameraInfo comes with every image, always the same
def _widest_slope(camera: CameraModel, limit: float) -> float:
    """Largest hypot(x, y) / z that can lie in the image, with 1 % to spare for what falls between the samples.

    Below ``limit`` the map is one to one, so the widest visible direction is found on the image border.
    """
    u, v = np.linspace(-0.5, camera.width - 0.5, 65), np.linspace(-0.5, camera.height - 0.5, 65)
    border = np.concatenate(
        [
            *(np.stack([u, np.full_like(u, row)], axis=1) for row in (v[0], v[-1])),
            *(np.stack([np.full_like(v, column), v], axis=1) for column in (u[0], u[-1])),
        ]
    )
    rays = camera.unproject(border)
    slope = np.hypot(rays[:, 0], rays[:, 1]) / rays[:, 2]
    return 1.01 * (limit if np.isnan(slope).any() else float(slope.max()))
