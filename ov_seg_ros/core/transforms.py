"""Rigid transforms and the tree that joins frames, with the meaning of tf.

A transform is a (4, 4) float64 matrix; ``target_from_source`` maps points of the source frame to the
target frame: ``p_target = target_from_source @ p_source``, the order of tf's ``lookup_transform``.
A tf message (parent, child, translation, rotation) holds ``parent_from_child``.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ov_seg_ros.core.errors import InputError

Matrix = NDArray[np.float64]

_ROTATION_TOLERANCE = 1e-3  # of R R^T - I; calibration files are printed with as few as 4 digits
_QUATERNION_TOLERANCE = 1e-2  # of the norm, as in tf2


class ExtrapolationError(InputError):
    """A transform is known, but not at the stamp that was asked for.

    Attributes:
        missing_ns: by how much the stamp is after the newest transform (> 0, it may still come) or before the
            oldest one (< 0, it never will).
    """

    def __init__(self, message: str, missing_ns: int) -> None:
        super().__init__(message)
        self.missing_ns = missing_ns


def check_transform(matrix: ArrayLike, name: str = "transform") -> Matrix:
    """Makes sure that a matrix is a rigid transform.

    Args:
        matrix: (4, 4).
        name: of the matrix, for the message.

    Returns:
        The same matrix as float64.

    Raises:
        InputError: wrong shape, not finite, last row not (0, 0, 0, 1), or a rotation that scales, shears or mirrors.
    """
    result = np.asarray(matrix, np.float64)
    if result.shape != (4, 4):
        raise InputError(f"{name} must be (4, 4), got {result.shape}")
    if not np.isfinite(result).all():
        raise InputError(f"{name} must be finite, got {result.tolist()}")
    if not np.allclose(result[3], [0, 0, 0, 1]):
        raise InputError(f"{name} must end with the row 0 0 0 1, got {result[3].tolist()}")
    rotation = result[:3, :3]
    error = float(np.abs(rotation @ rotation.T - np.eye(3)).max())
    if error > _ROTATION_TOLERANCE or np.linalg.det(rotation) < 0:
        raise InputError(
            f"{name} is not rigid: R R^T differs from identity by {error:.2g} (at most {_ROTATION_TOLERANCE:g}), "
            f"det R = {np.linalg.det(rotation):.4g} (must be +1); check the order of axes and the precision of the file"
        )
    return result


def matrix_from_quaternion(translation: ArrayLike, quaternion_xyzw: ArrayLike) -> Matrix:
    """Builds a transform from what a tf message holds.

    Args:
        translation: (3,) metres.
        quaternion_xyzw: (4,) x, y, z, w, of unit length to within 1 %.

    Raises:
        InputError: wrong shape, not finite, or not of unit length (all zero is an unset message).
    """
    xyz, quaternion = np.asarray(translation, np.float64), np.asarray(quaternion_xyzw, np.float64)
    if xyz.shape != (3,) or quaternion.shape != (4,):
        raise InputError(f"expected translation (3,) and quaternion (4,), got {xyz.shape} and {quaternion.shape}")
    norm = float(np.linalg.norm(quaternion))
    if not np.isfinite(xyz).all() or not abs(norm - 1) <= _QUATERNION_TOLERANCE:
        raise InputError(
            f"translation must be finite and the quaternion of unit length, got {xyz.tolist()} and "
            f"{quaternion.tolist()} (length {norm:.4g})"
        )
    x, y, z, w = quaternion / norm
    matrix = np.eye(4)
    matrix[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    matrix[:3, 3] = xyz
    return matrix


def quaternion_from_matrix(matrix: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The inverse of ``matrix_from_quaternion``.

    Returns:
        (3,) translation and (4,) unit quaternion x, y, z, w with w >= 0.

    Raises:
        InputError: see ``check_transform``.
    """
    transform = check_transform(matrix)
    return transform[:3, 3].copy(), _quaternion(transform[:3, :3])


def invert_transform(matrix: ArrayLike) -> Matrix:
    """``source_from_target`` of ``target_from_source``.

    Raises:
        InputError: see ``check_transform``.
    """
    transform = check_transform(matrix)
    result = np.eye(4)
    result[:3, :3] = np.linalg.inv(transform[:3, :3])  # not R^T: R may be orthonormal to 3 digits only
    result[:3, 3] = -result[:3, :3] @ transform[:3, 3]
    return result


