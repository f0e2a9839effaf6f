"""Whole drives: determinism, classes, stamps, and LiDAR against images."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from ov_seg_ros.core.errors import ConfigError, InputError
from ov_seg_ros.core.transforms import invert_transform, transform_points

pytest.importorskip("embreex", reason="the ray tracer is not installed")

from training.atomic_files import StorageFullError
from training.sources.synthetic import HELD_OUT_SEEDS, DriveConfig, SyntheticDrive
from training.sources.synthetic_folder import SyntheticFolder, write_drive
from training.sources.synthetic_materials import CLASS_NAMES

RECIPES = Path(__file__).resolve().parents[3] / "config/recipes"
CONFIG = DriveConfig(seed=7, num_scans=3, scan_stride=5, image_width=192, image_height=108)


@pytest.fixture(scope="module")
def drive() -> SyntheticDrive:
    return SyntheticDrive(CONFIG)


@pytest.fixture(scope="module")
def folder(drive: SyntheticDrive, tmp_path_factory: pytest.TempPathFactory) -> SyntheticFolder:
    return write_drive(drive, tmp_path_factory.mktemp("drives") / "seven")


def test_the_classes_are_those_of_the_label_space(drive):
    assert drive.label_space.class_names == CLASS_NAMES


def test_the_same_seed_gives_the_same_bytes_in_any_order(drive):
    twin = SyntheticDrive(CONFIG)
    for index in (2, 0):  # not the order of the other drive
        ours, theirs = drive.load_sample(index), twin.load_sample(index)
        assert ours.key == theirs.key
        assert ours.cloud.points.tobytes() == theirs.cloud.points.tobytes()
        assert ours.cloud.intensity.tobytes() == theirs.cloud.intensity.tobytes()
        assert ours.class_id.tobytes() == theirs.class_id.tobytes()
        for a, b in zip(ours.images, theirs.images, strict=True):
            assert a.image.tobytes() == b.image.tobytes()
            assert a.stamp_ns == b.stamp_ns


def test_another_seed_and_the_other_lidar_give_another_drive_with_all_classes(drive):
    other = SyntheticDrive(DriveConfig(seed=8, lidar="spinning64", num_scans=3, scan_stride=20))
    samples = [d.load_sample(i, with_images=False) for d in (drive, other) for i in range(3)]
    assert not np.array_equal(samples[0].cloud.points[:100], samples[3].cloud.points[:100])
    present = np.unique(np.concatenate([s.class_id for s in samples]))
    assert [CLASS_NAMES[i] for i in present] == list(CLASS_NAMES)
    assert all(len(np.unique(s.class_id)) >= 12 for s in samples)
    assert 25_000 < len(samples[0].cloud) < 34_688
    assert 90_000 < len(samples[3].cloud) < 128_000


def test_a_scan_holds_hits_only_and_sane_values(drive):
    sample, fields = drive.load_sample(0, with_images=False), drive.load_scan_fields(0)
    assert np.isfinite(sample.cloud.points).all()
    assert sample.class_id.max() < 16
    assert 0 <= sample.cloud.intensity.min() < sample.cloud.intensity.max() <= 255
    assert {len(v) for v in fields.values()} == {len(sample.cloud)}
    assert fields["ring"].dtype == np.uint16
    assert fields["ring"].max() == 31
    assert not fields["time"].any()  # every ray leaves at the stamp
    elevation = np.degrees(np.arcsin(sample.cloud.points[:, 2] / np.linalg.norm(sample.cloud.points, axis=1)))
    np.testing.assert_allclose(elevation, -30.67 + fields["ring"] * (41.34 / 31), atol=1e-3)


def test_the_road_lies_one_lidar_height_below_the_lidar(drive):
    sample = drive.load_sample(1, with_images=False)
    near = np.linalg.norm(sample.cloud.points[:, :2], axis=1) < 5
    road = near & (sample.class_id == CLASS_NAMES.index("driveable_surface"))
    assert np.median(sample.cloud.points[road, 2]) == pytest.approx(-1.84, abs=0.05)


def test_things_have_instances_and_stuff_has_none(drive):
    sample, instance_id = drive.load_sample(0, with_images=False), drive.load_instance_id(0)
    assert (instance_id[sample.class_id >= 10] == 0).all()
    assert (instance_id[sample.class_id < 10] > 0).all()
    for number in np.unique(instance_id[instance_id > 0]):
        assert len(np.unique(sample.class_id[instance_id == number])) == 1


def test_cameras_fire_within_half_a_revolution_of_the_scan_and_apart_from_each_other(drive):
    offsets_ms = {n: (drive.camera_stamp_ns(1, n) - drive.stamp_ns(1)) / 1e6 for n in CONFIG.cameras}
    assert all(abs(offset) <= 50 for offset in offsets_ms.values())
    assert offsets_ms["front_left"] == pytest.approx(-15.3, abs=1.1)  # the beam turns clockwise from the rear
    assert offsets_ms["back_right"] == pytest.approx(30.6, abs=1.1)
    assert drive.stamp_ns(1) - drive.stamp_ns(0) == 500_000_000


def test_images_hold_the_ego_motion_between_the_stamps(drive):
    image = next(i for i in drive.load_sample(1).images if i.name == "back_right")
    base_from_lidar, base_from_camera = drive.base_from_lidar, drive.base_from_camera["back_right"]
    static = invert_transform(base_from_camera) @ base_from_lidar
    scan_pose, image_pose = drive.ego_pose(drive.stamp_ns(1)), drive.ego_pose(image.stamp_ns)
    travelled = np.linalg.norm(image_pose[:3, 3] - scan_pose[:3, 3])
    assert 0.02 < travelled < 0.5
    lidar_in_camera = image.camera_from_lidar[:3, 3]
    assert np.linalg.norm(lidar_in_camera - static[:3, 3]) == pytest.approx(travelled, rel=0.1)
    assert 0.3 < np.linalg.norm(static[:3, 3]) < 1.0


def test_lidar_points_fall_on_pixels_of_their_class(drive):
    """Only motion between the stamps, occlusion by parallax and thin edges may disagree."""
    agree, total, inside = 0, 0, 0
    sample = drive.load_sample(0)
    for image in sample.images:
        truth = drive.load_image_truth(0, image.name)
        in_camera = transform_points(image.camera_from_lidar, sample.cloud.points)
        pixels, visible = image.camera.project(in_camera)
        u, v = np.rint(pixels[visible]).astype(int).T
        depth, seen = in_camera[visible, 2], truth.depth[v, u]
        unhidden = np.abs(seen - depth) < 0.3 + 0.05 * depth
        agree += int((truth.class_id[v, u] == sample.class_id[visible])[unhidden].sum())
        total, inside = total + int(unhidden.sum()), inside + int(visible.sum())
    assert inside > 0.4 * len(sample.cloud)
    assert total > 0.8 * inside
    assert agree > 0.95 * total


def test_the_ego_vehicle_drives_and_others_move(drive):
    first, last = (drive.ego_pose(drive.stamp_ns(i))[:3, 3] for i in (0, 2))
    assert 3.0 <= np.linalg.norm(last - first) / 1.0 <= 12.5
    centers = []
    for index in (0, 2):
        sample, instance_id = drive.load_sample(index, with_images=False), drive.load_instance_id(index)
        world = transform_points(sample.world_from_lidar, sample.cloud.points)
        ids, counts = np.unique(instance_id, return_counts=True)
        big = ids[(counts > 20) & (ids > 0)]
        centers.append({int(n): np.median(world[instance_id == n], axis=0) for n in big})
    shift = np.array([np.linalg.norm(centers[0][n] - centers[1][n]) for n in centers[0].keys() & centers[1].keys()])
    assert (shift > 2.0).sum() >= 2
    assert (shift < 1.5).sum() >= 5


def test_asking_for_what_is_not_there_names_what_is(drive):
    with pytest.raises(InputError, match=r"scans 0 to 2, got 3"):
        drive.load_sample(3)
    with pytest.raises(InputError, match=r"cameras front, .* got 'rear'"):
        drive.load_image_truth(0, "rear")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lidar": "spinning16"}, "spinning32, spinning64, got 'spinning16'"),
        ({"layout": "motorway"}, "straight, curved"),
        ({"cameras": ("front", "rear")}, "got rear"),
        ({"num_scans": 0}, "num_scans must be at least 1, got 0"),
        ({"seed": -1}, "seed must be 0 or more, got -1"),
        ({"scan_rate_hz": 0.0}, "scan_rate_hz must be > 0"),
    ],
)
def test_a_wrong_configuration_is_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        DriveConfig(**{"seed": 1, **change})


@pytest.mark.parametrize("recipe", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_no_recipe_learns_from_the_drives_that_benchmarks_are_scored_on(recipe):
    learned = {
        seed for drives in yaml.safe_load(recipe.read_text()).get("train_drives", ()) for seed in drives["seeds"]
    }
    assert not learned & {seed for seeds in HELD_OUT_SEEDS.values() for seed in seeds}


def test_a_drive_comes_back_from_disk(drive, folder):
    assert (len(folder), folder.name, folder.config) == (len(drive), drive.name, drive.config)
    for index in range(len(drive)):
        ours, theirs = drive.load_sample(index), folder.load_sample(index)
        assert ours.key == theirs.key
        np.testing.assert_array_equal(ours.cloud.points, theirs.cloud.points)
        np.testing.assert_array_equal(ours.cloud.intensity, theirs.cloud.intensity)
        np.testing.assert_array_equal(ours.class_id, theirs.class_id)
        np.testing.assert_allclose(ours.world_from_lidar, theirs.world_from_lidar, atol=1e-12)
        assert ours.cloud.stamp_ns == theirs.cloud.stamp_ns
        for a, b in zip(ours.images, theirs.images, strict=True):
            assert (a.name, a.stamp_ns, a.camera) == (b.name, b.stamp_ns, b.camera)
            np.testing.assert_allclose(a.camera_from_lidar, b.camera_from_lidar, atol=1e-9)
            assert np.abs(a.image.astype(int) - b.image).mean() < 4  # JPEG
    for name, values in drive.load_scan_fields(1).items():
        np.testing.assert_array_equal(values, folder.load_scan_fields(1)[name])
    np.testing.assert_array_equal(drive.load_instance_id(1), folder.load_instance_id(1))


def test_image_truth_comes_back_from_disk(drive, folder):
    ours, theirs = drive.load_image_truth(2, "back"), folder.load_image_truth(2, "back")
    np.testing.assert_array_equal(ours.class_id, theirs.class_id)
    np.testing.assert_array_equal(ours.instance_id, theirs.instance_id)
    np.testing.assert_allclose(ours.depth, theirs.depth, atol=0.0021)
    assert np.isinf(theirs.depth[theirs.class_id == 255]).all()


def test_poses_from_disk_are_exact_at_stamps_and_interpolated_between(drive, folder):
    stamp = drive.camera_stamp_ns(1, "front")
    np.testing.assert_allclose(folder.ego_pose(stamp), drive.ego_pose(stamp), atol=1e-12)
    np.testing.assert_allclose(folder.ego_pose(stamp + 2_000_000), drive.ego_pose(stamp + 2_000_000), atol=0.01)
    with pytest.raises(InputError, match="outside drive"):
        folder.ego_pose(0)


def test_broken_folders_are_refused(folder, tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        SyntheticFolder(tmp_path)
    (tmp_path / "drive.json").write_text('{"format": 99}')
    with pytest.raises(InputError, match="format 99, this version reads 1"):
        SyntheticFolder(tmp_path)
    (tmp_path / "drive.json").write_text((folder.folder / "drive.json").read_text())
    with pytest.raises(InputError, match=r"000000\.npz is no scan"):
        SyntheticFolder(tmp_path).load_sample(0)


def test_processes_do_not_change_the_bytes(tmp_path):
    drive = SyntheticDrive(DriveConfig(seed=9, num_scans=2, cameras=()))
    reports: list[tuple[int, int]] = []
    write_drive(drive, tmp_path / "one")
    write_drive(drive, tmp_path / "two", processes=2, progress=lambda *done: reports.append(done))
    assert reports == [(1, 2), (2, 2)]
    for path in sorted(p.relative_to(tmp_path / "one") for p in (tmp_path / "one").rglob("*") if p.is_file()):
        assert (tmp_path / "one" / path).read_bytes() == (tmp_path / "two" / path).read_bytes(), path


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("file", ["scans/000000.npz", "images/front/000000.jpg", "drive.json.part"])
def test_a_full_disk_leaves_no_drive_that_looks_whole(drive, tmp_path, file):
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).symlink_to("/dev/full")
    with pytest.raises(StorageFullError, match=rf"no space left in {tmp_path}: .*free some space"):
        write_drive(drive, tmp_path)
    assert not (tmp_path / "drive.json").exists()
