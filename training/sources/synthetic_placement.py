"""Puts meshes on a street and keeps count of the instances."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from training.sources import synthetic_furniture as furniture
from training.sources import synthetic_people as people
from training.sources import synthetic_plants as plants
from training.sources import synthetic_trucks as trucks
from training.sources import synthetic_vehicles as vehicles
from training.sources.synthetic_meshes import Mesh, pose
from training.sources.synthetic_street import Street


class Deck:
    """Draws without replacement and reshuffles when empty, so that rare things come regularly."""

    def __init__(self, rng: np.random.Generator, cards: Sequence[str]) -> None:
        self._rng, self._cards, self._pile = rng, list(cards), list[str]()

    def draw(self) -> str:
        """The next card."""
        if not self._pile:
            self._pile = [self._cards[i] for i in self._rng.permutation(len(self._cards))]
        return self._pile.pop()


class Placer:
    """Collects placed meshes; things get an instance id each, stuff gets 0.

    Attributes:
        street: on which (s, t) are measured.
        rng: the only source of randomness of the static scene.
    """

    def __init__(self, street: Street, rng: np.random.Generator) -> None:
        self.street, self.rng = street, rng
        self._meshes: list[Mesh] = []
        self._instances: list[int] = []
        self._count = 0
        self._trees = [
            plants.broadleaf(rng, rng.uniform(5, 11)) if i % 3 else plants.conifer(rng, rng.uniform(5, 11))
            for i in range(9)
        ]
        traffic = ["car"] * 5 + ["truck", "bus", "motorcycle", "semi"]
        self._traffic = Deck(rng, traffic)
        self._barriers = (furniture.jersey_barrier, furniture.plastic_barrier, furniture.board_barrier)
        self.barrier_kind = int(rng.integers(3))

    def add(self, mesh: Mesh, thing: bool = False) -> None:
        """Adds a mesh that is in world coordinates already."""
        self._count += thing
        self._meshes.append(mesh)
        self._instances.append(self._count if thing else 0)

    def put(self, mesh: Mesh, s: float, t: float, *, yaw: float = 0.0, scale: float = 1.0, thing: bool = False) -> None:
        """Puts a mesh on the ground at (s, t), turned by ``yaw`` against the street; things stand square on slopes.

        Beyond the ends of the street there is no ground, so nothing is put there.
        """
        if not self.street.s[0] + 1.5 < s < self.street.s[-1] - 1.5:
            return
        matrix = self.street.pose(s, t, yaw, upright=not thing)
        self.add(mesh.moved(matrix @ pose(scale=scale)), thing)

    def tree(self) -> Mesh:
        """One of the drive's trees."""
        return self._trees[int(self.rng.integers(len(self._trees)))]

    def person(self, s: float, t: float, worker: bool = False) -> None:
        """Somebody who stands at (s, t), now and then a child."""
        rng = self.rng
        child = not worker and rng.random() < 0.18
        height = rng.uniform(1.05, 1.45) if child else rng.normal(1.73, 0.08)
        phase = rng.random() if rng.random() < 0.4 else None
        mesh = people.pedestrian(people.Wardrobe(rng, worker), height, phase)
        self.put(mesh, s, t, yaw=rng.uniform(0, 6.3), thing=True)

    def walkers_near(self, s: float, t: float) -> None:
        """A group of one to four people."""
        for _ in range(int(self.rng.integers(1, 5))):
            self.person(s + self.rng.uniform(-1.1, 1.1), t + self.rng.uniform(-0.7, 0.7))

    def bicycle(self, s: float, t: float, yaw: float) -> None:
        """A parked bicycle."""
        self.put(people.bicycle(self.rng, rider=False), s, t, yaw=yaw, thing=True)

    def motorcycle(self, s: float, t: float, yaw: float) -> None:
        """A parked motorcycle or scooter."""
        self.put(people.motorcycle(self.rng, rider=False), s, t, yaw=yaw, thing=True)

    def barrier(self, s: float, t: float, yaw: float = 0.0) -> None:
        """A barrier element along the street, of the kind in use right now."""
        self.put(self._barriers[self.barrier_kind](self.rng), s, t, yaw=yaw, thing=True)

    def cone(self, s: float, t: float) -> None:
        """A traffic cone or a delineator post."""
        build = furniture.traffic_cone if self.rng.random() < 0.8 else furniture.delineator
        self.put(build(self.rng), s, t, yaw=self.rng.uniform(0, 6.3), thing=True)

    def road_vehicle(self) -> tuple[Mesh, float]:
        """A vehicle for a lane of a side street, and its length; trailers come without their truck here."""
        kind, rng = self._traffic.draw(), self.rng
        if kind == "truck":
            return trucks.truck(rng), 9.5
        if kind == "bus":
            return vehicles.bus(rng, articulated=False), 12.2
        if kind == "motorcycle":
            return people.motorcycle(rng, rider=True), 2.2
        if kind == "semi":
            return trucks.trailer(rng), 12.5
        return vehicles.car(rng), 5.0

    def collected(self) -> tuple[Mesh, NDArray[np.int32], int]:
        """All triangles in one mesh, the instance of each, and the number of instances."""
        counts = [len(m) for m in self._meshes]
        return Mesh.join(self._meshes), np.repeat(np.array(self._instances, np.int32), counts), self._count
