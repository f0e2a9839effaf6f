"""The parking lane and the furniture of the sidewalk: where most of the rare classes stand."""

from __future__ import annotations

import numpy as np

from training.sources import synthetic_furniture as furniture
from training.sources import synthetic_plants as plants
from training.sources import synthetic_trucks as trucks
from training.sources import synthetic_vehicles as vehicles
from training.sources.synthetic_machines import construction_vehicle
from training.sources.synthetic_placement import Deck, Placer
from training.sources.synthetic_street import Block

CURB_CARDS = (
    *["car"] * 8,
    "truck",
    "trailer",
    "semi",
    "car_trailer",
    "bus",
    "works",
    "works",
    "motorcycles",
    "motorcycles",
    "bicycles",
    "cones",
    "gap",
)
"""About 110 m of parking lane."""

WALK_CARDS = (
    *["tree"] * 4,
    *["people"] * 4,
    *["bicycles"] * 2,
    "light",
    "light",
    "sign",
    "sign",
    "bin",
    "bench",
    "cabinet",
    "plant",
    "motorcycle",
    "bollards",
    "board",
    "cones",
    "barriers",
)


def place_works(placer: Placer, s: float, t: float, yaw: float = 0.0) -> float:
    """A construction vehicle fenced in by cones and barriers, with its workers; returns the length it takes, metres."""
    rng = placer.rng
    mesh, length = construction_vehicle(rng)
    turn = yaw + (np.pi if rng.random() < 0.5 else 0.0)
    placer.put(mesh, s + length / 2 + 1.5, t, yaw=turn, thing=True)
    placer.barrier_kind = int(rng.integers(3))
    inside = np.sign(t)
    for at in np.arange(s - 1.5, s + length + 3.5, rng.uniform(1.4, 2.4)):
        placer.cone(at, t - inside * (1.75 + rng.uniform(0, 0.15)))
    for end in (s - 0.6, s + length + 3.0):
        placer.barrier(end, t, yaw=np.pi / 2 + rng.uniform(-0.2, 0.2))
    if rng.random() < 0.6:
        for at in np.arange(s + 0.5, s + length + 2.5, 2.05):
            placer.barrier(at, t + inside * 1.9)
    for _ in range(int(rng.integers(1, 4))):
        placer.person(s + rng.uniform(0, length), t + inside * rng.uniform(1.9, 3.0), worker=True)
    return length + 4.0


def fill_curb_lane(placer: Placer, block: Block, side: int) -> None:
    """Parks vehicles along the kerb, in the direction of travel, and opens small construction sites."""
    rng, street = placer.rng, placer.street
    deck = Deck(rng, CURB_CARDS)
    t, yaw = side * street.curb_lane, np.pi if side > 0 else 0.0
    s = block.start + 4.5 + rng.uniform(0, 3)
    density = rng.uniform(0.35, 1.0)
    while s < block.end - 8:
        if rng.random() > density:  # a stretch without parked vehicles, so that the sensors see what lies behind
            s += rng.uniform(5.0, 11.0)
            continue
        card, room = deck.draw(), block.end - 4.5 - s
        length = _park(placer, card, s, t, yaw, room)
        if length > 0 and card != "gap" and rng.random() < 0.3:  # somebody steps out between the vehicles
            placer.person(s + length + 0.6, t - side * rng.uniform(-0.8, 0.6))
        s += max(length, 1.0) + rng.uniform(0.9, 3.0)


