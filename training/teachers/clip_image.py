"""Images the way a dense CLIP takes them: resized to whole cells, normalised, whole or in overlapping windows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ov_seg_ros.core.errors import ConfigError
from training.teachers.dense_clip import DenseClip, DenseFeatures

if TYPE_CHECKING:
    from torch import Tensor

OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)
"""Of RGB in 0..1; the normalisation of OpenAI's CLIP, which most others took over."""


def cell_size(image_size: tuple[int, int], short_side: int, cell: int) -> tuple[int, int]:
    """(H, W) in pixels, whole cells, that an image is resized to.

    Args:
        image_size: (H, W) of the image.
        short_side: pixels of the shorter side before rounding to cells; 0 keeps the size of the image.
        cell: pixels per cell.
    """
    scale = short_side / min(image_size) if short_side else 1.0
    height, width = (max(1, round(side * scale / cell)) * cell for side in image_size)
    return height, width


def prepare_image(
    image: NDArray[np.uint8],
    size: tuple[int, int],
    mean: tuple[float, ...] = OPENAI_MEAN,
    std: tuple[float, ...] = OPENAI_STD,
) -> NDArray[np.float32]:
    """(H, W, 3) uint8 RGB to (3, h, w) float32, resized to ``size`` = (h, w) (bicubic, antialiased) and normalised."""
    resized = Image.fromarray(image)
    if resized.size != size[::-1]:
        resized = resized.resize(size[::-1], Image.Resampling.BICUBIC)
    values = np.asarray(resized, np.float32) / 255.0
    return np.ascontiguousarray(((values - np.array(mean, np.float32)) / np.array(std, np.float32)).transpose(2, 0, 1))


def encode_windows(clip: DenseClip, pixels: Tensor, window: int, stride: int) -> DenseFeatures:
    """Unit features and keys of an image, averaged over overlapping windows.

    A text's cosine is linear in the unit feature, so averaging features is averaging the scores of the windows.

    Args:
        clip: the network.
        pixels: (1, 3, H, W), whole cells.
        window: side of a window in pixels, a multiple of the cell; 0 takes the whole image at once. An image that is
            smaller along an axis is one window along it.
        stride: pixels between windows, a multiple of the cell, at most ``window``.

    Returns:
        features (1, h, w, D), unit vectors where a single window looks, and keys (1, h, w, K).
    """
    import torch

    if not window:
        return _normalised(clip, pixels)
    check_windows(window, stride, clip.cell)
    height, width = (side // clip.cell for side in pixels.shape[2:])
    features = torch.zeros(1, height, width, clip.dim, device=pixels.device)
    keys = torch.zeros(1, height, width, clip.key_dim, device=pixels.device)
    count = torch.zeros(1, height, width, 1, device=pixels.device)
    for rows, columns in _windows((height, width), window // clip.cell, stride // clip.cell):
        part = _normalised(clip, pixels[:, :, _pixels(rows, clip.cell), _pixels(columns, clip.cell)])
        features[:, rows, columns] += part.features
        keys[:, rows, columns] += part.keys
        count[:, rows, columns] += 1
    return DenseFeatures(features / count, keys / count)


def check_windows(window: int, stride: int, cell: int) -> None:
    """Windows and strides must be whole cells.

    Raises:
        ConfigError: they are not, or windows leave gaps.
    """
    if window % cell or stride % cell or not 0 < stride <= window:
        raise ConfigError(
            f"window and window_stride must be multiples of the {cell} pixels of a cell, 0 < window_stride <= window; "
            f"got window {window}, window_stride {stride}"
        )


def _windows(grid: tuple[int, int], window: int, stride: int) -> Iterator[tuple[slice, slice]]:
    """Rows and columns of cells of windows that cover the grid; the last one along an axis ends flush with it."""
    tops, lefts = (sorted({*range(0, max(size - window, 0), stride), max(size - window, 0)}) for size in grid)
    for top in tops:
        for left in lefts:
            yield slice(top, min(top + window, grid[0])), slice(left, min(left + window, grid[1]))


def _pixels(cells: slice, cell: int) -> slice:
    return slice(cells.start * cell, cells.stop * cell)


def _normalised(clip: DenseClip, pixels: Tensor) -> DenseFeatures:
    from torch.nn.functional import normalize

    dense = clip.encode(pixels)
    return DenseFeatures(normalize(dense.features.float(), dim=-1), normalize(dense.keys.float(), dim=-1))
