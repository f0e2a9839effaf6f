"""Colours of what camera rays hit: sun, sky, shadows, texture, reflections, haze."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.sources.synthetic_materials import Material, optics_column
from training.sources.synthetic_raycast import Hits

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Weather:
    """Light of one drive.

    Attributes:
        sun: (3,) float32 unit vector towards the sun.
        strength: of direct sunlight, 0 = overcast.
        zenith: RGB of the sky overhead, 0..255.
        horizon: RGB of the sky at the horizon and of the haze.
        visibility: metres after which haze has taken 63 % of the contrast.
    """

    sun: Floats
    strength: float
    zenith: tuple[float, float, float]
    horizon: tuple[float, float, float]
    visibility: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Weather:
        """Sunny to overcast, sun 25 to 60 degrees high."""
        height, bearing = np.radians(rng.uniform(25, 60)), rng.uniform(0, 2 * np.pi)
        sun = (np.cos(height) * np.cos(bearing), np.cos(height) * np.sin(bearing), np.sin(height))
        clear = rng.uniform(0.15, 1.0)
        grey, blue = np.array([176.0, 184, 194]), np.array([84.0, 132, 198])
        zenith = (1 - clear) * grey + clear * blue
        return cls(
            np.array(sun, np.float32),
            0.25 + 0.5 * clear,
            (zenith[0], zenith[1], zenith[2]),
            (208.0 - 8 * clear, 216.0, 222.0),
            rng.uniform(180, 500),
        )

    def sky(self, directions: Floats) -> Floats:
        """(N, 3) float32 RGB of the sky along unit vectors."""
        rise = np.clip(directions[:, 2:], 0, 1) ** 0.5
        color = (1 - rise) * np.array(self.horizon, np.float32) + rise * np.array(self.zenith, np.float32)
        glow = np.clip(directions @ self.sun, 0, 1)[:, None] ** 24
        return np.asarray(color + 60 * self.strength * glow, np.float32)


def _hash(cells: NDArray[np.int32]) -> Floats:
    """(N,) float32 in [-1, 1), the same for the same (N, 3) integer cell."""
    mixed = cells[:, 0].astype(np.uint32) * np.uint32(73856093)
    mixed ^= cells[:, 1].astype(np.uint32) * np.uint32(19349663)
    mixed ^= cells[:, 2].astype(np.uint32) * np.uint32(83492791)
    mixed ^= mixed >> np.uint32(13)
    mixed *= np.uint32(0x5BD1E995)
    mixed ^= mixed >> np.uint32(15)
    return (mixed & np.uint32(0xFFFF)).astype(np.float32) / 32768.0 - 1.0


def _texture(points: Floats, hits: Hits, pixel_angle: float) -> Floats:
    """(N,) factor around 1: two octaves of blocky grain, faded out where a pixel covers more than one cell."""
    size, strength = optics_column("grain_size")[hits.material], optics_column("grain")[hits.material]
    factor = np.ones(len(points), np.float32)
    stretch = np.where(hits.material == Material.BRICK, 2.2, 1.0).astype(np.float32)
    for octave, share in ((1.0, 0.6), (4.0, 0.4)):
        cell = size * octave
        scale = np.stack([cell * stretch, cell * stretch, cell], axis=1)
        visible = np.clip(cell / (hits.range * pixel_angle * 2.0 + 1e-6), 0, 1)
        factor += share * strength * visible * _hash(np.floor(points / scale).astype(np.int32))
    return factor


def shade(
    hits: Hits, points: Floats, directions: Floats, lit: NDArray[np.bool_], weather: Weather, pixel_angle: float
) -> NDArray[np.uint8]:
    """Colours of hits.

    Args:
        hits: N hits, none of them empty.
        points: (N, 3) float32 where they are, world coordinates.
        directions: (N, 3) float32 unit vectors of the rays.
        lit: (N,) bool, the sun reaches the point.
        weather: light of the drive.
        pixel_angle: radians per pixel.

    Returns:
        (N, 3) uint8 RGB.
    """
    ambient = 0.52 + 0.12 * hits.normal[:, 2] + 0.05 * np.abs(hits.normal[:, 0])
    direct = weather.strength * np.clip(hits.normal @ weather.sun, 0, 1) * lit
    leaf = hits.material == Material.LEAF  # light shines through leaves
    direct = np.where(leaf, weather.strength * (0.25 + 0.45 * lit), direct)
    color = hits.color.astype(np.float32) * ((ambient + direct) * _texture(points, hits, pixel_angle))[:, None]

    gloss = optics_column("gloss")[hits.material]
    fresnel = gloss * (0.10 + 0.75 * (1 - hits.cosine) ** 3)
    mirrored = np.flatnonzero(gloss > 0.3)
    if len(mirrored):
        incoming, normal = directions[mirrored], hits.normal[mirrored]
        outgoing = incoming - 2 * np.einsum("ij,ij->i", incoming, normal)[:, None] * normal
        reflected = np.where(outgoing[:, 2:] > 0, weather.sky(outgoing), np.float32(95.0))
        share = fresnel[mirrored, None]
        spot = 150 * weather.strength * (np.clip(outgoing @ weather.sun, 0, 1) ** 40 * lit[mirrored])[:, None]
        color[mirrored] = (1 - share) * color[mirrored] + share * reflected + gloss[mirrored, None] * spot
    veil = (1 - np.exp(-hits.range / weather.visibility))[:, None] * 0.85
    color = (1 - veil) * color + veil * np.array(weather.horizon, np.float32)
    return np.clip(color, 0, 255).astype(np.uint8)
