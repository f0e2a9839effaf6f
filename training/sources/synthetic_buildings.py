"""Buildings with recessed windows, doors, balconies and roofs; origin on the ground in the middle of the front.

The front lies in the plane y = 0 and looks along +y, the building reaches to negative y.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from training.sources.synthetic_materials import Material
from training.sources.synthetic_meshes import Color, Mesh, Part, Triangles, box, fan, grid, prism, quads, tube

WALLS: tuple[tuple[Material, Color], ...] = (
    (Material.BRICK, (156, 86, 66)),
    (Material.BRICK, (178, 120, 90)),
    (Material.PLASTER, (222, 210, 180)),
    (Material.PLASTER, (200, 190, 184)),
    (Material.PLASTER, (214, 180, 130)),
    (Material.PLASTER, (170, 186, 190)),
    (Material.CONCRETE, (164, 162, 156)),
    (Material.PLASTER, (188, 150, 134)),
)
ROOFS: tuple[Color, ...] = ((120, 64, 50), (84, 78, 78), (96, 70, 60), (70, 74, 82))
PANE: Color = (52, 66, 80)


def _turned(triangles: Triangles, yaw: float, x: float, y: float) -> Triangles:
    c, s = np.cos(yaw), np.sin(yaw)
    return triangles @ np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]]) + [x, y, 0]


def _openings(
    x0: NDArray[np.float64],
    x1: NDArray[np.float64],
    z0: float,
    z1: float,
    hole: tuple[float, float, float, float],
    depth: float,
) -> tuple[Triangles, Triangles]:
    """Panels of one floor with one opening each.

    Args:
        x0: (B,) left edges of the panels.
        x1: (B,) right edges.
        z0: lower edge.
        z1: upper edge.
        hole: opening as shares (left, right, low, high) of the panel.
        depth: recess, metres.

    Returns:
        Triangles of the wall around the openings, and of the panes.
    """
    width, tall = x1 - x0, z1 - z0
    lower, upper = np.full_like(x0, z0), np.full_like(x0, z1)

    def corners(left: NDArray, right: NDArray, low: NDArray, high: NDArray, y: float) -> NDArray:
        flat = np.stack(
            [left, 0 * left + y, low, right, 0 * left + y, low, right, 0 * left + y, high, left, 0 * left + y, high], 1
        )
        return flat.reshape(-1, 4, 3)  # (B, 4, 3)

    outer = corners(x0, x1, lower, upper, 0.0)
    edges = (x0 + hole[0] * width, x0 + hole[1] * width, lower + hole[2] * tall, lower + hole[3] * tall)
    rim, pane = corners(*edges, 0.0), corners(*edges, -depth)

    def band(a: NDArray, b: NDArray) -> Triangles:
        return quads(np.stack([a, np.roll(a, -1, axis=1), np.roll(b, -1, axis=1), b], axis=2))

    return np.concatenate([band(outer, rim), band(rim, pane)]), quads(pane)


def _facade(
    rng: np.random.Generator, width: float, floors: int, storey: float, wall: tuple[Material, Color], shop: bool
) -> list[Part]:
    """The plane y = 0 from -width/2 to width/2 with windows on every floor."""
    bays = max(1, round(width / rng.uniform(2.4, 3.6)))
    edges = np.linspace(-width / 2, width / 2, bays + 1)
    depth = rng.uniform(0.08, 0.3)
    left = rng.uniform(0.18, 0.3)
    hole = (left, 1 - left, rng.uniform(0.25, 0.34), rng.uniform(0.78, 0.9))
    parts: list[Part] = []
    for floor in range(floors):
        z0, z1 = floor * storey, (floor + 1) * storey
        if floor == 0 and shop:
            walls, panes = _openings(edges[:-1], edges[1:], z0 - 0.8, z1, (0.06, 0.94, 0.28, 0.85), 0.35)
            parts += [(walls, Material.PLASTER, (110, 104, 100)), (panes, Material.GLASS, (70, 80, 86))]
            continue
        low = z0 - 0.8 if floor == 0 else z0
        if floor == 0:
            door = int(rng.integers(bays))
            one = slice(door, door + 1)
            walls, panel = _openings(edges[:-1][one], edges[1:][one], low, z1, (0.32, 0.68, 0.2, 0.82), 0.25)
            parts += [(walls, *wall), (panel, Material.WOOD, (96, 66, 46))]
            rest = np.delete(np.arange(bays), door)
        else:
            rest = np.arange(bays)
        if len(rest):
            walls, panes = _openings(edges[:-1][rest], edges[1:][rest], low, z1, hole, depth)
            parts += [(walls, *wall), (panes, Material.GLASS, PANE)]
    return parts


def _balconies(rng: np.random.Generator, width: float, floors: int, storey: float) -> list[Part]:
    parts: list[Part] = []
    for x in np.linspace(-width / 2 + 1.8, width / 2 - 1.8, max(1, int(width / 6))):
        for floor in range(1, floors):
            z = floor * storey
            parts.append((box((x, 0.55, z), (2.4, 1.1, 0.14)), Material.CONCRETE, (176, 174, 168)))
            if rng.random() < 0.5:
                parts.append((box((x, 1.08, z + 0.52), (2.4, 0.04, 0.9)), Material.PLASTIC, (150, 150, 140)))
            else:
                for dx in np.linspace(-1.18, 1.18, 12):
                    parts.append((box((x + dx, 1.08, z + 0.52), (0.025, 0.025, 0.95)), Material.STEEL, (60, 62, 64)))
                parts.append((box((x, 1.08, z + 1.0), (2.4, 0.05, 0.05)), Material.STEEL, (60, 62, 64)))
            for dx in (-1.18, 1.18):
                parts.append((box((x + dx, 0.55, z + 0.52), (0.04, 1.1, 0.9)), Material.STEEL, (110, 112, 112)))
    return parts


def _gable_roof(
    width: float, depth: float, height: float, rise: float, wall: tuple[Material, Color], color: Color, along: bool
) -> list[Part]:
    """A pitched roof whose ridge runs along the front (``along``) or away from it."""
    over = 0.4
    if along:
        ring = [(over, height - 0.1), (-depth / 2, height + rise), (-depth - over, height - 0.1)]
        slab = prism(ring, -width / 2 - over, width / 2 + over)[..., [1, 0, 2]]
    else:
        ring = [(-width / 2 - over, height - 0.1), (0, height + rise), (width / 2 + over, height - 0.1)]
        slab = prism(ring, -depth - over, over)
    gable = prism([(p[0] * 0.95, p[1] - 0.1) for p in ring], *((-width / 2, width / 2) if along else (-depth, 0.0)))
    return [(slab, Material.ROOF, color), (gable[..., [1, 0, 2]] if along else gable, *wall)]


def _shell(
    rng: np.random.Generator,
    width: float,
    depth: float,
    floors: int,
    storey: float,
    wall: tuple[Material, Color],
    shop: bool,
) -> list[Part]:
    """Four facades: the front with ``shop`` windows or a door, sides and back with windows."""
    parts = _facade(rng, width, floors, storey, wall, shop)
    for yaw, x, y, wide in (
        (np.pi / 2, -width / 2, -depth / 2, depth),
        (-np.pi / 2, width / 2, -depth / 2, depth),
        (np.pi, 0, -depth, width),
    ):
        parts += [(_turned(t, yaw, x, y), m, c) for t, m, c in _facade(rng, wide, floors, storey, wall, False)]
    return parts


def house(rng: np.random.Generator, width: float, depth: float) -> Mesh:
    """A house of one to three floors under a pitched roof."""
    wall, floors, storey = WALLS[int(rng.integers(len(WALLS)))], int(rng.choice([1, 2, 2, 3])), rng.uniform(2.6, 2.9)
    height = floors * storey
    parts = _shell(rng, width, depth, floors, storey, wall, False)
    roof = ROOFS[int(rng.integers(len(ROOFS)))]
    parts += _gable_roof(width, depth, height, rng.uniform(1.8, 3.4), wall, roof, bool(rng.random() < 0.6))
    x, y = rng.uniform(-0.3, 0.3) * width, -depth * 0.4
    parts.append((box((x, y, height + 2.2), (0.6, 0.6, 2.6)), Material.BRICK, (140, 80, 64)))
    if rng.random() < 0.5:  # porch
        parts.append((box((0, 0.8, 2.35), (2.2, 1.6, 0.12)), Material.WOOD, (130, 110, 90)))
        for dx in (-1.0, 1.0):
            parts.append((box((dx, 1.5, 1.15), (0.12, 0.12, 2.4)), Material.WOOD, (210, 206, 196)))
    for dx in (-width / 2 + 0.08, width / 2 - 0.08):
        parts.append((tube((dx, 0.07, -0.5), (dx, 0.07, height), 0.05, sides=5), Material.STEEL, (110, 110, 108)))
    return Mesh.of("manmade", parts)


def block(rng: np.random.Generator, width: float, depth: float) -> Mesh:
    """A town building of three to six floors, often with shops, balconies or awnings."""
    wall, floors, storey = WALLS[int(rng.integers(len(WALLS)))], int(rng.integers(3, 7)), rng.uniform(2.9, 3.4)
    shop, height = bool(rng.random() < 0.55), 0.0
    height = floors * storey
    parts = _shell(rng, width, depth, floors, storey, wall, shop)
    if rng.random() < 0.45:
        parts += _balconies(rng, width, floors, storey)
    for floor in range(1, floors):  # cornices
        parts.append((box((0, 0.05, floor * storey), (width, 0.14, 0.16)), Material.PLASTER, (200, 196, 186)))
    if rng.random() < 0.5:
        parts += _gable_roof(
            width, depth, height, rng.uniform(2.5, 4.0), wall, ROOFS[int(rng.integers(len(ROOFS)))], True
        )
    else:
        parts.append(
            (box((0, -depth / 2, height + 0.2), (width + 0.3, depth + 0.3, 0.5)), Material.CONCRETE, (150, 146, 140))
        )
    if shop and rng.random() < 0.6:
        color: Color = (int(rng.integers(60, 220)), int(rng.integers(40, 160)), int(rng.integers(40, 140)))
        out, top = rng.uniform(1.0, 1.8), storey - 0.3
        for x in np.arange(-width / 2 + 2.0, width / 2 - 1.5, 4.2):
            canvas = np.array(
                [[(x - 1.7, 0.02, top), (x + 1.7, 0.02, top), (x + 1.7, out, top - 0.7), (x - 1.7, out, top - 0.7)]]
            )
            parts.append((quads(canvas), Material.CLOTH, color))
    return Mesh.of("manmade", parts)


def hall(rng: np.random.Generator, width: float, depth: float) -> Mesh:
    """An industrial hall with ribbed cladding and roller doors."""
    height = rng.uniform(5.5, 10.0)
    color: Color = ((176, 182, 186), (120, 140, 160), (200, 190, 170), (150, 160, 140))[int(rng.integers(4))]
    wave = np.arange(0, width + 0.01, 0.25)
    y = 0.05 * (np.arange(len(wave)) % 4 < 2)
    front = np.stack([np.stack([wave - width / 2, y, np.full_like(wave, z)], 1) for z in (-0.8, height)])
    parts: list[Part] = [
        (grid(front), Material.STEEL, color),
        (box((0, -depth / 2 - 0.05, height / 2 - 0.4), (width, depth, height + 0.8)), Material.STEEL, color),
        (box((0, -depth / 2, height), (width + 0.4, depth + 0.4, 0.4)), Material.STEEL, (90, 92, 96)),
    ]
    for x in np.arange(-width / 2 + 4, width / 2 - 3, 7.5):
        parts.append((box((x, 0.06, 2.0), (3.8, 0.1, 4.0)), Material.STEEL, (90, 100, 112)))
        parts.append((box((x, 0.3, 4.2), (4.4, 0.6, 0.12)), Material.STEEL, (90, 92, 96)))
    return Mesh.of("manmade", parts)


def scaffolded(rng: np.random.Generator, width: float, depth: float) -> Mesh:
    """A building shell under construction: floor slabs and columns behind a scaffold."""
    floors, storey = int(rng.integers(2, 5)), 3.2
    parts: list[Part] = []
    for floor in range(floors + 1):
        parts.append((box((0, -depth / 2, floor * storey), (width, depth, 0.25)), Material.CONCRETE, (168, 166, 160)))
    for x in np.linspace(-width / 2 + 0.3, width / 2 - 0.3, max(2, int(width / 4))):
        for y in np.linspace(-depth + 0.3, -0.3, 3):
            parts.append(
                (box((x, y, floors * storey / 2), (0.35, 0.35, floors * storey)), Material.CONCRETE, (160, 158, 150))
            )
    for x in np.linspace(-width / 2, width / 2, max(2, int(width / 2))):
        for y in (0.3, 1.2):
            parts.append((tube((x, y, -0.5), (x, y, floors * storey), 0.03, sides=4), Material.STEEL, (130, 134, 138)))
    for level in np.arange(2.0, floors * storey, 2.0):
        parts.append((box((0, 0.75, level), (width, 0.8, 0.05)), Material.WOOD, (170, 140, 100)))
        for lift in (0.5, 1.0):
            parts.append((box((0, 1.2, level + lift), (width, 0.04, 0.04)), Material.STEEL, (130, 134, 138)))
    return Mesh.of("manmade", parts)


def tower(rng: np.random.Generator) -> Mesh:
    """A round tank or silo, for variety behind the front row."""
    radius, height = rng.uniform(2.0, 5.0), rng.uniform(6.0, 14.0)
    body = tube((0, -radius, -0.5), (0, -radius, height), radius, sides=18)
    angle = np.arange(18) * np.pi / 9
    ring = np.stack([radius * np.cos(angle), radius * np.sin(angle) - radius, np.full(18, height + 0.2)], axis=1)
    return Mesh.of(
        "manmade", [(body, Material.CONCRETE, (176, 174, 168)), (fan(ring), Material.STEEL, (120, 120, 124))]
    )
