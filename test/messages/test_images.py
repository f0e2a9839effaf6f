"""Images: every encoding by hand, against Pillow, refusals."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PillowImage

from ov_seg_ros.core.errors import InputError
from ov_seg_ros.messages.color_conversion import bayer_to_rgb, yuv422_to_rgb
from ov_seg_ros.messages.images import ENCODINGS, decode_image, encode_compressed_image, encode_image

HEADER = SimpleNamespace(stamp=SimpleNamespace(sec=0, nanosec=0), frame_id="camera")


def raw(encoding: str, pixels: Any, *, width: int, height: int = 1, padding: int = 0, big: int = 0, **changes) -> Any:
    data = np.frombuffer(bytes(pixels), np.uint8)
    row = len(data) // height
    rows = np.pad(data.reshape(height, row), ((0, 0), (0, padding)), constant_values=0xEE)
    values = {"height": height, "width": width, "step": row + padding, "data": rows.tobytes()} | changes
    return SimpleNamespace(header=HEADER, encoding=encoding, is_bigendian=big, **values)


def compressed(image: PillowImage.Image, file_format: str, name: str) -> Any:
    file = io.BytesIO()
    image.save(file, file_format)
    return SimpleNamespace(header=HEADER, format=name, data=file.getvalue())


class TestEncodings:
    @pytest.mark.parametrize("padding", [0, 3])
    @pytest.mark.parametrize(
        ("encoding", "pixels", "expected"),
        [
            ("rgb8", [1, 2, 3, 4, 5, 6], [[1, 2, 3], [4, 5, 6]]),
            ("bgr8", [1, 2, 3, 4, 5, 6], [[3, 2, 1], [6, 5, 4]]),
            ("8UC3", [1, 2, 3, 4, 5, 6], [[3, 2, 1], [6, 5, 4]]),
            ("rgba8", [1, 2, 3, 9, 4, 5, 6, 9], [[1, 2, 3], [4, 5, 6]]),
            ("bgra8", [1, 2, 3, 9, 4, 5, 6, 9], [[3, 2, 1], [6, 5, 4]]),
            ("8UC4", [1, 2, 3, 9, 4, 5, 6, 9], [[3, 2, 1], [6, 5, 4]]),
            ("mono8", [7, 8], [[7, 7, 7], [8, 8, 8]]),
            ("8UC1", [7, 8], [[7, 7, 7], [8, 8, 8]]),
            ("mono16", [1, 7, 2, 8], [[7, 7, 7], [8, 8, 8]]),
            ("yuv422", [128, 16, 128, 235], [[0, 0, 0], [255, 255, 255]]),
            ("uyvy", [128, 16, 128, 235], [[0, 0, 0], [255, 255, 255]]),
            ("yuv422_yuy2", [16, 128, 235, 128], [[0, 0, 0], [255, 255, 255]]),
            ("yuyv", [16, 128, 235, 128], [[0, 0, 0], [255, 255, 255]]),
        ],
    )
    def test_two_pixels(self, encoding: str, pixels: list, expected: list, padding: int) -> None:
        message = raw(encoding, pixels * 2, width=2, height=2, padding=padding)
        image = decode_image(message)
        np.testing.assert_array_equal(image, [expected, expected])
        assert image.dtype == np.uint8
        assert image.flags.c_contiguous
        assert image.flags.writeable
        assert not np.shares_memory(image, np.frombuffer(message.data, np.uint8))

    def test_big_endian(self) -> None:
        assert decode_image(raw("mono16", [7, 1], width=1, big=1))[0, 0, 0] == 7

    @pytest.mark.parametrize(
        ("yuv", "rgb"),
        [((81, 90, 240), (255, 0, 0)), ((145, 54, 34), (0, 255, 0)), ((41, 240, 110), (0, 0, 255))],
        ids=["red", "green", "blue"],
    )
    def test_primary_colors_of_bt601(self, yuv: tuple, rgb: tuple) -> None:
        y, u, v = yuv
        for image, luma_first in ([u, y, v, y], False), ([y, u, y, v], True):
            result = yuv422_to_rgb(np.array(image, np.uint8).reshape(1, 2, 2), luma_first)
            np.testing.assert_allclose(result, np.broadcast_to(rgb, (1, 2, 3)), atol=2)


class TestBayer:
    def test_measured_values_stay_and_the_gaps_are_means(self) -> None:
        mosaic = np.array([[10, 20, 30, 40], [50, 60, 70, 80], [90, 100, 110, 120], [130, 140, 150, 160]], np.uint8)
        rgb = bayer_to_rgb(mosaic, "rggb")
        assert rgb[0, 0, 0] == 10
        assert rgb[0, 1, 1] == 20
        assert rgb[1, 1, 2] == 60
        assert rgb[0, 1, 0] == (10 + 30) // 2
        assert rgb[1, 0, 0] == (10 + 90) // 2
        assert rgb[1, 1, 0] == (10 + 30 + 90 + 110) // 4
        assert rgb[1, 1, 1] == (20 + 50 + 70 + 100) // 4
        assert rgb[2, 2, 2] == (60 + 80 + 140 + 160) // 4
        assert rgb[0, 0, 2] == 60  # mirrored border

    @pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
    @given(
        color=st.tuples(*[st.integers(0, 255)] * 3),
        height=st.integers(2, 7),
        width=st.integers(2, 7),
        bits=st.sampled_from([8, 16]),
    )
    @settings(max_examples=20, deadline=None)
    def test_one_color_comes_back(self, pattern: str, color: tuple, height: int, width: int, bits: int) -> None:
        tile = np.array([color["rgb".index(name)] for name in pattern]).reshape(2, 2)
        mosaic = np.tile(tile, (4, 4))[:height, :width] << (bits - 8)
        data = mosaic.astype(f"<u{bits // 8}").tobytes()
        image = decode_image(raw(f"bayer_{pattern}{bits}", data, width=width, height=height))
        np.testing.assert_array_equal(image, np.broadcast_to(color, image.shape))


class TestCompressed:
    @pytest.mark.parametrize("name", ["png", "rgb8; png compressed ", "bgr8; PNG compressed bgr8"])
    def test_png(self, name: str) -> None:
        pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
        np.testing.assert_array_equal(decode_image(compressed(PillowImage.fromarray(pixels), "PNG", name)), pixels)

    @pytest.mark.parametrize("name", ["jpeg", "jpg", "rgb8; jpeg compressed bgr8", "bayer_rggb8; jpeg compressed bgr8"])
    def test_jpeg(self, name: str) -> None:
        image = decode_image(compressed(PillowImage.new("RGB", (16, 8), (200, 30, 60)), "JPEG", name))
        np.testing.assert_allclose(image, np.broadcast_to((200, 30, 60), (8, 16, 3)), atol=3)
        assert image.flags.writeable

    def test_grey_palette_alpha_and_16_bits(self) -> None:
        grey = PillowImage.fromarray(np.array([[3, 250]], np.uint8))
        for image in (grey, grey.convert("P"), grey.convert("RGBA")):
            np.testing.assert_array_equal(decode_image(compressed(image, "PNG", "png"))[0, :, 0], [3, 250])
        deep = PillowImage.fromarray(np.array([[0x0301, 0xFA02]], np.uint16))
        np.testing.assert_array_equal(
            decode_image(compressed(deep, "PNG", "mono16; png compressed "))[0], [[3] * 3, [250] * 3]
        )

    def test_a_mosaic_in_a_png_is_interpolated(self) -> None:
        mosaic = PillowImage.fromarray(np.tile(np.array([[9, 50], [50, 200]], np.uint8), (2, 2)))
        image = decode_image(compressed(mosaic, "PNG", "bayer_rggb8; png compressed "))
        np.testing.assert_array_equal(image, np.broadcast_to((9, 50, 200), (4, 4, 3)))
        assert (decode_image(compressed(mosaic, "PNG", "mono8; png compressed "))[0, 0] == 9).all()


class TestEncode:
    def test_every_maker_of_messages(self, types: Any) -> None:
        pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
        message = encode_image(pixels, types, stamp_ns=2_000_000_001, frame_id="cam")
        assert (message.encoding, message.step, message.header.stamp.nanosec) == ("rgb8", 21, 1)
        np.testing.assert_array_equal(decode_image(message), pixels)
        np.testing.assert_array_equal(decode_image(encode_image(pixels[:, ::2], types)), pixels[:, ::2])

    def test_jpeg(self, types: Any) -> None:
        pixels = np.zeros((16, 32, 3), np.uint8)
        pixels[:, 16:] = (220, 120, 20)
        message = encode_compressed_image(pixels, types, 5, "cam", quality=95)
        assert (message.format, message.header.frame_id) == ("jpeg", "cam")
        away_from_the_edge = np.r_[0:14, 18:32]  # where the colours meet, chroma is shared by two pixels
        decoded = decode_image(message)[:, away_from_the_edge]
        np.testing.assert_allclose(decoded, pixels[:, away_from_the_edge], atol=3)

    def test_refuses_what_is_no_rgb_image(self, types: Any) -> None:
        for image in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((4, 4, 4), np.uint8)):
            with pytest.raises(InputError, match=r"must be \(H, W, 3\) uint8 RGB, got"):
                encode_image(image, types)


class TestRefusals:
    @pytest.mark.parametrize(
        ("message", "expected"),
        [
            (raw("32FC1", bytes(16), width=4), "'camera'.* unknown encoding '32FC1'; known: rgb8, bgr8, "),
            (raw("rgb8", bytes(5), width=2, step=6), "data has 5 bytes, expected 6; truncated"),
            (raw("rgb8", bytes(12), width=2, height=2, step=5), "rows overlap"),
            (raw("rgb8", b"", width=0), "no pixels"),
            (raw("bayer_rggb8", bytes(3), width=3), "Image of frame .* at least 2 x 2 pixels, got 3 x 1"),
            (raw("yuyv", bytes(6), width=3), "even width, got 3"),
            (SimpleNamespace(header=HEADER, format="32FC1; compressedDepth", data=b""), "unknown format; known: jpeg"),
            (SimpleNamespace(header=HEADER, format="jpeg", data=b"hello"), "5 bytes that are no readable jpeg or png"),
            (SimpleNamespace(header=HEADER, format="jpeg", data=b""), "0 bytes that are no readable"),
        ],
    )
    def test_says_what_came(self, message: Any, expected: str) -> None:
        with pytest.raises(InputError, match=expected):
            decode_image(message)

    @pytest.mark.parametrize("file_format", ["PNG", "JPEG"])
    def test_truncated_file(self, file_format: str) -> None:
        noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
        message = compressed(PillowImage.fromarray(noise), file_format, file_format.lower())
        message.data = message.data[: len(message.data) // 2]
        with pytest.raises(InputError, match="no readable jpeg or png"):
            decode_image(message)

    @given(
        encoding=st.sampled_from(ENCODINGS),
        size=st.tuples(st.integers(0, 6), st.integers(0, 6)),
        step=st.integers(0, 30),
        data=st.binary(max_size=200),
        big=st.integers(0, 1),
    )
    @settings(max_examples=300, deadline=None)
    def test_anything_else_is_an_input_error(
        self, encoding: str, size: tuple[int, int], step: int, data: bytes, big: int
    ) -> None:
        height, width = size
        message = SimpleNamespace(
            header=HEADER, encoding=encoding, is_bigendian=big, height=height, width=width, step=step, data=data
        )
        try:
            image = decode_image(message)
        except InputError:
            return
        assert image.shape == (height, width, 3)
