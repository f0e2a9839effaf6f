"""The street itself: its centre line, its cross-section block by block, and the ground mesh.

Street coordinates: s runs along the centre line, t to its left, both in metres. ``Street.locate`` turns them into
world coordinates; everything that stands or drives is placed by (s, t).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from training.sources.synthetic_materials import Material
from training.sources.synthetic_meshes import Color, Mesh, grid

HALF_WIDTH = 68.0
"""The ground reaches this far to both sides of the centre line, metres."""


@dataclass(frozen=True)
class Zone:
    """One kind of ground.

    Attributes:
        class_name: of the label space.
        material: of the surface.
        color: RGB.
        bump: standard deviation of the height of the mesh nodes, metres.
        cell: spacing of the mesh nodes, metres.
    """

    class_name: str
    material: Material
    color: Color
    bump: float
    cell: float


ROAD = Zone("driveable_surface", Material.ASPHALT, (92, 92, 96), 0.003, 2.5)
COBBLES = Zone("driveable_surface", Material.PAVING, (112, 106, 102), 0.004, 2.0)
SIDEWALK = Zone("sidewalk", Material.PAVING, (160, 156, 150), 0.006, 2.5)
RED_SIDEWALK = Zone("sidewalk", Material.PAVING, (164, 122, 104), 0.006, 2.5)
GRASS = Zone("terrain", Material.GRASS, (96, 126, 62), 0.045, 0.9)
SOIL = Zone("terrain", Material.SOIL, (130, 106, 80), 0.07, 0.9)
GRAVEL_BED = Zone("other_flat", Material.GRAVEL, (122, 114, 108), 0.025, 1.2)
TRAM_PAVING = Zone("other_flat", Material.CONCRETE, (140, 138, 132), 0.008, 2.5)
WATER = Zone("other_flat", Material.WATER, (58, 84, 86), 0.012, 2.0)


@dataclass(frozen=True)
class Strip:
    """A band of one zone between two distances from the centre line.

    Attributes:
        inner: |t| of the edge nearer to the road, metres.
        outer: |t| of the farther edge.
        zone: what it is made of.
        height: above the road at the inner edge, metres.
        outer_height: at the outer edge.
    """

    inner: float
    outer: float
    zone: Zone
    height: float
    outer_height: float


@dataclass(frozen=True)
class Block:
    """A stretch of street with one cross-section.

    Attributes:
        start, end: range of s, metres.
        kind: (left, right) name of the profile of each side; "crossing" for a crossing.
        sides: (left, right) strips from the road edge outwards, covering up to ``HALF_WIDTH``.
    """

    start: float
    end: float
    kind: tuple[str, str]
    sides: tuple[tuple[Strip, ...], tuple[Strip, ...]]

    @property
    def length(self) -> float:
        """Metres along s."""
        return self.end - self.start


@dataclass(frozen=True)
class Street:
    """A street: centre line, carriageway, blocks.

    Attributes:
        s: (K,) float64 nodes of the centre line, ascending, metres.
        line: (K, 4) float64 x, y, z, heading at the nodes.
        bank: sideways slope, rise per metre of t.
        median: half width of the middle strip, 0 = none.
        median_zone: what the middle strip is made of.
        lane: width of one lane.
        lanes: per direction.
        bike: width of the cycle lane.
        parking: width of the parking lane.
        road_zone: surface of the carriageway.
        blocks: in order of s, without gaps.
    """

    s: NDArray[np.float64]
    line: NDArray[np.float64]
    bank: float
    median: float
    median_zone: Zone
    lane: float
    lanes: int
    bike: float
    parking: float
    road_zone: Zone
    blocks: tuple[Block, ...] = field(default=())

    @property
    def edge(self) -> float:
        """|t| of the kerb."""
        return self.median + self.lane * self.lanes + self.bike + self.parking

    @property
    def curb_lane(self) -> float:
        """|t| of the middle of the parking lane."""
        return self.edge - self.parking / 2

    @property
    def bike_lane(self) -> float:
        """|t| of the middle of the cycle lane."""
        return self.edge - self.parking - self.bike / 2

    def lane_center(self, number: int) -> float:
        """|t| of the middle of lane ``number``, 0 = innermost."""
        return self.median + (number + 0.5) * self.lane

    def heading(self, s: NDArray[np.float64] | float) -> NDArray[np.float64]:
        """Direction of the centre line, radians."""
        return np.asarray(np.interp(s, self.s, self.line[:, 3]))

    def locate(self, s: ArrayLike, t: ArrayLike, h: ArrayLike = 0.0) -> NDArray[np.float64]:
        """Street to world coordinates: arrays of one shape to (..., 3); ``h`` is the height above the road."""
        s, t, h = np.broadcast_arrays(np.asarray(s, float), np.asarray(t, float), np.asarray(h, float))
        x, y, z = (np.interp(s, self.s, self.line[:, k]) for k in range(3))
        heading = self.heading(s)
        return np.stack([x - t * np.sin(heading), y + t * np.cos(heading), z + self.bank * t + h], axis=-1)

    def block_at(self, s: float) -> Block:
        """The block that holds ``s`` (the last one beyond the end)."""
        return next((b for b in self.blocks if s < b.end), self.blocks[-1])

    def height_at(self, s: float, t: float) -> float:
        """Height of the ground above the road at (s, t), bumps left out, metres."""
        if abs(t) <= self.edge:
            return 0.0
        block = self.block_at(s)
        for strip in block.sides[0 if t > 0 else 1]:
            if abs(t) <= strip.outer:
                share = (abs(t) - strip.inner) / (strip.outer - strip.inner)
                return strip.height + share * (strip.outer_height - strip.height)
        return 0.0

    def pose(
        self, s: float, t: float, yaw: float = 0.0, upright: bool = True, h: float | None = None
    ) -> NDArray[np.float64]:
        """(4, 4) world pose of something that stands at (s, t), turned by ``yaw`` against the street.

        Args:
            s: along the street, metres.
            t: to its left.
            yaw: radians, 0 = along the street.
            upright: keep z vertical; otherwise stand square on the slope of the road.
            h: height above the road; None = on the ground there.
        """
        at = self.locate(s, t, self.height_at(s, t) if h is None else h)
        heading = float(self.heading(s)) + yaw
        forward = np.array([np.cos(heading), np.sin(heading), 0.0])
        up = np.array([0.0, 0.0, 1.0])
        if not upright:
            ahead = self.locate(s + 1.0, t) - self.locate(s - 1.0, t)
            aside = self.locate(s, t + 1.0) - self.locate(s, t - 1.0)
            up = np.cross(ahead, aside)
            up /= np.linalg.norm(up)
            forward -= up * (forward @ up)
            forward /= np.linalg.norm(forward)
        matrix = np.eye(4)
        matrix[:3, 0], matrix[:3, 1], matrix[:3, 2], matrix[:3, 3] = forward, np.cross(up, forward), up, at
        return matrix


def _sheet(rng: np.random.Generator, street: Street, block: Block, side: int, strip: Strip) -> Mesh:
    zone = strip.zone
    far = 2.5 if strip.inner > 26 else 1.0
    along = max(2, int(np.ceil(block.length / (zone.cell * far))) + 1)
    across = max(2, int(np.ceil((strip.outer - strip.inner) / (zone.cell * far))) + 1)
    s = np.linspace(block.start, block.end, along)
    t = np.linspace(strip.inner, strip.outer, across)
    h = np.linspace(strip.height, strip.outer_height, across)[None] + rng.normal(0, zone.bump, (along, across))
    h[:, 0], h[:, -1] = strip.height, strip.outer_height
    h[0] = h[-1] = np.linspace(strip.height, strip.outer_height, across)
    points = street.locate(s[:, None], side * t[None], h)
    return Mesh.of(zone.class_name, [(grid(points), zone.material, zone.color)])


def _step(street: Street, block: Block, side: int, t: float, low: float, high: float, zone: Zone) -> Mesh:
    """The upright face between two strips of different height: a kerb, or a quay wall if it is deep."""
    s = np.linspace(block.start, block.end, max(2, int(block.length / 2.5) + 1))
    points = street.locate(s[:, None], side * t, np.array([[low, high]]))
    name = zone.class_name if high - low < 0.5 else "manmade"
    return Mesh.of(name, [(grid(points), Material.CONCRETE, (168, 166, 160))])


def _end_wall(street: Street, s: float, side: int, strip: Strip) -> Mesh:
    """The face at the end of a strip, down or up to the level of the crossing road."""
    t = np.linspace(strip.inner, strip.outer, 8)
    top = np.linspace(strip.height, strip.outer_height, 8)
    points = street.locate(s, side * t[:, None], np.stack([np.zeros(8), top], axis=1))
    name = strip.zone.class_name if np.abs(top).max() < 0.5 and top.min() >= 0 else "manmade"
    return Mesh.of(name, [(grid(points), Material.CONCRETE, (160, 158, 152))])


def ground_mesh(rng: np.random.Generator, street: Street) -> Mesh:
    """Every surface of the street, kerbs and quay walls included, without markings."""
    meshes = []
    for block in street.blocks:
        crossing = block.kind[0] == "crossing"
        for index, side in enumerate((1, -1)):
            inner = 0.0 if crossing else street.median
            road = Strip(inner, street.edge, street.road_zone, 0.0, 0.0)
            strips = (road, *block.sides[index])
            if street.median > 0 and not crossing:
                middle = Strip(0.0, street.median, street.median_zone, 0.10, 0.10)
                meshes.append(_step(street, block, side, street.median, 0.0, 0.10, street.median_zone))
                meshes.append(_end_wall(street, block.start, side, middle))
                meshes.append(_end_wall(street, block.end, side, middle))
                meshes.append(_sheet(rng, street, block, side, middle))
            for strip in strips:
                meshes.append(_sheet(rng, street, block, side, strip))
                if not crossing and strip is not road:
                    meshes += [_end_wall(street, s, side, strip) for s in (block.start, block.end)]
            for near, beyond in pairwise(strips):
                low, high = sorted((near.outer_height, beyond.height))
                if high - low > 0.005:
                    upper = near.zone if near.outer_height > beyond.height else beyond.zone
                    meshes.append(_step(street, block, side, near.outer, low, high, upper))
    return Mesh.join(meshes)
