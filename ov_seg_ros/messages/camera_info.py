"""sensor_msgs/CameraInfo to a camera model and back."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.camera import CameraModel
from ov_seg_ros.core.errors import ConfigError, InputError
from ov_seg_ros.messages.assembly import MessageTypes, make_header, make_message

_ALIASES = {"fisheye": "equidistant"}  # what some drivers write for the model of the same formula


def decode_camera_info(msg: Any, rectified: bool = False) -> CameraModel:
    """Reads the camera that took the images beside this CameraInfo.

    A region of interest is cut out first, then pixels are binned, as the message defines it; the model is that of the
    image that results. Centres of binned pixels are exact: u = (u_full - x_offset + 0.5) / binning - 0.5.

    Args:
        msg: any object with the attributes of sensor_msgs/CameraInfo (ROS 1's D, K, R, P also serve).
        rectified: the images are rectified (``image_rect``): P counts, without distortion.

    Raises:
        InputError: an uncalibrated camera (K all zero), an unknown distortion model, a matrix that is no camera
            matrix, a region outside of the image, or rectified images of a frame turned or shifted against the raw one.
    """
    where = f"CameraInfo of frame {msg.header.frame_id!r}"
    try:
        return _rectified_camera(msg) if rectified else _raw_camera(msg)
    except (ConfigError, InputError) as error:
        raise InputError(f"{where}: {error}") from error


def encode_camera_info(camera: CameraModel, types: MessageTypes, stamp_ns: int = 0, frame_id: str = "") -> Any:
    """Makes a sensor_msgs/CameraInfo: no binning, no region of interest, R identity, P = [K 0].

    Args:
        camera: the model.
        types: message classes, see ``messages.assembly``.
        stamp_ns: nanoseconds.
        frame_id: tf frame of the camera (optical).

    Raises:
        InputError: a class is missing.
    """
    matrix = camera.matrix
    region = make_message(
        types, "sensor_msgs/msg/RegionOfInterest", x_offset=0, y_offset=0, height=0, width=0, do_rectify=False
    )
    return make_message(
        types,
        "sensor_msgs/msg/CameraInfo",
        header=make_header(types, stamp_ns, frame_id),
        height=camera.height,
        width=camera.width,
        distortion_model=camera.distortion_model,
        d=np.array(camera.distortion, np.float64),
        k=matrix.reshape(-1),
        r=np.eye(3).reshape(-1),
        p=np.hstack([matrix, np.zeros((3, 1))]).reshape(-1),
        binning_x=0,
        binning_y=0,
        roi=region,
    )


def _raw_camera(msg: Any) -> CameraModel:
    distortion = tuple(float(value) for value in _array(msg, "d"))
    model = _ALIASES.get(msg.distortion_model, msg.distortion_model)
    if model == "" and not any(distortion):
        distortion = ()  # simulators send no model and zeros
    return _windowed(msg, _array(msg, "k").reshape(3, 3), model, distortion)


def _rectified_camera(msg: Any) -> CameraModel:
    rotation, projection = _array(msg, "r").reshape(3, 3), _array(msg, "p").reshape(3, 4)
    if not np.allclose(rotation, np.eye(3), atol=1e-3) and rotation.any():
        raise InputError(
            f"rectification turns the camera (R = {np.round(rotation, 4).tolist()}), but tf knows the raw camera only; "
            f"use the raw images"
        )
    if not projection.any():
        raise InputError("P is zero - the camera is not rectified; use the raw images")
    if projection[:, 3].any():
        raise InputError(
            f"P shifts the camera (last column {projection[:, 3].tolist()}), it is the right one of a stereo pair; "
            f"use the raw images, or the left camera"
        )
    return _windowed(msg, projection[:, :3], "plumb_bob", ())


def _windowed(msg: Any, matrix: NDArray[np.float64], model: str, distortion: tuple[float, ...]) -> CameraModel:
    """The camera of the image that region of interest and binning leave."""
    fx, skew, cx, _, fy, cy = matrix[:2].reshape(-1)
    if matrix.any() and (skew or matrix[1, 0] or not np.array_equal(matrix[2], [0, 0, 1])):
        raise InputError(f"expected a matrix [[fx, 0, cx], [0, fy, cy], [0, 0, 1]], got {matrix.tolist()}")
    x, y, width, height = (int(getattr(msg.roi, name)) for name in ("x_offset", "y_offset", "width", "height"))
    full_width, full_height = int(msg.width), int(msg.height)
    if not (x or y or width or height):
        width, height = full_width, full_height
    if x + width > full_width or y + height > full_height:
        raise InputError(
            f"region of interest {width} x {height} at ({x}, {y}) leaves the image of {full_width} x {full_height}"
        )
    bin_x, bin_y = max(int(msg.binning_x), 1), max(int(msg.binning_y), 1)
    return CameraModel(
        width=width // bin_x,
        height=height // bin_y,
        fx=float(fx / bin_x),
        fy=float(fy / bin_y),
        cx=float((cx - x + 0.5) / bin_x - 0.5),
        cy=float((cy - y + 0.5) / bin_y - 0.5),
        distortion_model=model,
        distortion=distortion,
    )


def _array(msg: Any, name: str) -> NDArray[np.float64]:
    values = getattr(msg, name) if hasattr(msg, name) else getattr(msg, name.upper())
    result = np.asarray(values, np.float64).reshape(-1)
    expected = {"k": 9, "r": 9, "p": 12}.get(name, len(result))
    if len(result) != expected:
        raise InputError(f"{name.upper()} must have {expected} numbers, got {len(result)}")
    return result
