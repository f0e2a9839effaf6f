"""What moves: the ego vehicle, the traffic around it, people on the sidewalks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.sources import synthetic_people as people
from training.sources import synthetic_trucks as trucks
from training.sources import synthetic_vehicles as vehicles
from training.sources.synthetic_machines import loader
from training.sources.synthetic_meshes import Mesh
from training.sources.synthetic_placement import Deck
from training.sources.synthetic_street import Street

WALK_PHASES = 8
"""Meshes per walking cycle."""

REACH, SMALL_REACH = 95.0, 60.0
"""Movers farther along the street than this from the ego vehicle are left out, metres; small ones sooner."""


class EgoProgress:
    """How far along the street the ego vehicle is: 3 to 12 m/s, speeding up and slowing down.

    Args:
        rng: decides the speeds.
        duration: of the drive, seconds.
    """

    def __init__(self, rng: np.random.Generator, duration: float) -> None:
        self._time = np.arange(-2.0, duration + 2.0, 0.01)
        speed = np.full_like(self._time, rng.uniform(6.0, 9.0))
        for period in rng.uniform(8, 40, 3):
            speed += rng.uniform(0.5, 1.8) * np.sin(2 * np.pi * self._time / period + rng.uniform(0, 6.3))
        self._s = np.cumsum(np.clip(speed, 3.0, 12.0)) * 0.01
        self._s -= np.interp(0.0, self._time, self._s)

    @property
    def end(self) -> float:
        """Distance along the street at the end of the drive, metres; it starts at 0."""
        return float(self._s[-1])

    def at(self, time: float) -> float:
        """Distance along the street ``time`` seconds after the start, metres."""
        return float(np.interp(time, self._time, self._s))


class EgoMotion:
    """The trajectory of the ego vehicle: its lane, a slow sway, and the small pitch and roll of its suspension."""

    def __init__(self, rng: np.random.Generator, progress: EgoProgress, street: Street) -> None:
        self._progress, self._street = progress, street
        self._lane = -street.lane_center(0)
        self._sway = rng.uniform(0.05, 0.2), rng.uniform(60, 120), rng.uniform(0, 6.3)
        self._rock = rng.uniform(0.001, 0.004, 2), rng.uniform(0.7, 1.6, 2), rng.uniform(0, 6.3, 2)

    def pose(self, time: float) -> NDArray[np.float64]:
        """(4, 4) world_from_base at ``time`` seconds; base = on the ground, x forward."""
        s = self._progress.at(time)
        size, wave, phase = self._sway
        t = self._lane + size * np.sin(2 * np.pi * s / wave + phase)
        yaw = np.arctan(size * 2 * np.pi / wave * np.cos(2 * np.pi * s / wave + phase))
        matrix = self._street.pose(s, t, yaw, upright=False, h=0.0)
        roll, pitch = self._rock[0] * np.sin(2 * np.pi * self._rock[1] * time + self._rock[2])
        rock = np.array([[1, 0, pitch], [0, 1, -roll], [-pitch, roll, 1.0]])
        u, _, v = np.linalg.svd(rock)
        matrix[:3, :3] = matrix[:3, :3] @ (u @ v)
        return matrix


@dataclass(frozen=True)
class Mover:
    """One moving thing.

    Attributes:
        frames: its mesh, or the meshes of its walking cycle.
        instance_id: unique in the drive.
        s: along the street at time 0, metres; ahead of the ego vehicle if ``follows_ego``.
        speed: along s, m/s, negative = against the street; on top of the ego speed if ``follows_ego``.
        t: to the left of the centre line.
        yaw: against the street, radians.
        follows_ego: moves with the ego vehicle (traffic in its lane).
        bounds: walks to and fro between these s, or None.
        stride: metres per walking cycle.
        reach: how far from the ego vehicle it is still there, metres.
    """

    frames: tuple[Mesh, ...]
    instance_id: int
    s: float
    speed: float
    t: float
    yaw: float = 0.0
    follows_ego: bool = False
    bounds: tuple[float, float] | None = None
    stride: float = 1.4
    reach: float = REACH

    def pose(self, time: float, ego_s: float, street: Street) -> NDArray[np.float64] | None:
        """(4, 4) world pose at ``time`` seconds, None if out of reach of the ego vehicle."""
        s, yaw = self.s + self.speed * time + (ego_s if self.follows_ego else 0.0), self.yaw
        if self.bounds is not None:
            low, high = self.bounds
            lap = (s - low) % (2 * (high - low))
            backwards = lap > high - low
            s = high - (lap - (high - low)) if backwards else low + lap
            yaw = yaw + np.pi if backwards else yaw
        if abs(s - ego_s) > self.reach or not street.s[0] + 6 < s < street.s[-1] - 6:
            return None
        return street.pose(s, self.t, yaw, upright=len(self.frames) > 1)

    def frame(self, time: float) -> Mesh:
        """The mesh of the walking cycle at ``time`` seconds."""
        cycles = (abs(self.speed) * time + self.s) / self.stride
        return self.frames[int(cycles * len(self.frames)) % len(self.frames)]


class _Traffic:
    """Builds the movers of a drive and numbers them."""

    def __init__(self, rng: np.random.Generator, street: Street, duration: float, first_instance: int) -> None:
        self.rng, self.street, self.duration = rng, street, duration
        self.movers: list[Mover] = []
        self._next = first_instance
        self._deck = Deck(
            rng, ["car"] * 6 + ["truck", "bus", "semi", "motorcycle", "motorcycle", "machine", "car_trailer"]
        )

    def add(self, frames: tuple[Mesh, ...], s: float, speed: float, t: float, **more: object) -> None:
        is_small = np.ptp(frames[0].triangles[..., 0]) < 3.0
        reach = SMALL_REACH if is_small else REACH
        self.movers.append(Mover(frames, self._next, s, speed, t, reach=reach, **more))  # type: ignore[arg-type]
        self._next += 1

    def _train(self) -> list[tuple[Mesh, float, float]]:
        """The next vehicle of the deck as (mesh, length, gap to the next part), front part first."""
        rng, card = self.rng, self._deck.draw()
        if card == "truck":
            return [(trucks.truck(rng), 9.0, 0.0)]
        if card == "bus":
            return [(vehicles.bus(rng, articulated=False), 12.0, 0.0)]
        if card == "semi":
            length = rng.uniform(8.0, 12.5)
            return [(trucks.tractor(rng), 6.0, -2.6), (trucks.trailer(rng, length=length), length, 0.0)]
        if card == "motorcycle":
            return [(people.motorcycle(rng, rider=True), 2.2, 0.0)]
        if card == "machine":
            return [(loader(rng), 7.5, 0.0)]
        if card == "car_trailer":
            return [(vehicles.car(rng, "suv"), 4.8, 1.1), (trucks.small_trailer(rng), 3.4, 0.0)]
        return [(vehicles.car(rng), 4.8, 0.0)]

    def fill_lane(self, start: float, end: float, t: float, speed: float, yaw: float, follows_ego: bool) -> None:
        """Vehicles one behind the other from s = start to end."""
        s, facing = start, np.cos(yaw)
        while s < end:
            train = self._train()
            total = sum(length + gap for _, length, gap in train)
            front = s + total if facing > 0 else s
            for mesh, length, gap in train:
                middle = front - facing * length / 2
                self.add((mesh,), middle, speed, t, yaw=yaw, follows_ego=follows_ego)
                front -= facing * (length + gap)
            s += total + self.rng.uniform(9.0, 26.0)

    def fill_bike_lane(self, start: float, end: float, t: float, yaw: float) -> None:
        """Cyclists, and a motorcycle now and then."""
        s, speed = start, self.rng.uniform(3.0, 5.5) * np.cos(yaw)
        while s < end:
            rider = people.bicycle if self.rng.random() < 0.8 else people.motorcycle
            self.add((rider(self.rng, rider=True),), s, speed, t + self.rng.uniform(-0.25, 0.25), yaw=yaw)
            s += self.rng.uniform(11.0, 30.0)

    def fill_sidewalks(self) -> None:
        """People who walk to and fro along each block."""
        rng, street = self.rng, self.street
        for block in street.blocks:
            for index, side in enumerate((1, -1)):
                walks = [b for b in block.sides[index] if b.zone.class_name == "sidewalk"]
                if not walks or block.kind[0] == "crossing" or block.length < 12:
                    continue
                for _ in range(int(block.length / 11)):
                    walk = walks[int(rng.integers(len(walks)))]
                    low, high = max(walk.inner + 1.2, walk.outer - 2.2), walk.outer - 0.4
                    t = side * (rng.uniform(low, high) if high > low else (walk.inner + walk.outer) / 2)
                    self._walker(rng.uniform(block.start, block.end), t, (block.start + 2, block.end - 2))

    def _walker(self, s: float, t: float, bounds: tuple[float, float]) -> None:
        looks, child = people.Wardrobe(self.rng), self.rng.random() < 0.12
        height = self.rng.uniform(1.1, 1.5) if child else self.rng.normal(1.73, 0.08)
        frames = tuple(people.pedestrian(looks, height, k / WALK_PHASES) for k in range(WALK_PHASES))
        speed = self.rng.uniform(0.9, 1.6)
        for mate in range(2 if self.rng.random() < 0.25 else 1):
            self.add(frames, s + 0.3 * mate, speed, t + 0.65 * mate, bounds=bounds, stride=0.8 * height)


def draw_movers(rng: np.random.Generator, street: Street, duration: float, first_instance: int) -> tuple[Mover, ...]:
    """All movers of a drive, numbered from ``first_instance``."""
    traffic = _Traffic(rng, street, duration, first_instance)
    start, end = float(street.s[0]), float(street.s[-1])
    for lane in range(street.lanes):
        t, speed = street.lane_center(lane), rng.uniform(5.0, 10.0)
        traffic.fill_lane(start, end + speed * duration, t, -speed, np.pi, follows_ego=False)
    traffic.fill_lane(rng.uniform(11.0, 20.0), 85.0, -street.lane_center(0), 0.0, 0.0, follows_ego=True)
    traffic.fill_lane(-80.0, -30.0, -street.lane_center(0), 0.0, 0.0, follows_ego=True)
    if street.lanes > 1:
        drift = rng.uniform(-1.0, 1.0)
        slack = abs(drift) * duration
        traffic.fill_lane(-80.0 - slack, 80.0 + slack, -street.lane_center(1), drift, 0.0, follows_ego=True)
    traffic.fill_bike_lane(start - 6 * duration, end, -street.bike_lane, 0.0)
    traffic.fill_bike_lane(start, end + 6 * duration, street.bike_lane, np.pi)
    traffic.fill_sidewalks()
    return tuple(traffic.movers)
