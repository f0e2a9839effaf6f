"""Trucks, tractors and trailers in real sizes; origin on the ground under the middle, x forward."""

from __future__ import annotations

import numpy as np

from training.sources.synthetic_materials import Material
from training.sources.synthetic_meshes import Color, Mesh, Part, box, loft, prism, quads, tube
from training.sources.synthetic_vehicles import CAR_PAINTS, DARK, GLASS, RIM, axle_wheels, jitter, pick_paint


def _cab(rng: np.random.Generator, front: float, depth: float, width: float, height: float, paint: Color) -> list[Part]:
    """A cab-over-engine driver's cab that ends at x = ``front``."""
    rear, half = front - depth, width / 2
    outline = [(rear, 0.55), (rear, height), (front - 0.35, height), (front - 0.02, 1.55), (front, 0.45), (rear, 0.45)]
    slope = np.array([front - 0.02 - (front - 0.35), 1.55 - height])
    low, high = np.array([front - 0.02, 1.55]) - 0.08 * slope, np.array([front - 0.35, height]) + 0.14 * slope
    shift = 0.015
    screen = [
        (low[0] + shift, -half + 0.12, low[1]),
        (low[0] + shift, half - 0.12, low[1]),
        (high[0] + shift, half - 0.12, high[1]),
        (high[0] + shift, -half + 0.12, high[1]),
    ]
    parts: list[Part] = [
        (prism(outline, -half, half), Material.PAINT, paint),
        (quads(np.array([screen])), Material.GLASS, GLASS),
        (box((front + 0.02, 0, 0.55), (0.1, width, 0.35)), Material.PLASTIC, DARK),
        (box((front + 0.07, 0, 0.5), (0.03, 0.5, 0.12)), Material.RETROREFLECTOR, (235, 235, 225)),
    ]
    for side in (-1, 1):
        door = (rear + 0.55 * depth, side * (half + 0.004), 0.5 * (1.55 + height) - 0.05)
        parts.append((box(door, (0.55 * depth, 0.02, 0.62)), Material.GLASS, GLASS))
        parts.append((box((front - 0.25, side * (half + 0.2), 1.95), (0.12, 0.2, 0.55)), Material.PLASTIC, DARK))
    if rng.random() < 0.4:
        deflector = [(rear + 0.1, height), (rear + 0.1, height + 0.6), (front - 0.7, height)]
        parts.append((prism(deflector, -half + 0.15, half - 0.15), Material.PAINT, paint))
    return parts


def _chassis(rear: float, front: float, width: float) -> list[Part]:
    rails: list[Part] = []
    for side in (-1, 1):
        rails.append((box(((rear + front) / 2, side * 0.42, 0.85), (front - rear, 0.12, 0.28)), Material.STEEL, DARK))
        rails.append(
            (
                box((rear + 0.05, side * (width / 2 - 0.25), 0.8), (0.06, 0.4, 0.15)),
                Material.RETROREFLECTOR,
                (160, 15, 15),
            )
        )
    rails.append((box((rear + 0.1, 0, 0.55), (0.08, width - 0.2, 0.12)), Material.STEEL, DARK))
    return rails


BOX_PAINTS: tuple[Color, ...] = (
    (236, 236, 232),
    (200, 202, 204),
    (30, 70, 140),
    (180, 40, 34),
    (40, 110, 70),
    (230, 170, 40),
)


def _load(rng: np.random.Generator, kind: str, rear: float, front: float, width: float, height: float) -> list[Part]:
    """What stands on the chassis: box, tarpaulin, flatbed with load, tipper or tank; floor at 1.1 m."""
    paint, middle, length, floor = pick_paint(rng, BOX_PAINTS), (rear + front) / 2, front - rear, 1.1
    half = width / 2
    parts: list[Part] = [(box((middle, 0, floor - 0.06), (length, width, 0.12)), Material.STEEL, DARK)]
    if kind == "box":
        parts.append((box((middle, 0, (floor + height) / 2), (length, width, height - floor)), Material.PAINT, paint))
        for y in (-0.62, 0.62):  # door bars
            parts.append(
                (box((rear - 0.03, y, (floor + height) / 2), (0.05, 0.05, height - floor - 0.2)), Material.STEEL, RIM)
            )
    elif kind == "tipper":
        wall = 1.25
        for y in (-half + 0.04, half - 0.04):
            parts.append((box((middle, y, floor + wall / 2), (length, 0.08, wall)), Material.STEEL, paint))
        for x in np.linspace(rear, front, 6):
            for y in (-half, half):
                parts.append((box((x, y, floor + wall / 2), (0.1, 0.1, wall)), Material.STEEL, paint))
        parts.append((box((rear, 0, floor + wall / 2), (0.08, width, wall)), Material.STEEL, paint))
        parts.append((box((front, 0, floor + 0.8), (0.08, width, 1.6)), Material.STEEL, paint))
        heap = [(rear + 0.1, floor), (front - 0.1, floor), (middle + 0.3, floor + wall + 0.35)]
        parts.append((prism(heap, -half + 0.1, half - 0.1), Material.SOIL, (116, 92, 66)))
    elif kind == "tank":
        angle = np.arange(14) * (2 * np.pi / 14)
        ring = np.stack([np.zeros(14), half * 0.97 * np.cos(angle), floor + 0.95 + 0.95 * np.sin(angle)], axis=1)
        ends = [(rear, 0.75), (rear + 0.3, 1.0), (front - 0.3, 1.0), (front, 0.75)]
        center = np.array([0, 0, floor + 0.95])
        sections = np.stack([(ring - center) * [1, k, k] + center + [x, 0, 0] for x, k in ends])
        parts.append((loft(sections), Material.STEEL, (205, 208, 212)))
    else:  # flatbed
        for x in (rear + 0.05, front - 0.05):
            parts.append((box((x, 0, floor + 0.45), (0.08, width, 0.9)), Material.STEEL, paint))
        x = rear + 0.3
        while x < front - 1.6:
            size = rng.uniform((0.9, 0.9, 0.4), (1.6, width - 0.2, 1.5))
            parts.append(
                (box((x + size[0] / 2, 0, floor + size[2] / 2), size), Material.WOOD, jitter(rng, (160, 128, 90), 30))
            )
            x += size[0] + rng.uniform(0.1, 0.9)
    return parts


