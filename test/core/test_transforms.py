"""Transforms by hand, against scipy, and the lookups of tf."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.transform import Rotation, Slerp

from ov_seg_ros.core.errors import InputError
from ov_seg_ros.core.transforms import (
    ExtrapolationError,
    TransformTree,
    check_transform,
    interpolate_transform,
    invert_transform,
    matrix_from_quaternion,
    quaternion_from_matrix,
    transform_points,
)

MS = 1_000_000
QUATERNIONS = (
    arrays(np.float64, 4, elements=st.floats(-1, 1))
    .filter(lambda q: np.linalg.norm(q) > 0.1)
    .map(lambda q: q / np.linalg.norm(q))
)
TRANSLATIONS = arrays(np.float64, 3, elements=st.floats(-100, 100))
TRANSFORMS = st.builds(matrix_from_quaternion, TRANSLATIONS, QUATERNIONS)


def shift(x: float, y: float = 0.0, z: float = 0.0) -> np.ndarray:
    return matrix_from_quaternion([x, y, z], [0, 0, 0, 1])


def yaw(degrees: float, x: float = 0.0) -> np.ndarray:
    half = np.deg2rad(degrees) / 2
    return matrix_from_quaternion([x, 0, 0], [0, 0, np.sin(half), np.cos(half)])


class TestMatrices:
    def test_a_quarter_turn_left_by_hand(self) -> None:
        np.testing.assert_allclose(yaw(90, x=5) @ [1, 0, 0, 1], [5, 1, 0, 1], atol=1e-12)

    @given(TRANSLATIONS, QUATERNIONS)
    def test_against_scipy_and_back(self, translation: np.ndarray, quaternion: np.ndarray) -> None:
        matrix = matrix_from_quaternion(translation, quaternion)
        np.testing.assert_allclose(matrix[:3, :3], Rotation.from_quat(quaternion).as_matrix(), atol=1e-12)
        again, same = quaternion_from_matrix(matrix)
        np.testing.assert_array_equal(again, translation)
        assert same[3] >= 0
        assert abs(same @ quaternion) == pytest.approx(1, abs=1e-12)

    @given(TRANSFORMS)
    def test_inverse(self, matrix: np.ndarray) -> None:
        np.testing.assert_allclose(invert_transform(matrix) @ matrix, np.eye(4), atol=1e-12)

    def test_inverse_of_a_matrix_printed_with_four_digits(self) -> None:
        matrix = np.round(matrix_from_quaternion([80, -3, 1], [0.5, 0.5, -0.5, 0.5]) @ yaw(3), 4)
        np.testing.assert_allclose(invert_transform(matrix) @ matrix, np.eye(4), atol=1e-12)

    @given(TRANSFORMS, TRANSFORMS, st.floats(0, 1))
    def test_interpolation_against_scipy(self, a: np.ndarray, b: np.ndarray, fraction: float) -> None:
        ends = Rotation.from_matrix(np.stack([a[:3, :3], b[:3, :3]]))
        if (ends[0].inv() * ends[1]).magnitude() > np.pi - 1e-3:
            return  # both arcs are equally short
        result = interpolate_transform(a, b, fraction)
        np.testing.assert_allclose(result[:3, :3], Slerp([0, 1], ends)(fraction).as_matrix(), atol=1e-9)
        np.testing.assert_allclose(result[:3, 3], (1 - fraction) * a[:3, 3] + fraction * b[:3, 3], atol=1e-9)

    def test_interpolation_of_opposite_directions_stays_rigid(self) -> None:
        for fraction in (0.0, 0.3, 1.0):
            check_transform(interpolate_transform(yaw(0), yaw(180), fraction))

    def test_transform_points(self) -> None:
        points = np.array([[1, 0, 0], [0, 2, 0]], np.float32)
        np.testing.assert_allclose(transform_points(yaw(90, x=5), points), [[5, 1, 0], [3, 0, 0]], atol=1e-12)

    @pytest.mark.parametrize(
        ("matrix", "message"),
        [
            (np.eye(3), r"must be \(4, 4\), got \(3, 3\)"),
            (np.full((4, 4), np.nan), "finite"),
            (np.diag([1.0, 1, 1, 2]), "end with the row"),
            (np.diag([1.1, 1, 1, 1]), "not rigid: .* 0.21"),
            (np.diag([1.0, 1, -1, 1]), "not rigid: .*det R = -1"),
            (np.diag([0.0, 0, 0, 1]), "not rigid"),
        ],
    )
    def test_what_is_not_rigid_is_refused(self, matrix: np.ndarray, message: str) -> None:
        for function in (check_transform, invert_transform, quaternion_from_matrix):
            with pytest.raises(InputError, match=message):
                function(matrix)

    def test_bad_quaternions_are_refused(self) -> None:
        for quaternion in ([0, 0, 0, 0], [0, 0, 0, 2], [0, 0, 0, np.nan]):
            with pytest.raises(InputError, match="unit length"):
                matrix_from_quaternion([0, 0, 0], quaternion)
        with pytest.raises(InputError, match=r"quaternion \(4,\)"):
            matrix_from_quaternion([0, 0, 0], [0, 0, 1])
        with pytest.raises(InputError, match="fraction"):
            interpolate_transform(np.eye(4), np.eye(4), 1.5)


@pytest.fixture
def tree() -> TransformTree:
    """odom -> base_link (moving 10 m/s and turning) -> lidar, base_link -> camera."""
    tree = TransformTree()
    tree.set_static("base_link", "lidar", shift(1, z=2))
    tree.set_static("base_link", "camera", yaw(90, x=3))
    tree.set("odom", "base_link", 100 * MS, shift(0))
    tree.set("odom", "base_link", 200 * MS, yaw(90, x=1))
    return tree


class TestTransformTree:
    def test_through_a_common_ancestor(self, tree: TransformTree) -> None:
        # lidar origin is at (1, 0, 2) in base_link; the camera stands at (3, 0, 0) and looks left
        for stamp in (0, 10**18):  # static edges hold at any stamp
            np.testing.assert_allclose(tree.lookup("camera", "lidar", stamp) @ [0, 0, 0, 1], [0, 2, 2, 1], atol=1e-12)

    def test_down_up_and_itself(self, tree: TransformTree) -> None:
        np.testing.assert_allclose(tree.lookup("base_link", "lidar", 0), shift(1, z=2))
        np.testing.assert_allclose(tree.lookup("lidar", "base_link", 0), shift(-1, z=-2))
        np.testing.assert_allclose(tree.lookup("lidar", "lidar", 0), np.eye(4))

    def test_interpolates(self, tree: TransformTree) -> None:
        np.testing.assert_allclose(tree.lookup("odom", "base_link", 150 * MS), yaw(45, x=0.5), atol=1e-12)
        np.testing.assert_allclose(tree.lookup("odom", "base_link", 200 * MS), yaw(90, x=1), atol=1e-12)
        np.testing.assert_allclose(tree.lookup("odom", "lidar", 100 * MS), shift(1, z=2), atol=1e-12)

    def test_between_stamps_holds_the_ego_motion(self, tree: TransformTree) -> None:
        moved = tree.lookup_between("base_link", 200 * MS, "base_link", 100 * MS, "odom")
        # the world point (0, 0) seen from a vehicle at x = 1 that looks left: 1 m to its left
        np.testing.assert_allclose(moved @ [0, 0, 0, 1], [0, 1, 0, 1], atol=1e-12)

    def test_order_of_arrival_does_not_matter(self) -> None:
        tree = TransformTree()
        for stamp in (30, 10, 20, 0):
            tree.set("a", "b", stamp, shift(stamp))
        tree.set("a", "b", 20, shift(7))
        assert tree.lookup("a", "b", 20)[0, 3] == 7
        assert tree.lookup("a", "b", 5)[0, 3] == pytest.approx(5)

    def test_a_leading_slash_is_dropped(self, tree: TransformTree) -> None:
        tree.set_static("/lidar", "/imu", shift(1))
        np.testing.assert_allclose(tree.lookup("/lidar", "imu", 0), shift(1))
        assert tree.frames == ("base_link", "lidar", "camera", "odom", "imu")

    def test_no_extrapolation(self, tree: TransformTree) -> None:
        with pytest.raises(ExtrapolationError, match=r"'odom' -> 'base_link'.* 12.500 ms after the newest") as caught:
            tree.lookup("odom", "lidar", 212_500_000)
        assert caught.value.missing_ns == 12_500_000
        with pytest.raises(ExtrapolationError, match=r"100.000 ms before the oldest") as caught:
            tree.lookup("odom", "lidar", 0)
        assert caught.value.missing_ns == -100 * MS

    def test_tolerance_holds_the_nearest(self) -> None:
        tree = TransformTree(tolerance_ns=5)
        tree.set("a", "b", 100, shift(1))
        for stamp in (95, 100, 105):
            assert tree.lookup("a", "b", stamp)[0, 3] == 1
        for stamp in (94, 106):
            with pytest.raises(ExtrapolationError):
                tree.lookup("a", "b", stamp)

    def test_unknown_frames(self, tree: TransformTree) -> None:
        with pytest.raises(InputError, match="'laser' is unknown to tf; known frames: base_link, camera, lidar, odom"):
            tree.lookup("camera", "laser", 0)
        with pytest.raises(InputError, match="known frames: none"):
            TransformTree().lookup("a", "b", 0)

    def test_two_trees(self, tree: TransformTree) -> None:
        tree.set_static("rig", "laser", shift(1))
        with pytest.raises(
            InputError, match=r"not connected by tf: the first hangs from 'odom', the second from 'rig'"
        ):
            tree.lookup("camera", "laser", 0)

    def test_a_loop(self) -> None:
        tree = TransformTree()
        tree.set_static("a", "b", shift(1))
        tree.set_static("b", "a", shift(1))
        with pytest.raises(InputError, match="loop: b -> a -> b"):
            tree.lookup("b", "a", 0)

    def test_contradictions_concern_only_those_who_pass(self, tree: TransformTree) -> None:
        tree.set_static("mast", "lidar", shift(1))
        with pytest.raises(InputError, match="'lidar' has two parents, 'base_link' and 'mast'"):
            tree.lookup("camera", "lidar", 0)
        tree.lookup("base_link", "camera", 0)
        tree.set("base_link", "camera", 5, yaw(90, x=3))  # the same again: no contradiction
        tree.lookup("base_link", "camera", 0)
        tree.set("base_link", "camera", 5, yaw(91, x=3))
        with pytest.raises(InputError, match="both static and moving"):
            tree.lookup("base_link", "camera", 0)

    def test_bad_edges(self) -> None:
        tree = TransformTree()
        with pytest.raises(InputError, match="two named frames"):
            tree.set_static("a", "a", np.eye(4))
        with pytest.raises(InputError, match="two named frames"):
            tree.set("", "a", 0, np.eye(4))
        with pytest.raises(InputError, match="transform 'a' -> 'b' is not rigid"):
            tree.set_static("a", "b", np.diag([2.0, 2, 2, 1]))

    def test_forgets_what_is_old(self) -> None:
        tree = TransformTree(keep_ns=100)
        for stamp in range(0, 1001, 10):
            tree.set("a", "b", stamp, shift(stamp))
        assert tree.lookup("a", "b", 905)[0, 3] == pytest.approx(905)
        with pytest.raises(ExtrapolationError):
            tree.lookup("a", "b", 890)

    def test_clear_keeps_what_is_static(self, tree: TransformTree) -> None:
        tree.clear_stamped()
        tree.lookup("camera", "lidar", 0)
        with pytest.raises(InputError, match="cleared"):
            tree.lookup("odom", "lidar", 150 * MS)
        tree.set("odom", "base_link", 5, shift(4))
        assert tree.lookup("odom", "base_link", 5)[0, 3] == 4


@given(st.lists(st.tuples(TRANSFORMS, st.booleans()), min_size=2, max_size=8), st.data())
def test_any_two_frames_of_a_random_tree(edges: list[tuple[np.ndarray, bool]], data: st.DataObject) -> None:
    """Every lookup equals the product of the poses of the two frames in the root, found independently."""
    tree = TransformTree()
    root_from = {"f0": np.eye(4)}
    for number, (matrix, is_static) in enumerate(edges, start=1):
        parent = f"f{data.draw(st.integers(0, number - 1))}"
        if is_static:
            tree.set_static(parent, f"f{number}", matrix)
        else:
            tree.set(parent, f"f{number}", 7, matrix)
        root_from[f"f{number}"] = root_from[parent] @ matrix
    a, b = (f"f{data.draw(st.integers(0, len(edges)))}" for _ in range(2))
    if not {a, b} <= set(tree.frames):
        return
    np.testing.assert_allclose(tree.lookup(a, b, 7), np.linalg.inv(root_from[a]) @ root_from[b], atol=1e-8)
