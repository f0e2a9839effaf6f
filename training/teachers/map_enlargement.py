"""Small maps of an image enlarged to it, a band of rows at a time, and the way back from pixels to cells.

Enlarging is bilinear with pixel centres at (i + 0.5), edges repeated, as in torch.nn.functional.interpolate with
``mode="bilinear", align_corners=False``; it holds for maps larger than the image too (no antialiasing).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

BAND_BYTES = 64 * 2**20
"""Memory that the maps of one band of rows may take."""


def enlarge_in_bands(
    maps: torch.Tensor, image_size: tuple[int, int], channels: int
) -> Iterator[tuple[slice, torch.Tensor]]:
    """Enlarges maps to an image in bands of rows.

    Args:
        maps: (C, h, w).
        image_size: (H, W).
        channels: how many maps the caller holds of a band, which sets its height.

    Yields:
        The rows of the band and its maps, (C, rows, W) float32.
    """
    import torch

    height, width = image_size
    step = max(1, BAND_BYTES // (4 * max(1, channels) * width))
    top, bottom, down = (torch.as_tensor(tap, device=maps.device) for tap in _taps(height, maps.shape[1]))
    for start in range(0, height, step):
        rows = slice(start, min(start + step, height))
        share = down[rows].to(torch.float32)[:, None]
        band = torch.lerp(maps[:, top[rows]].float(), maps[:, bottom[rows]].float(), share)
        size = (rows.stop - rows.start, width)
        yield rows, torch.nn.functional.interpolate(band[None], size, mode="bilinear", align_corners=False)[0]


def cell_weights(segment_id: NDArray[np.integer[Any]], count: int, cells: tuple[int, int]) -> NDArray[np.float64]:
    """How much each cell of a small map contributes to each segment: the transpose of bilinear enlargement.

    Args:
        segment_id: (H, W) 0 = void, 1..count.
        count: R.
        cells: (h', w') of the small map.

    Returns:
        (R, h', w') float64; a segment's weights sum to its area in pixels.
    """
    height, width = segment_id.shape
    left, right, share = _taps(width, cells[1])
    top, bottom, down = _taps(height, cells[0])
    spread = np.zeros((cells[0], height))
    spread[top, np.arange(height)] = 1.0 - down
    spread[bottom, np.arange(height)] += down
    weights = np.zeros((count, *cells))
    step = max(1, BAND_BYTES // (24 * ((count + 1) * cells[1] + width)))
    for start in range(0, height, step):
        band = segment_id[start : start + step].astype(np.int64)
        row = band * len(band) + np.arange(len(band))[:, None]
        by_row = np.zeros((count + 1) * len(band) * cells[1])
        for column, part in ((left, 1.0 - share), (right, share)):
            index = row * cells[1] + column
            by_row += np.bincount(index.ravel(), np.broadcast_to(part, index.shape).ravel(), by_row.size)
        weights += spread[:, start : start + step] @ by_row.reshape(count + 1, len(band), cells[1])[1:]
    return weights


def enlarge_nearest(values: NDArray[Any], image_size: tuple[int, int]) -> NDArray[Any]:
    """(h, w) to (H, W), each pixel the value of the cell it lies in."""
    if values.shape == tuple(image_size):
        return values
    row, column = (np.arange(n) * have // n for n, have in zip(image_size, values.shape, strict=True))
    return values[row[:, None], column[None, :]]


def _taps(size: int, cells: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """For each of ``size`` pixels along one axis: the two cells it lies between, and the share of the second."""
    position = np.clip((np.arange(size) + 0.5) * cells / size - 0.5, 0.0, cells - 1.0)
    first = position.astype(np.int64)
    return first, np.minimum(first + 1, cells - 1), position - first
