"""CameraInfo: all fields, window and binning against a projection by hand, refusals."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ov_seg_ros.core.camera import CameraModel
from ov_seg_ros.core.errors import InputError
from ov_seg_ros.messages.camera_info import decode_camera_info, encode_camera_info

K = [400.0, 0.0, 310.0, 0.0, 410.0, 245.0, 0.0, 0.0, 1.0]
P = [390.0, 0.0, 305.0, 0.0, 0.0, 395.0, 240.0, 0.0, 0.0, 0.0, 1.0, 0.0]


def make_info(**changes: Any) -> Any:
    values: dict[str, Any] = {
        "header": SimpleNamespace(frame_id="camera_optical"),
        "width": 640,
        "height": 480,
        "distortion_model": "plumb_bob",
        "d": [-0.1, 0.02, 0.001, 0.0, 0.0],
        "k": K,
        "r": np.eye(3).reshape(-1),
        "p": P,
        "binning_x": 0,
        "binning_y": 0,
        "roi": SimpleNamespace(x_offset=0, y_offset=0, width=0, height=0, do_rectify=False),
    }
    return SimpleNamespace(**(values | changes))


def region(x: int, y: int, width: int, height: int) -> Any:
    return SimpleNamespace(x_offset=x, y_offset=y, width=width, height=height, do_rectify=False)


def test_all_fields() -> None:
    expected = CameraModel(640, 480, 400.0, 410.0, 310.0, 245.0, "plumb_bob", (-0.1, 0.02, 0.001, 0.0, 0.0))
    assert decode_camera_info(make_info()) == expected
    assert decode_camera_info(make_info(roi=region(0, 0, 640, 480), binning_x=1, binning_y=1)) == expected


def test_ros_1_names() -> None:
    info = make_info()
    info.D, info.K, info.R, info.P = info.d, info.k, info.r, info.p
    del info.d, info.k, info.r, info.p
    assert decode_camera_info(info) == decode_camera_info(make_info())


@pytest.mark.parametrize(
    ("model", "distortion"),
    [
        ("plumb_bob", ()),
        ("plumb_bob", (-0.1, 0.02, 0.001, 0.0)),
        ("rational_polynomial", (0.1, 0.2, 0.001, 0.0, 0.01, 0.1, 0.2, 0.01)),
        ("equidistant", (0.01, 0.0, 0.0, 0.0)),
        ("", ()),
    ],
)
def test_round_trip_with_every_maker(types: Any, model: str, distortion: tuple[float, ...]) -> None:
    camera = CameraModel(640, 480, 400.0, 410.0, 310.0, 245.0, model, distortion)
    message = encode_camera_info(camera, types, 3_000_000_004, "front_optical")
    assert (message.header.stamp.sec, message.header.frame_id) == (3, "front_optical")
    assert decode_camera_info(message) == camera
    rectified = decode_camera_info(message, rectified=True)
    assert (rectified.fx, rectified.distortion) == (400.0, ())


def test_models_without_distortion_and_by_another_name() -> None:
    assert decode_camera_info(make_info(distortion_model="", d=[0.0] * 5)).distortion == ()
    fisheye = decode_camera_info(make_info(distortion_model="fisheye", d=[0.1, 0.0, 0.0, 0.0]))
    assert fisheye.distortion_model == "equidistant"


def test_region_of_interest_and_binning() -> None:
    """A full-size pixel (u, v) lies at ((u - x + 0.5) / b - 0.5) of the smaller image: centres of binned pixels."""
    points = np.random.default_rng(0).uniform([-2, -2, 2], [2, 2, 9], (200, 3))
    full, in_full = decode_camera_info(make_info()).project(points)
    camera = decode_camera_info(make_info(roi=region(100, 60, 400, 301), binning_x=2, binning_y=4))
    assert (camera.width, camera.height) == (200, 75)
    pixels, visible = camera.project(points)
    assert 20 < visible.sum() < in_full.sum()
    np.testing.assert_allclose(pixels[visible], (full[visible] - [99.5, 59.5]) / [2, 4] - 0.5, atol=1e-3)
    # binned pixel (0, 0) holds columns 100 and 101, rows 60 to 63
    first = camera.unproject(np.array([[0.0, 0.0]]))
    np.testing.assert_allclose(first, decode_camera_info(make_info()).unproject(np.array([[100.5, 61.5]])), atol=1e-12)


def test_rectified_images() -> None:
    camera = decode_camera_info(make_info(), rectified=True)
    assert (camera.fx, camera.fy, camera.cx, camera.cy, camera.distortion) == (390.0, 395.0, 305.0, 240.0, ())
    turned = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]).reshape(-1)
    with pytest.raises(InputError, match="rectification turns the camera"):
        decode_camera_info(make_info(r=turned), rectified=True)
    right = [*P[:3], -120.0, *P[4:]]
    with pytest.raises(InputError, match=r"P shifts the camera .*-120"):
        decode_camera_info(make_info(p=right), rectified=True)
    with pytest.raises(InputError, match="P is zero"):
        decode_camera_info(make_info(p=[0.0] * 12), rectified=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"k": [0.0] * 9}, "'camera_optical': CameraInfo K is zero - uncalibrated camera"),
        ({"k": K[:8]}, "K must have 9 numbers, got 8"),
        ({"k": [400.0, 2.0, *K[2:]]}, r"expected a matrix \[\[fx, 0, cx\]"),
        ({"k": [*K[:8], 2.0]}, "expected a matrix"),
        ({"width": 0}, "image size must be positive"),
        ({"distortion_model": "kb4"}, "'kb4' is unknown; known: plumb_bob"),
        ({"distortion_model": ""}, "'' takes 0 coefficients, got 5"),
        ({"d": [0.1] * 6}, "takes 0 or 4 or 5 coefficients, got 6"),
        (
            {"roi": region(600, 0, 100, 100)},
            r"region of interest 100 x 100 at \(600, 0\) leaves the image of 640 x 480",
        ),
    ],
)
def test_refusals(changes: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        decode_camera_info(make_info(**changes))
