"""Lens distortion: from directions to the plane of the undistorted pixel grid and back.

Formulas as in the OpenCV documentation ("Camera Calibration and 3D Reconstruction" and "Fisheye
camera model"), on which sensor_msgs/CameraInfo rests. Both models share three members: ``limit``,
``distort`` and ``undistort``; (x, y) = (X / Z, Y / Z) is a direction, (x_d, y_d) its distorted
image, so that u = fx x_d + cx and v = fy y_d + cy.

A distortion polynomial is fitted to the field of view alone. Further out it turns round, and points
far beside the camera fold back into the image. ``limit`` is where that begins: directions
beyond it are invalid.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Protocol

import numpy as np
from numpy.polynomial import Polynomial
from numpy.typing import NDArray

from ov_seg_ros.core.errors import ConfigError

Array = NDArray[np.float64]

COEFFICIENT_COUNTS = {"plumb_bob": (0, 4, 5), "rational_polynomial": (0, 4, 5, 8, 12, 14), "equidistant": (0, 4)}
"""Models and how many coefficients each can have; none means all are zero."""

_WIDEST_ANGLE = np.deg2rad(89.9)
_NEWTON_STEPS = 40
_CONVERGED = 1e-13  # of (x_d, y_d): 1e-10 px at a focal length of 1000 px
_ACCEPTED = 1e-10
_STUCK = 1e-6  # damping at which a target is given up


class Distortion(Protocol):
    """What a camera needs to know about its lens."""

    @property
    def limit(self) -> float:
        """Tangent of the widest valid angle off the optical axis, infinite if every direction in front is valid."""

    def distort(self, x: Array, y: Array) -> tuple[Array, Array]:
        """Directions (M,), (M,) below ``limit`` to (x_d, y_d), each (M,)."""

    def undistort(self, x_d: Array, y_d: Array) -> tuple[Array, Array]:
        """The inverse of ``distort``; NaN where no direction below ``limit`` leads to (x_d, y_d)."""


@lru_cache(maxsize=256)  # a CameraInfo comes with every image, always the same
def make_distortion(model: str, coefficients: tuple[float, ...]) -> Distortion:
    """Builds the model that CameraInfo names.

    Args:
        model: one of ``COEFFICIENT_COUNTS``; "" means no distortion and takes no coefficients.
        coefficients: in the order of CameraInfo.d.

    Raises:
        ConfigError: unknown model, a wrong number of coefficients, or one that is not finite.
    """
    counts = (0,) if model == "" else COEFFICIENT_COUNTS.get(model)
    if counts is None:
        raise ConfigError(f"distortion model {model!r} is unknown; known: {', '.join(COEFFICIENT_COUNTS)}")
    if len(coefficients) not in counts:
        expected = " or ".join(str(count) for count in counts)
        hint = "; that many belong to 'rational_polynomial'" if len(coefficients) in (8, 12, 14) else ""
        raise ConfigError(f"distortion model {model!r} takes {expected} coefficients, got {len(coefficients)}{hint}")
    if not np.all(np.isfinite(coefficients)):
        raise ConfigError(f"distortion coefficients must be finite, got {list(coefficients)}")
    if model == "equidistant":
        return Equidistant(tuple(coefficients) or (0.0,) * 4)
    return BrownConrady(tuple(coefficients) + (0.0,) * (14 - len(coefficients)))


@dataclass(frozen=True)
class BrownConrady:
    """Pinhole with radial (polynomial or rational), tangential, thin prism and tilted sensor distortion.

    Attributes:
        coefficients: k1 k2 p1 p2 k3 k4 k5 k6 s1 s2 s3 s4 tau_x tau_y, zeros for what is not used.
    """

    coefficients: tuple[float, ...]

    @cached_property
    def limit(self) -> float:
        """First radius at which the map stops growing outward.

        Exact for purely radial distortion: the first root of d(r N / D) / dr or pole of N / D, with N and D
        polynomials of s = r^2. With tangential or thin prism terms the Jacobian is also searched on
        180 x 1000 directions, and the smallest radius found holds for all of them.
        """
        numerator, denominator = self._radial
        slope = (numerator + Polynomial([0, 2]) * numerator.deriv()) * denominator
        slope -= Polynomial([0, 2]) * numerator * denominator.deriv()
        limit = np.sqrt(min(_first_positive_root(slope), _first_positive_root(denominator)))
        _, _, p1, p2, _, _, _, _, s1, s2, s3, s4, _, _ = self.coefficients
        return self._search_limit(limit) if any((p1, p2, s1, s2, s3, s4)) else float(limit)

    def distort(self, x: Array, y: Array) -> tuple[Array, Array]:
        """See ``Distortion.distort``."""
        if not any(self.coefficients):
            return x, y
        return self._tilt(*self._distort_upright(x, y))

    def undistort(self, x_d: Array, y_d: Array) -> tuple[Array, Array]:
        """See ``Distortion.undistort``: damped Newton, started from a table of the radial part.

        A step counts only if it leads nearer and stays below ``limit``, where the Jacobian is regular.
        """
        if not any(self.coefficients):
            return x_d, y_d
        target_x, target_y = self._untilt(x_d, y_d)
        x, y = self._first_guess(target_x, target_y)
        damping = np.ones_like(x)
        with np.errstate(all="ignore"):
            error_x, error_y = self._error(x, y, target_x, target_y)
            for _ in range(_NEWTON_STEPS):
                distance = np.hypot(error_x, error_y)
                if not ((distance >= _CONVERGED) & (damping > _STUCK)).any():
                    break
                a, b, c, d = self._jacobian(x, y)
                step = damping / (a * d - b * c)
                next_x, next_y = x + step * (d * error_x - b * error_y), y + step * (a * error_y - c * error_x)
                next_error_x, next_error_y = self._error(next_x, next_y, target_x, target_y)
                better = (np.hypot(next_error_x, next_error_y) < distance) & (np.hypot(next_x, next_y) < self.limit)
                x, y = np.where(better, next_x, x), np.where(better, next_y, y)
                error_x, error_y = np.where(better, next_error_x, error_x), np.where(better, next_error_y, error_y)
                damping = np.where(better, np.minimum(2 * damping, 1), damping / 4)
            found = np.hypot(error_x, error_y) < _ACCEPTED * (1 + np.hypot(target_x, target_y))
            found &= np.hypot(x, y) < self.limit
        return np.where(found, x, np.nan), np.where(found, y, np.nan)

    def _error(self, x: Array, y: Array, target_x: Array, target_y: Array) -> tuple[Array, Array]:
        guess_x, guess_y = self._distort_upright(x, y)
        return target_x - guess_x, target_y - guess_y

    @cached_property
    def _radial(self) -> tuple[Polynomial, Polynomial]:
        k1, k2, _, _, k3, k4, k5, k6, *_ = self.coefficients
        return Polynomial([1, k1, k2, k3]), Polynomial([1, k4, k5, k6])

    def _distort_upright(self, x: Array, y: Array) -> tuple[Array, Array]:
        """Everything but the tilt of the sensor."""
        k1, k2, p1, p2, k3, k4, k5, k6, s1, s2, s3, s4, _, _ = self.coefficients
        s = x * x + y * y
        gain = 1 + s * (k1 + s * (k2 + s * k3))
        if k4 or k5 or k6:
            gain /= 1 + s * (k4 + s * (k5 + s * k6))
        x_d, y_d = x * gain, y * gain
        if p1 or p2:
            xy = 2 * x * y
            x_d += p1 * xy + p2 * (s + 2 * x * x)
            y_d += p1 * (s + 2 * y * y) + p2 * xy
        if s1 or s2 or s3 or s4:
            x_d += s * (s1 + s * s2)
            y_d += s * (s3 + s * s4)
        return x_d, y_d

    def _jacobian(self, x: Array, y: Array) -> tuple[Array, Array, Array, Array]:
        """d(x_d, y_d) / d(x, y) of ``_distort_upright``, row by row."""
        _, _, p1, p2, _, _, _, _, s1, s2, s3, s4, _, _ = self.coefficients
        numerator, denominator = self._radial
        s = x * x + y * y
        n, d = numerator(s), denominator(s)
        gain = n / d
        slope = 2 * (numerator.deriv()(s) - gain * denominator.deriv()(s)) / d  # 2 dgain/ds
        cross = slope * x * y + 2 * (p1 * x + p2 * y)
        prism_x, prism_y = 2 * (s1 + 2 * s2 * s), 2 * (s3 + 2 * s4 * s)
        return (
            gain + slope * x * x + 2 * p1 * y + 6 * p2 * x + prism_x * x,
            cross + prism_x * y,
            cross + prism_y * x,
            gain + slope * y * y + 6 * p1 * y + 2 * p2 * x + prism_y * y,
        )

    def _search_limit(self, radial_limit: float) -> float:
        radii = np.tan(np.linspace(0, min(np.arctan(radial_limit), _WIDEST_ANGLE), 1001))[1:]  # (1000,)
        azimuth = np.linspace(0, 2 * np.pi, 180, endpoint=False)[:, None]
        with np.errstate(all="ignore"):
            a, b, c, d = self._jacobian(radii * np.cos(azimuth), radii * np.sin(azimuth))
            folded = np.any(~(a * d - b * c > 0), axis=0)  # (1000,)
        if not folded[:-1].any():
            return float(radial_limit)
        return float(radii[max(int(np.argmax(folded)) - 1, 0)])

    def _first_guess(self, x_d: Array, y_d: Array) -> tuple[Array, Array]:
        radii = np.tan(np.linspace(0, min(np.arctan(self.limit), _WIDEST_ANGLE), 1000))
        numerator, denominator = self._radial
        with np.errstate(all="ignore"):
            distorted = radii * numerator(radii**2) / denominator(radii**2)
        usable = np.isfinite(distorted)
        radius_d = np.hypot(x_d, y_d)
        radius = np.interp(radius_d, np.maximum.accumulate(distorted[usable]), radii[usable])
        radius = np.minimum(radius, 0.97 * self.limit)  # from inside, Newton cannot overshoot the fold
        gain = np.divide(radius, radius_d, out=np.ones_like(radius), where=radius_d > 0)
        return x_d * gain, y_d * gain

    @cached_property
    def _tilt_matrix(self) -> Array | None:
        """(3, 3) homography of the tilted sensor (Louhichi et al. 2007, as in OpenCV), None without tilt."""
        tau_x, tau_y = self.coefficients[12:]
        if not (tau_x or tau_y):
            return None
        cx, sx, cy, sy = np.cos(tau_x), np.sin(tau_x), np.cos(tau_y), np.sin(tau_y)
        rotation = np.array([[cy, 0, -sy], [0, 1, 0], [sy, 0, cy]]) @ np.array([[1, 0, 0], [0, cx, sx], [0, -sx, cx]])
        upright = np.array([[rotation[2, 2], 0, -rotation[0, 2]], [0, rotation[2, 2], -rotation[1, 2]], [0, 0, 1]])
        return upright @ rotation

    @cached_property
    def _untilt_matrix(self) -> Array:
        return np.asarray(np.linalg.inv(np.asarray(self._tilt_matrix)), np.float64)

    def _tilt(self, x: Array, y: Array) -> tuple[Array, Array]:
        return (x, y) if self._tilt_matrix is None else _apply_homography(self._tilt_matrix, x, y)

    def _untilt(self, x: Array, y: Array) -> tuple[Array, Array]:
        return (x, y) if self._tilt_matrix is None else _apply_homography(self._untilt_matrix, x, y)


@dataclass(frozen=True)
class Equidistant:
    """Fisheye: theta_d = theta (1 + k1 theta^2 + k2 theta^4 + k3 theta^6 + k4 theta^8).

    Theta is the angle off the optical axis; as in OpenCV it stays below 90 degrees, so the rim of a lens that
    sees further is invalid.

    Attributes:
        coefficients: k1 k2 k3 k4.
    """

    coefficients: tuple[float, ...]

    @cached_property
    def limit(self) -> float:
        """Tangent of the first angle at which theta_d stops growing."""
        widest = self._widest_angle
        return float(np.tan(widest)) if widest < np.pi / 2 else float("inf")

    def distort(self, x: Array, y: Array) -> tuple[Array, Array]:
        """See ``Distortion.distort``."""
        radius = np.hypot(x, y)
        theta_d = self._theta_d(np.arctan(radius))
        gain = np.divide(theta_d, radius, out=np.ones_like(radius), where=radius > 0)
        return x * gain, y * gain

    def undistort(self, x_d: Array, y_d: Array) -> tuple[Array, Array]:
        """See ``Distortion.undistort``: Newton's method, started from a table."""
        theta_d = np.hypot(x_d, y_d)
        table = np.linspace(0, self._widest_angle, 1000)
        theta = np.interp(theta_d, self._theta_d(table), table)
        slope = self._polynomial.deriv()
        with np.errstate(all="ignore"):
            for _ in range(_NEWTON_STEPS):
                error = theta_d - self._theta_d(theta)
                if np.nanmax(np.abs(error), initial=0.0) < _CONVERGED:
                    break
                theta = theta + error / slope(theta)
            found = (np.abs(theta_d - self._theta_d(theta)) < _ACCEPTED) & (theta >= 0) & (theta < self._widest_angle)
            gain = np.divide(np.tan(theta), theta_d, out=np.ones_like(theta), where=theta_d > 0)
        return np.where(found, x_d * gain, np.nan), np.where(found, y_d * gain, np.nan)

    @cached_property
    def _polynomial(self) -> Polynomial:
        k1, k2, k3, k4 = self.coefficients
        return Polynomial([0, 1, 0, k1, 0, k2, 0, k3, 0, k4])

    @cached_property
    def _widest_angle(self) -> float:
        return min(_first_positive_root(self._polynomial.deriv()), np.pi / 2)

    def _theta_d(self, theta: Array) -> Array:
        k1, k2, k3, k4 = self.coefficients
        t = theta * theta
        return theta * (1 + t * (k1 + t * (k2 + t * (k3 + t * k4))))


def _first_positive_root(polynomial: Polynomial) -> float:
    """Smallest real root > 0, infinity if there is none."""
    roots = polynomial.trim(1e-14).roots()  # smaller terms matter beyond 89 degrees only
    real = roots.real[(np.abs(roots.imag) < 1e-9 * (1 + np.abs(roots.real))) & (roots.real > 0)]
    return float(real.min()) if len(real) else float("inf")


def _apply_homography(matrix: Array, x: Array, y: Array) -> tuple[Array, Array]:
    w = matrix[2, 0] * x + matrix[2, 1] * y + matrix[2, 2]
    return (
        (matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2]) / w,
        (matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2]) / w,
    )
