"""sensor_msgs/Image and CompressedImage to RGB arrays and back."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.errors import InputError, MissingDependencyError
from ov_seg_ros.messages.assembly import MessageTypes, make_header, make_message, read_bytes, split_rows
from ov_seg_ros.messages.color_conversion import bayer_to_rgb, yuv422_to_rgb

Channels = NDArray[Any]  # (H, W, channels) uint8 or uint16


@dataclass(frozen=True)
class _Encoding:
    channels: int
    to_rgb: Callable[[Channels], NDArray[np.uint8]]
    bits: int = 8


def _repeat(image: Channels) -> NDArray[np.uint8]:
    return np.repeat(image, 3, axis=2)


def _pick(*channels: int) -> Callable[[Channels], NDArray[np.uint8]]:
    def to_rgb(image: Channels) -> NDArray[np.uint8]:
        rgb = np.empty((*image.shape[:2], 3), np.uint8)
        for target, source in enumerate(channels):  # twice as fast as image[:, :, channels]
            rgb[:, :, target] = image[:, :, source]
        return rgb

    return to_rgb


def _bayer(pattern: str) -> Callable[[Channels], NDArray[np.uint8]]:
    return lambda image: bayer_to_rgb(image[:, :, 0], pattern)


def _yuv(luma_first: bool) -> Callable[[Channels], NDArray[np.uint8]]:
    return lambda image: yuv422_to_rgb(image, luma_first)


_ENCODINGS = {
    "rgb8": _Encoding(3, np.array),
    "bgr8": _Encoding(3, _pick(2, 1, 0)),
    "rgba8": _Encoding(4, _pick(0, 1, 2)),
    "bgra8": _Encoding(4, _pick(2, 1, 0)),
    "mono8": _Encoding(1, _repeat),
    "mono16": _Encoding(1, _repeat, bits=16),
    "8UC1": _Encoding(1, _repeat),
    "8UC3": _Encoding(3, _pick(2, 1, 0)),  # OpenCV's order, as cv_bridge takes it
    "8UC4": _Encoding(4, _pick(2, 1, 0)),
    "yuv422": _Encoding(2, _yuv(luma_first=False)),
    "uyvy": _Encoding(2, _yuv(luma_first=False)),
    "yuv422_yuy2": _Encoding(2, _yuv(luma_first=True)),
    "yuyv": _Encoding(2, _yuv(luma_first=True)),
    **{f"bayer_{p}8": _Encoding(1, _bayer(p)) for p in ("rggb", "bggr", "gbrg", "grbg")},
    **{f"bayer_{p}16": _Encoding(1, _bayer(p), bits=16) for p in ("rggb", "bggr", "gbrg", "grbg")},
}

ENCODINGS = tuple(_ENCODINGS)
"""Values of Image.encoding that ``decode_image`` reads."""

_COMPRESSION = re.compile(r"\b(jpeg|jpg|png)\b", re.IGNORECASE)


def decode_image(msg: Any) -> NDArray[np.uint8]:
    """Reads an image of any usual encoding.

    Grey is repeated into three channels; of 16 bits the upper 8 are kept; Bayer mosaics are interpolated bilinearly;
    YUV is BT.601 with limited range; alpha is dropped. Images that are not pictures (depth, 32FC1) are refused.

    Args:
        msg: any object with the attributes of sensor_msgs/Image or sensor_msgs/CompressedImage (jpeg, png).

    Returns:
        (H, W, 3) uint8 RGB, contiguous, a copy.

    Raises:
        InputError: unknown encoding, data that does not fit the sizes, or a corrupt file.
    """
    return _decode_compressed(msg) if hasattr(msg, "format") else _decode_raw(msg)


def encode_image(image: NDArray[np.uint8], types: MessageTypes, stamp_ns: int = 0, frame_id: str = "") -> Any:
    """Makes a sensor_msgs/Image, rgb8.

    Args:
        image: (H, W, 3) uint8 RGB.
        types: message classes, see ``messages.assembly``.
        stamp_ns: nanoseconds.
        frame_id: tf frame.

    Raises:
        InputError: not (H, W, 3) uint8, or a class is missing.
    """
    _check_rgb(image)
    return make_message(
        types,
        "sensor_msgs/msg/Image",
        header=make_header(types, stamp_ns, frame_id),
        height=image.shape[0],
        width=image.shape[1],
        encoding="rgb8",
        is_bigendian=0,
        step=3 * image.shape[1],
        data=np.ascontiguousarray(image).reshape(-1),
    )


def encode_compressed_image(
    image: NDArray[np.uint8], types: MessageTypes, stamp_ns: int = 0, frame_id: str = "", quality: int = 90
) -> Any:
    """Makes a sensor_msgs/CompressedImage, jpeg.

    Args:
        image: (H, W, 3) uint8 RGB.
        types: message classes, see ``messages.assembly``.
        stamp_ns: nanoseconds.
        frame_id: tf frame.
        quality: of the jpeg, 1 to 95.

    Raises:
        InputError: not (H, W, 3) uint8, or a class is missing.
        MissingDependencyError: Pillow is not installed.
    """
    _check_rgb(image)
    file = io.BytesIO()
    _pillow().fromarray(image).save(file, "JPEG", quality=quality)
    return make_message(
        types,
        "sensor_msgs/msg/CompressedImage",
        header=make_header(types, stamp_ns, frame_id),
        format="jpeg",
        data=np.frombuffer(file.getvalue(), np.uint8),
    )


def _decode_raw(msg: Any) -> NDArray[np.uint8]:
    height, width = int(msg.height), int(msg.width)
    what = f"Image of frame {msg.header.frame_id!r} ({width} x {height} {msg.encoding})"
    encoding = _ENCODINGS.get(msg.encoding)
    if encoding is None:
        raise InputError(f"{what}: unknown encoding {msg.encoding!r}; known: {', '.join(ENCODINGS)}")
    if height == 0 or width == 0:
        raise InputError(f"{what}: has no pixels")
    row_bytes = width * encoding.channels * encoding.bits // 8
    rows = split_rows(read_bytes(msg.data, what), height, row_bytes, int(msg.step), what)
    pixels = np.ascontiguousarray(rows)
    if encoding.bits == 16:
        pixels = _upper_bytes(pixels.view(">u2" if msg.is_bigendian else "<u2"))
    return _to_rgb(pixels.reshape(height, width, encoding.channels), encoding, what)


def _decode_compressed(msg: Any) -> NDArray[np.uint8]:
    image_format = str(msg.format)
    what = f"CompressedImage of frame {msg.header.frame_id!r} (format {image_format!r})"
    if not _COMPRESSION.search(image_format):
        raise InputError(f"{what}: unknown format; known: jpeg, png and image_transport's 'ENCODING; jpeg compressed'")
    data = read_bytes(msg.data, what)
    pillow = _pillow()
    try:
        with pillow.open(io.BytesIO(data.tobytes()), formats=["JPEG", "PNG"]) as file:
            mosaic = _mosaic_of(image_format) if file.mode in ("L", "I", "I;16") else None
            if mosaic is None and not file.mode.startswith("I"):
                return np.array(file.convert("RGB"))  # a copy: Pillow's own memory is read-only
            grey = np.array(file)
    except (OSError, ValueError, SyntaxError, pillow.DecompressionBombError) as error:
        raise InputError(f"{what}: {len(data)} bytes that are no readable jpeg or png: {error}") from error
    grey = grey if grey.dtype == np.uint8 else _upper_bytes(grey)
    return _to_rgb(grey[:, :, None], _ENCODINGS[mosaic or "mono8"], what)


def _mosaic_of(image_format: str) -> str | None:
    """The Bayer encoding of "bayer_rggb8; png compressed", where image_transport kept the mosaic as it was."""
    encoding, _, compression = (part.strip() for part in image_format.partition(";"))
    target = compression.rpartition("compressed")[2].strip()
    return encoding if encoding in _ENCODINGS and encoding.startswith("bayer") and target in ("", encoding) else None


def _to_rgb(image: Channels, encoding: _Encoding, what: str) -> NDArray[np.uint8]:
    try:
        return encoding.to_rgb(image)
    except InputError as error:
        raise InputError(f"{what}: {error}") from error


def _upper_bytes(image: NDArray[Any]) -> NDArray[np.uint8]:
    return (image >> 8).astype(np.uint8)


def _check_rgb(image: NDArray[np.uint8]) -> None:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise InputError(f"image must be (H, W, 3) uint8 RGB, got {image.shape} {image.dtype}")


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingDependencyError("pillow", "pip install pillow", "reading compressed images") from error
    return Image
