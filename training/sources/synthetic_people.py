"""Pedestrians, riders, bicycles and motorcycles; origin on the ground, x forward."""

from __future__ import annotations

import numpy as np

from training.sources.synthetic_materials import Material
from training.sources.synthetic_meshes import Color, Mesh, Part, box, ellipsoid, hoop, pose, prism, tube, wheel

SKIN: tuple[Color, ...] = ((224, 180, 150), (190, 140, 105), (120, 82, 60), (236, 200, 172))
HAIR: tuple[Color, ...] = ((40, 30, 24), (110, 80, 50), (180, 150, 90), (90, 90, 92), (60, 20, 14))
CLOTHES: tuple[Color, ...] = (
    (30, 34, 44),
    (60, 70, 92),
    (150, 40, 44),
    (214, 210, 200),
    (70, 90, 60),
    (200, 150, 60),
    (96, 60, 90),
    (110, 110, 112),
    (40, 110, 140),
)
VEST: Color = (228, 240, 40)
METAL: Color = (150, 152, 156)


def _draw(rng: np.random.Generator, colors: tuple[Color, ...]) -> Color:
    return colors[int(rng.integers(len(colors)))]


class Wardrobe:
    """The looks of one person, drawn once so that every walking phase wears the same."""

    def __init__(self, rng: np.random.Generator, worker: bool = False) -> None:
        self.skin, self.hair = _draw(rng, SKIN), _draw(rng, HAIR)
        self.coat, self.trousers = _draw(rng, CLOTHES), _draw(rng, CLOTHES)
        self.long_coat, self.bag = bool(rng.random() < 0.3), bool(rng.random() < 0.35)
        self.stout = rng.uniform(0.9, 1.2)
        self.worker = worker
        self.coat_material = Material.CLOTH
        if worker:
            self.coat, self.hair, self.long_coat = VEST, (240, 220, 60), False


def _torso(looks: Wardrobe, hip: np.ndarray, neck: np.ndarray) -> list[Part]:
    w, middle = looks.stout, 0.5 * (hip + neck)
    parts: list[Part] = [
        (ellipsoid(middle, (0.14 * w, 0.21 * w, 0.36)), looks.coat_material, looks.coat),
        (ellipsoid(hip + [0, 0, 0.02], (0.14 * w, 0.18 * w, 0.17)), Material.CLOTH, looks.trousers),
        (tube(neck - [0, 0, 0.05], neck + [0.01, 0, 0.1], 0.06), Material.SKIN, looks.skin),
        (ellipsoid(neck + [0.03, 0, 0.19], (0.10, 0.08, 0.13)), Material.SKIN, looks.skin),
        (ellipsoid(neck + [0.0, 0, 0.23], (0.11, 0.09, 0.11)), Material.CLOTH, looks.hair),
    ]
    if looks.bag:
        parts.append((box(middle + [-0.2 * w, 0, 0.05], (0.16, 0.3, 0.42)), Material.CLOTH, looks.trousers))
    if looks.worker:
        band = middle + [0, 0, 0.02]
        parts.append((ellipsoid(band, (0.146 * w, 0.216 * w, 0.06)), Material.RETROREFLECTOR, (225, 228, 230)))
    return parts


def pedestrian(looks: Wardrobe, height: float, phase: float | None) -> Mesh:
    """A person on foot.

    Args:
        looks: clothes and build.
        height: metres.
        phase: of the walking cycle in [0, 1), None = standing.
    """
    swing = 0.0 if phase is None else np.sin(2 * np.pi * phase)
    lift = 0.0 if phase is None else 0.5 + 0.5 * np.cos(4 * np.pi * phase)
    hip, neck = np.array([0.0, 0, 0.90 + 0.02 * lift]), np.array([0.03, 0, 1.46 + 0.02 * lift])
    parts = _torso(looks, hip, neck)
    for side, sign in ((-1, 1), (1, -1)):
        stride = sign * swing * 0.32
        joint = hip + [0, side * 0.10, -0.02]
        knee = joint + [stride * 0.6 + 0.05 * abs(stride), 0, -0.42]
        ankle = np.array([stride * 1.05 - 0.06 * (stride < 0), side * 0.10, 0.09 + max(0.0, -stride) * 0.25])
        parts.append((tube(joint, knee, 0.085 * looks.stout, 0.06), Material.CLOTH, looks.trousers))
        parts.append((tube(knee, ankle, 0.06, 0.045), Material.CLOTH, looks.trousers))
        parts.append((box(ankle + [0.07, 0, -0.04], (0.25, 0.09, 0.09)), Material.RUBBER, (40, 36, 34)))
        shoulder = neck + [-0.02, side * 0.20 * looks.stout, -0.06]
        elbow = shoulder + [-stride * 0.5, side * 0.05, -0.28]
        hand = elbow + [-stride * 0.4 + 0.07, 0, -0.25]
        parts.append((tube(shoulder, elbow, 0.055, 0.045), Material.CLOTH, looks.coat))
        parts.append((tube(elbow, hand, 0.045, 0.035), Material.CLOTH, looks.coat))
        parts.append((ellipsoid(hand, (0.04, 0.03, 0.06), 3, 5), Material.SKIN, looks.skin))
    if looks.long_coat:
        parts.append((tube(hip + [0, 0, 0.15], hip + [0, 0, -0.35], 0.18, 0.24, 8), Material.CLOTH, looks.coat))
    return Mesh.of("pedestrian", parts).moved(pose(scale=height / 1.78))


