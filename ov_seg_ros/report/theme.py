"""Colours and type of every picture and page of a report."""

from __future__ import annotations

from functools import lru_cache

from PIL import ImageFont

from ov_seg_ros.core.data_types import IGNORE_ID
from ov_seg_ros.core.label_space import LabelSpace

Color = tuple[int, int, int]

BACKGROUND: Color = (10, 13, 19)
PANEL: Color = (17, 22, 31)
LINE: Color = (42, 51, 66)
TEXT: Color = (232, 237, 244)
MUTED: Color = (143, 154, 171)
ACCENT: Color = (84, 205, 189)
WRONG: Color = (255, 86, 92)
RIGHT: Color = (66, 78, 96)
UNKNOWN: Color = (112, 112, 118)

LUMINANCE_FLOOR = 90.0
"""Classes darker than this (0..255) are lightened, so that no class drowns in the background."""


@lru_cache
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The typeface that comes with Pillow, so that pictures look the same on every machine."""
    return ImageFont.load_default(size)


def hex_color(color: Color) -> str:
    """(r, g, b) as ``#rrggbb``."""
    return "#{:02x}{:02x}{:02x}".format(*color)


def class_color(label_space: LabelSpace, class_id: int) -> Color:
    """Colour of a class on the dark background, 255 included."""
    if class_id == IGNORE_ID:
        return UNKNOWN
    r, g, b = label_space.palette[class_id]
    missing = LUMINANCE_FLOOR - (0.2126 * r + 0.7152 * g + 0.0722 * b)
    if missing <= 0:
        return (r, g, b)
    share = missing / (255.0 - LUMINANCE_FLOOR + missing)
    lifted = [round(v + (255 - v) * share) for v in (r, g, b)]
    return (lifted[0], lifted[1], lifted[2])


def class_colors(label_space: LabelSpace) -> list[Color]:
    """``class_color`` by id: 256 entries, those without a class are ``UNKNOWN``."""
    table = [UNKNOWN] * (IGNORE_ID + 1)
    for class_id in range(len(label_space)):
        table[class_id] = class_color(label_space, class_id)
    return table
