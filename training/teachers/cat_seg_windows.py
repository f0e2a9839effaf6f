"""CAT-Seg's sliding window: an image in tiles and as a whole, both opinions averaged.

Small objects vanish in a map of 24 x 24 cells. As published, the image is squashed to a square canvas, tiles of it are
judged one by one and averaged where they overlap, and the result is averaged with that of the whole image.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ov_seg_ros.core.errors import ConfigError

Predict = Callable[[Tensor], tuple[Tensor, Tensor]]
"""(3, H, W) image to (T, h', w') logits and (D, h, w) features."""


@dataclass(frozen=True)
class SlidingWindow:
    """Sizes in pixels; the defaults are the published ones (four tiles).

    Attributes:
        canvas: side of the square the image is squashed to.
        tile: side of a tile.
        stride: from tile to tile.
    """

    canvas: int = 640
    tile: int = 384
    stride: int = 256

    def __post_init__(self) -> None:
        if not 0 < self.stride <= self.tile <= self.canvas or (self.canvas - self.tile) % self.stride:
            raise ConfigError(
                "sliding window: tiles must cover the canvas, 0 < stride <= tile <= canvas and canvas - tile a "
                f"multiple of stride; got canvas {self.canvas}, tile {self.tile}, stride {self.stride}"
            )


def predict_in_windows(image: Tensor, predict: Predict, window: SlidingWindow) -> tuple[Tensor, Tensor]:
    """Probabilities of the texts, and CLIP's features of the whole image.

    Args:
        image: (3, H, W), normalised.
        predict: the network.
        window: sizes.

    Returns:
        (T, canvas, canvas) in [0, 1], text by text, and (D, h, w).
    """
    canvas = _resize(image, window.canvas)
    whole, features = predict(_resize(image, window.tile))
    total = torch.zeros(len(whole), window.canvas, window.canvas, device=whole.device)
    count = torch.zeros(window.canvas, window.canvas, device=whole.device)
    starts = range(0, window.canvas - window.tile + 1, window.stride)
    for top in starts:
        for left in starts:
            rows, columns = slice(top, top + window.tile), slice(left, left + window.tile)
            logits, _ = predict(canvas[:, rows, columns])
            total[:, rows, columns] += _resize(logits, window.tile).sigmoid_()
            count[rows, columns] += 1
    probabilities = _resize(_resize(whole, window.tile).sigmoid_(), window.canvas)
    return probabilities.add_(total.div_(count)).div_(2), features


def _resize(maps: Tensor, side: int) -> Tensor:
    """(C, h, w) to (C, side, side), bilinear and without antialiasing."""
    return functional.interpolate(maps[None].float(), (side, side), mode="bilinear", align_corners=False)[0]