def _rider(looks: Wardrobe, class_name: str, seat: np.ndarray, bars: np.ndarray, pedal_z: float) -> Mesh:
    """A person sitting; belongs to the class of the vehicle, as in nuScenes."""
    hip = seat + [0, 0, 0.1]
    lean = np.array([0.28 * (bars[0] - seat[0]) + 0.08, 0, 0.54])
    parts = _torso(looks, hip, hip + lean)
    shoulder = hip + lean - [0, 0, 0.07]
    for side in (-1, 1):
        hand = bars + [0, side * 0.28, 0.02]
        elbow = 0.5 * (shoulder + hand) + [0, side * 0.16, -0.08]
        parts.append((tube(shoulder + [0, side * 0.18, 0], elbow, 0.055, 0.045), Material.CLOTH, looks.coat))
        parts.append((tube(elbow, hand, 0.045, 0.035), Material.CLOTH, looks.coat))
        foot = np.array([0.5 * (seat[0] + bars[0]) - 0.02 * side, side * 0.13, pedal_z + 0.08 * side])
        knee = 0.5 * (hip + foot) + [0.24, side * 0.05, 0.06]
        parts.append((tube(hip + [0, side * 0.1, 0], knee, 0.085, 0.06), Material.CLOTH, looks.trousers))
        parts.append((tube(knee, foot, 0.06, 0.045), Material.CLOTH, looks.trousers))
        parts.append((box(foot + [0.06, 0, -0.03], (0.24, 0.09, 0.08)), Material.RUBBER, (40, 36, 34)))
    return Mesh.of(class_name, parts)


def bicycle(rng: np.random.Generator, rider: bool) -> Mesh:
    """A bicycle, with or without somebody on it; parked ones lean a little on their stand."""
    paint, base, radius = _draw(rng, CLOTHES), rng.uniform(1.0, 1.1), 0.34
    rear, front = np.array([-base / 2, 0, radius]), np.array([base / 2, 0, radius])
    crank, head = np.array([-0.08, 0, 0.29]), np.array([0.36, 0, 0.82])
    seat, bars = np.array([-0.22, 0, 0.95]), np.array([0.33, 0, 1.04])
    frame = ((crank, seat), (crank, head), (seat - [-0.03, 0, 0.14], head), (rear, crank), (rear, seat), (head, front))
    parts: list[Part] = [(tube(a, b, 0.022, sides=5), Material.PAINT, paint) for a, b in frame]
    for hub in (rear, front):
        parts.append((hoop(hub, radius, 0.045), Material.RUBBER, (36, 36, 38)))
        for angle in np.arange(6) * np.pi / 6:
            reach = radius * np.array([np.cos(angle), 0, np.sin(angle)])
            parts.append((tube(hub - reach, hub + reach, 0.005, sides=3), Material.STEEL, METAL))
    parts += [
        (tube(head, bars, 0.02, sides=5), Material.STEEL, METAL),
        (tube(bars - [0, 0.29, 0], bars + [0, 0.29, 0], 0.018, sides=5), Material.STEEL, METAL),
        (ellipsoid(seat + [0, 0, 0.03], (0.14, 0.08, 0.04), 3, 6), Material.RUBBER, (30, 28, 28)),
        (wheel(crank, 0.09, 0.03, 8), Material.STEEL, METAL),
        (box(rear + [-0.2, 0, 0.3], (0.02, 0.06, 0.05)), Material.RETROREFLECTOR, (200, 20, 20)),
    ]
    if rng.random() < 0.4:  # rack with a basket or bag
        parts.append((box(rear + [-0.05, 0, 0.45], (0.36, 0.3, 0.22)), Material.CLOTH, _draw(rng, CLOTHES)))
    mesh = Mesh.of("bicycle", parts)
    if rider:
        return Mesh.join([mesh, _rider(Wardrobe(rng), "bicycle", seat, bars, 0.26)])
    lean = rng.uniform(0.03, 0.12) * rng.choice([-1, 1])
    tilt = np.eye(4)
    tilt[1, 1], tilt[1, 2], tilt[2, 1], tilt[2, 2] = np.cos(lean), -np.sin(lean), np.sin(lean), np.cos(lean)
    return mesh.moved(tilt)


