"""The parts of a drive: solids, objects, street, LiDAR physics, ray tracer."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.sources import synthetic_furniture as furniture
from training.sources import synthetic_people as people
from training.sources import synthetic_plants as plants
from training.sources import synthetic_trucks as trucks
from training.sources import synthetic_vehicles as vehicles
from training.sources.synthetic_cameras import MOUNTS
from training.sources.synthetic_layout import LAYOUTS, draw_street
from training.sources.synthetic_lidar import LIDARS, detected, intensity, noisy_range
from training.sources.synthetic_machines import construction_vehicle
from training.sources.synthetic_materials import CLASS_ID, OPTICS, Material
from training.sources.synthetic_meshes import Mesh, box, loft, pose, tube, wheel
from training.sources.synthetic_motion import EgoProgress, Mover
from training.sources.synthetic_placement import Deck
from training.sources.synthetic_raycast import Hits, RayScene, trace
from training.sources.synthetic_street import HALF_WIDTH, ROAD, Street, ground_mesh


def area(triangles: np.ndarray) -> float:
    return float(
        np.linalg.norm(np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]), axis=1).sum() / 2
    )


def extent(mesh: Mesh) -> tuple[np.ndarray, np.ndarray]:
    corners = mesh.triangles.reshape(-1, 3)
    return corners.min(axis=0), corners.max(axis=0)


def fabricated(count: int, distance: float, cosine: float, material: Material, tone: int = 128) -> Hits:
    return Hits(
        np.full(count, distance, np.float32),
        np.tile(np.float32([0, 0, 1]), (count, 1)),
        np.full(count, cosine, np.float32),
        np.zeros(count, np.uint8),
        np.zeros(count, np.int32),
        np.full(count, material, np.uint8),
        np.full((count, 3), tone, np.uint8),
    )


def test_a_box_has_the_surface_of_a_box_however_it_is_turned():
    assert area(box((1, 2, 3), (2, 3, 4))) == pytest.approx(2 * (6 + 8 + 12))
    assert area(box((1, 2, 3), (2, 3, 4), yaw=0.7)) == pytest.approx(52)


def test_a_tube_nears_the_surface_of_a_cylinder():
    assert area(tube((0, 0, 0), (0, 3, 0), 0.5, sides=64)) == pytest.approx(
        2 * np.pi * 0.5 * 3 + 2 * np.pi * 0.25, rel=0.01
    )


def test_a_wheel_rolls_along_x():
    corners = wheel((0, 0, 0.3), 0.3, 0.2, sides=16).reshape(-1, 3)
    np.testing.assert_allclose(corners.max(axis=0) - corners.min(axis=0), (0.6, 0.2, 0.6), atol=1e-6)


def test_a_loft_without_caps_is_open():
    ring = np.array([(0, 0, 0), (0, 1, 0), (0, 1, 1), (0, 0, 1.0)])
    assert area(loft(np.stack([ring, ring + [2, 0, 0]]), caps=False)) == pytest.approx(8)
    assert area(loft(np.stack([ring, ring + [2, 0, 0]]))) == pytest.approx(10)


SIZES = {
    "sedan": (lambda r: vehicles.car(r, "sedan"), "car", (4.2, 5.1), (1.7, 2.4), (1.3, 1.7)),
    "van": (lambda r: vehicles.car(r, "van"), "car", (5.1, 6.2), (1.9, 2.7), (2.3, 2.8)),
    "bus": (lambda r: vehicles.bus(r, False), "bus", (10.4, 12.6), (2.5, 3.1), (2.9, 3.7)),
    "bendy bus": (lambda r: vehicles.bus(r, True), "bus", (17.0, 19.0), (2.5, 3.1), (2.9, 3.7)),
    "truck": (trucks.truck, "truck", (6.0, 9.9), (2.2, 3.2), (2.4, 4.1)),
    "trailer": (trucks.trailer, "trailer", (6.2, 13.0), (2.3, 2.7), (1.5, 4.1)),
    "small trailer": (trucks.small_trailer, "trailer", (3.2, 5.0), (1.5, 2.4), (0.8, 2.4)),
    "bicycle": (lambda r: people.bicycle(r, False), "bicycle", (1.6, 1.9), (0.4, 0.9), (0.9, 1.15)),
    "motorcyclist": (lambda r: people.motorcycle(r, True), "motorcycle", (1.7, 2.3), (0.7, 1.2), (1.5, 2.0)),
    "cone": (furniture.traffic_cone, "traffic_cone", (0.3, 0.4), (0.3, 0.4), (0.5, 0.95)),
    "jersey barrier": (furniture.jersey_barrier, "barrier", (1.9, 2.0), (0.5, 0.7), (0.8, 1.0)),
}


@pytest.mark.parametrize("name", SIZES)
def test_things_have_real_sizes_and_stand_on_the_ground(name):
    build, class_name, *limits = SIZES[name]
    for seed in range(8):
        mesh = build(np.random.default_rng(seed))
        low, high = extent(mesh)
        assert (mesh.class_id == CLASS_ID[class_name]).all()
        assert -0.06 < low[2] < 0.12
        for size, (least, most) in zip(high - low, limits, strict=True):
            assert least <= size <= most, (seed, high - low)


def test_people_are_as_tall_as_asked_and_walk():
    looks = people.Wardrobe(np.random.default_rng(0))
    standing, walking = people.pedestrian(looks, 1.8, None), people.pedestrian(looks, 1.8, 0.25)
    assert extent(standing)[1][2] == pytest.approx(1.8, abs=0.08)
    assert np.ptp(walking.triangles[..., 0]) > np.ptp(standing.triangles[..., 0]) + 0.3


def test_construction_vehicles_are_of_their_class():
    for seed in range(12):
        mesh, _ = construction_vehicle(np.random.default_rng(seed))
        assert (mesh.class_id == CLASS_ID["construction_vehicle"]).all()
        assert extent(mesh)[0][2] > -0.1


def test_light_goes_through_a_crown():
    tree = plants.broadleaf(np.random.default_rng(1), 8.0)
    scene = RayScene(tree, np.zeros(len(tree), np.int32))
    y, z = np.meshgrid(np.linspace(-1, 1, 30), np.linspace(4.5, 6.5, 30))
    origins = np.stack([np.full(y.size, -20.0), y.ravel(), z.ravel()], axis=1).astype(np.float32)
    hits = trace([scene], origins, np.tile(np.float32([1, 0, 0]), (len(origins), 1)), 100.0)
    depth = hits.range[np.isfinite(hits.range)]
    assert depth.std() > 0.3  # a scattered volume, not a shell


def test_rays_hit_the_nearest_scene_at_the_right_range():
    near, far = (
        Mesh.of(n, [(box((x, 0, 0), (1, 4, 4)), Material.PAINT, (9, 8, 7))]) for n, x in (("car", 5.5), ("bus", 10.5))
    )
    scenes = [RayScene(far, np.full(len(far), 3, np.int32)), RayScene(near, np.full(len(near), 4, np.int32))]
    slanted = np.array([1.0, 0.2, 0]) / np.linalg.norm([1.0, 0.2, 0])
    directions = np.array([[1, 0, 0], slanted, [-1, 0, 0]], np.float32)
    hits = trace(scenes, np.zeros((3, 3), np.float32), directions, 50.0)
    np.testing.assert_allclose(hits.range[:2], [5.0, 5.0 / slanted[0]], rtol=1e-5)
    np.testing.assert_allclose(hits.cosine[:2], [1.0, slanted[0]], rtol=1e-5)
    np.testing.assert_allclose(hits.normal[0], [-1, 0, 0], atol=1e-6)
    assert hits.class_id.tolist() == [CLASS_ID["car"], CLASS_ID["car"], 255]
    assert hits.instance_id.tolist() == [4, 4, 0]
    assert np.isinf(hits.range[2])
    assert np.isinf(trace(scenes, np.zeros((1, 3), np.float32), directions[:1], 4.0).range[0])


@pytest.mark.parametrize(
    ("name", "beams", "low", "high"), [("spinning32", 32, -30.67, 10.67), ("spinning64", 64, -24.8, 2.0)]
)
def test_beam_tables(name, beams, low, high):
    lidar = LIDARS[name]
    directions = lidar.directions.reshape(lidar.columns, beams, 3)
    np.testing.assert_allclose(np.linalg.norm(directions, axis=2), 1, atol=1e-6)
    np.testing.assert_allclose(np.degrees(np.arcsin(directions[7, [0, -1], 2])), [low, high], atol=1e-3)
    np.testing.assert_allclose(directions[0, 0, 1], 0, atol=1e-6)
    assert directions[0, 0, 0] < 0  # starts at the rear
    assert directions[lidar.columns // 4, 0, 1] > 0.8  # and turns over the left side: clockwise seen from above


def test_range_noise_has_the_spread_of_sensor_and_surface():
    for material in (Material.PLASTER, Material.GRASS):
        measured = noisy_range(LIDARS["spinning32"], fabricated(40_000, 10.0, 1.0, material), np.random.default_rng(0))
        assert measured.mean() == pytest.approx(10.0, abs=0.001)
        assert measured.std() == pytest.approx(np.hypot(0.02, OPTICS[material].roughness), rel=0.03)


def test_far_grazing_dark_and_glassy_surfaces_are_lost_first():
    def share(distance: float, cosine: float, material: Material, tone: int = 128) -> float:
        return float(detected(fabricated(20_000, distance, cosine, material, tone), np.random.default_rng(0)).mean())

    assert share(10, 1.0, Material.PLASTER) == pytest.approx(0.985, abs=0.005)  # the random losses alone
    assert share(40, 0.05, Material.ASPHALT) < 0.7 * share(15, 0.12, Material.ASPHALT)
    assert share(60, 0.7, Material.CLOTH, 20) < share(60, 0.7, Material.CLOTH, 230)
    assert share(15, 0.9, Material.GLASS) < 0.5
    assert share(20, 0.1, Material.WATER) < 0.4
    assert share(0.5, 1.0, Material.PLASTER) == 0  # nearer than the sensor measures
    assert not detected(fabricated(10, np.inf, 1.0, Material.PLASTER), np.random.default_rng(0)).any()


def test_intensity_follows_the_material_in_the_scale_of_the_sensor():
    for name, scale in (("spinning32", 255.0), ("spinning64", 1.0)):
        road, wall, plate = (
            intensity(LIDARS[name], fabricated(5000, 10.0, 0.6, m, 200), 1.0, np.random.default_rng(0))
            for m in (Material.ASPHALT, Material.PLASTER, Material.RETROREFLECTOR)
        )
        assert road.min() >= 0
        assert plate.max() <= scale
        assert np.median(road) < np.median(wall) < np.median(plate)
        assert road.dtype == np.float32


def straight_street() -> Street:
    s = np.arange(0.0, 101.0)
    line = np.stack([s, 0 * s, 0.01 * s, 0 * s], axis=1)
    return Street(s, line, 0.02, 0.0, ROAD, 3.0, 2, 1.5, 2.5, ROAD)


def test_street_coordinates_by_hand():
    street = straight_street()
    np.testing.assert_allclose(street.locate(10.0, 2.0, 0.5), (10, 2, 0.1 + 0.04 + 0.5))
    assert (street.edge, street.lane_center(1), street.bike_lane, street.curb_lane) == (10.0, 4.5, 6.75, 8.75)
    facing_left = street.pose(20.0, -3.0, np.pi / 2, h=0.0)
    np.testing.assert_allclose(facing_left[:3, 0], (0, 1, 0), atol=1e-9)
    np.testing.assert_allclose(facing_left[:3, 3], (20, -3, 0.2 - 0.06), atol=1e-9)
    square = street.pose(20.0, 0.0, upright=False, h=0.0)
    np.testing.assert_allclose(square[:3, 2], np.array([-0.01, -0.02, 1]) / np.linalg.norm([0.01, 0.02, 1]), atol=1e-6)
    np.testing.assert_allclose(square[:3, :3] @ square[:3, :3].T, np.eye(3), atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(LAYOUTS))
def test_streets_have_no_gaps(seed, layout):
    street = draw_street(np.random.default_rng(seed), -100.0, 200.0, layout)
    assert street.blocks[0].start == -100.0
    assert street.blocks[-1].end == pytest.approx(200.0, abs=0.5)
    for before, after in zip(street.blocks[:-1], street.blocks[1:], strict=True):
        assert before.end == after.start
    for block in street.blocks:
        for strips in block.sides:
            edges = [street.edge, *[strip.outer for strip in strips]]
            assert [strip.inner for strip in strips] == edges[:-1]
            assert edges[-1] == HALF_WIDTH
            assert edges == sorted(edges)
    bend = np.abs(np.gradient(street.line[:, 3], street.s)).max()
    assert bend * HALF_WIDTH < 0.8  # the inside of a bend does not fold over
    slope = np.abs(np.gradient(street.line[:, 2], street.s)).max()
    assert slope < 0.13


def test_the_ground_has_no_holes():
    street = draw_street(np.random.default_rng(3), -100.0, 160.0, "crossings")
    ground = ground_mesh(np.random.default_rng(0), street)
    rng = np.random.default_rng(1)
    at = street.locate(rng.uniform(-95, 155, 20_000), rng.uniform(-60, 60, 20_000), 30.0).astype(np.float32)
    hits = trace(
        [RayScene(ground, np.zeros(len(ground), np.int32))], at, np.tile(np.float32([0, 0, -1]), (len(at), 1)), 60.0
    )
    assert np.isfinite(hits.range).mean() > 0.9995
    assert len(np.unique(hits.class_id[np.isfinite(hits.range)])) >= 3


def test_a_deck_deals_every_card_before_any_twice():
    deck = Deck(np.random.default_rng(0), ["a", "b", "b", "c"])
    for _ in range(3):
        assert sorted(deck.draw() for _ in range(4)) == ["a", "b", "b", "c"]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_the_ego_vehicle_keeps_to_3_to_12_metres_per_second(seed):
    progress = EgoProgress(np.random.default_rng(seed), 30.0)
    speed = np.diff([progress.at(t) for t in np.arange(0, 30, 0.1)]) / 0.1
    assert progress.at(0.0) == pytest.approx(0, abs=1e-9)
    assert speed.min() > 2.9
    assert speed.max() < 12.1


def test_movers_keep_their_speed_and_turn_at_their_bounds():
    street = straight_street()
    mesh = Mesh.of("car", [(box((0, 0, 0.5), (4, 2, 1)), Material.PAINT, (1, 2, 3))])
    car = Mover((mesh,), 1, s=40.0, speed=-8.0, t=1.5, yaw=np.pi)
    walker = Mover((mesh, mesh), 2, s=50.0, speed=1.0, t=-9.0, bounds=(45.0, 52.0))
    there = [car.pose(t, 40.0, street)[0, 3] for t in (0.0, 1.0)]
    assert there == pytest.approx([40.0, 32.0])
    xs = [walker.pose(t, 40.0, street)[0, 3] for t in (0.0, 2.0, 3.0, 9.0, 10.0, 14.0)]
    assert xs == pytest.approx([50.0, 52.0, 51.0, 45.0, 46.0, 50.0])
    np.testing.assert_allclose(walker.pose(3.0, 40.0, street)[:3, 0], (-1, 0, 0), atol=1e-9)  # on the way back
    assert car.pose(0.0, 40.0 + car.reach + 1, street) is None


def test_camera_mounts_by_hand():
    left = MOUNTS["front_left"]
    axis = left.base_from_camera @ np.array([0, 0, 1, 0])
    np.testing.assert_allclose(axis[:3], (np.cos(np.radians(55)), np.sin(np.radians(55)), 0), atol=1e-9)
    np.testing.assert_allclose(left.base_from_camera @ np.array([0, 1, 0, 0]), (0, 0, -1, 0), atol=1e-9)
    model = left.model(480, 270)
    assert 2 * np.degrees(np.arctan(240 / model.fx)) == pytest.approx(70)
    assert left.may_see(pose(10, 0, yaw=0.3), np.array([10.0, 0, 0]) + pose(yaw=0.3)[:3, :3] @ [30, 40, 0])
    assert not left.may_see(pose(10, 0, yaw=0.3), np.array([10.0, 0, 0]) + pose(yaw=0.3)[:3, :3] @ [-30, -40, 0])