def interpolate_transform(a: ArrayLike, b: ArrayLike, fraction: float) -> Matrix:
    """Between two transforms: translation linear, rotation at constant speed along the shorter arc (slerp).

    Args:
        a: (4, 4) at fraction 0.
        b: (4, 4) at fraction 1.
        fraction: 0 to 1.

    Raises:
        InputError: see ``check_transform``; or a fraction outside [0, 1].
    """
    if not 0 <= fraction <= 1:
        raise InputError(f"fraction must be in [0, 1], got {fraction}")
    translation_a, quaternion_a = quaternion_from_matrix(a)
    translation_b, quaternion_b = quaternion_from_matrix(b)
    if quaternion_a @ quaternion_b < 0:
        quaternion_b = -quaternion_b
    # the angle by arctan2 stays exact for nearly equal and nearly opposite rotations, arccos does not
    half = np.arctan2(np.linalg.norm(quaternion_a - quaternion_b), np.linalg.norm(quaternion_a + quaternion_b))
    angle = 2 * half
    if np.sin(angle) < 1e-9:
        weight_a, weight_b = 1 - fraction, fraction
    else:
        weight_a, weight_b = np.sin((1 - fraction) * angle) / np.sin(angle), np.sin(fraction * angle) / np.sin(angle)
    quaternion = weight_a * quaternion_a + weight_b * quaternion_b
    translation = (1 - fraction) * translation_a + fraction * translation_b
    return matrix_from_quaternion(translation, quaternion / np.linalg.norm(quaternion))


def transform_points(matrix: ArrayLike, points: NDArray[Any]) -> NDArray[np.float64]:
    """(N, 3) points of the source frame to (N, 3) float64 in the target frame."""
    transform = np.asarray(matrix, np.float64)
    return np.asarray(points, np.float64) @ transform[:3, :3].T + transform[:3, 3]


@dataclass
class _Track:
    """One edge of the tree: ``parent_from_child``, fixed or by stamp."""

    parent: str
    static: Matrix | None = None
    stamps: list[int] = field(default_factory=list)  # ascending
    matrices: list[Matrix] = field(default_factory=list)


