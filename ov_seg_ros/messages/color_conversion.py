"""Raw camera pixels to RGB: Bayer mosaics and YUV 4:2:2."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ov_seg_ros.core.errors import InputError


def bayer_to_rgb(mosaic: NDArray[np.uint8], pattern: str) -> NDArray[np.uint8]:
    """Interpolates a Bayer mosaic bilinearly; the border is mirrored.

    Args:
        mosaic: (H, W) uint8, at least 2 x 2.
        pattern: colours of the top left 2 x 2 pixels, row by row: "rggb", "bggr", "gbrg" or "grbg".

    Returns:
        (H, W, 3) uint8; every pixel keeps the value that was measured there.

    Raises:
        InputError: smaller than 2 x 2.
    """
    height, width = mosaic.shape
    if height < 2 or width < 2:
        raise InputError(f"a Bayer image needs at least 2 x 2 pixels, got {width} x {height}")
    rgb = np.empty((height, width, 3), np.uint8)
    for channel, color in enumerate("rgb"):
        measured = np.zeros((height, width), np.uint16)
        for position in (index for index, name in enumerate(pattern) if name == color):
            row, column = divmod(position, 2)
            measured[row::2, column::2] = mosaic[row::2, column::2]
        # mirroring about the border pixel keeps the pattern: row -1 is row 1
        padded = np.pad(measured, 1, mode="reflect")
        rgb[:, :, channel] = _fill_green(padded) if color == "g" else _fill_red_or_blue(padded)
    return rgb


def yuv422_to_rgb(image: NDArray[np.uint8], luma_first: bool) -> NDArray[np.uint8]:
    """Converts packed YUV 4:2:2, ITU-R BT.601 with limited range (luma 16 to 235).

    Args:
        image: (H, W, 2) uint8, W even; two pixels share their chroma.
        luma_first: Y U Y V (yuyv, yuy2) or U Y V Y (uyvy).

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        InputError: W is odd.
    """
    height, width, _ = image.shape
    if width % 2:
        raise InputError(f"YUV 4:2:2 images have an even width, got {width}")
    luma, chroma = (0, 1) if luma_first else (1, 0)
    y = 1.164 * (image[:, :, luma].astype(np.float32) - 16)
    u, v = np.repeat(image[:, :, chroma].reshape(height, width // 2, 2).astype(np.float32) - 128, 2, axis=1).transpose(
        2, 0, 1
    )
    rgb = np.stack([y + 1.596 * v, y - 0.392 * u - 0.813 * v, y + 2.017 * u], axis=2)
    return np.clip(np.rint(rgb), 0, 255).astype(np.uint8)


def _fill_green(p: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """Own value, or the mean of the four neighbours by edge; ``p`` has a border of one pixel."""
    return p[1:-1, 1:-1] + (p[:-2, 1:-1] + p[2:, 1:-1] + p[1:-1, :-2] + p[1:-1, 2:] + 2) // 4


def _fill_red_or_blue(p: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """Own value, or the mean of the two or four nearest; the others are zero."""
    columns = p[:, :-2] + 2 * p[:, 1:-1] + p[:, 2:]
    return (columns[:-2] + 2 * columns[1:-1] + columns[2:] + 2) // 4
