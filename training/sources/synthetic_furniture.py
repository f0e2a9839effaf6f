"""What stands along a street: barriers and cones, and the small manmade things (poles, signs, benches, fences)."""

from __future__ import annotations

import numpy as np

from training.sources.synthetic_materials import Material
from training.sources.synthetic_meshes import Color, Mesh, Part, box, ellipsoid, prism, tube

STEEL: Color = (120, 124, 128)
RED_WHITE: tuple[Color, Color] = ((200, 40, 34), (236, 236, 232))


def jersey_barrier(rng: np.random.Generator) -> Mesh:
    """A concrete barrier element, 2 m along x, 0.8 to 1 m high."""
    h, grey = rng.uniform(0.8, 1.0), int(rng.integers(130, 190))
    half = [(0.30, 0.0), (0.30, 0.08), (0.14, 0.33), (0.09, h)]
    outline = half + [(-y, z) for y, z in reversed(half)]
    body = prism(outline, -0.98, 0.98)[..., [1, 0, 2]]
    return Mesh.of("barrier", [(body, Material.CONCRETE, (grey, grey, grey - 6))])


def plastic_barrier(rng: np.random.Generator) -> Mesh:
    """A water-filled barrier element, 1.9 m along x."""
    color: Color = ((214, 60, 40), (236, 236, 232), (240, 130, 30))[int(rng.integers(3))]
    half = [(0.25, 0.0), (0.25, 0.15), (0.12, 0.45), (0.10, 0.95)]
    outline = half + [(-y, z) for y, z in reversed(half)]
    parts: list[Part] = [(prism(outline, -0.92, 0.92)[..., [1, 0, 2]], Material.PLASTIC, color)]
    parts.append((box((0, 0, 0.72), (1.5, 0.26, 0.12)), Material.RETROREFLECTOR, (236, 236, 232)))
    return Mesh.of("barrier", parts)


def board_barrier(rng: np.random.Generator) -> Mesh:
    """A red and white board on two feet, 2 m along x."""
    parts: list[Part] = []
    for z in (0.55, 0.92):
        for i in range(8):
            x = -1.0 + (i + 0.5) * 0.25
            parts.append((box((x, 0, z), (0.25, 0.04, 0.2)), Material.PLASTIC, RED_WHITE[i % 2]))
    for x in (-0.85, 0.85):
        parts.append((box((x, 0, 0.52), (0.06, 0.06, 1.04)), Material.PLASTIC, RED_WHITE[0]))
        parts.append((box((x, 0, 0.05), (0.25, 0.7, 0.1)), Material.RUBBER, (50, 50, 50)))
    if rng.random() < 0.4:
        parts.append((ellipsoid((0.85, 0, 1.12), (0.09, 0.09, 0.1), 4, 8), Material.GLASS, (240, 190, 40)))
    return Mesh.of("barrier", parts)


def traffic_cone(rng: np.random.Generator) -> Mesh:
    """A cone of 0.5 to 0.9 m, sometimes a barrel-like channeliser."""
    h = rng.uniform(0.5, 0.92)
    orange: Color = (236, int(rng.integers(80, 120)), 30)
    parts: list[Part] = [(box((0, 0, 0.025), (0.38, 0.38, 0.05)), Material.RUBBER, (60, 56, 54))]
    for low, high, reflects in (
        (0.05, 0.4, False),
        (0.4, 0.58, True),
        (0.58, 0.7, False),
        (0.7, 0.84, True),
        (0.84, 1, False),
    ):
        radius = [0.155 * (1 - k) + 0.03 for k in (low, high)]
        material = Material.RETROREFLECTOR if reflects else Material.PLASTIC
        color: Color = (238, 238, 235) if reflects else orange
        parts.append((tube((0, 0, low * h), (0, 0, high * h), radius[0], radius[1], 9), material, color))
    return Mesh.of("traffic_cone", parts)


def delineator(rng: np.random.Generator) -> Mesh:
    """A slim post of 1 m on a rubber foot, used like a cone."""
    parts: list[Part] = [(tube((0, 0, 0), (0, 0, 0.06), 0.2, sides=8), Material.RUBBER, (50, 50, 50))]
    color: Color = (236, 96, 30) if rng.random() < 0.7 else (220, 200, 40)
    for i in range(4):
        z = 0.06 + i * 0.24
        paint: Color = (238, 238, 235) if i % 2 else color
        material = Material.RETROREFLECTOR if i % 2 else Material.PLASTIC
        parts.append((tube((0, 0, z), (0, 0, z + 0.24), 0.055, sides=8), material, paint))
    return Mesh.of("traffic_cone", parts)


