"""Posed RGB-D frames: layouts, poses, points, views, occlusion by depth, fusion, and the real frames."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ov_seg_ros.core.camera import CameraModel
from ov_seg_ros.core.errors import ConfigError, InputError
from ov_seg_ros.core.projection import project_cloud
from training.sources.resolve import open_source
from training.sources.rgbd import RgbdConfig, RgbdSequence, is_rgbd, unproject_depth
from training.sources.rgbd_axes import SENSOR_FROM_CAMERA, move_points, place_on_floor, stand_upright
from training.sources.rgbd_files import load_depth_file, read_pinhole, read_pose
from training.sources.rgbd_frames import FrameFolder
from training.sources.rgbd_occlusion import DepthOcclusion, DepthView
from training.sources.rgbd_scene import RgbdScene, RgbdSceneConfig
from training.sources.rgbd_views import ViewChoice

SHARED = Path(os.environ.get("OV_SEG_SHARED", Path(__file__).resolve().parents[4] / "shared"))
REAL = SHARED / "data" / "rgbd_7scenes"
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason="needs shared/data/rgbd_7scenes")

K = np.array([[10, 0, 4], [0, 10, 3], [0, 0, 1]], np.float64)
LOST = np.full((4, 4), -np.inf)


def pose(x=0.0, y=0.0, z=0.0):
    matrix = np.eye(4)
    matrix[:3, 3] = x, y, z
    return matrix


def save_depth(path, depth_mm):
    Image.fromarray(np.asarray(depth_mm, np.uint16)).save(path)


def write_seven_scenes(folder, poses, depth_mm=2000):
    """Frames of 8 x 6 pixels with K beside them, all looking at a wall."""
    folder.mkdir(parents=True, exist_ok=True)
    np.savetxt(folder / "camera-intrinsics.txt", K)
    for number, matrix in enumerate(poses):
        stem = f"frame-{10 * number:06d}"
        Image.new("RGB", (8, 6), (number, 0, 0)).save(folder / f"{stem}.color.png")
        save_depth(folder / f"{stem}.depth.png", np.full((6, 8), depth_mm))
        np.savetxt(folder / f"{stem}.pose.txt", matrix)
    return folder


def write_sensreader(folder, poses, depth_mm=2000):
    """What ScanNet's SensReader exports: numbered files in four folders, 4 x 4 intrinsics, smaller depth images."""
    for part in ("color", "depth", "pose", "intrinsic"):
        (folder / part).mkdir(parents=True)
    color, depth = np.eye(4), np.eye(4)
    color[:3, :3], depth[:3, :3] = K * [[2], [2], [1]], K
    np.savetxt(folder / "intrinsic" / "intrinsic_color.txt", color, fmt="%f")
    np.savetxt(folder / "intrinsic" / "intrinsic_depth.txt", depth, fmt="%f")
    for number, matrix in enumerate(poses):
        Image.new("RGB", (16, 12), (number, 0, 0)).save(folder / "color" / f"{number}.jpg")
        save_depth(folder / "depth" / f"{number}.png", np.full((6, 8), depth_mm))
        np.savetxt(folder / "pose" / f"{number}.txt", matrix, fmt="%f")
    return folder


def test_axes_of_camera_and_scan():
    ahead_right_below = np.array([[1.0, 2.0, 5.0]])  # x right, y down, z forward
    np.testing.assert_array_equal(move_points(SENSOR_FROM_CAMERA, ahead_right_below), [[5, -1, -2]])


def test_a_scene_is_placed_with_its_middle_on_the_floor():
    scene_from_scan = place_on_floor(np.array([[10, 20, -1], [14, 21, 2]], np.float32))
    np.testing.assert_array_equal(scene_from_scan, pose(12, 20.5, -1))
    with pytest.raises(InputError, match="finite points"):
        place_on_floor(np.zeros((0, 3)))


