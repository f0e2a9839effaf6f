"""Cars and buses in real sizes; origin on the ground under the middle, x forward."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from training.sources.synthetic_materials import Material
from training.sources.synthetic_meshes import Color, Mesh, Part, box, fan, loft, loft_cells, quads, wheel

GLASS: Color = (38, 48, 58)
TYRE: Color = (28, 28, 30)
DARK: Color = (45, 46, 50)
RIM: Color = (150, 152, 156)

CAR_PAINTS: tuple[Color, ...] = (
    (232, 232, 230),
    (24, 25, 28),
    (120, 124, 130),
    (178, 182, 186),
    (150, 22, 28),
    (28, 52, 110),
    (70, 90, 74),
    (196, 160, 60),
    (90, 60, 48),
    (60, 110, 150),
)

# Stations from the rear to the front: share of the length, belt height, roof height, width factor; heights in metres.
# Glass fills side windows between the stations where the roof stands clear of the belt.
_CAR_PROFILES: dict[str, tuple[tuple[float, float, float], list[tuple[float, float, float, float]]]] = {
    "sedan": (
        (4.6, 1.82, 1.46),
        [
            (-0.50, 0.70, 0.74, 0.90),
            (-0.475, 0.96, 1.00, 0.95),
            (-0.34, 0.98, 1.03, 1.00),
            (-0.20, 0.96, 1.42, 1.00),
            (0.05, 0.94, 1.46, 1.00),
            (0.24, 0.93, 0.99, 1.00),
            (0.45, 0.76, 0.80, 0.96),
            (0.50, 0.52, 0.56, 0.84),
        ],
    ),
    "hatchback": (
        (4.1, 1.76, 1.48),
        [
            (-0.50, 0.66, 0.70, 0.90),
            (-0.47, 0.96, 1.02, 0.96),
            (-0.36, 0.98, 1.44, 1.00),
            (0.02, 0.94, 1.48, 1.00),
            (0.25, 0.93, 0.99, 1.00),
            (0.45, 0.76, 0.80, 0.95),
            (0.50, 0.52, 0.56, 0.84),
        ],
    ),
    "estate": (
        (4.75, 1.83, 1.50),
        [
            (-0.50, 0.66, 0.70, 0.92),
            (-0.475, 0.98, 1.04, 0.97),
            (-0.42, 0.99, 1.46, 1.00),
            (0.05, 0.95, 1.50, 1.00),
            (0.24, 0.94, 1.00, 1.00),
            (0.45, 0.77, 0.81, 0.96),
            (0.50, 0.52, 0.56, 0.85),
        ],
    ),
    "suv": (
        (4.65, 1.90, 1.72),
        [
            (-0.50, 0.80, 0.84, 0.92),
            (-0.475, 1.12, 1.18, 0.97),
            (-0.42, 1.14, 1.67, 1.00),
            (0.05, 1.10, 1.72, 1.00),
            (0.22, 1.09, 1.14, 1.00),
            (0.46, 0.95, 1.00, 0.96),
            (0.50, 0.66, 0.70, 0.86),
        ],
    ),
    "minivan": (
        (4.8, 1.90, 1.82),
        [
            (-0.50, 0.80, 0.86, 0.93),
            (-0.48, 1.08, 1.20, 0.98),
            (-0.45, 1.10, 1.76, 1.00),
            (0.12, 1.06, 1.82, 1.00),
            (0.35, 1.02, 1.10, 1.00),
            (0.47, 0.82, 0.86, 0.95),
            (0.50, 0.56, 0.60, 0.86),
        ],
    ),
    "van": (
        (5.6, 2.02, 2.45),
        [
            (-0.50, 1.10, 2.38, 0.97),
            (-0.49, 1.15, 2.44, 1.00),
            (0.20, 1.20, 2.48, 1.00),
            (0.28, 1.20, 2.36, 1.00),
            (0.37, 1.12, 1.24, 0.99),
            (0.47, 0.92, 0.98, 0.95),
            (0.50, 0.60, 0.64, 0.88),
        ],
    ),
}


def jitter(rng: np.random.Generator, color: Color, spread: int = 14) -> Color:
    """A colour near ``color``."""
    shift = rng.integers(-spread, spread + 1, 3)
    r, g, b = (int(np.clip(c + d, 0, 255)) for c, d in zip(color, shift, strict=True))
    return r, g, b


def pick_paint(rng: np.random.Generator, colors: tuple[Color, ...]) -> Color:
    """One of the colours, a little off."""
    return jitter(rng, colors[int(rng.integers(len(colors)))])


def axle_wheels(axles: tuple[float, ...], half_width: float, radius: float, width: float) -> list[Part]:
    """A wheel on both sides of each axle at the x positions ``axles``."""
    parts: list[Part] = []
    for x in axles:
        for side in (-1, 1):
            y = side * (half_width - width / 2 + 0.02)
            parts.append((wheel((x, y, radius), radius, width), Material.RUBBER, TYRE))
            parts.append((wheel((x, y + side * 0.01, radius), radius * 0.55, width, 8), Material.STEEL, RIM))
    return parts


def _lamps(length: float, half_width: float, z: float) -> list[Part]:
    """Head lamps, tail lamps and the retroreflecting plates."""
    parts: list[Part] = []
    for side in (-1, 1):
        y = side * (half_width - 0.22)
        parts.append((box((length / 2 - 0.10, y, z), (0.16, 0.34, 0.14)), Material.GLASS, (225, 225, 215)))
        parts.append(
            (box((-length / 2 + 0.04, y, z + 0.12), (0.10, 0.26, 0.22)), Material.RETROREFLECTOR, (170, 14, 18))
        )
    for x in (-length / 2 - 0.01, length / 2):
        parts.append((box((x, 0, z - 0.12), (0.03, 0.5, 0.11)), Material.RETROREFLECTOR, (235, 235, 225)))
    return parts


def _car_sections(length: float, width: float, stations: NDArray[np.float64], clearance: float) -> NDArray[np.float64]:
    """(S, 8, 3): sill, flank, belt and roof corner on both sides of each station."""
    rings = []
    for share, belt, roof, factor in stations:
        w = width / 2 * factor
        tumble = 0.80 if roof - belt > 0.2 else 0.92
        flank = clearance + 0.45 * (belt - clearance)
        right = [(-0.90 * w, clearance), (-w, flank), (-0.97 * w, belt), (-tumble * w, roof)]
        outline = right + [(-y, z) for y, z in reversed(right)]
        rings.append([(share * length, y, z) for y, z in outline])
    return np.array(rings)


def car(rng: np.random.Generator, kind: str | None = None) -> Mesh:
    """A passenger car or van; ``kind`` is a name of the profiles, drawn at random if None."""
    names = list(_CAR_PROFILES)
    name = kind or str(rng.choice(names, p=[0.24, 0.24, 0.14, 0.18, 0.10, 0.10]))
    (length, width, _), profile = _CAR_PROFILES[name]
    stretch = rng.uniform(0.94, 1.06)
    length, width = length * stretch, width * rng.uniform(0.97, 1.03)
    stations = np.array(profile)
    stations[:, 1:3] *= rng.uniform(0.97, 1.04)
    sections = _car_sections(length, width, stations, 0.32 if name in ("suv", "van") else 0.22)
    cells = loft_cells(sections)
    paint = pick_paint(rng, CAR_PAINTS)

    glass = np.zeros(cells.shape[:2], bool)
    rise = stations[:, 2] - stations[:, 1]
    clear = rise > 0.2
    glazed = clear[:-1] | clear[1:]
    if name == "van":
        glazed &= stations[1:, 0] > 0.2  # a panel van has windows only in the cab
    glass[glazed, 2] = glass[glazed, 4] = True
    glass[clear[:-1] != clear[1:], 3] = True  # windscreen and rear window
    parts: list[Part] = [
        (quads(cells[glass]), Material.GLASS, GLASS),
        (quads(cells[~glass]), Material.PAINT, paint),
        (np.concatenate([fan(sections[0]), fan(sections[-1])]), Material.PAINT, paint),
    ]
    radius = 0.36 if name in ("suv", "van") else 0.32
    parts += axle_wheels((-0.30 * length, 0.31 * length), width / 2, radius, 0.22)
    parts += _lamps(length, width / 2, 0.80 if name in ("suv", "van") else 0.66)
    mirror_x, mirror_z = stations[-3, 0] * length - 0.12, stations[-3, 1] + 0.08
    for side in (-1, 1):
        parts.append((box((mirror_x, side * (width / 2 + 0.08), mirror_z), (0.12, 0.2, 0.15)), Material.PAINT, paint))
    return Mesh.of("car", parts)


BUS_PAINTS: tuple[Color, ...] = ((225, 190, 30), (190, 30, 36), (40, 90, 170), (235, 235, 235), (50, 140, 80))


def _bus_body(length: float, width: float, height: float, paint: Color) -> list[Part]:
    """One rigid part: rounded body, window band, pillars, skirt."""
    half, rear, front = width / 2, -length / 2, length / 2
    outline = np.array(
        [
            (-half, 0.3),
            (-half, height - 0.2),
            (-half + 0.2, height),
            (half - 0.2, height),
            (half, height - 0.2),
            (half, 0.3),
        ]
    )
    sections = np.array([[(x, y, z) for y, z in outline] for x in (rear, front)])
    parts: list[Part] = [(loft(sections), Material.PAINT, paint)]
    bays = max(2, int(length // 1.5))
    step = (length - 0.4) / bays
    for side in (-1, 1):
        for i in range(bays):
            x = rear + 0.2 + (i + 0.5) * step
            door = side < 0 and i in (bays - 1, bays // 2)
            z, tall = (1.5, 2.1) if door else (1.85, 1.1)
            pane = box((x, side * (half + 0.004), z), (step - 0.14, 0.02, tall))
            parts.append((pane, Material.GLASS, GLASS))
    return parts


def bus(rng: np.random.Generator, articulated: bool | None = None) -> Mesh:
    """A city bus of 11 to 12 m; articulated ones are 18 m, drawn at random if None."""
    paint, width, height = pick_paint(rng, BUS_PAINTS), 2.55, rng.uniform(2.95, 3.3)
    bent = rng.random() < 0.25 if articulated is None else articulated
    length = 10.0 if bent else rng.uniform(10.5, 12.2)
    parts = _bus_body(length, width, height, paint)
    front, rear = length / 2, -length / 2
    parts.append((box((front + 0.02, 0, 1.85), (0.06, width - 0.25, 1.5)), Material.GLASS, GLASS))
    parts.append((box((front + 0.05, 0, height - 0.25), (0.05, 1.6, 0.28)), Material.PLASTIC, (235, 150, 30)))
    parts.append((box((0, 0, height + 0.14), (length * 0.35, 1.6, 0.28)), Material.PLASTIC, (210, 210, 210)))
    parts += axle_wheels((front - 2.7, rear + (1.6 if bent else 3.1)), width / 2, 0.48, 0.3)
    for side in (-1, 1):
        parts.append((box((front + 0.2, side * (width / 2 + 0.1), 2.3), (0.15, 0.2, 0.5)), Material.PLASTIC, DARK))
        parts.append((box((front + 0.02, side * 0.95, 0.75), (0.06, 0.3, 0.2)), Material.GLASS, (230, 230, 220)))
    mesh = Mesh.of("bus", parts + ([] if bent else _bus_tail(rear, width)))
    if not bent:
        return mesh
    back = 7.0
    joint: list[Part] = [(box((rear - 0.45, 0, 1.65), (0.9, width - 0.15, 2.6)), Material.RUBBER, (50, 50, 52))]
    tail = (
        _bus_body(back, width, height, paint) + axle_wheels((-1.0,), width / 2, 0.48, 0.3) + _bus_tail(-back / 2, width)
    )
    offset = np.eye(4)
    offset[0, 3] = rear - 0.9 - back / 2
    center = np.eye(4)
    center[0, 3] = 4.0
    return Mesh.join([mesh, Mesh.of("bus", joint), Mesh.of("bus", tail).moved(offset)]).moved(center)


def _bus_tail(rear: float, width: float) -> list[Part]:
    parts: list[Part] = [(box((rear - 0.02, 0, 2.2), (0.05, width - 0.5, 0.9)), Material.GLASS, GLASS)]
    for side in (-1, 1):
        parts.append((box((rear - 0.02, side * 1.05, 1.1), (0.05, 0.22, 0.5)), Material.RETROREFLECTOR, (170, 16, 20)))
    return parts
