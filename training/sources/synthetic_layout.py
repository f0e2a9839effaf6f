"""Draws a street: how it bends and climbs, how wide it is, what lies to its left and right."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from training.sources.synthetic_street import (
    COBBLES,
    GRASS,
    GRAVEL_BED,
    HALF_WIDTH,
    RED_SIDEWALK,
    ROAD,
    SIDEWALK,
    SOIL,
    TRAM_PAVING,
    WATER,
    Block,
    Street,
    Strip,
    Zone,
)

LAYOUTS = ("straight", "curved", "crossings", "square")
"""How the street runs; ``draw_street`` picks one if none is asked for."""


def _stack(edge: float, *bands: tuple[float, Zone, float, float]) -> tuple[Strip, ...]:
    """Strips from the kerb outwards out of (width, zone, height, outer height); the last one reaches the border."""
    strips, inner = [], edge
    for number, (width, zone, height, outer_height) in enumerate(bands):
        outer = HALF_WIDTH if number == len(bands) - 1 else inner + width
        strips.append(Strip(inner, outer, zone, height, outer_height))
        inner = outer
    return tuple(strips)


def _urban(rng: np.random.Generator, edge: float) -> tuple[Strip, ...]:
    walk = SIDEWALK if rng.random() < 0.7 else RED_SIDEWALK
    return _stack(edge, (rng.uniform(3.2, 5.5), walk, 0.13, 0.16), (0, GRASS, 0.14, 0.14))


def _verge(rng: np.random.Generator, edge: float) -> tuple[Strip, ...]:
    climb = rng.uniform(-0.1, 0.9)
    return _stack(
        edge,
        (rng.uniform(1.4, 2.6), GRASS, 0.12, 0.14),
        (rng.uniform(1.8, 2.6), SIDEWALK, 0.13, 0.15),
        (rng.uniform(4.0, 8.0), GRASS, 0.17, 0.17 + climb),
        (0, GRASS, 0.17 + climb, 0.17 + climb),
    )


def _canal(rng: np.random.Generator, edge: float) -> tuple[Strip, ...]:
    level = -rng.uniform(0.6, 1.4)
    return _stack(
        edge,
        (rng.uniform(2.2, 3.2), SIDEWALK, 0.12, 0.12),
        (rng.uniform(8, 13), WATER, level, level),
        (rng.uniform(3.0, 4.5), RED_SIDEWALK, 0.15, 0.15),
        (0, GRASS, 0.2, 0.2),
    )


def _tram(rng: np.random.Generator, edge: float) -> tuple[Strip, ...]:
    bed = GRAVEL_BED if rng.random() < 0.6 else TRAM_PAVING
    return _stack(
        edge,
        (rng.uniform(1.6, 2.4), SIDEWALK, 0.13, 0.13),
        (6.6, bed, 0.08, 0.08),
        (rng.uniform(2.6, 3.6), SIDEWALK, 0.14, 0.16),
        (0, GRASS, 0.16, 0.16),
    )


def _park(rng: np.random.Generator, edge: float) -> tuple[Strip, ...]:
    rise = rng.uniform(-0.4, 2.2)
    return _stack(
        edge,
        (rng.uniform(1.8, 2.8), SIDEWALK, 0.12, 0.12),
        (rng.uniform(12, 20), GRASS, 0.14, 0.14 + rise),
        (0, GRASS, 0.14 + rise, 0.14 + rise * 1.6),
    )


def _square(rng: np.random.Generator, edge: float) -> tuple[Strip, ...]:
    walk = RED_SIDEWALK if rng.random() < 0.5 else SIDEWALK
    return _stack(edge, (rng.uniform(18, 27), walk, 0.12, 0.25), (0, GRASS, 0.25, 0.25))


def _works(rng: np.random.Generator, edge: float) -> tuple[Strip, ...]:
    return _stack(edge, (rng.uniform(9, 14), SOIL, 0.02, 0.25), (0, SOIL, 0.25, 0.4))


def _industrial(rng: np.random.Generator, edge: float) -> tuple[Strip, ...]:
    dip = rng.uniform(-0.5, 0.6)
    return _stack(
        edge,
        (rng.uniform(1.4, 2.0), SIDEWALK, 0.12, 0.12),
        (rng.uniform(1.6, 3.0), GRASS, 0.13, 0.13 + dip),
        (rng.uniform(13, 18), ROAD, 0.13 + dip, 0.13 + dip),
        (0, SOIL, 0.13 + dip, 0.13 + dip),
    )


PROFILES: dict[str, Callable[[np.random.Generator, float], tuple[Strip, ...]]] = {
    "urban": _urban,
    "verge": _verge,
    "canal": _canal,
    "tram": _tram,
    "park": _park,
    "square": _square,
    "works": _works,
    "industrial": _industrial,
}
"""Profile of one side of a block by name."""

_STYLES: tuple[tuple[str, dict[str, float]], ...] = (
    ("town", {"urban": 5, "square": 1.5, "canal": 1.3, "tram": 1.7, "works": 1, "park": 1}),
    ("suburb", {"verge": 6, "park": 2, "works": 1, "canal": 1.2, "tram": 1.5, "urban": 1}),
    ("outskirts", {"industrial": 4, "park": 2, "works": 2, "verge": 1.5, "tram": 1.6, "canal": 1.0}),
)


def _center_line(rng: np.random.Generator, s: NDArray[np.float64], layout: str) -> NDArray[np.float64]:
    """(K, 4) x, y, z, heading; curvature stays under 1 / 95 m and the slope under about 4 %."""
    bend = {"straight": 0.0012, "curved": 0.0095, "crossings": 0.003, "square": 0.004}[layout]
    wave = rng.uniform(130, 260)
    curvature = bend * np.sin(2 * np.pi * s / wave + rng.uniform(0, 2 * np.pi)) * rng.uniform(0.6, 1.0)
    step = np.gradient(s)
    heading = np.cumsum(curvature * step) + rng.uniform(-np.pi, np.pi)
    x, y = np.cumsum(np.cos(heading) * step), np.cumsum(np.sin(heading) * step)
    long_wave, short_wave = rng.uniform(140, 320), rng.uniform(45, 80)
    z = rng.uniform(0.2, 1.8) * np.sin(2 * np.pi * s / long_wave + rng.uniform(0, 6.3))
    z += rng.uniform(0.02, 0.10) * np.sin(2 * np.pi * s / short_wave + rng.uniform(0, 6.3))
    return np.stack([x, y, z, heading], axis=1)


def _draw_blocks(rng: np.random.Generator, street: Street, layout: str, style: dict[str, float]) -> tuple[Block, ...]:
    names, weights = list(style), np.array(list(style.values()))
    start, end = street.s[0], street.s[-1]
    blocks: list[Block] = []
    crossing_share = {"straight": 0.3, "curved": 0.35, "crossings": 1.0, "square": 0.6}[layout]
    since_square = 0
    while start < end - 1:
        stop = min(start + rng.uniform(38, 70), end)
        if end - stop < 25:
            stop = end
        kinds = [str(k) for k in rng.choice(names, 2, p=weights / weights.sum())]
        since_square += 1
        if layout == "square" and since_square >= 2:
            kinds, since_square = ["square", str(rng.choice(["square", kinds[1]]))], 0
        sides = [PROFILES[k](rng, street.edge) for k in kinds]
        blocks.append(Block(start, stop, (kinds[0], kinds[1]), (sides[0], sides[1])))
        start = stop
        if start < end - 40 and rng.random() < crossing_share:
            stop = start + rng.uniform(7.5, 12.0)
            road = (Strip(street.edge, HALF_WIDTH, street.road_zone, 0.0, 0.0),)
            blocks.append(Block(start, stop, ("crossing", "crossing"), (road, road)))
            start = stop
    return tuple(blocks)


def draw_street(rng: np.random.Generator, s_from: float, s_to: float, layout: str | None = None) -> Street:
    """A street over s in [s_from, s_to], metres; ``layout`` is one of ``LAYOUTS``, drawn if None."""
    chosen = layout or str(rng.choice(LAYOUTS, p=[0.2, 0.35, 0.3, 0.15]))
    _, style = _STYLES[int(rng.integers(len(_STYLES)))]
    s = np.arange(s_from, s_to + 0.25, 0.5)
    median = float(rng.choice([0.0, 3.4, rng.uniform(1.0, 2.5)], p=[0.46, 0.32, 0.22]))
    bed = GRAVEL_BED if rng.random() < 0.6 else TRAM_PAVING
    plain = Street(
        s=s,
        line=_center_line(rng, s, chosen),
        bank=rng.uniform(-0.018, 0.018),
        median=median,
        median_zone=bed if median > 3 else GRASS,
        lane=rng.uniform(2.9, 3.5),
        lanes=2 if rng.random() < 0.35 else 1,
        bike=0.5 if rng.random() < 0.45 else rng.uniform(1.3, 1.8),
        parking=rng.uniform(2.4, 2.8),
        road_zone=COBBLES if rng.random() < 0.12 else ROAD,
    )
    blocks = _draw_blocks(rng, plain, chosen, style)
    return Street(**{**plain.__dict__, "blocks": blocks})