class TransformTree:
    """Static and stamped transforms between named frames, looked up at a stamp with interpolation.

    Frame names may begin with a slash (ROS 1); it is dropped. What contradicts itself - a frame with two parents, a
    static edge that also moves - is an error of the lookups that pass through it, not of the others.
    """

    def __init__(self, tolerance_ns: int = 0, keep_ns: int | None = None) -> None:
        """Starts empty.

        Args:
            tolerance_ns: how far before the first or after the last transform of an edge a stamp may lie; the nearest
                one is then used as it is.
            keep_ns: drop stamped transforms that are older than the newest of their edge by more; None keeps all.
        """
        self._tolerance_ns = tolerance_ns
        self._keep_ns = keep_ns
        self._tracks: dict[str, _Track] = {}  # by child
        self._frames: dict[str, None] = {}  # in the order they came
        self._conflicts: dict[str, str] = {}

    @property
    def frames(self) -> tuple[str, ...]:
        """Names of all frames, in the order they came."""
        return tuple(self._frames)

    def set_static(self, parent: str, child: str, matrix: ArrayLike) -> None:
        """Sets a transform that never changes (/tf_static); the latest one of an edge holds.

        Args:
            parent: frame of the result.
            child: frame of the points.
            matrix: (4, 4) ``parent_from_child``.

        Raises:
            InputError: a matrix that is not rigid, an empty name, or parent and child the same.
        """
        transform, track = self._edge(parent, child, matrix)
        if any(not np.allclose(transform, other, atol=1e-6) for other in track.matrices):
            self._conflicts[_name(child)] = f"{track.parent!r} -> {_name(child)!r} is both static and moving"
        track.static = transform

    def set(self, parent: str, child: str, stamp_ns: int, matrix: ArrayLike) -> None:
        """Adds a transform at a stamp (/tf), in any order; a second one at the same stamp replaces the first.

        Args and Raises as in ``set_static``.
        """
        transform, track = self._edge(parent, child, matrix)
        if track.static is not None and not np.allclose(transform, track.static, atol=1e-6):
            self._conflicts[_name(child)] = f"{track.parent!r} -> {_name(child)!r} is both static and moving"
        position = bisect_left(track.stamps, stamp_ns)
        if position < len(track.stamps) and track.stamps[position] == stamp_ns:
            track.matrices[position] = transform
            return
        track.stamps.insert(position, stamp_ns)
        track.matrices.insert(position, transform)
        if self._keep_ns is not None:
            old = bisect_left(track.stamps, track.stamps[-1] - self._keep_ns)
            del track.stamps[:old], track.matrices[:old]

    def clear_stamped(self) -> None:
        """Forgets all stamped transforms, keeps the static ones; for time that jumps back (a bag that loops)."""
        for track in self._tracks.values():
            track.stamps.clear()
            track.matrices.clear()

    def lookup(self, target: str, source: str, stamp_ns: int) -> Matrix:
        """``target_from_source`` at a stamp.

        Args:
            target: frame of the result.
            source: frame of the points.
            stamp_ns: nanoseconds; tf's "0 = latest" does not hold here.

        Returns:
            (4, 4), p_target = result @ p_source.

        Raises:
            InputError: a frame that is unknown, frames that are not connected, or a contradiction on the way.
            ExtrapolationError: an edge on the way is not known at the stamp.
        """
        target, source = _name(target), _name(source)
        for frame in (target, source):
            if frame not in self._frames:
                known = ", ".join(sorted(self._frames)) or "none"
                raise InputError(f"frame {frame!r} is unknown to tf; known frames: {known}")
        up_target, up_source = self._ancestors(target), self._ancestors(source)
        common = next((frame for frame in up_source if frame in up_target), None)
        if common is None:
            raise InputError(
                f"frames {target!r} and {source!r} are not connected by tf: the first hangs from {up_target[-1]!r}, "
                f"the second from {up_source[-1]!r}; publish a transform between the two trees"
            )
        common_from_source = self._climb(up_source[: up_source.index(common)], stamp_ns)
        if target == common:
            return common_from_source
        common_from_target = self._climb(up_target[: up_target.index(common)], stamp_ns)
        return invert_transform(common_from_target) @ common_from_source

    def lookup_between(
        self, target: str, target_stamp_ns: int, source: str, source_stamp_ns: int, fixed: str
    ) -> Matrix:
        """``target`` at one stamp from ``source`` at another, through a frame that does not move with them.

        This is what takes a scan into an image that was exposed some milliseconds later on a moving vehicle.

        Args:
            target: frame of the result.
            target_stamp_ns: its stamp.
            source: frame of the points.
            source_stamp_ns: their stamp.
            fixed: the frame that stands still in the world ("odom").

        Returns:
            (4, 4), p_target = result @ p_source.

        Raises:
            InputError, ExtrapolationError: see ``lookup``.
        """
        return self.lookup(target, fixed, target_stamp_ns) @ self.lookup(fixed, source, source_stamp_ns)

    def _edge(self, parent: str, child: str, matrix: ArrayLike) -> tuple[Matrix, _Track]:
        parent, child = _name(parent), _name(child)
        if not parent or not child or parent == child:
            raise InputError(f"a transform joins two named frames, got parent {parent!r} and child {child!r}")
        transform = check_transform(matrix, f"transform {parent!r} -> {child!r}")
        self._frames.setdefault(parent)
        self._frames.setdefault(child)
        track = self._tracks.setdefault(child, _Track(parent))
        if track.parent != parent:
            self._conflicts[child] = f"frame {child!r} has two parents, {track.parent!r} and {parent!r}"
            return transform, _Track(parent)
        return transform, track

    def _ancestors(self, frame: str) -> list[str]:
        """The frame, its parent, ... up to the root."""
        chain = [frame]
        while (track := self._tracks.get(chain[-1])) is not None:
            if track.parent in chain:
                raise InputError(f"tf has a loop: {' -> '.join([*chain, track.parent])}")
            chain.append(track.parent)
        return chain

    def _climb(self, frames: list[str], stamp_ns: int) -> Matrix:
        """Chains ``frames`` (each the parent of the one before) up to the parent of the last."""
        result = np.eye(4)
        for frame in frames:
            if frame in self._conflicts:
                raise InputError(f"tf contradicts itself: {self._conflicts[frame]}; two publishers may disagree")
            result = self._at(frame, self._tracks[frame], stamp_ns) @ result
        return result

    def _at(self, child: str, track: _Track, stamp_ns: int) -> Matrix:
        if track.static is not None:
            return track.static
        edge = f"transform {track.parent!r} -> {child!r}"
        if not track.stamps:
            raise InputError(f"{edge} was cleared and has not come again")
        missing = max(stamp_ns - track.stamps[-1], 0) + min(stamp_ns - track.stamps[0], 0)
        if abs(missing) > self._tolerance_ns:
            side = "after the newest" if missing > 0 else "before the oldest"
            raise ExtrapolationError(
                f"{edge}: stamp {stamp_ns} is {abs(missing) / 1e6:.3f} ms {side} of {len(track.stamps)} known "
                f"(tolerance {self._tolerance_ns / 1e6:g} ms)",
                missing,
            )
        after = min(bisect_left(track.stamps, stamp_ns), len(track.stamps) - 1)
        if after == 0 or track.stamps[after] <= stamp_ns:
            return track.matrices[after]
        start, end = track.stamps[after - 1], track.stamps[after]
        return interpolate_transform(
            track.matrices[after - 1], track.matrices[after], (stamp_ns - start) / (end - start)
        )


def _name(frame: str) -> str:
    return frame.lstrip("/")


def _quaternion(rotation: Matrix) -> NDArray[np.float64]:
    """Unit quaternion (x, y, z, w), w >= 0: the eigenvector that fits best (Bar-Itzhack 2000), robust everywhere."""
    r = rotation
    k = np.array(
        [
            [r[0, 0] - r[1, 1] - r[2, 2], 0, 0, 0],
            [r[1, 0] + r[0, 1], r[1, 1] - r[0, 0] - r[2, 2], 0, 0],
            [r[2, 0] + r[0, 2], r[2, 1] + r[1, 2], r[2, 2] - r[0, 0] - r[1, 1], 0],
            [r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1], np.trace(r)],
        ]
    )
    quaternion = np.linalg.eigh(k)[1][:, -1]  # eigh reads the lower triangle
    return -quaternion if quaternion[3] < 0 else quaternion