@given(st.tuples(*[st.floats(-1, 1)] * 3), st.tuples(*[st.floats(-1, 1)] * 3))
def test_standing_upright_is_a_rotation_that_lifts_up(up, forward):
    if np.linalg.norm(np.cross(up, forward)) < 1e-3:
        return
    level = stand_upright(np.array(up), np.array(forward))[:3, :3]
    np.testing.assert_allclose(level @ level.T, np.eye(3), atol=1e-9)
    assert np.linalg.det(level) == pytest.approx(1)
    np.testing.assert_allclose(level @ up, [0, 0, np.linalg.norm(up)], atol=1e-9)
    assert (level @ forward)[0] > 0
    assert (level @ forward)[1] == pytest.approx(0, abs=1e-9)


def test_parallel_directions_are_refused():
    with pytest.raises(InputError, match="span no plane"):
        stand_upright(np.array([0, 0, 1.0]), np.array([0, 0, 2.0]))


def test_points_of_a_depth_image_by_hand():
    camera = CameraModel(8, 6, 10, 10, 4, 3, "", ())
    depth = np.zeros((6, 8), np.float32)
    depth[3, 4], depth[0, 0], depth[5, 6], depth[2, 2] = 2, 1, 4, 7
    points = unproject_depth(depth, camera, RgbdConfig(pixel_step=1))
    np.testing.assert_allclose(points, [[-0.4, -0.3, 1], [0, 0, 2], [0.8, 0.8, 4]], atol=1e-12)  # 7 m is too far
    assert len(unproject_depth(depth, camera, RgbdConfig(pixel_step=2))) == 1  # of the three only (0, 0) is even


def test_a_frame_and_its_neighbours(tmp_path):
    source = RgbdSequence(write_seven_scenes(tmp_path / "seq-01", [pose(), pose(x=0.5), LOST, pose(x=1, z=-1)]))
    assert is_rgbd(source.frames.folder)
    assert (len(source), source.name, source.label_space) == (3, "rgbd_seq-01", None)
    sample = source.load_sample(1)
    assert sample.key == "rgbd_seq-01/000010"
    assert [image.name for image in sample.images] == ["own", "before_1", "after_1"]
    assert [int(image.image[0, 0, 0]) for image in sample.images] == [1, 0, 3]  # the lost frame is passed over
    np.testing.assert_allclose(sample.cloud.points[:, 0], 2)  # a wall 2 m ahead
    own, before, after = (image.camera_from_lidar for image in sample.images)
    np.testing.assert_allclose(own @ [2, 0, 0, 1], [0, 0, 2, 1], atol=1e-12)
    np.testing.assert_allclose(before @ [2, 0, 0, 1], [0.5, 0, 2, 1], atol=1e-12)  # that camera stands 0.5 m left
    np.testing.assert_allclose(after @ [2, 0, 0, 1], [-0.5, 0, 3, 1], atol=1e-12)  # 0.5 m right, 1 m behind
    np.testing.assert_allclose(sample.world_from_lidar @ [2, 0, 0, 1], [0.5, 0, 2, 1], atol=1e-12)
    assert sample.cloud.stamp_ns < source.load_sample(2).cloud.stamp_ns
    with pytest.raises(InputError, match="samples 0 to 2, got index 3"):
        source.load_sample(3)


def test_every_point_hits_the_pixel_it_came_from(tmp_path):
    source = RgbdSequence(write_seven_scenes(tmp_path / "s", [pose()]), RgbdConfig(pixel_step=1, neighbors=0))
    sample = source.load_sample(0)
    projection = project_cloud(
        sample.cloud.points, sample.images[0].camera_from_lidar, sample.images[0].camera, source.load_occlusion(0), 0.1
    )
    v, u = np.mgrid[:6, :8]
    np.testing.assert_allclose(projection.pixels, np.stack([u.ravel(), v.ravel()], axis=1), atol=1e-4)


