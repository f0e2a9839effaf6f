"""Everything that does not move: the ground, what was built on it, what is parked and stands around."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.sources import synthetic_buildings as buildings
from training.sources import synthetic_furniture as furniture
from training.sources import synthetic_plants as plants
from training.sources import synthetic_trucks as trucks
from training.sources import synthetic_vehicles as vehicles
from training.sources.synthetic_curbside import fill_curb_lane, fill_sidewalk, place_works
from training.sources.synthetic_materials import Material
from training.sources.synthetic_meshes import Color, Mesh, grid, quads
from training.sources.synthetic_placement import Placer
from training.sources.synthetic_street import HALF_WIDTH, Block, Street, ground_mesh


@dataclass(frozen=True)
class World:
    """The static scene in world coordinates.

    Attributes:
        mesh: all triangles.
        instance_id: (M,) int32 per triangle, 0 = stuff.
        instances: how many instance ids are taken (1..instances).
    """

    mesh: Mesh
    instance_id: NDArray[np.int32]
    instances: int


def build_world(rng: np.random.Generator, street: Street) -> World:
    """Fills a street from kerb to horizon."""
    placer = Placer(street, rng)
    placer.add(ground_mesh(rng, street))
    placer.add(_markings(street))
    for block in street.blocks:
        if block.kind[0] == "crossing":
            _fill_crossing(placer, block)
            continue
        _fill_median(placer, block)
        for index, side in enumerate((1, -1)):
            fill_curb_lane(placer, block, side)
            fill_sidewalk(placer, block, index)
            _SIDES[block.kind[index]](placer, block, index)
    _close_ends(placer)
    return World(*placer.collected())


def _markings(street: Street) -> Mesh:
    """Lane lines, edge lines and zebra crossings, a centimetre above the asphalt."""
    white: Color = (225, 225, 220)
    bars: list[NDArray[np.float64]] = []

    def bar(s0: float, s1: float, t0: float, t1: float) -> None:
        bars.append(street.locate([s0, s1, s1, s0], [t0, t0, t1, t1], 0.012))

    for block in street.blocks:
        if block.kind[0] == "crossing":
            continue
        for side in (1, -1):
            lines = [street.lane_center(n) + street.lane / 2 for n in range(street.lanes)]
            if street.median == 0 and side == 1:
                lines = [0.0, *lines]
            for line in lines:
                for s in np.arange(block.start + 4, block.end - 7, 6.0):
                    bar(s, s + 3.0, side * line - 0.07, side * line + 0.07)
            t = side * (street.edge - street.parking)
            for s in np.arange(block.start + 2, block.end - 4, 5.5):
                bar(s, s + 0.12, min(t, side * street.edge), max(t, side * street.edge))
                bar(s, s + 2.5, t - 0.05, t + 0.05)
    for block in street.blocks:
        if block.kind[0] != "crossing":
            continue
        for s in (block.start - 3.6, block.end + 0.6):
            for t in np.arange(-street.edge + 0.5, street.edge - 0.5, 1.0):
                if abs(t + 0.25) > street.median + 0.3:
                    bar(s, s + 3.0, t, t + 0.5)
    return Mesh.of("driveable_surface", [(quads(np.stack(bars)), Material.MARKING, white)])


def _rails(placer: Placer, block: Block, tracks: tuple[float, ...], height: float, gravel: bool) -> None:
    """Rails (and sleepers, on gravel) of tracks whose middles lie at ``tracks``, other_flat."""
    street = placer.street
    s = np.linspace(block.start, block.end, int(block.length / 2.5) + 2)
    parts = []
    for t in tracks:
        for offset in (-0.72, 0.72):
            profile = (
                [(-0.035, 0.0), (-0.035, 0.13), (0.035, 0.13), (0.035, 0.0)]
                if gravel
                else [(-0.06, 0.03), (0.06, 0.03)]
            )
            points = np.stack([street.locate(s, t + offset + dt, height + dh) for dt, dh in profile], axis=1)
            parts.append((grid(points), Material.STEEL, (132, 124, 118)))
        if gravel:
            at = np.arange(block.start + 0.4, block.end - 0.4, 0.75)
            ends = [
                street.locate(at + ds, t + dt, height + 0.06)
                for ds, dt in ((-0.12, -1.25), (0.12, -1.25), (0.12, 1.25), (-0.12, 1.25))
            ]
            parts.append((quads(np.stack(ends, axis=1)), Material.WOOD, (104, 94, 84)))
    placer.add(Mesh.of("other_flat", parts))


def _fill_median(placer: Placer, block: Block) -> None:
    street, rng = placer.street, placer.rng
    if street.median > 3:
        _rails(placer, block, (-1.7, 1.7), 0.10, street.median_zone.material == Material.GRAVEL)
        for s in np.arange(block.start + 6, block.end - 4, 28.0):
            placer.put(furniture.street_light(rng), s, 0.0, yaw=float(rng.choice([0, np.pi])))
        return
    if street.median > 0:
        for s in np.arange(block.start + 5, block.end - 4, 9.0):
            if rng.random() < 0.5:
                placer.put(placer.tree(), s, 0.0, scale=rng.uniform(0.6, 0.8))
            else:
                placer.put(plants.hedge(rng, 5.0, 0.8, 0.7), s, 0.0)


def _fill_crossing(placer: Placer, block: Block) -> None:
    """Signals at the corners; cars wait and park on the side street."""
    street, rng = placer.street, placer.rng
    middle = (block.start + block.end) / 2
    lane = min(1.9, block.length / 4)
    for side in (1, -1):
        placer.put(
            furniture.traffic_light(rng),
            (block.start if side < 0 else block.end) + 0.0,
            side * (street.edge + 0.8),
            yaw=0.0 if side < 0 else np.pi,
        )
        t = street.edge + 5.0 + rng.uniform(0, 3)
        for _ in range(int(rng.integers(1, 4))):
            mesh, length = placer.road_vehicle()
            placer.put(mesh, middle - side * lane, side * (t + length / 2), yaw=-side * np.pi / 2, thing=True)
            t += length + rng.uniform(1.2, 4.0)
            if t > 45:
                break
        t = street.edge + 14.0
        while t < 55:
            if rng.random() < 0.55:
                placer.put(vehicles.car(rng), block.end - 1.1, side * t, yaw=side * np.pi / 2, thing=True)
            t += 6.0
        placer.put(
            buildings.block(rng, 22.0, 8.0),
            middle,
            side * (HALF_WIDTH - 9.0),
            yaw=np.pi / 2 if side > 0 else -np.pi / 2,
        )
        for s in (block.start - 1.0, block.end + 1.0):
            for _ in range(int(rng.integers(1, 4))):
                placer.person(s + rng.uniform(-1, 1), side * (street.edge + rng.uniform(0.5, 2.5)))


def _row(
    placer: Placer,
    block: Block,
    side: int,
    front: float,
    build: Callable[[np.random.Generator, float, float], Mesh],
    widths: tuple[float, float],
    gaps: tuple[float, float],
) -> None:
    """Buildings in a row whose fronts stand at |t| = ``front`` and look at the street."""
    rng = placer.rng
    s = block.start + 0.5 + rng.uniform(0, 2)
    while s < block.end - widths[0]:
        width = min(rng.uniform(*widths), block.end - s - 0.3)
        depth = rng.uniform(8, 13)
        if front + depth < HALF_WIDTH:
            placer.put(build(rng, width, depth), s + width / 2, side * front, yaw=np.pi if side > 0 else 0.0)
        s += width + rng.uniform(*gaps)


def _backyard(placer: Placer, block: Block, side: int, front: float) -> None:
    """Trees and a second row behind the first buildings."""
    rng = placer.rng
    for _ in range(int(block.length / 14)):
        t = rng.uniform(front, HALF_WIDTH - 4)
        placer.put(placer.tree(), rng.uniform(block.start, block.end), side * t)
    if front < HALF_WIDTH - 16:
        _row(placer, block, side, HALF_WIDTH - 14, buildings.block, (12, 22), (2, 12))


def _urban(placer: Placer, block: Block, index: int) -> None:
    rng, side, strips = placer.rng, (1, -1)[index], block.sides[index]
    front = strips[0].outer
    _row(placer, block, side, front + 0.02, buildings.block, (9, 17), (0.0, 0.6))
    for s in np.arange(block.start + 5, block.end - 4, 9.0):
        pick = rng.random()
        t = side * (front - 0.05)
        if pick < 0.5:
            yaw = np.pi if side > 0 else 0.0
            placer.put(furniture.low_stairs(rng.uniform(2.0, 4.5), 3), s, side * (front - 1.1), yaw=yaw)
        elif pick < 0.7:
            placer.put(furniture.parasol_table(rng), s, t - side * 1.7)
        elif pick < 0.85:
            placer.put(plants.potted_plant(rng), s, t - side * 0.6)
    _backyard(placer, block, side, front + 16)


def _verge(placer: Placer, block: Block, index: int) -> None:
    rng, side, strips = placer.rng, (1, -1)[index], block.sides[index]
    garden, front = strips[2].inner, strips[2].outer
    yaw = np.pi if side > 0 else 0.0
    for s in np.arange(block.start + 6, block.end - 5, 12.0):  # steps up from the sidewalk into the gardens
        placer.put(furniture.low_stairs(rng.uniform(1.4, 2.4), 3), s, side * (garden - 0.3), yaw=yaw)
    _row(placer, block, side, front, buildings.house, (8, 13), (3.0, 6.0))
    s = block.start + 1.0
    while s < block.end - 8:
        length = min(rng.uniform(5, 10), block.end - s - 3.5)
        at, pick = s + length / 2, rng.random()
        if pick < 0.4:
            placer.put(plants.hedge(rng, length, rng.uniform(0.8, 1.9)), at, side * (garden + 0.6))
        elif pick < 0.65:
            placer.put(furniture.slat_fence(rng, length), at, side * (garden + 0.15))
        elif pick < 0.85:
            placer.put(furniture.wall(rng, length), at, side * (garden + 0.2))
        for _ in range(int(rng.integers(1, 4))):
            t = side * rng.uniform(garden + 1.5, front - 0.8)
            placer.put(plants.bush(rng, rng.uniform(0.7, 1.8)), s + rng.uniform(0, length), t)
        if rng.random() < 0.4:
            placer.put(placer.tree(), at, side * (0.5 * (garden + front)), scale=rng.uniform(0.6, 0.9))
        if rng.random() < 0.6:  # a car in the drive
            turn = float(rng.choice([-1, 1])) * np.pi / 2
            placer.put(vehicles.car(rng), s + length + 1.7, side * (garden + 2.6), yaw=turn, thing=True)
        s += length + 3.4
    for s in np.arange(block.start + 4, block.end - 3, 11.0):
        placer.put(placer.tree(), s, side * (strips[0].inner + strips[0].outer) / 2, scale=rng.uniform(0.7, 1.0))
    _backyard(placer, block, side, front + 15)


def _canal(placer: Placer, block: Block, index: int) -> None:
    side, strips = (1, -1)[index], block.sides[index]
    rail = furniture.railing(2.4)
    for s in np.arange(block.start + 1.3, block.end - 1.0, 2.4):
        placer.put(rail, s, side * (strips[1].inner - 0.15))
    for s in np.arange(block.start + 6, block.end - 4, 12.0):
        placer.put(placer.tree(), s, side * (strips[2].inner + 1.2))
        placer.walkers_near(s + 4.0, side * (strips[2].inner + 2.2))
    _row(placer, block, side, strips[2].outer, buildings.block, (8, 14), (0.0, 0.5))


def _tram(placer: Placer, block: Block, index: int) -> None:
    rng, side, strips = placer.rng, (1, -1)[index], block.sides[index]
    middle = (strips[1].inner + strips[1].outer) / 2
    gravel = strips[1].zone.material == Material.GRAVEL
    _rails(placer, block, (side * (middle - 1.6), side * (middle + 1.6)), strips[1].height, gravel)
    for s in np.arange(block.start + 5, block.end - 4, 18.0):
        placer.put(furniture.street_light(rng), s, side * (strips[2].inner + 0.4), yaw=0.0 if side < 0 else np.pi)
        placer.walkers_near(s + 7.0, side * (strips[2].inner + 1.3))
    _row(placer, block, side, strips[2].outer, buildings.block, (9, 16), (0.0, 1.5))
    _backyard(placer, block, side, strips[2].outer + 16)


def _park(placer: Placer, block: Block, index: int) -> None:
    rng, side, strips = placer.rng, (1, -1)[index], block.sides[index]
    inner = strips[1].inner
    for _ in range(int(block.length / 3.2)):
        t = inner + 1.5 + rng.uniform(0, 1) ** 1.5 * (HALF_WIDTH - inner - 6)
        at = rng.uniform(block.start + 1, block.end - 1)
        if rng.random() < 0.7:
            placer.put(placer.tree(), at, side * t)
        else:
            placer.put(plants.bush(rng, rng.uniform(0.8, 2.2)), at, side * t)
    for s in np.arange(block.start + 4, block.end - 4, 13.0):
        placer.put(furniture.bench(rng), s, side * (inner + 0.6), yaw=np.pi if side > 0 else 0.0)
        placer.walkers_near(s + 5, side * (inner + rng.uniform(1.0, 5.0)))
    if rng.random() < 0.5:
        fence = furniture.slat_fence(rng, 5.0)
        for s in np.arange(block.start + 3, block.end - 3, 5.0):
            placer.put(fence, s, side * (strips[1].outer + 0.5))
    _row(placer, block, side, HALF_WIDTH - 14, buildings.block, (12, 20), (4, 14))


def _square(placer: Placer, block: Block, index: int) -> None:
    rng, side, strips = placer.rng, (1, -1)[index], block.sides[index]
    inner, front = strips[0].inner + 3.0, strips[0].outer
    _row(placer, block, side, front + 0.02, buildings.block, (10, 18), (0.0, 0.4))
    _row(placer, block, side, HALF_WIDTH - 14, buildings.block, (12, 20), (4, 14))
    for s in np.arange(block.start + 5, block.end - 4, 6.5):
        for t in np.arange(inner + 1, front - 3, 5.5):
            at, away, pick = s + rng.uniform(-1.5, 1.5), side * (t + rng.uniform(-1.2, 1.2)), rng.random()
            if pick < 0.22:
                placer.put(placer.tree(), at, away, scale=rng.uniform(0.7, 1.0))
            elif pick < 0.34:
                placer.put(furniture.bench(rng), at, away, yaw=rng.uniform(0, 6.3))
            elif pick < 0.48:
                placer.put(furniture.parasol_table(rng), at, away)
            elif pick < 0.72:
                placer.walkers_near(at, away)
            elif pick < 0.80:
                placer.bicycle(at, away, rng.uniform(0, 6.3))
            elif pick < 0.86:
                placer.put(furniture.flag_board(rng), at, away, yaw=rng.uniform(0, 6.3))
            elif pick < 0.94:
                placer.put(
                    furniture.low_stairs(rng.uniform(3, 6), int(rng.integers(2, 5))),
                    at,
                    away,
                    yaw=np.pi if side > 0 else 0.0,
                )
            else:
                placer.motorcycle(at, away, rng.uniform(0, 6.3))
    for s in np.arange(block.start + 4, block.end - 2, 2.2):
        placer.put(furniture.bollard(rng), s, side * (strips[0].inner + 0.4))


def _works(placer: Placer, block: Block, index: int) -> None:
    rng, side, strips = placer.rng, (1, -1)[index], block.sides[index]
    front = strips[0].outer
    s = block.start + 3
    while s < block.end - 8:
        s += (
            place_works(placer, s, side * rng.uniform(strips[0].inner + 3.2, front - 3.0), yaw=rng.uniform(-0.6, 0.6))
            + 2.5
        )
    for s in np.arange(block.start + 2, block.end - 2, 2.05):
        if rng.random() < 0.75:
            placer.barrier(s, side * (strips[0].inner + 0.5))
    for s in np.arange(block.start + 6, block.end - 6, 16.0):
        placer.put(furniture.container(rng), s, side * (front + 2.0))
        placer.person(s + 4, side * (strips[0].inner + rng.uniform(1.5, 6)), worker=True)
    _row(placer, block, side, front + 5, buildings.scaffolded, (10, 18), (2, 8))
    _backyard(placer, block, side, front + 20)


def _industrial(placer: Placer, block: Block, index: int) -> None:
    rng, side, strips = placer.rng, (1, -1)[index], block.sides[index]
    yard, front = strips[2].inner, strips[2].outer
    for s in np.arange(block.start + 2.5, block.end - 2, 5.0):
        if rng.random() < 0.8:
            placer.put(furniture.slat_fence(rng, 5.0, 1.6), s, side * (yard - 0.2))
    s = block.start + 3
    while s < block.end - 5:
        t, yaw = side * (yard + rng.uniform(5.0, 8.5)), side * np.pi / 2 + rng.choice([0, np.pi])
        pick = rng.random()
        if pick < 0.3:
            placer.put(trucks.trailer(rng, length=rng.uniform(6.5, 10)), s, t, yaw=yaw, thing=True)
        elif pick < 0.55:
            placer.put(trucks.truck(rng), s, t, yaw=yaw, thing=True)
        elif pick < 0.75:
            placer.put(vehicles.car(rng), s, t, yaw=yaw, thing=True)
        elif pick < 0.85:
            placer.put(furniture.container(rng), s, t, yaw=yaw)
        s += rng.uniform(3.4, 5.0)
    _row(placer, block, side, front, buildings.hall, (16, 30), (2, 6))
    for _ in range(int(block.length / 12)):
        placer.put(
            plants.bush(rng, rng.uniform(0.6, 1.6)), rng.uniform(block.start, block.end), side * (strips[1].inner + 1.0)
        )
    if rng.random() < 0.5:
        placer.put(
            buildings.tower(rng),
            (block.start + block.end) / 2,
            side * (HALF_WIDTH - 12),
            yaw=np.pi if side > 0 else 0.0,
        )


def _close_ends(placer: Placer) -> None:
    """Buildings and trees across both ends, so that the street does not end in nothing."""
    street, rng = placer.street, placer.rng
    for s, yaw in ((street.s[0] + 2.0, -np.pi / 2), (street.s[-1] - 2.0, np.pi / 2)):
        t = -HALF_WIDTH
        while t < HALF_WIDTH:
            width = rng.uniform(14, 24)
            placer.put(buildings.block(rng, width, 9.0), s, t + width / 2, yaw=yaw)
            placer.put(placer.tree(), s - np.sign(s - street.s.mean()) * 6.0, t)
            t += width + rng.uniform(0, 2)


_SIDES: dict[str, Callable[[Placer, Block, int], None]] = {
    "urban": _urban,
    "verge": _verge,
    "canal": _canal,
    "tram": _tram,
    "park": _park,
    "square": _square,
    "works": _works,
    "industrial": _industrial,
}