def street_light(rng: np.random.Generator) -> Mesh:
    """A lamp post whose arm reaches along +y."""
    h, reach = rng.uniform(6.0, 9.5), rng.uniform(1.0, 2.4)
    parts: list[Part] = [
        (tube((0, 0, 0), (0, 0, h), 0.10, 0.06, 8), Material.STEEL, STEEL),
        (tube((0, 0, h), (0, reach, h + 0.25), 0.05, 0.04), Material.STEEL, STEEL),
        (box((0, reach + 0.25, h + 0.25), (0.28, 0.65, 0.14)), Material.STEEL, (90, 92, 96)),
        (box((0, 0, 0.35), (0.25, 0.25, 0.7)), Material.STEEL, STEEL),
    ]
    return Mesh.of("manmade", parts)


def traffic_light(rng: np.random.Generator) -> Mesh:
    """A signal pole; its lamps look along -x, its arm, if any, reaches along +y."""
    h, arm = rng.uniform(3.0, 3.4), rng.random() < 0.5
    heads = [np.array([-0.2, 0.0, h - 0.5])]
    parts: list[Part] = []
    if arm:
        h = 5.8
        reach = rng.uniform(2.5, 4.5)
        parts.append((tube((0, 0, h - 0.2), (0, reach, h), 0.07, 0.05), Material.STEEL, STEEL))
        heads.append(np.array([-0.12, reach - 0.3, h - 0.5]))
    parts.append((tube((0, 0, 0), (0, 0, h), 0.09, 0.08, 8), Material.STEEL, STEEL))
    for head in heads:
        parts.append((box(head, (0.24, 0.32, 0.95)), Material.PLASTIC, (34, 36, 34)))
        for z, lamp in ((0.3, (220, 40, 30)), (0.0, (120, 90, 20)), (-0.3, (20, 80, 40))):
            parts.append((box(head + [-0.13, 0, z], (0.04, 0.2, 0.2)), Material.GLASS, lamp))
    return Mesh.of("manmade", parts)


def road_sign(rng: np.random.Generator) -> Mesh:
    """A sign that faces -x: round, triangular or a rectangular board."""
    h, kind = rng.uniform(2.2, 2.8), int(rng.integers(3))
    parts: list[Part] = [(tube((0, 0, 0), (0, 0, h + 0.6), 0.035), Material.STEEL, STEEL)]
    sides, size = ((12, 0.34), (3, 0.45), (4, 0.5))[kind]
    angle = np.arange(sides) * 2 * np.pi / sides + (np.pi / 2 if sides == 3 else np.pi / 4 if sides == 4 else 0)
    ring = np.stack([np.full(sides, -0.05), size * np.cos(angle), h + 0.25 + size * np.sin(angle)], axis=1)
    color: Color = ((200, 30, 30), (236, 210, 60), (30, 70, 160))[kind]
    center = ring.mean(axis=0)
    parts.append(
        (np.stack([np.broadcast_to(center, ring.shape), ring, np.roll(ring, -1, 0)], 1), Material.RETROREFLECTOR, color)
    )
    inner = (ring - center) * 0.7 + center - [0.01, 0, 0]
    parts.append(
        (
            np.stack([np.broadcast_to(inner.mean(0), ring.shape), inner, np.roll(inner, -1, 0)], 1),
            Material.RETROREFLECTOR,
            (240, 240, 238),
        )
    )
    return Mesh.of("manmade", parts)


def bench(rng: np.random.Generator) -> Mesh:
    """A park bench along x that is open towards +y."""
    wood: Color = (150, 110, 70)
    parts: list[Part] = [(box((0, y, 0.45), (1.7, 0.1, 0.04)), Material.WOOD, wood) for y in (0.05, 0.18, 0.31)]
    parts += [(box((0, -0.05, z), (1.7, 0.04, 0.1)), Material.WOOD, wood) for z in (0.6, 0.75)]
    for x in (-0.7, 0.7):
        parts.append((box((x, 0.18, 0.22), (0.06, 0.4, 0.44)), Material.STEEL, STEEL))
        parts.append((box((x, -0.04, 0.6), (0.06, 0.05, 0.44)), Material.STEEL, STEEL))
    return Mesh.of("manmade", parts)


