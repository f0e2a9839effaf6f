"""Triangle meshes and the few solids that everything in a synthetic street is built from.

Every solid is a (M, 3, 3) float64 array: M triangles of three corners (x, y, z), metres. Orientation of the
triangles does not matter; the sensors turn normals towards themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from training.sources.synthetic_materials import CLASS_ID, Material

Triangles = NDArray[np.float64]
Color = tuple[int, int, int]
Part = tuple[Triangles, Material, Color]


@dataclass(frozen=True)
class Mesh:
    """Triangles with what they are and look like.

    Attributes:
        triangles: (M, 3, 3) float32, metres.
        class_id: (M,) uint8.
        material: (M,) uint8, a ``Material``.
        color: (M, 3) uint8, RGB.
    """

    triangles: NDArray[np.float32]
    class_id: NDArray[np.uint8]
    material: NDArray[np.uint8]
    color: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.triangles)

    @classmethod
    def of(cls, class_name: str, parts: Sequence[Part]) -> Mesh:
        """Joins parts (triangles, material, colour) of one class."""
        counts = [len(p[0]) for p in parts]
        return cls(
            np.concatenate([p[0] for p in parts]).astype(np.float32),
            np.full(sum(counts), CLASS_ID[class_name], np.uint8),
            np.repeat(np.array([int(p[1]) for p in parts], np.uint8), counts),
            np.repeat(np.clip([p[2] for p in parts], 0, 255).astype(np.uint8), counts, axis=0),
        )

    @classmethod
    def join(cls, meshes: Sequence[Mesh]) -> Mesh:
        """One mesh of all triangles, in order."""
        return cls(
            np.concatenate([m.triangles for m in meshes]),
            np.concatenate([m.class_id for m in meshes]),
            np.concatenate([m.material for m in meshes]),
            np.concatenate([m.color for m in meshes]),
        )

    def moved(self, matrix: NDArray[np.float64]) -> Mesh:
        """The mesh under a (4, 4) transform (or a scaling one)."""
        moved = self.triangles @ matrix[:3, :3].T + matrix[:3, 3]
        return Mesh(moved.astype(np.float32), self.class_id, self.material, self.color)


def quads(corners: NDArray[np.float64]) -> Triangles:
    """(..., 4, 3) corners in turn to two triangles each."""
    flat = corners.reshape(-1, 4, 3)
    return flat[:, [0, 1, 2, 0, 2, 3]].reshape(-1, 3, 3)


def grid(points: NDArray[np.float64]) -> Triangles:
    """(A, B, 3) surface points to the 2 (A-1) (B-1) triangles between them, row by row."""
    return quads(np.stack([points[:-1, :-1], points[1:, :-1], points[1:, 1:], points[:-1, 1:]], axis=2))


def box(center: ArrayLike, size: ArrayLike, yaw: float = 0.0) -> Triangles:
    """An upright box turned by ``yaw`` about its own vertical axis."""
    half = np.asarray(size, float) / 2
    corner = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) * half
    faces = [[0, 1, 3, 2], [4, 5, 7, 6], [0, 1, 5, 4], [2, 3, 7, 6], [0, 2, 6, 4], [1, 3, 7, 5]]
    if yaw:
        c, s = np.cos(yaw), np.sin(yaw)
        corner = corner @ np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]])
    return quads((corner + np.asarray(center, float))[faces])


def loft_cells(sections: NDArray[np.float64]) -> NDArray[np.float64]:
    """(S, K, 3) closed cross-sections to the (S-1, K, 4, 3) quads of the skin between them."""
    following = np.roll(sections, -1, axis=1)
    return np.stack([sections[:-1], sections[1:], following[1:], following[:-1]], axis=2)


def fan(ring: NDArray[np.float64]) -> Triangles:
    """A (K, 3) closed ring filled from its centre."""
    center = np.broadcast_to(ring.mean(axis=0), ring.shape)
    return np.stack([center, ring, np.roll(ring, -1, axis=0)], axis=1)


def loft(sections: NDArray[np.float64], caps: bool = True) -> Triangles:
    """The skin over (S, K, 3) closed cross-sections, its two ends closed unless ``caps`` is False."""
    skin = quads(loft_cells(sections))
    return np.concatenate([skin, fan(sections[0]), fan(sections[-1])]) if caps else skin


def _across(axis: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Two unit vectors perpendicular to ``axis`` and to each other."""
    reference = np.array([0.0, 0.0, 1.0]) if abs(axis[2]) < 0.9 else np.array([1.0, 0.0, 0.0])
    first = np.cross(axis, reference)
    first /= np.linalg.norm(first)
    return first, np.cross(axis, first)


