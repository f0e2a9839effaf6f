"""What surfaces are made of: how LiDAR and camera see each material, and the class ids of the drives."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

CLASS_NAMES = (
    "barrier",
    "bicycle",
    "bus",
    "car",
    "construction_vehicle",
    "motorcycle",
    "pedestrian",
    "traffic_cone",
    "trailer",
    "truck",
    "driveable_surface",
    "other_flat",
    "sidewalk",
    "terrain",
    "manmade",
    "vegetation",
)
"""The order of config/label_spaces/nuscenes16.yaml."""

CLASS_ID = {name: number for number, name in enumerate(CLASS_NAMES)}


class Material(IntEnum):
    """Row of the material tables."""

    ASPHALT = 0
    MARKING = 1
    PAVING = 2
    GRASS = 3
    SOIL = 4
    GRAVEL = 5
    WATER = 6
    STEEL = 7
    PAINT = 8
    GLASS = 9
    RUBBER = 10
    PLASTIC = 11
    CLOTH = 12
    SKIN = 13
    BRICK = 14
    PLASTER = 15
    CONCRETE = 16
    WOOD = 17
    LEAF = 18
    BARK = 19
    ROOF = 20
    RETROREFLECTOR = 21


@dataclass(frozen=True)
class Optics:
    """How one material answers.

    Attributes:
        reflectivity: share of the laser light that comes back from a perpendicular surface, at 905 nm.
        gloss: 0 = matt (returns fall with the cosine of incidence), 1 = mirror (returns only when perpendicular).
        roughness: extra standard deviation of the range, metres: stalks, leaves, gaps below the mesh resolution.
        grain: strength of the procedural texture in images, 0..1.
        grain_size: cell of that texture, metres.
    """

    reflectivity: float
    gloss: float
    roughness: float
    grain: float
    grain_size: float


OPTICS: dict[Material, Optics] = {
    Material.ASPHALT: Optics(0.20, 0.05, 0.002, 0.10, 0.05),
    Material.MARKING: Optics(0.55, 0.05, 0.002, 0.06, 0.10),
    Material.PAVING: Optics(0.30, 0.05, 0.003, 0.14, 0.40),
    Material.GRASS: Optics(0.38, 0.00, 0.035, 0.30, 0.12),
    Material.SOIL: Optics(0.28, 0.00, 0.015, 0.22, 0.15),
    Material.GRAVEL: Optics(0.25, 0.00, 0.012, 0.30, 0.06),
    Material.WATER: Optics(0.06, 0.80, 0.010, 0.08, 0.60),
    Material.STEEL: Optics(0.35, 0.45, 0.000, 0.04, 0.20),
    Material.PAINT: Optics(0.24, 0.50, 0.000, 0.00, 1.00),
    Material.GLASS: Optics(0.10, 0.90, 0.000, 0.00, 1.00),
    Material.RUBBER: Optics(0.07, 0.00, 0.002, 0.05, 0.10),
    Material.PLASTIC: Optics(0.40, 0.20, 0.000, 0.03, 0.20),
    Material.CLOTH: Optics(0.30, 0.00, 0.006, 0.12, 0.08),
    Material.SKIN: Optics(0.40, 0.00, 0.002, 0.03, 0.10),
    Material.BRICK: Optics(0.38, 0.00, 0.004, 0.22, 0.14),
    Material.PLASTER: Optics(0.50, 0.00, 0.003, 0.08, 0.50),
    Material.CONCRETE: Optics(0.36, 0.00, 0.003, 0.12, 0.30),
    Material.WOOD: Optics(0.40, 0.00, 0.004, 0.16, 0.10),
    Material.LEAF: Optics(0.42, 0.00, 0.015, 0.22, 0.20),
    Material.BARK: Optics(0.28, 0.00, 0.008, 0.28, 0.08),
    Material.ROOF: Optics(0.28, 0.00, 0.006, 0.18, 0.25),
    Material.RETROREFLECTOR: Optics(2.50, 0.00, 0.000, 0.00, 1.00),
}


def optics_column(name: str) -> NDArray[np.float32]:
    """(materials,) float32: one attribute of ``Optics`` for every material, by its number."""
    return np.array([getattr(OPTICS[m], name) for m in Material], np.float32)