def litter_bin(rng: np.random.Generator) -> Mesh:
    """A round street bin or a wheeled household bin."""
    if rng.random() < 0.5:
        return Mesh.of("manmade", [(tube((0, 0, 0.1), (0, 0, 0.95), 0.24, 0.26, 10), Material.STEEL, (60, 90, 70))])
    color: Color = ((60, 64, 66), (40, 80, 50), (40, 60, 110), (190, 160, 40))[int(rng.integers(4))]
    body = prism([(-0.26, 0.05), (-0.32, 1.0), (0.3, 1.0), (0.22, 0.05)], -0.28, 0.28)
    return Mesh.of(
        "manmade", [(body, Material.PLASTIC, color), (box((0, 0, 1.03), (0.68, 0.62, 0.06)), Material.PLASTIC, color)]
    )


def bollard(rng: np.random.Generator) -> Mesh:
    """A post of 0.9 m that keeps cars off the pavement."""
    return Mesh.of(
        "manmade", [(tube((0, 0, 0), (0, 0, rng.uniform(0.8, 1.0)), 0.07, 0.06, 8), Material.STEEL, (70, 72, 76))]
    )


def cabinet(rng: np.random.Generator) -> Mesh:
    """A grey switch box."""
    size = rng.uniform((0.6, 0.35, 0.9), (1.4, 0.5, 1.5))
    return Mesh.of("manmade", [(box((0, 0, size[2] / 2), size), Material.PAINT, (140, 148, 140))])


def bus_shelter(rng: np.random.Generator) -> Mesh:
    """A glazed shelter along x that is open towards +y."""
    length, wood = rng.uniform(3.2, 4.8), (150, 110, 70)
    parts: list[Part] = [
        (box((0, -0.7, 1.25), (length, 0.03, 2.0)), Material.GLASS, (120, 140, 150)),
        (box((0, 0, 2.5), (length + 0.3, 1.7, 0.12)), Material.STEEL, STEEL),
        (box((0, -0.4, 0.45), (length * 0.6, 0.4, 0.06)), Material.WOOD, wood),
        (box((length / 2 - 0.1, 0.0, 1.3), (0.12, 1.2, 1.8)), Material.PLASTIC, (210, 90, 60)),
    ]
    for x in (-length / 2, length / 2):
        for y in (-0.7, 0.6):
            parts.append((box((x, y, 1.25), (0.08, 0.08, 2.5)), Material.STEEL, STEEL))
    return Mesh.of("manmade", parts)


def slat_fence(rng: np.random.Generator, length: float, height: float | None = None) -> Mesh:
    """A fence along x of thin slats that a LiDAR partly looks through."""
    h, spacing = height or rng.uniform(0.9, 1.6), rng.uniform(0.13, 0.2)
    count = max(2, int(length / spacing))
    x = (np.arange(count) + 0.5) / count * length - length / 2
    slat = box((0, 0, h / 2 + 0.05), (0.05, 0.025, h - 0.1))
    wood = rng.random() < 0.5
    material, color = (Material.WOOD, (160, 140, 110)) if wood else (Material.STEEL, (60, 66, 64))
    slats = (slat[None] + np.stack([x, 0 * x, 0 * x], axis=1)[:, None, None]).reshape(-1, 3, 3)
    rails = [box((0, 0.03, z), (length, 0.04, 0.06)) for z in (0.25, h - 0.15)]
    return Mesh.of("manmade", [(slats, material, color), *[(r, material, color) for r in rails]])


def wall(rng: np.random.Generator, length: float, height: float | None = None) -> Mesh:
    """A garden or retaining wall along x."""
    h = height or rng.uniform(0.6, 2.0)
    kind, color = (
        (Material.BRICK, (150, 84, 66)),
        (Material.CONCRETE, (160, 158, 150)),
        (Material.PLASTER, (205, 196, 176)),
    )[int(rng.integers(3))]
    parts: list[Part] = [(box((0, 0, h / 2 - 0.3), (length, 0.25, h + 0.6)), kind, color)]
    parts.append((box((0, 0, h + 0.03), (length, 0.33, 0.08)), Material.CONCRETE, (150, 148, 142)))
    return Mesh.of("manmade", parts)