def test_occlusion_by_depth_has_two_sides():
    camera = CameraModel(8, 6, 10, 10, 4, 3, "", ())
    depth = np.full((6, 8), 2, np.float32)
    depth[:, :4] = 0  # nothing measured on the left
    occlusion = DepthOcclusion((DepthView(depth, camera, np.eye(4)),), margin=0.1, relative_margin=0.0)
    points = np.array([[0, 0, 2.09], [0, 0, 2.11], [0, 0, 1.91], [0, 0, 1.89], [-0.4, 0, 2], [9, 0, 2], [0, 0, -2]])
    assert occlusion.visible(points, np.eye(4)).tolist() == [True, False, True, False, False, False, False]
    lenient = DepthOcclusion(occlusion.views, 0.1, 0.0, keep_unmeasured=True)
    assert lenient.visible(points, np.eye(4)).tolist() == [True, False, True, False, True, True, True]
    relative = DepthOcclusion(occlusion.views, 0.1, 0.1)
    assert relative.visible(np.array([[0, 0, 2.2], [0, 0, 2.25]]), np.eye(4)).tolist() == [True, False]


def test_occlusion_of_another_sample_is_refused():
    camera = CameraModel(8, 6, 10, 10, 4, 3, "", ())
    occlusion = DepthOcclusion((DepthView(np.zeros((6, 8), np.float32), camera, np.eye(4)),))
    with pytest.raises(InputError, match="none of the 1 depth views"):
        occlusion.visible(np.zeros((1, 3)), pose(x=1))
    with pytest.raises(ConfigError, match="occlusion margin must be"):
        DepthOcclusion((), margin=-1)


def test_frames_as_sensreader_exports_them(tmp_path):
    folder = write_sensreader(tmp_path / "frames", [pose()] * 11)
    frames = FrameFolder(folder)
    assert frames.names == tuple(str(i) for i in range(11))  # 10 comes after 9, not after 1
    assert (frames.camera.width, frames.camera.fx, frames.depth_camera.width, frames.depth_camera.fx) == (16, 20, 8, 10)
    assert is_rgbd(folder)
    sample = RgbdSequence(folder).load_sample(10)
    assert sample.images[0].image.shape == (12, 16, 3)
    np.testing.assert_allclose(sample.cloud.points[:, 0], 2)


def test_views_are_spread_evenly_and_have_poses(tmp_path):
    poses = [pose()] * 3 + [LOST] + [pose()] * 6
    frames = FrameFolder(write_sensreader(tmp_path / "frames", poses))
    assert ViewChoice(step=1, most=100).choose(frames) == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    assert ViewChoice(step=3, most=100).choose(frames) == [0, 6, 9]
    assert ViewChoice(step=1, most=3).choose(frames) == [0, 5, 9]
    with pytest.raises(ConfigError, match="must be >= 1"):
        ViewChoice(step=0)


def test_frames_fuse_to_an_upright_scene(tmp_path):
    """Two cameras, 1 m apart, look along world z at the same wall; world y is down."""
    folder = write_seven_scenes(tmp_path / "room", [pose(), pose(z=-1)], depth_mm=2000)
    for stem, millimetres in (("frame-000000", 2000), ("frame-000010", 3000)):
        save_depth(folder / f"{stem}.depth.png", np.full((6, 8), millimetres))
    config = RgbdSceneConfig(voxel_size=0.05, min_measurements=1, depth=RgbdConfig(pixel_step=1), views=ViewChoice(1))
    source = RgbdScene(folder, config)
    sample = source.load_sample(0)
    assert (len(source), sample.key, source.label_space) == (1, "rgbd_scene_room/000000", None)
    np.testing.assert_allclose(np.ptp(sample.cloud.points[:, 0]), 0, atol=1e-6)  # the wall stands across x
    np.testing.assert_allclose(sample.cloud.points.min(axis=0)[2], 0, atol=1e-6)
    # wall of the far camera: 7 x 5 steps of 0.3 m
    np.testing.assert_allclose(np.ptp(sample.cloud.points, axis=0)[1:], [2.1, 1.5], atol=1e-5)
    assert [image.name for image in sample.images] == ["view_000000", "view_000010"]
    occlusion = source.load_occlusion(0)
    for image in sample.images:
        seen = project_cloud(sample.cloud.points, image.camera_from_lidar, image.camera, occlusion, 0.1)
        assert len(seen) == len(project_cloud(sample.cloud.points, image.camera_from_lidar, image.camera, None, 0.1))
        assert len(seen) >= 40
    assert len(RgbdScene(folder, RgbdSceneConfig(voxel_size=10.0, min_measurements=1)).load_sample(0).cloud) <= 4