def truck(rng: np.random.Generator, kind: str | None = None) -> Mesh:
    """A rigid truck: cab and "box", "tipper", "tank" or "flatbed" body."""
    kind = kind or str(rng.choice(["box", "tipper", "tank", "flatbed"], p=[0.45, 0.2, 0.12, 0.23]))
    length, width = rng.uniform(6.2, 9.5), rng.uniform(2.25, 2.5)
    height = rng.uniform(3.0, 3.8)
    rear, front = -length / 2, length / 2
    cab_depth, cab_height = rng.uniform(1.7, 2.2), min(rng.uniform(2.5, 3.0), height)
    parts = _cab(rng, front, cab_depth, width, cab_height, pick_paint(rng, CAR_PAINTS + BOX_PAINTS))
    parts += _chassis(rear, front - 0.5, width)
    parts += _load(rng, kind, rear, front - cab_depth - rng.uniform(0.12, 0.35), width, height)
    axles = (front - 1.2, rear + 0.22 * length) if length < 7.5 else (front - 1.3, rear + 2.6, rear + 1.35)
    parts += axle_wheels(axles, width / 2, 0.48, 0.30)
    parts.append((box((0.1 * length, width / 2 - 0.3, 0.6), (1.1, 0.55, 0.5)), Material.STEEL, (140, 142, 146)))
    return Mesh.of("truck", parts)


def tractor(rng: np.random.Generator) -> Mesh:
    """The truck that pulls a semi-trailer; 6 m, the fifth wheel 1.6 m behind the origin."""
    width, front = 2.5, 3.0
    parts = _cab(rng, front, 2.2, width, rng.uniform(3.0, 3.5), pick_paint(rng, CAR_PAINTS + BOX_PAINTS))
    parts += _chassis(-3.0, front - 0.5, width) + axle_wheels((front - 1.4, -1.7), width / 2, 0.5, 0.32)
    parts.append((box((-1.6, 0, 1.05), (1.0, 0.9, 0.12)), Material.STEEL, DARK))
    for side in (-1, 1):
        parts.append((tube((0.1, side * 0.95, 0.65), (-0.9, side * 0.95, 0.65), 0.33, sides=10), Material.STEEL, RIM))
    return Mesh.of("truck", parts)


def trailer(rng: np.random.Generator, kind: str | None = None, length: float | None = None) -> Mesh:
    """A trailer without its truck: "box", "flatbed", "tank" or "tipper", on two or three axles at the rear."""
    kind = kind or str(rng.choice(["box", "flatbed", "tank", "tipper"], p=[0.5, 0.25, 0.1, 0.15]))
    length = length or rng.uniform(6.5, 12.5)
    width, height, rear, front = rng.uniform(2.4, 2.55), rng.uniform(3.3, 4.0), -length / 2, length / 2
    parts = _chassis(rear, front, width) + _load(rng, kind, rear, front, width, height)
    axles = (rear + 1.3, rear + 2.6, rear + 3.9) if length > 9 else (rear + 1.2, rear + 2.4)
    parts += axle_wheels(axles, width / 2, 0.48, 0.34)
    for side in (-1, 1):  # landing legs and side guards
        parts.append((box((front - 2.3, side * 0.75, 0.5), (0.14, 0.14, 1.0)), Material.STEEL, DARK))
        for z in (0.5, 0.75):
            parts.append((box((0.2, side * (width / 2 - 0.05), z), (length * 0.35, 0.04, 0.1)), Material.STEEL, RIM))
    return Mesh.of("trailer", parts)


def small_trailer(rng: np.random.Generator) -> Mesh:
    """A one-axle trailer for a car: open tray or caravan-like box, with its drawbar."""
    length, width, high = rng.uniform(2.2, 3.6), rng.uniform(1.5, 2.0), rng.random() < 0.5
    top = rng.uniform(1.7, 2.3) if high else rng.uniform(0.85, 1.05)
    paint = pick_paint(rng, BOX_PAINTS)
    parts: list[Part] = [(box((0, 0, 0.55), (length, width, 0.1)), Material.STEEL, DARK)]
    if high:
        parts.append((box((0, 0, (0.6 + top) / 2), (length, width, top - 0.6)), Material.PAINT, paint))
    else:
        for x, y, size in (
            (0, width / 2, (length, 0.05, top - 0.55)),
            (0, -width / 2, (length, 0.05, top - 0.55)),
            (length / 2, 0, (0.05, width, top - 0.55)),
            (-length / 2, 0, (0.05, width, top - 0.55)),
        ):
            parts.append((box((x, y, (0.55 + top) / 2), size), Material.STEEL, paint))
        parts.append(
            (box((0, 0, 0.72), (length - 0.2, width - 0.2, 0.25)), Material.CLOTH, jitter(rng, (70, 90, 70), 25))
        )
    parts += axle_wheels((-0.1,), width / 2 + 0.14, 0.29, 0.17)
    for side in (-1, 1):
        parts.append((tube((length / 2, side * 0.5, 0.5), (length / 2 + 1.2, 0, 0.48), 0.04), Material.STEEL, DARK))
    return Mesh.of("trailer", parts)