def railing(length: float, height: float = 1.05) -> Mesh:
    """A thin steel railing along x."""
    parts: list[Part] = [
        (tube((-length / 2, 0, z), (length / 2, 0, z), 0.025, sides=5), Material.STEEL, STEEL)
        for z in (height, height * 0.55)
    ]
    for x in np.linspace(-length / 2, length / 2, max(2, int(length / 1.6) + 1)):
        parts.append((tube((x, 0, 0), (x, 0, height), 0.028, sides=5), Material.STEEL, STEEL))
    return Mesh.of("manmade", parts)


def low_stairs(length: float, steps: int, depth: float = 0.34, rise: float = 0.13) -> Mesh:
    """Low stairs along x that climb towards -y; nuScenes counts them as other_flat."""
    parts: list[Part] = []
    for i in range(steps):
        run = depth * (steps - i)
        parts.append(
            (box((0, -depth * i - run / 2, rise * (i + 0.5)), (length, run, rise)), Material.CONCRETE, (168, 164, 156))
        )
    return Mesh.of("other_flat", parts)


def parasol_table(rng: np.random.Generator) -> Mesh:
    """A cafe table with chairs and a parasol."""
    cloth: Color = ((196, 60, 50), (230, 224, 200), (60, 110, 90))[int(rng.integers(3))]
    angle = np.arange(8) * np.pi / 4
    rim = np.stack([1.5 * np.cos(angle), 1.5 * np.sin(angle), np.full(8, 2.2)], axis=1)
    roof = np.stack([np.broadcast_to([0, 0, 2.65], rim.shape), rim, np.roll(rim, -1, axis=0)], axis=1)
    parts: list[Part] = [
        (roof, Material.CLOTH, cloth),
        (tube((0, 0, 0), (0, 0, 2.65), 0.03), Material.STEEL, STEEL),
        (tube((0, 0, 0.70), (0, 0, 0.74), 0.4, sides=10), Material.WOOD, (150, 116, 80)),
    ]
    for k in range(3):
        yaw = 2.1 * k + rng.uniform(0, 1)
        x, y = 0.75 * np.cos(yaw), 0.75 * np.sin(yaw)
        parts.append((box((x, y, 0.44), (0.42, 0.42, 0.05), yaw), Material.WOOD, (120, 90, 66)))
        parts.append((box((1.27 * x, 1.27 * y, 0.68), (0.04, 0.42, 0.5), yaw), Material.WOOD, (120, 90, 66)))
        for dx, dy in ((-1, -1), (-1, 1), (1, -1), (1, 1)):
            parts.append((box((x + 0.17 * dx, y + 0.17 * dy, 0.22), (0.04, 0.04, 0.44)), Material.STEEL, STEEL))
    return Mesh.of("manmade", parts)


def container(rng: np.random.Generator) -> Mesh:
    """A site office or shipping container, 6 m along x."""
    color: Color = ((60, 90, 150), (170, 60, 40), (90, 120, 90), (200, 190, 170))[int(rng.integers(4))]
    ribs = [box((x, y, 1.3), (0.08, 0.06, 2.4)) for x in np.linspace(-2.9, 2.9, 16) for y in (-1.22, 1.22)]
    return Mesh.of(
        "manmade",
        [(box((0, 0, 1.3), (6.0, 2.4, 2.6)), Material.STEEL, color), (np.concatenate(ribs), Material.STEEL, color)],
    )


def flag_board(rng: np.random.Generator) -> Mesh:
    """An advertising column or board."""
    color: Color = (int(rng.integers(80, 230)), int(rng.integers(60, 200)), int(rng.integers(60, 200)))
    if rng.random() < 0.5:
        return Mesh.of("manmade", [(tube((0, 0, 0), (0, 0, 2.9), 0.6, sides=14), Material.PLASTER, color)])
    parts: list[Part] = [(box((0, 0, 1.8), (1.3, 0.18, 1.9)), Material.PLASTIC, color)]
    parts += [(box((x, 0, 0.45), (0.12, 0.12, 0.9)), Material.STEEL, STEEL) for x in (-0.5, 0.5)]
    return Mesh.of("manmade", parts)