def test_a_word_fuses_the_frames_of_a_path(tmp_path):
    folder = write_seven_scenes(tmp_path / "room", [pose(), pose(z=-1)], depth_mm=2000)
    options = "voxel_size=0.05,min_measurements=1,pixel_step=1,view_step=1,most_views=1"
    named = open_source(f"rgbd_scene:{folder}?{options}")
    config = RgbdSceneConfig(
        voxel_size=0.05, min_measurements=1, depth=RgbdConfig(pixel_step=1), views=ViewChoice(step=1, most=1)
    )
    assert named.config == config
    expected = RgbdScene(folder, config).load_sample(0)
    np.testing.assert_array_equal(named.load_sample(0).cloud.points, expected.cloud.points)
    assert len(named.load_sample(0).images) == 1
    assert open_source(f"rgbd_scene:{folder}").config == RgbdSceneConfig()
    assert type(open_source(folder)) is RgbdSequence  # without the word, every frame is a sample
    with pytest.raises(ConfigError, match="did you mean voxel_size"):
        open_source(f"rgbd_scene:{folder}?voxelsize=1")


def test_gravity_beside_the_frames_decides_what_is_up(tmp_path):
    folder = write_seven_scenes(tmp_path / "room", [pose()])
    (folder / "gravity-direction.txt").write_text("1\n0\n0\n")  # the camera lay on its side: world x is down
    config = RgbdSceneConfig(min_measurements=1, depth=RgbdConfig(pixel_step=1))
    extent = np.ptp(RgbdScene(folder, config).load_sample(0).cloud.points, axis=0)
    np.testing.assert_allclose(extent, [0, 1.0, 1.4], atol=1e-5)  # 5 and 7 steps of 0.2 m
    (folder / "gravity-direction.txt").write_text("1 0")
    with pytest.raises(InputError, match="must hold 3 numbers"):
        RgbdScene(folder).load_sample(0)


def test_damaged_folders(tmp_path):
    with pytest.raises(InputError, match=r"holds no posed frames; expected color/N.jpg"):
        RgbdSequence(tmp_path)
    folder = write_seven_scenes(tmp_path / "a", [pose(), pose()])
    (folder / "frame-000010.depth.png").unlink()
    with pytest.raises(InputError, match=r"has no depth image .*000010.depth.png, other frames have"):
        RgbdSequence(folder)
    (folder / "frame-000000.depth.png").unlink()
    with pytest.raises(InputError, match="has no depth images; points cannot"):
        RgbdSequence(folder)
    (folder / "frame-000010.pose.txt").unlink()
    with pytest.raises(InputError, match=r"000010.pose.txt does not exist"):
        FrameFolder(folder)
    with pytest.raises(InputError, match="none of the 2 frames has a finite pose"):
        RgbdSequence(write_seven_scenes(tmp_path / "b", [LOST, LOST]))
    with pytest.raises(InputError, match="none of the 2 frames has a finite pose"):
        RgbdScene(tmp_path / "b")
    with pytest.raises(InputError, match="up to the maximum depth"):
        RgbdScene(write_seven_scenes(tmp_path / "c", [pose()], depth_mm=0)).load_sample(0)
    folder = write_sensreader(tmp_path / "d", [pose()])
    for path in (folder / "intrinsic").iterdir():
        path.unlink()
    with pytest.raises(InputError, match="has poses but no intrinsics"):
        FrameFolder(folder)


