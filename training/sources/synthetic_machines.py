"""Construction vehicles: excavators, wheel loaders, mobile cranes, rollers; origin on the ground, x forward."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from training.sources.synthetic_materials import Material
from training.sources.synthetic_meshes import Color, Mesh, Part, Triangles, box, loft, pose, prism, quads, tube, wheel

GLASS: Color = (38, 48, 58)
TRACK: Color = (50, 48, 46)
MACHINE_PAINTS: tuple[Color, ...] = ((236, 176, 20), (240, 140, 20), (214, 60, 30), (240, 200, 60), (90, 150, 60))


def _beam(
    start: NDArray[np.float64], end: NDArray[np.float64], width: float, from_depth: float, to_depth: float
) -> Triangles:
    """A tapered rectangular arm in the vertical plane of the machine."""
    axis = (end - start) / np.linalg.norm(end - start)
    across, up = np.array([0.0, 1.0, 0.0]) * width / 2, np.cross(axis, [0.0, 1.0, 0.0])
    sections = [
        np.stack(
            [at - across - up * d / 2, at + across - up * d / 2, at + across + up * d / 2, at - across + up * d / 2]
        )
        for at, d in ((start, from_depth), (end, to_depth))
    ]
    return loft(np.stack(sections))


def _bucket(tip: NDArray[np.float64], width: float, size: float) -> list[Part]:
    x, _, z = tip
    shell = [
        (x, z),
        (x + 0.15 * size, z - 0.9 * size),
        (x - 0.55 * size, z - 1.0 * size),
        (x - 0.95 * size, z - 0.5 * size),
    ]
    return [(prism(shell, -width / 2, width / 2), Material.STEEL, (82, 80, 78))]


def _tracks(length: float, gauge: float, height: float, width: float) -> list[Part]:
    angle = np.linspace(-np.pi / 2, np.pi / 2, 6)
    r, half = height / 2, length / 2 - height / 2
    front = np.stack([half + r * np.cos(angle), r + r * np.sin(angle)], axis=1)
    outline = np.concatenate([front, np.stack([-front[::-1, 0], front[::-1, 1]], axis=1)])
    parts: list[Part] = []
    for side in (-1, 1):
        y = side * gauge / 2
        parts.append((prism(outline, y - width / 2, y + width / 2), Material.RUBBER, TRACK))
        for x in np.linspace(-half, half, 5):
            parts.append((wheel((x, y, r * 0.75), r * 0.5, width + 0.06, 8), Material.STEEL, (96, 92, 88)))
    parts.append((box((0, 0, height * 0.75), (length * 0.6, gauge, 0.35)), Material.STEEL, TRACK))
    return parts


def _machine_cab(x: float, y: float, floor: float, size: tuple[float, float, float], paint: Color) -> list[Part]:
    length, width, height = size
    parts: list[Part] = [
        (box((x, y, floor + height / 2), (length - 0.06, width - 0.06, height - 0.1)), Material.GLASS, GLASS),
        (box((x, y, floor + height), (length, width, 0.12)), Material.PAINT, paint),
        (box((x, y, floor + 0.25), (length, width, 0.5)), Material.PAINT, paint),
    ]
    for dx in (-1, 1):
        for dy in (-1, 1):
            corner = (x + dx * (length / 2 - 0.04), y + dy * (width / 2 - 0.04), floor + height / 2)
            parts.append((box(corner, (0.08, 0.08, height)), Material.PAINT, paint))
    return parts


def excavator(rng: np.random.Generator) -> Mesh:
    """A crawler excavator; its house is turned against the tracks."""
    paint = MACHINE_PAINTS[int(rng.integers(len(MACHINE_PAINTS)))]
    k = rng.uniform(0.75, 1.1)
    house: list[Part] = [
        (box((-0.7, 0, 1.65), (3.2, 2.5, 0.9)), Material.PAINT, paint),
        (box((-1.7, 0, 2.2), (1.2, 2.4, 0.5)), Material.PAINT, paint),
        (box((-2.3, 0, 1.5), (0.5, 2.5, 1.1)), Material.STEEL, (70, 68, 66)),
        (tube((-0.9, -0.7, 2.1), (-0.9, -0.7, 3.0), 0.06), Material.STEEL, TRACK),
    ]
    house += _machine_cab(0.45, 0.75, 1.25, (1.5, 0.95, 1.75), paint)
    base = np.array([0.9, -0.2, 1.7])
    elbow = base + np.array([rng.uniform(2.0, 3.2), 0, rng.uniform(2.2, 3.4)])
    tip = elbow + np.array([rng.uniform(1.0, 2.2), 0, -rng.uniform(1.8, 3.6)])
    middle = 0.5 * (base + elbow) + np.array([-0.25, 0, 0.5])
    house += [
        (_beam(base, middle, 0.38, 0.5, 0.65), Material.PAINT, paint),
        (_beam(middle, elbow, 0.38, 0.65, 0.4), Material.PAINT, paint),
        (_beam(elbow, tip, 0.3, 0.5, 0.28), Material.PAINT, paint),
        (tube(base + [0.3, 0, -0.2], middle + [0.3, 0, -0.2], 0.09), Material.STEEL, (170, 170, 172)),
        (tube(middle + [0, 0, 0.45], elbow + [0, 0, 0.35], 0.08), Material.STEEL, (170, 170, 172)),
    ]
    house += _bucket(tip, 1.0, 1.1)
    turned = Mesh.of("construction_vehicle", house).moved(pose(yaw=rng.uniform(-2.2, 2.2)))
    lower = Mesh.of("construction_vehicle", _tracks(3.9, 2.0, 0.85, 0.55))
    return Mesh.join([lower, turned]).moved(pose(scale=k))


def loader(rng: np.random.Generator) -> Mesh:
    """A wheel loader with its bucket on the ground or raised."""
    paint = MACHINE_PAINTS[int(rng.integers(len(MACHINE_PAINTS)))]
    parts: list[Part] = []
    for x in (-1.4, 1.4):
        for y in (-0.95, 0.95):
            parts.append((wheel((x, y, 0.7), 0.7, 0.55), Material.RUBBER, (34, 34, 34)))
            parts.append((wheel((x, y, 0.7), 0.35, 0.6, 10), Material.PAINT, paint))
    parts += [
        (prism([(-2.7, 0.8), (-2.7, 1.75), (-0.9, 2.0), (-0.3, 2.0), (-0.3, 0.7)], -0.8, 0.8), Material.PAINT, paint),
        (box((1.2, 0, 1.0), (1.8, 1.1, 0.7)), Material.STEEL, (70, 68, 66)),
        (box((-2.75, 0, 1.2), (0.2, 1.5, 0.6)), Material.STEEL, (60, 60, 60)),
    ]
    parts += _machine_cab(-0.3, 0, 1.6, (1.4, 1.35, 1.6), paint)
    lift = rng.uniform(0.0, 2.2) if rng.random() < 0.5 else 0.0
    tip = np.array([3.3 - 0.2 * lift, 0, 0.75 + lift])
    for y in (-0.5, 0.5):
        shoulder = np.array([0.9, y, 1.7])
        parts.append((_beam(shoulder, tip + [0, y, 0], 0.18, 0.4, 0.3), Material.PAINT, paint))
    x, z = tip[0], tip[2]
    shell = np.array([(x, z + 0.6), (x - 0.25, z), (x - 0.1, z - 0.6), (x + 1.1, z - 0.65)])
    walls = [
        np.array([[a[0], y, a[1]] for y in (-1.25, 1.25) for a in pair]) for pair in (shell[:2], shell[1:3], shell[2:])
    ]
    parts.append((quads(np.stack([w[[0, 1, 3, 2]] for w in walls])), Material.STEEL, (92, 88, 80)))
    for y in (-1.25, 1.25):
        parts.append((prism(shell, y - 0.03, y + 0.03), Material.STEEL, (92, 88, 80)))
    return Mesh.of("construction_vehicle", parts).moved(pose(scale=rng.uniform(0.8, 1.05)))


def crane(rng: np.random.Generator) -> Mesh:
    """A mobile crane on four axles, outriggers down, boom raised."""
    paint = MACHINE_PAINTS[int(rng.integers(len(MACHINE_PAINTS)))]
    parts: list[Part] = [
        (box((0, 0, 1.15), (9.0, 2.5, 0.5)), Material.PAINT, paint),
        (prism([(3.2, 0.6), (3.2, 2.5), (4.6, 2.5), (4.95, 1.5), (4.95, 0.6)], -1.2, 1.2), Material.PAINT, paint),
        (
            quads(np.array([[(4.97, -1.1, 1.55), (4.97, 1.1, 1.55), (4.65, 1.1, 2.4), (4.65, -1.1, 2.4)]])),
            Material.GLASS,
            GLASS,
        ),
        (box((-2.2, 0, 2.0), (3.0, 2.3, 1.2)), Material.PAINT, paint),
    ]
    for x in (-3.4, -1.9, 1.6, 3.1):
        for y in (-1.05, 1.05):
            parts.append((wheel((x, y, 0.58), 0.58, 0.42), Material.RUBBER, (34, 34, 34)))
    for x in (-4.1, 0.1):
        parts.append((box((x, 0, 0.85), (0.35, 5.2, 0.25)), Material.STEEL, (200, 60, 40)))
        for y in (-2.5, 2.5):
            parts.append((box((x, y, 0.42), (0.22, 0.22, 0.84)), Material.STEEL, (90, 90, 90)))
            parts.append((box((x, y, 0.06), (0.7, 0.7, 0.12)), Material.STEEL, (60, 60, 60)))
    parts += _machine_cab(-0.4, 0.75, 1.4, (1.5, 0.9, 1.6), paint)
    angle, reach = rng.uniform(0.35, 1.0), rng.uniform(9.0, 16.0)
    base = np.array([-2.9, -0.2, 2.7])
    end = base + reach * np.array([np.cos(angle), 0, np.sin(angle)])
    knee = 0.55 * end + 0.45 * base
    parts += [
        (_beam(base, knee, 0.7, 0.8, 0.7), Material.PAINT, paint),
        (_beam(knee, end, 0.5, 0.55, 0.45), Material.PAINT, paint),
        (tube(base + [1.2, 0, -0.5], 0.7 * base + 0.3 * end, 0.14), Material.STEEL, (150, 150, 150)),
        (tube(end, end - [0, 0, 0.55 * (end[2] - 2.0)], 0.02, sides=3), Material.STEEL, (60, 60, 60)),
    ]
    return Mesh.of("construction_vehicle", parts).moved(pose(scale=rng.uniform(0.85, 1.0)))


def roller(rng: np.random.Generator) -> Mesh:
    """A road roller with a steel drum in front."""
    paint = MACHINE_PAINTS[int(rng.integers(len(MACHINE_PAINTS)))]
    parts: list[Part] = [
        (wheel((1.4, 0, 0.68), 0.68, 1.9, 20), Material.STEEL, (140, 138, 134)),
        (box((1.4, 1.05, 0.85), (1.5, 0.12, 0.35)), Material.PAINT, paint),
        (box((1.4, -1.05, 0.85), (1.5, 0.12, 0.35)), Material.PAINT, paint),
        (box((0.45, 0, 0.9), (0.4, 2.2, 0.5)), Material.PAINT, paint),
        (prism([(-2.2, 0.6), (-2.2, 1.5), (-0.7, 1.7), (-0.7, 0.6)], -0.75, 0.75), Material.PAINT, paint),
        (box((-0.3, 0, 1.1), (0.9, 1.6, 0.2)), Material.STEEL, (60, 60, 60)),
        (box((-0.3, 0, 2.6), (1.5, 1.6, 0.1)), Material.PAINT, paint),
    ]
    for x in (-0.95, 0.35):
        for y in (-0.72, 0.72):
            parts.append((tube((x, y, 1.2), (x, y, 2.6), 0.04), Material.STEEL, (50, 50, 50)))
    for y in (-0.8, 0.8):
        parts.append((wheel((-1.3, y, 0.65), 0.65, 0.5), Material.RUBBER, (34, 34, 34)))
    return Mesh.of("construction_vehicle", parts)


MACHINES: tuple[tuple[Callable[[np.random.Generator], Mesh], float, float], ...] = (
    (excavator, 5.0, 0.45),
    (loader, 6.5, 0.3),
    (crane, 10.0, 0.12),
    (roller, 4.5, 0.13),
)
"""Builder, length of road it needs (metres), and how often it is drawn."""


def construction_vehicle(rng: np.random.Generator) -> tuple[Mesh, float]:
    """Any machine, and the length of road it needs."""
    number = int(rng.choice(len(MACHINES), p=[m[2] for m in MACHINES]))
    build, length, _ = MACHINES[number]
    return build(rng), length
