"""Camera images with the labelled points drawn on them, arranged in a grid."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ov_seg_ros.core.data_types import CameraImage, Projection
from ov_seg_ros.core.overlay import draw_points
from ov_seg_ros.report import theme
from ov_seg_ros.report.scene import Scene

SUPERSAMPLING = 2
IMAGE_BRIGHTNESS = 0.62
"""Images are dimmed to this share, so that the points stand out."""

DEPTH_BANDS = ((14.0, np.inf, 2), (7.0, 14.0, 3), (0.0, 7.0, 4))
"""From (metres), to (metres), radius (pixels of the supersampled tile), far ones first: near points are larger."""

GAP = 10
"""Pixels between tiles."""


def draw_camera(view: CameraImage, projection: Projection, colors: NDArray[np.uint8], width: int) -> Image.Image:
    """Draws what one camera sees, far points first.

    Args:
        view: the image.
        projection: points that the camera sees.
        colors: (N, 3) uint8 RGB of all points of the scan.
        width: of the picture, pixels; the height follows the aspect of the image.
    """
    height = max(1, round(width * view.camera.height / view.camera.width))
    size = (width * SUPERSAMPLING, height * SUPERSAMPLING)
    canvas = np.array(Image.fromarray(view.image).resize(size, Image.Resampling.BILINEAR))
    canvas = (canvas * IMAGE_BRIGHTNESS).astype(np.uint8)
    scale = size[0] / view.camera.width
    for nearest, farthest, radius in DEPTH_BANDS:
        band = np.flatnonzero((projection.depth >= nearest) & (projection.depth < farthest))
        band = band[np.argsort(-projection.depth[band], kind="stable")]
        centers = (projection.pixels[band] + 0.5) * scale - 0.5
        canvas = draw_points(canvas, centers, colors[projection.point_index[band]], radius)
    return Image.fromarray(canvas).resize((width, height), Image.Resampling.BOX)


def draw_camera_grid(scene: Scene, colors: NDArray[np.uint8], width: int, max_columns: int = 3) -> Image.Image | None:
    """All cameras of a scene in rows of equal tiles; None if it has none.

    Args:
        scene: with images and projections.
        colors: (N, 3) uint8 RGB of all points.
        width: of the grid, pixels.
        max_columns: tiles per row.
    """
    views = in_rig_order(scene.sample.images)
    if not views:
        return None
    columns = min(len(views), 2 if len(views) == 4 else max_columns)
    tile_width = (width - (columns - 1) * GAP) // columns
    tiles = []
    for view in views:
        projection = scene.projections.get(view.name, _nothing())
        tiles.append(_titled(draw_camera(view, projection, colors, tile_width), view.name))
    tile_height = max(tile.height for tile in tiles)
    rows = -(-len(tiles) // columns)
    grid = Image.new("RGB", (width, rows * tile_height + (rows - 1) * GAP), theme.BACKGROUND)
    for index, tile in enumerate(tiles):
        row, column = divmod(index, columns)
        grid.paste(tile, (column * (tile_width + GAP), row * (tile_height + GAP)))
    return grid


def in_rig_order(views: Sequence[CameraImage]) -> list[CameraImage]:
    """Cameras as one looks around: front ones from left to right, then the rest from left to right.

    The optical axis in LiDAR axes tells: azimuth 0 is forward, positive is left.
    """
    if len(views) < 2:
        return list(views)
    azimuth = {
        view.name: float(np.arctan2(view.camera_from_lidar[2, 1], view.camera_from_lidar[2, 0])) for view in views
    }
    by_forwardness = sorted(views, key=lambda view: abs(azimuth[view.name]))
    half = -(-len(views) // 2)
    front = sorted(by_forwardness[:half], key=lambda view: -azimuth[view.name])
    back = sorted(by_forwardness[half:], key=lambda view: -(azimuth[view.name] % (2 * np.pi)), reverse=True)
    return front + back


def _titled(tile: Image.Image, name: str) -> Image.Image:
    pen = ImageDraw.Draw(tile)
    face = theme.font(15)
    title = name.replace("_", " ")
    right = pen.textbbox((14, 10), title, font=face)[2]
    pen.rounded_rectangle((7, 7, right + 8, 32), radius=5, fill=theme.BACKGROUND)
    pen.text((14, 20), title, fill=theme.TEXT, font=face, anchor="lm")
    return tile


def _nothing() -> Projection:
    return Projection(np.zeros(0, np.int64), np.zeros((0, 2), np.float32), np.zeros(0, np.float32))