def test_the_selected_frames_that_scannet_offers(tmp_path):
    """scannet_frames_25k: as SensReader's, but the intrinsics lie beside the folders."""
    folder = write_sensreader(tmp_path / "scene0000_00", [pose()])
    for kind in ("color", "depth"):
        (folder / "intrinsic" / f"intrinsic_{kind}.txt").rename(folder / f"intrinsics_{kind}.txt")
    frames = FrameFolder(folder)
    assert frames.depth_camera is not None
    assert (frames.camera.width, frames.camera.fx) == (16, 2 * K[0, 0])
    assert (frames.depth_camera.width, frames.depth_camera.fx) == (8, K[0, 0])


def test_damaged_files(tmp_path):
    path = tmp_path / "pose.txt"
    for text, message in (
        ("1 0 0\n0 1 0\n0 0 1\n", "matrix of 4 x 4 numbers"),
        ("a b\n", "cannot be read as a matrix"),
        ("2 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 0 1\n", "pose.txt"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=message):
            read_pose(path)
    np.savetxt(path, K)
    with pytest.raises(InputError, match=r"principal point \(4, 3\) px is not near the middle of images of 640 x 480"):
        read_pinhole(path, (640, 480))
    Image.new("RGB", (8, 6)).save(tmp_path / "rgb.png")
    with pytest.raises(InputError, match="16 bits, got mode RGB"):
        load_depth_file(tmp_path / "rgb.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "rgb.png").read_bytes()[:30])
    with pytest.raises(InputError, match=r"cut.png cannot be read"):
        load_depth_file(tmp_path / "cut.png")
    with pytest.raises(InputError, match=r"none.png does not exist"):
        load_depth_file(tmp_path / "none.png")
    save_depth(tmp_path / "depth.png", [[0, 65535], [1500, 1]])
    np.testing.assert_allclose(load_depth_file(tmp_path / "depth.png"), [[0, 0], [1.5, 0.001]], rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RgbdConfig(pixel_step=0), "pixel_step must be >= 1"),
        (lambda: RgbdConfig(neighbors=-1), "neighbors must be >= 0"),
        (lambda: RgbdConfig(max_depth=0), "max_depth must be > 0"),
        (lambda: RgbdSceneConfig(voxel_size=0), "voxel_size must be > 0"),
        (lambda: RgbdSceneConfig(frame_step=0), "must be >= 1"),
    ],
)
def test_settings_out_of_range(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


@needs_real
def test_the_real_frames_agree_with_each_other():
    """Neighbours of the real sequence, 50 frames apart, see 45 to 93 % of each other's points (README of the data)."""
    source = RgbdSequence(REAL, RgbdConfig(pixel_step=4))
    assert len(source) == 20
    shares = []
    for index in (0, 5, 10, 15):
        sample, occlusion = source.load_sample(index), source.load_occlusion(index)
        for image in sample.images:
            args = (sample.cloud.points, image.camera_from_lidar, image.camera)
            inside, seen = project_cloud(*args, None, 0.1), project_cloud(*args, occlusion, 0.1)
            if image.name == "own":
                assert len(seen) == len(sample.cloud)
            else:
                shares.append(len(seen) / len(inside))
    assert min(shares) > 0.5
    assert np.median(shares) > 0.75


@needs_real
def test_the_real_scene_stands_upright():
    source = RgbdScene(REAL, RgbdSceneConfig(0.03, 2, depth=RgbdConfig(pixel_step=4)))
    points = source.load_sample(0).cloud.points.astype(np.float64)
    assert 1.5 < np.ptp(points[:, 2]) < 2.5

    def fullest_layer(tilt):
        """Points in the fullest layer of 3 cm: floor and tables are level, so no other direction holds as many."""
        height = points @ [*tilt, 1.0]
        return np.histogram(height, np.arange(height.min(), height.max(), 0.03))[0].max()

    for tilt in ((0.1, 0), (-0.1, 0), (0, 0.1), (0, -0.1)):
        assert fullest_layer((0, 0)) > 1.1 * fullest_layer(tilt)