def _park(placer: Placer, card: str, s: float, t: float, yaw: float, room: float) -> float:
    """One card of the deck at s; returns the length it took, 0 = did not fit."""
    rng = placer.rng
    direction = np.cos(yaw)
    skew = rng.normal(0, 0.025)
    if card == "works" and room > 15:
        return place_works(placer, s + 1.5, t, rng.normal(0, 0.06))
    if card == "bus" and room > 20:
        placer.put(vehicles.bus(rng), s + 9.2, t, yaw=yaw, thing=True)
        return 18.5
    if card == "truck" and room > 10:
        placer.put(trucks.truck(rng), s + 4.9, t, yaw=yaw + skew, thing=True)
        return 9.8
    if card == "trailer" and room > 11:
        length = rng.uniform(6.5, 10.5)
        placer.put(trucks.trailer(rng, length=length), s + length / 2, t, yaw=yaw + skew, thing=True)
        return float(length)
    if card == "semi" and room > 17:
        length = rng.uniform(8.0, 11.0)
        middle = s + (length + 4.0) / 2
        front = middle + direction * (length / 2 + 0.9)
        placer.put(trucks.trailer(rng, length=length), middle - direction * 2.0, t, yaw=yaw, thing=True)
        placer.put(trucks.tractor(rng), front, t, yaw=yaw, thing=True)
        return float(length + 5.5)
    if card == "car_trailer" and room > 9.5:
        placer.put(trucks.small_trailer(rng), s + 4.5 - direction * 2.6, t, yaw=yaw, thing=True)
        placer.put(vehicles.car(rng, "estate"), s + 4.5 + direction * 2.0, t, yaw=yaw, thing=True)
        return 9.2
    if card == "motorcycles":
        for i in range(int(rng.integers(2, 5))):
            placer.motorcycle(s + 0.6 + i * 1.0, t, yaw + np.pi / 2 + rng.normal(0.2, 0.1))
        return 4.5
    if card == "bicycles":
        for i in range(int(rng.integers(3, 7))):
            placer.bicycle(s + 0.5 + i * 0.65, t, np.pi / 2 + rng.normal(0, 0.08))
        return 4.5
    if card == "cones":  # kept free for a delivery
        for at in np.arange(s + 0.5, s + 6.0, rng.uniform(1.0, 1.8)):
            placer.cone(at, t - np.sign(t) * 1.2)
        return 6.0
    if card == "gap":
        placer.walkers_near(s + 2.0, t)
        return 4.0
    if room < 6:
        return 0.0
    placer.put(vehicles.car(rng), s + 2.6, t + rng.normal(0, 0.08), yaw=yaw + skew, thing=True)
    return 5.3


def fill_sidewalk(placer: Placer, block: Block, index: int) -> None:
    """Street furniture, parked two-wheelers and people in the band next to the kerb."""
    rng, street, side = placer.rng, placer.street, (1, -1)[index]
    if block.kind[index] == "works":
        return
    deck, away = Deck(rng, WALK_CARDS), np.pi if side > 0 else 0.0
    s = block.start + 3.0
    while s < block.end - 4:
        card, t = deck.draw(), side * (street.edge + rng.uniform(0.6, 0.85))
        _furnish(placer, card, s, t, away)
        s += rng.uniform(2.2, 4.5)
    if block.length > 30 and rng.random() < 0.35:
        placer.put(furniture.bus_shelter(rng), (block.start + block.end) / 2, side * (street.edge + 1.5), yaw=away)


def _furnish(placer: Placer, card: str, s: float, t: float, away: float) -> None:
    rng, side = placer.rng, float(np.sign(t))
    if card == "tree":
        placer.put(placer.tree(), s, t, scale=rng.uniform(0.7, 1.0))
    elif card == "people":
        placer.walkers_near(s, t + side * 0.5)
    elif card == "bicycles":
        for i in range(int(rng.integers(1, 4))):
            placer.bicycle(s + i * 0.7, t + side * 0.3, np.pi / 2 * rng.choice([-1, 1]) + rng.normal(0, 0.15))
    elif card == "motorcycle":
        placer.motorcycle(s, t + side * 0.3, rng.uniform(0, 6.3))
    elif card == "bollards":
        for i in range(3):
            placer.put(furniture.bollard(rng), s + i * 1.4, t - side * 0.35)
    elif card == "cones":
        for i in range(int(rng.integers(2, 5))):
            placer.cone(s + i * 0.9, t + rng.uniform(-0.2, 0.4))
    elif card == "barriers":
        for i in range(2):
            placer.barrier(s + i * 2.05, t)
    else:
        build = {
            "light": furniture.street_light,
            "sign": furniture.road_sign,
            "bin": furniture.litter_bin,
            "bench": furniture.bench,
            "cabinet": furniture.cabinet,
            "plant": plants.potted_plant,
            "board": furniture.flag_board,
        }[card]
        yaw = {"light": away, "sign": away, "bench": away, "board": 0.0}.get(card, rng.uniform(0, 6.3))
        placer.put(build(rng), s, t, yaw=yaw)
