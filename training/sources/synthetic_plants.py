"""Trees, bushes and hedges: trunks of tubes, crowns of loose leaves that a LiDAR looks into."""

from __future__ import annotations

import numpy as np

from training.sources.synthetic_materials import Material
from training.sources.synthetic_meshes import Color, Mesh, Part, box, leaves, tube

GREENS: tuple[Color, ...] = ((58, 96, 40), (78, 112, 48), (46, 84, 46), (104, 118, 50), (120, 100, 44), (70, 104, 66))
BARK: tuple[Color, ...] = ((92, 74, 58), (110, 100, 88), (74, 60, 50))


def _shades(rng: np.random.Generator, points: np.ndarray, size: float, green: Color) -> list[Part]:
    """Leaves in three shades of one green."""
    group = rng.integers(0, 3, len(points))
    parts: list[Part] = []
    for shade in range(3):
        chosen = points[group == shade]
        if len(chosen):
            r, g, b = (int(c * (0.8 + 0.2 * shade)) for c in green)
            parts.append((leaves(rng, chosen, size), Material.LEAF, (r, g, b)))
    return parts


def _cloud(rng: np.random.Generator, count: int, center: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """(count, 3) points in an ellipsoid, denser towards its skin."""
    direction = rng.normal(size=(count, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    return center + direction * radii * rng.uniform(0.25, 1.0, (count, 1)) ** 0.5


def broadleaf(rng: np.random.Generator, height: float, leaf_count: int = 1300) -> Mesh:
    """A street tree: bare trunk, some branches, a crown of several clumps."""
    green, bark = GREENS[int(rng.integers(len(GREENS)))], BARK[int(rng.integers(len(BARK)))]
    stem, girth = height * rng.uniform(0.28, 0.42), 0.018 * height + 0.04
    top = np.array([rng.normal(0, 0.15), rng.normal(0, 0.15), height * 0.8])
    fork = np.array([top[0] * 0.3, top[1] * 0.3, stem])
    parts: list[Part] = [
        (tube((0, 0, -0.2), fork, girth * 1.2, girth, 8), Material.BARK, bark),
        (tube(fork, top, girth, girth * 0.35), Material.BARK, bark),
    ]
    clumps = int(rng.integers(5, 9))
    spread = height * rng.uniform(0.22, 0.32)
    points = [_cloud(rng, leaf_count // 4, top - [0, 0, height * 0.12], np.array([spread, spread, height * 0.24]))]
    for i in range(clumps):
        angle = 2 * np.pi * i / clumps + rng.uniform(-0.4, 0.4)
        z = rng.uniform(stem + 0.08 * height, height * 0.88)
        reach = spread * rng.uniform(0.5, 0.95) * np.sqrt(max(0.2, 1 - ((z / height - 0.62) / 0.45) ** 2))
        end = np.array([reach * np.cos(angle), reach * np.sin(angle), z])
        parts.append(
            (tube(fork + (top - fork) * rng.uniform(0, 0.5), end, girth * 0.4, girth * 0.12, 5), Material.BARK, bark)
        )
        size = height * rng.uniform(0.11, 0.17)
        points.append(_cloud(rng, leaf_count // clumps, end, np.array([size, size, size * 0.8])))
    parts += _shades(rng, np.concatenate(points), 0.028 * height + 0.1, green)
    return Mesh.of("vegetation", parts)


def conifer(rng: np.random.Generator, height: float, leaf_count: int = 1100) -> Mesh:
    """A fir or cypress: a cone of leaves that starts near the ground."""
    green = GREENS[int(rng.integers(len(GREENS)))]
    base, radius = height * rng.uniform(0.06, 0.16), height * rng.uniform(0.12, 0.22)
    z = base + (height - base) * (1 - np.sqrt(rng.uniform(0, 1, leaf_count)))
    reach = radius * (1 - (z - base) / (height - base)) * rng.uniform(0.4, 1.0, leaf_count) ** 0.5
    angle = rng.uniform(0, 2 * np.pi, leaf_count)
    points = np.stack([reach * np.cos(angle), reach * np.sin(angle), z], axis=1)
    trunk = tube((0, 0, -0.2), (0, 0, height * 0.9), 0.014 * height + 0.04, 0.02)
    return Mesh.of("vegetation", [(trunk, Material.BARK, BARK[0]), *_shades(rng, points, 0.02 * height + 0.12, green)])


def bush(rng: np.random.Generator, size: float, leaf_count: int = 260) -> Mesh:
    """A round shrub about ``size`` metres wide."""
    green = GREENS[int(rng.integers(len(GREENS)))]
    points = [
        _cloud(
            rng, leaf_count // 3, np.array([*rng.uniform(-0.2, 0.2, 2) * size, size * 0.38]), np.full(3, size * 0.42)
        )
        for _ in range(3)
    ]
    together = np.concatenate(points)
    together[:, 2] = np.abs(together[:, 2])
    return Mesh.of("vegetation", _shades(rng, together, 0.14 + 0.05 * size, green))


def hedge(rng: np.random.Generator, length: float, height: float, depth: float = 0.8) -> Mesh:
    """A trimmed hedge along x: dense leaves around an opaque core."""
    green = GREENS[int(rng.integers(len(GREENS)))]
    count = int(70 * length * max(height, 0.6))
    size = np.array([length, depth, height])
    points = rng.uniform(-0.5, 0.5, (count, 3))
    face = rng.integers(0, 3, count)
    on_top = face == 2
    sign = np.where(on_top, 1.0, rng.choice([-1.0, 1.0], count))
    points[np.arange(count), np.where(face == 0, 1, face)] = 0.5 * sign
    ends = rng.random(count) < 0.08
    points[ends, 0] = 0.5 * np.sign(points[ends, 0])
    points = points * size + [0, 0, height / 2] + rng.normal(0, 0.05, (count, 3))
    core = box((0, 0, height * 0.45), size * [0.98, 0.7, 0.88])
    dark: Color = (green[0] // 2, green[1] // 2, green[2] // 2)
    return Mesh.of("vegetation", [(core, Material.LEAF, dark), *_shades(rng, points, 0.17, green)])


def potted_plant(rng: np.random.Generator) -> Mesh:
    """A shrub in a street planter; the planter is manmade."""
    side, height = rng.uniform(0.5, 0.9), rng.uniform(0.4, 0.7)
    planter = Mesh.of("manmade", [(box((0, 0, height / 2), (side, side, height)), Material.CONCRETE, (150, 146, 138))])
    lift = np.eye(4)
    lift[2, 3] = height - 0.05
    return Mesh.join([planter, bush(rng, side * 1.2, 140).moved(lift)])
