"""Camera models: by hand, against plain formulas, and round trips."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq, fsolve

from ov_seg_ros.core.camera import CameraModel
from ov_seg_ros.core.errors import ConfigError, InputError

PLUMB_BOB = (-0.3, 0.12, 0.001, -0.0008, -0.02)
RATIONAL = (0.6, 0.35, 0.0004, -0.0003, 0.02, 0.95, 0.5, 0.08)
PRISM = (*RATIONAL, 0.001, -0.0002, 0.0008, 0.0001)
TILTED = (*PRISM, 0.02, -0.03)
FISHEYE = (0.02, -0.005, 0.001, -0.0004)
LENSES = {
    "pinhole": ("", ()),
    "plumb_bob_4": ("plumb_bob", PLUMB_BOB[:4]),
    "plumb_bob_5": ("plumb_bob", PLUMB_BOB),
    "rational_8": ("rational_polynomial", RATIONAL),
    "rational_12": ("rational_polynomial", PRISM),
    "rational_14": ("rational_polynomial", TILTED),
    "fisheye": ("equidistant", FISHEYE),
    "fisheye_ideal": ("equidistant", ()),
}


def make_camera(model: str = "", distortion: tuple[float, ...] = (), **changes) -> CameraModel:
    values = {"width": 640, "height": 480, "fx": 400.0, "fy": 410.0, "cx": 310.5, "cy": 245.25} | changes
    return CameraModel(**values, distortion_model=model, distortion=distortion)


def project_by_the_book(camera: CameraModel, point: tuple[float, float, float]) -> tuple[float, float]:
    """The formulas of the OpenCV documentation, one point, no NumPy."""
    x, y = point[0] / point[2], point[1] / point[2]
    r2 = x**2 + y**2
    d = list(camera.distortion) + [0.0] * 14
    if camera.distortion_model == "equidistant":
        r = math.sqrt(r2)
        theta = math.atan(r)
        theta_d = theta * (1 + d[0] * theta**2 + d[1] * theta**4 + d[2] * theta**6 + d[3] * theta**8)
        scale = theta_d / r if r else 1.0
        xd, yd = x * scale, y * scale
    else:
        k1, k2, p1, p2, k3, k4, k5, k6, s1, s2, s3, s4, tx, ty = d[:14]
        radial = (1 + k1 * r2 + k2 * r2**2 + k3 * r2**3) / (1 + k4 * r2 + k5 * r2**2 + k6 * r2**3)
        xd = x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x**2) + s1 * r2 + s2 * r2**2
        yd = y * radial + p1 * (r2 + 2 * y**2) + 2 * p2 * x * y + s3 * r2 + s4 * r2**2
        r = [
            [math.cos(ty), math.sin(ty) * math.sin(tx), -math.sin(ty) * math.cos(tx)],
            [0, math.cos(tx), math.sin(tx)],
            [math.sin(ty), -math.cos(ty) * math.sin(tx), math.cos(ty) * math.cos(tx)],
        ]
        a, b, c = (row[0] * xd + row[1] * yd + row[2] for row in r)
        xd, yd = (r[2][2] * a - r[0][2] * c) / c, (r[2][2] * b - r[1][2] * c) / c
    return camera.fx * xd + camera.cx, camera.fy * yd + camera.cy


class TestByHand:
    def test_pinhole(self) -> None:
        pixels, visible = make_camera(fx=100.0, fy=200.0, cx=50.0, cy=60.0).project(
            np.array([[1.0, 0.5, 2.0], [0.0, 0.0, 7.0]])
        )
        np.testing.assert_array_equal(pixels, [[100.0, 110.0], [50.0, 60.0]])
        assert visible.all()
        assert pixels.dtype == np.float32
        assert visible.dtype == np.bool_

    def test_plumb_bob(self) -> None:
        # x = 0.5, y = 0, r2 = 0.25; k1 alone: 0.5 (1 - 0.1 * 0.25) = 0.4875; p2: 0.01 (0.25 + 0.5) = 0.0075
        camera = make_camera("plumb_bob", (-0.1, 0.0, 0.02, 0.01), fx=100.0, fy=100.0, cx=50.0, cy=60.0)
        pixels, _ = camera.project(np.array([[1.0, 0.0, 2.0]]))
        np.testing.assert_allclose(pixels, [[50 + 49.5, 60 + 100 * 0.02 * 0.25]], rtol=1e-6)

    def test_ideal_fisheye_is_not_a_pinhole(self) -> None:
        pixels, _ = make_camera("equidistant", fx=100.0, cx=50.0).project(np.array([[1.0, 0.0, 1.0]]))
        assert pixels[0, 0] == pytest.approx(50 + 100 * math.pi / 4, abs=1e-5)

    def test_edges_of_the_image(self) -> None:
        camera = CameraModel(width=4, height=2, fx=1.0, fy=1.0, cx=0.0, cy=0.0)
        u_v = [(-0.5, 0), (-0.51, 0), (3.49, 0), (3.5, 0), (0, -0.5), (0, 1.49), (0, 1.5), (0, -0.51)]
        _, visible = camera.project(np.array([(u, v, 1.0) for u, v in u_v]))
        np.testing.assert_array_equal(visible, [True, False, True, False, True, True, False, False])
        # the largest double below the edge becomes the edge itself in float32: outside
        pixels, visible = camera.project(np.array([[np.nextafter(3.5, 0), 0.0, 1.0]]))
        assert not visible[0]
        assert np.isnan(pixels).all()

    @pytest.mark.parametrize("lens", LENSES)
    def test_what_is_behind_or_not_a_number_is_invalid(self, lens: str) -> None:
        inf, nan = np.inf, np.nan
        bad = [[0, 0, -1], [0, 0, 0], [nan, 0, 1], [0, nan, 1], [0, 0, nan], [inf, 0, 1], [0, 0, inf], [inf, inf, inf]]
        for dtype in (np.float32, np.float64):
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                pixels, visible = make_camera(*LENSES[lens]).project(np.array(bad, dtype))
            assert not visible.any()
            assert np.isnan(pixels).all()

    @pytest.mark.parametrize("lens", LENSES)
    def test_no_points(self, lens: str) -> None:
        camera = make_camera(*LENSES[lens])
        pixels, visible = camera.project(np.zeros((0, 3), np.float32))
        assert pixels.shape == (0, 2)
        assert visible.shape == (0,)
        assert camera.unproject(np.zeros((0, 2))).shape == (0, 3)

    def test_principal_ray(self) -> None:
        for lens in ("pinhole", "plumb_bob_5", "rational_8", "fisheye"):
            camera = make_camera(*LENSES[lens])
            np.testing.assert_allclose(camera.unproject(np.array([[camera.cx, camera.cy]])), [[0, 0, 1]], atol=1e-12)


class TestAgainstThePlainFormulas:
    @pytest.mark.parametrize("lens", LENSES)
    def test_project(self, lens: str) -> None:
        camera = make_camera(*LENSES[lens])
        points = np.random.default_rng(1).uniform([-30, -30, 0.1], [30, 30, 40], (5000, 3))
        pixels, visible = camera.project(points)
        assert 300 < visible.sum() < 4000
        expected = np.array([project_by_the_book(camera, tuple(point)) for point in points])
        np.testing.assert_allclose(pixels[visible], expected[visible], atol=1e-4)
        inside = ((expected >= -0.5) & (expected < [camera.width - 0.5, camera.height - 0.5])).all(axis=1)
        beyond = np.hypot(points[:, 0], points[:, 1]) / points[:, 2] >= camera._lens.limit
        np.testing.assert_array_equal(visible, inside & ~beyond)

    @pytest.mark.parametrize("lens", [name for name in LENSES if name != "pinhole"])
    def test_unproject(self, lens: str) -> None:
        camera = make_camera(*LENSES[lens])
        for u, v in [(0.0, 0.0), (639.0, 479.0), (100.0, 400.0), (310.5, 10.0), (600.0, 245.25)]:
            ray = camera.unproject(np.array([[u, v]]))[0]
            assert np.linalg.norm(ray) == pytest.approx(1.0)
            start = ray[:2] / ray[2] * 0.9
            solved = fsolve(
                lambda xy, u=u, v=v: np.subtract(project_by_the_book(camera, (xy[0], xy[1], 1.0)), (u, v)),
                start,
                xtol=1e-13,
            )
            np.testing.assert_allclose(ray[:2] / ray[2], solved, atol=1e-9)


class TestValidRegion:
    def test_points_far_outside_do_not_fold_back(self) -> None:
        camera = make_camera("plumb_bob", (-0.3, 0.0, 0.0, 0.0))
        fold = math.sqrt(1 / 0.9)  # 1 + 3 k1 r2 = 0
        assert camera._lens.limit == pytest.approx(fold)
        x = np.array([0.5, 1.7, 1.8, 2.0])  # r (1 - 0.3 r2): 1.7 -> 0.226, in the image without the limit
        assert 0 < project_by_the_book(camera, (1.7, 0, 1))[0] < camera.width
        _, visible = camera.project(np.stack([x, np.zeros(4), np.ones(4)], axis=1))
        np.testing.assert_array_equal(visible, [True, False, False, False])

    def test_every_visible_pixel_comes_from_one_direction(self) -> None:
        grid = np.tan(np.linspace(-1.54, 1.54, 401))
        points = np.stack([*np.meshgrid(grid, grid), np.ones((401, 401))], axis=-1).reshape(-1, 3)
        for model, distortion in LENSES.values():
            camera = make_camera(model, distortion)
            pixels, visible = camera.project(points)
            rays = camera.unproject(pixels[visible])
            truth = points[visible] / np.linalg.norm(points[visible], axis=1, keepdims=True)
            np.testing.assert_allclose(rays, truth, atol=2e-5)  # float32 pixels near the fold

    def test_limit_of_a_rational_model_is_its_first_turn_or_pole(self) -> None:
        turning = (0.1, -0.05, 0.0, 0.0, 0.0, 0.2, 0.0, 0.0)
        limit = make_camera("rational_polynomial", turning)._lens.limit

        def radius_d(r: float) -> float:
            return r * (1 + 0.1 * r**2 - 0.05 * r**4) / (1 + 0.2 * r**2)

        slope = brentq(lambda r: radius_d(r + 1e-6) - radius_d(r - 1e-6), 1.0, 3.0)
        assert limit == pytest.approx(slope, rel=1e-5)
        pole = make_camera("rational_polynomial", (0.0, 0.0, 0.0, 0.0, 0.0, -0.25, 0.0, 0.0))
        assert pole._lens.limit == pytest.approx(2.0)

    def test_limit_of_a_fisheye(self) -> None:
        camera = make_camera("equidistant", (-0.2, 0.0, 0.0, 0.0))
        assert math.atan(camera._lens.limit) == pytest.approx(math.sqrt(1 / 0.6))
        assert make_camera("equidistant", ())._lens.limit == math.inf

    def test_tangential_terms_tighten_the_limit(self) -> None:
        radial = make_camera("plumb_bob", (-0.3, 0.0, 0.0, 0.0))._lens.limit
        assert 0.8 * radial < make_camera("plumb_bob", (-0.3, 0.0, 0.02, 0.0))._lens.limit < radial

    def test_pixels_without_a_direction_are_nan(self) -> None:
        camera = make_camera("plumb_bob", (-0.3, 0.0, 0.0, 0.0))  # r_d is at most 0.703
        widest = math.sqrt(1 / 0.9) * 2 / 3
        u = camera.cx + camera.fx * np.array([widest * 0.999, widest * 1.001])
        rays = camera.unproject(np.stack([u, np.full(2, camera.cy)], axis=1))
        np.testing.assert_array_equal(np.isnan(rays).all(axis=1), [False, True])


LENS = st.one_of(
    st.tuples(
        st.just("plumb_bob"),
        st.tuples(*[st.floats(-0.4, 0.4)] * 2, *[st.floats(-0.01, 0.01)] * 2, st.floats(-0.2, 0.2)),
    ),
    st.tuples(
        st.just("rational_polynomial"),
        st.tuples(*[st.floats(-0.4, 0.4)] * 2, *[st.floats(-0.01, 0.01)] * 2, *[st.floats(-0.4, 0.4)] * 4),
    ),
    st.tuples(
        st.just("rational_polynomial"),
        st.tuples(
            *[st.floats(-0.3, 0.3)] * 2,
            *[st.floats(-0.01, 0.01)] * 2,
            *[st.floats(-0.3, 0.3)] * 4,
            *[st.floats(-0.01, 0.01)] * 4,
            *[st.floats(-0.05, 0.05)] * 2,
        ),
    ),
    st.tuples(st.just("equidistant"), st.tuples(*[st.floats(-0.1, 0.1)] * 4)),
)


@given(lens=LENS, seed=st.integers(0, 2**32 - 1))
@settings(max_examples=80, deadline=None)
def test_round_trip(lens: tuple[str, tuple[float, ...]], seed: int) -> None:
    """Pixel -> ray -> pixel to 1e-6 px wherever a ray exists; both directions agree on what is valid."""
    camera = make_camera(*lens)
    pixels = np.random.default_rng(seed).uniform([0, 0], [639, 479], (200, 2))
    rays = camera.unproject(pixels)
    valid = np.isfinite(rays).all(axis=1)
    np.testing.assert_array_equal(valid, ~np.isnan(rays).any(axis=1))
    again = np.array([project_by_the_book(camera, tuple(ray)) for ray in rays[valid]]).reshape(-1, 2)
    np.testing.assert_allclose(again, pixels[valid], atol=1e-6)
    _, visible = camera.project(rays)
    np.testing.assert_array_equal(visible, valid)


@given(lens=LENS, seed=st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_visible_points_have_a_ray(lens: tuple[str, tuple[float, ...]], seed: int) -> None:
    camera = make_camera(*lens)
    points = np.random.default_rng(seed).uniform([-20, -20, -5], [20, 20, 20], (500, 3)).astype(np.float32)
    pixels, visible = camera.project(points)
    assert np.isnan(pixels[~visible]).all()
    expected = [project_by_the_book(camera, tuple(map(float, point))) for point in points[visible]]
    np.testing.assert_allclose(pixels[visible], np.array(expected).reshape(-1, 2), atol=1e-3)
    rays = camera.unproject(np.array(expected).reshape(-1, 2))
    assert np.isfinite(rays).all()


def test_ray_beside_a_nearly_singular_jacobian() -> None:
    """Plain Newton leaves for infinity here."""
    prism = (0.125, 0.078125, 0, 0, 0, 0, 0.28125, 0.28125, -0.009025940040493391, 0.008258152184351117, 0, -0.00134051)
    camera = make_camera("rational_polynomial", prism)
    ray = np.array([-15.780189, 5.164326, 18.178864])
    pixel = project_by_the_book(camera, tuple(ray))
    np.testing.assert_allclose(camera.unproject(np.array([pixel]))[0], ray / np.linalg.norm(ray), atol=1e-6)


class TestRefusals:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"fx": 0.0, "fy": 0.0}, "CameraInfo K is zero - uncalibrated camera"),
            ({"fx": -1.0}, "focal lengths must be > 0"),
            ({"cx": math.nan}, "finite"),
            ({"width": 0}, "image size must be positive"),
        ],
    )
    def test_intrinsics(self, changes: dict, message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            make_camera(**changes)

    @pytest.mark.parametrize(
        ("model", "distortion", "message"),
        [
            ("double_sphere", (), "'double_sphere' is unknown; known: plumb_bob"),
            ("plumb_bob", (0.1,) * 8, "takes 0 or 4 or 5 coefficients, got 8; that many belong to"),
            ("equidistant", (0.1,) * 5, "takes 0 or 4 coefficients, got 5"),
            ("plumb_bob", (0.1, math.inf, 0, 0), "must be finite"),
            ("", (0.1,) * 5, "takes 0 coefficients"),
        ],
    )
    def test_distortion(self, model: str, distortion: tuple, message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            make_camera(model, distortion)

    def test_shapes(self) -> None:
        with pytest.raises(InputError, match=r"\(N, 3\), got \(3,\)"):
            make_camera().project(np.zeros(3))
        with pytest.raises(InputError, match=r"\(M, 2\), got \(2, 3\)"):
            make_camera().unproject(np.zeros((2, 3)))

    def test_equal_and_hashable(self) -> None:
        first, second = make_camera("plumb_bob", PLUMB_BOB), make_camera("plumb_bob", PLUMB_BOB)
        first.project(np.ones((1, 3)))
        assert first == second
        assert hash(first) == hash(second)