def motorcycle(rng: np.random.Generator, rider: bool) -> Mesh:
    """A motorcycle or a scooter, with or without somebody on it."""
    paint, scooter = (
        _draw(rng, ((20, 20, 22), (170, 24, 28), (40, 70, 150), (230, 230, 226), (60, 110, 70))),
        rng.random() < 0.4,
    )
    base, radius, width = (1.3, 0.23, 0.11) if scooter else (1.45, 0.31, 0.15)
    rear, front = np.array([-base / 2, 0, radius]), np.array([base / 2, 0, radius])
    bars = np.array([base / 2 - 0.32, 0, 1.03])
    parts: list[Part] = [(wheel(hub, radius, width, 14), Material.RUBBER, (30, 30, 32)) for hub in (rear, front)]
    parts += [(wheel(hub, radius * 0.6, width + 0.02, 8), Material.STEEL, METAL) for hub in (rear, front)]
    for side in (-1, 1):
        parts.append((tube(front + [0, side * 0.1, 0], bars + [0, side * 0.08, -0.05], 0.028), Material.STEEL, METAL))
        parts.append(
            (
                tube(bars + [0, side * 0.3, 0.1], bars + [-0.02, side * 0.36, 0.24], 0.012, sides=4),
                Material.STEEL,
                METAL,
            )
        )
        parts.append((box(bars + [0, side * 0.38, 0.27], (0.03, 0.14, 0.08)), Material.PLASTIC, (30, 30, 30)))
    parts.append((tube(bars - [0, 0.36, 0], bars + [0, 0.36, 0], 0.02), Material.RUBBER, (30, 30, 30)))
    parts.append((ellipsoid(bars + [0.16, 0, -0.14], (0.1, 0.12, 0.12), 4, 7), Material.GLASS, (225, 225, 215)))
    parts.append((box(rear + [-0.28, 0, 0.38], (0.03, 0.18, 0.14)), Material.RETROREFLECTOR, (225, 225, 220)))
    if scooter:
        parts += [
            (prism([(-0.75, 0.3), (-0.8, 0.7), (-0.2, 0.76), (0.0, 0.3)], -0.17, 0.17), Material.PAINT, paint),
            (box((0.15, 0, 0.28), (0.6, 0.36, 0.08)), Material.PAINT, paint),
            (prism([(0.38, 0.25), (0.30, 0.98), (0.36, 0.98), (0.5, 0.25)], -0.2, 0.2), Material.PAINT, paint),
            (box((-0.5, 0, 0.79), (0.62, 0.26, 0.1)), Material.RUBBER, (28, 26, 26)),
        ]
        if rng.random() < 0.5:
            parts.append((box((-0.85, 0, 1.02), (0.42, 0.42, 0.4)), Material.PLASTIC, paint))
    else:
        parts += [
            (box((0.02, 0, 0.45), (0.55, 0.34, 0.4)), Material.STEEL, (80, 80, 84)),
            (ellipsoid((0.12, 0, 0.82), (0.32, 0.17, 0.16)), Material.PAINT, paint),
            (box((-0.42, 0, 0.80), (0.62, 0.26, 0.1)), Material.RUBBER, (28, 26, 26)),
            (prism([(-0.95, 0.72), (-0.95, 0.84), (-0.3, 0.76), (-0.3, 0.62)], -0.12, 0.12), Material.PAINT, paint),
            (tube((-0.1, -0.2, 0.34), (-0.85, -0.22, 0.42), 0.055), Material.STEEL, (180, 180, 184)),
        ]
    mesh = Mesh.of("motorcycle", parts)
    seat = np.array([-0.3, 0, 0.84])
    return Mesh.join([mesh, _rider(Wardrobe(rng), "motorcycle", seat, bars, 0.33)]) if rider else mesh
