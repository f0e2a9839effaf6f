"""The pictures of a report: ``overview.png`` and the stills of the page."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ov_seg_ros.core.data_types import IGNORE_ID
from ov_seg_ros.core.label_space import LabelSpace
from ov_seg_ros.report import theme
from ov_seg_ros.report.birds_eye import BirdsEye, fitting_radius
from ov_seg_ros.report.camera_views import draw_camera_grid
from ov_seg_ros.report.run_report import UNKNOWN
from ov_seg_ros.report.scene import Scene

OVERVIEW_WIDTH = 1920
MARGIN = 28
LEGEND_WIDTH = 300


def colors_of(class_id: NDArray[np.uint8], label_space: LabelSpace) -> NDArray[np.uint8]:
    """Colours of labels: (N,) uint8 to (N, 3) uint8 RGB."""
    return np.array(theme.class_colors(label_space), np.uint8)[class_id]


def draw_birds_eyes(scene: Scene, label_space: LabelSpace, width: int, height: int) -> list[tuple[str, Image.Image]]:
    """Views from above with their titles: the prediction, and with ground truth also that and the mistakes.

    Args:
        scene: what to draw.
        label_space: for the colours.
        width: of each picture, pixels.
        height: of each picture, pixels.
    """
    view = BirdsEye(width, height, fitting_radius(scene.cloud.points))
    points = scene.cloud.points
    pictures = [("Student", view.draw(points, colors_of(scene.class_id, label_space)))]
    truth = scene.sample.class_id
    if truth is not None:
        pictures.append(("Ground truth", view.draw(points, colors_of(truth, label_space))))
        wrong = (scene.class_id != truth) & (truth != IGNORE_ID)
        colors = np.array([theme.RIGHT, theme.WRONG], np.uint8)[wrong.astype(np.intp)]
        pictures.append(("Mistakes", view.draw(points, colors, on_top=wrong)))
    return pictures


def draw_overview(scene: Scene, label_space: LabelSpace, title: str, facts: Sequence[str] = ()) -> Image.Image:
    """The picture for the front page: title, views from above, legend with shares, camera overlays.

    Args:
        scene: the scan to show.
        label_space: names and colours.
        title: one line, top left.
        facts: short figures, top right ("mIoU 61.2 %").
    """
    inner = OVERVIEW_WIDTH - 2 * MARGIN
    blocks = [_header(title, facts, inner), _views_and_legend(scene, label_space, inner)]
    grid = draw_camera_grid(scene, colors_of(scene.class_id, label_space), inner)
    if grid is not None:
        blocks.append(grid)
    height = sum(block.height for block in blocks) + MARGIN // 2 * (len(blocks) - 1) + 2 * MARGIN
    page = Image.new("RGB", (OVERVIEW_WIDTH, height), theme.BACKGROUND)
    top = MARGIN
    for block in blocks:
        page.paste(block, (MARGIN, top))
        top += block.height + MARGIN // 2
    return page


def _header(title: str, facts: Sequence[str], width: int) -> Image.Image:
    header = Image.new("RGB", (width, 52), theme.BACKGROUND)
    pen = ImageDraw.Draw(header)
    pen.rectangle((0, 6, 5, 42), fill=theme.ACCENT)
    pen.text((20, 25), title, fill=theme.TEXT, font=theme.font(30), anchor="lm")
    right = float(width)
    for fact in reversed(list(facts)):
        pen.text((right, 25), fact, fill=theme.MUTED, font=theme.font(20), anchor="rm")
        right -= pen.textlength(fact, font=theme.font(20)) + 36
    return header


def _views_and_legend(scene: Scene, label_space: LabelSpace, width: int) -> Image.Image:
    gap = MARGIN // 2
    count = 1 if scene.sample.class_id is None else 3
    view_width = (width - LEGEND_WIDTH - count * gap) // count
    height = 660 if count == 1 else min(view_width + 40, 660)
    block = Image.new("RGB", (width, height), theme.BACKGROUND)
    for index, (title, picture) in enumerate(draw_birds_eyes(scene, label_space, view_width, height)):
        pen = ImageDraw.Draw(picture)
        pen.text((16, 14), title, fill=theme.TEXT, font=theme.font(18))
        block.paste(picture, (index * (view_width + gap), 0))
    legend = draw_legend(scene.class_id, label_space, LEGEND_WIDTH, height)
    block.paste(legend, (width - LEGEND_WIDTH, 0))
    return block


def draw_legend(class_id: NDArray[np.uint8], label_space: LabelSpace, width: int, height: int) -> Image.Image:
    """Classes by share of points, with swatches and bars; what does not fit is left out from the end.

    Args:
        class_id: (N,) uint8 prediction.
        label_space: names and colours.
        width: pixels.
        height: pixels.
    """
    panel = Image.new("RGB", (width, height), theme.PANEL)
    pen = ImageDraw.Draw(panel)
    pen.text((18, 14), "Share of points", fill=theme.MUTED, font=theme.font(16))
    shares = _shares(class_id, label_space)
    pitch = min(36, (height - 54) // max(1, len(shares)))
    face = theme.font(max(12, min(16, pitch - 10)))
    largest = max((share for _, _, share in shares), default=1.0) or 1.0
    for index, (name, color, share) in enumerate(shares):
        y = 48 + index * pitch
        if y + pitch > height:
            break
        pen.rounded_rectangle((18, y + 3, 30, y + 15), radius=3, fill=color)
        pen.text((40, y + 9), name.replace("_", " "), fill=theme.TEXT if share else theme.MUTED, font=face, anchor="lm")
        pen.text((width - 18, y + 9), _percent(share), fill=theme.MUTED, font=face, anchor="rm")
        if pitch >= 26:
            right = max(41.0, 40 + (width - 58) * share / largest)
            pen.rectangle((40, y + 20, width - 18, y + 22), fill=theme.LINE)
            pen.rectangle((40, y + 20, right, y + 22), fill=color)
    return panel


def _shares(class_id: NDArray[np.uint8], label_space: LabelSpace) -> list[tuple[str, theme.Color, float]]:
    counts = np.bincount(class_id, minlength=IGNORE_ID + 1)
    total = max(1, len(class_id))
    rows = [
        (name, theme.class_color(label_space, i), counts[i] / total) for i, name in enumerate(label_space.class_names)
    ]
    rows.sort(key=lambda row: -row[2])
    return [*rows, (UNKNOWN, theme.UNKNOWN, counts[IGNORE_ID] / total)]


def _percent(share: float) -> str:
    if share == 0:
        return "0"
    return f"{100 * share:.1f} %" if share >= 0.001 else "< 0.1 %"
