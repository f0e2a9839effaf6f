"""A scan from above: points as small discs in the colour of their class, range rings, scale bar."""

from __future__ import annotations

from dataclasses import dataclass
from math import hypot

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ov_seg_ros.core.overlay import draw_points
from ov_seg_ros.report import theme

SUPERSAMPLING = 2
EGO_LENGTH, EGO_WIDTH = 4.5, 1.9
"""Metres, of the vehicle drawn at the centre."""

POINT_RADIUS = 1
"""Pixels of the supersampled canvas."""


@dataclass(frozen=True)
class BirdsEye:
    """View from above, x forward is up, y left is left, the sensor in the middle.

    Attributes:
        width: of the picture, pixels.
        height: of the picture, pixels.
        radius: metres from the sensor to the nearer border.
    """

    width: int
    height: int
    radius: float

    @property
    def pixels_per_metre(self) -> float:
        """Scale of the finished picture."""
        return min(self.width, self.height) / (2.0 * self.radius)

    def draw(
        self, points: NDArray[np.float32], colors: NDArray[np.uint8], on_top: NDArray[np.bool_] | None = None
    ) -> Image.Image:
        """Draws one scan, what lies higher over what lies lower.

        Args:
            points: (N, 3) float32, metres, LiDAR axes; rows that are not finite are left out.
            colors: (N, 3) uint8 RGB, one per point.
            on_top: (N,) bool, points to draw last; None = none.
        """
        finite = np.isfinite(points).all(axis=1)
        top = finite & on_top if on_top is not None else np.zeros(len(points), np.bool_)
        canvas = self._empty_canvas()
        for chosen in (finite & ~top, top):
            index = np.flatnonzero(chosen)
            index = index[np.argsort(points[index, 2], kind="stable")]
            canvas = draw_points(canvas, self._pixels(points[index]), colors[index], POINT_RADIUS)
        picture = Image.fromarray(canvas).resize((self.width, self.height), Image.Resampling.BOX)
        self._draw_ego(ImageDraw.Draw(picture))
        self._draw_scale_bar(ImageDraw.Draw(picture))
        return picture

    def _empty_canvas(self) -> NDArray[np.uint8]:
        scale = SUPERSAMPLING
        picture = Image.new("RGB", (self.width * scale, self.height * scale), theme.PANEL)
        pen = ImageDraw.Draw(picture)
        center = (self.width * scale / 2, self.height * scale / 2)
        step = 5 if self.radius <= 20 else 10
        for ring in range(step, int(hypot(self.width, self.height) / 2 / self.pixels_per_metre) + step, step):
            r = ring * self.pixels_per_metre * scale
            box = (center[0] - r, center[1] - r, center[0] + r, center[1] + r)
            pen.ellipse(box, outline=(33, 41, 55), width=scale)
        return np.array(picture)

    def _pixels(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, 2) (u, v) on the supersampled canvas."""
        scale = self.pixels_per_metre * SUPERSAMPLING
        center = np.array([self.width, self.height], np.float32) * (SUPERSAMPLING / 2) - 0.5
        return center - points[:, [1, 0]] * np.float32(scale)

    def _draw_ego(self, pen: ImageDraw.ImageDraw) -> None:
        u, v, scale = self.width / 2, self.height / 2, self.pixels_per_metre
        half_length, half_width = max(EGO_LENGTH / 2 * scale, 5.0), max(EGO_WIDTH / 2 * scale, 3.0)
        box = (u - half_width, v - half_length, u + half_width, v + half_length)
        pen.rounded_rectangle(box, radius=half_width * 0.7, fill=(235, 240, 247), outline=theme.BACKGROUND)
        nose = [(u, v - half_length * 0.75), (u - half_width * 0.6, v - half_length * 0.1)]
        pen.polygon([*nose, (u + half_width * 0.6, v - half_length * 0.1)], fill=theme.BACKGROUND)

    def _draw_scale_bar(self, pen: ImageDraw.ImageDraw) -> None:
        length = 5 if self.radius <= 20 else 10
        left, bottom = 18, self.height - 18
        right = left + length * self.pixels_per_metre
        pen.rectangle((left - 8, bottom - 28, right + 8, bottom + 8), fill=theme.PANEL)
        pen.line([(left, bottom - 5), (left, bottom), (right, bottom), (right, bottom - 5)], fill=theme.TEXT, width=2)
        pen.text(((left + right) / 2, bottom - 6), f"{length} m", fill=theme.TEXT, font=theme.font(14), anchor="ms")


def fitting_radius(points: NDArray[np.float32]) -> float:
    """Metres that show nine tenths of a scan: a multiple of 5 from 10 to 50."""
    ranges = np.hypot(points[:, 0], points[:, 1])
    ranges = ranges[np.isfinite(ranges)]
    if len(ranges) == 0:
        return 10.0
    return float(np.clip(np.ceil(np.percentile(ranges, 90) / 5.0) * 5.0, 10.0, 50.0))