def tube(start: ArrayLike, end: ArrayLike, radius: float, end_radius: float | None = None, sides: int = 6) -> Triangles:
    """A closed round bar, tapered if ``end_radius`` differs."""
    a, b = np.asarray(start, float), np.asarray(end, float)
    axis = (b - a) / np.linalg.norm(b - a)
    u, v = _across(axis)
    angle = np.arange(sides) * (2 * np.pi / sides)
    circle = np.cos(angle)[:, None] * u + np.sin(angle)[:, None] * v
    return loft(np.stack([a + radius * circle, b + (radius if end_radius is None else end_radius) * circle]))


def wheel(center: ArrayLike, radius: float, width: float, sides: int = 14) -> Triangles:
    """A wheel that rolls along x: a cylinder about the y axis."""
    c = np.asarray(center, float)
    half = np.array([0.0, width / 2, 0.0])
    return tube(c - half, c + half, radius, sides=sides)


def hoop(center: ArrayLike, radius: float, thickness: float, segments: int = 16) -> Triangles:
    """A thin tyre about the y axis: a torus with a square profile."""
    angle = np.arange(segments + 1) * (2 * np.pi / segments)
    rims = []
    for r, y in ((-1, -1), (1, -1), (1, 1), (-1, 1)):
        reach = radius + r * thickness / 2
        rims.append(np.stack([reach * np.cos(angle), np.full_like(angle, y * thickness / 2), reach * np.sin(angle)], 1))
    return loft(np.stack(rims, axis=1) + np.asarray(center, float), caps=False)


def ellipsoid(center: ArrayLike, radii: ArrayLike, rings: int = 5, sides: int = 8) -> Triangles:
    """A closed ellipsoid with its poles up and down."""
    polar = np.linspace(0.02, np.pi - 0.02, rings + 1)[:, None]
    around = np.arange(sides)[None] * (2 * np.pi / sides)
    unit = np.stack([np.sin(polar) * np.cos(around), np.sin(polar) * np.sin(around), np.cos(polar) + 0 * around], 2)
    return loft(unit * np.asarray(radii, float) + np.asarray(center, float))


def prism(outline: ArrayLike, y_from: float, y_to: float) -> Triangles:
    """A convex outline of (K, 2) points (x, z), extruded along y."""
    flat = np.asarray(outline, float)
    ring = np.stack([flat[:, 0], np.zeros(len(flat)), flat[:, 1]], axis=1)
    return loft(np.stack([ring + [0, y_from, 0], ring + [0, y_to, 0]]))


def leaves(rng: np.random.Generator, centers: NDArray[np.float64], size: float) -> Triangles:
    """A quad of about ``size`` metres with a random pose at each of the (N, 3) centres."""
    count = len(centers)
    u = rng.normal(size=(count, 3))
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    v = np.cross(u, rng.normal(size=(count, 3)))
    v /= np.linalg.norm(v, axis=1, keepdims=True) + 1e-9
    scale = (size * rng.uniform(0.6, 1.3, (count, 1))) / 2
    u, v = u * scale, v * scale * 0.8
    return quads(np.stack([centers - u - v, centers + u - v, centers + u + v, centers - u + v], axis=1))


def pose(x: float = 0.0, y: float = 0.0, z: float = 0.0, yaw: float = 0.0, scale: float = 1.0) -> NDArray[np.float64]:
    """(4, 4) transform: scale, turn about z, move."""
    c, s = np.cos(yaw) * scale, np.sin(yaw) * scale
    return np.array([[c, -s, 0, x], [s, c, 0, y], [0, 0, scale, z], [0, 0, 0, 1.0]])
