"""Errors of mask outlines: wavy borders, masks that are too large or too small, objects that vanish."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage


def smooth_noise(shape: tuple[int, int], wavelength: int, generator: np.random.Generator) -> NDArray[np.float32]:
    """(H, W) float32 noise of about unit variance that changes over ``wavelength`` pixels."""
    height, width = shape
    knots = (height // wavelength + 2, width // wavelength + 2)
    coarse = generator.standard_normal(knots).astype(np.float32) * 1.5  # linear interpolation averages, 1.5 makes up
    rows = np.arange(height, dtype=np.float32) / np.float32(wavelength)
    columns = np.arange(width, dtype=np.float32) / np.float32(wavelength)
    return _interpolate(_interpolate(coarse, rows, axis=0), columns, axis=1)


def _interpolate(values: NDArray[np.float32], position: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    low = position.astype(np.intp)
    fraction = position - low
    fraction = fraction[:, None] if axis == 0 else fraction[None, :]
    below, above = np.take(values, low, axis=axis), np.take(values, low + 1, axis=axis)
    return below + (above - below) * fraction


def warp(
    segment: NDArray[np.int32], amplitude: float, wavelength: int, generator: np.random.Generator
) -> NDArray[np.int32]:
    """Moves every pixel by a smooth random displacement of standard deviation ``amplitude`` pixels."""
    height, width = segment.shape
    shift_v = np.rint(amplitude * smooth_noise(segment.shape, wavelength, generator)).astype(np.intp)
    shift_u = np.rint(amplitude * smooth_noise(segment.shape, wavelength, generator)).astype(np.intp)
    row = np.clip(np.arange(height)[:, None] + shift_v, 0, height - 1)
    column = np.clip(np.arange(width)[None, :] + shift_u, 0, width - 1)
    return segment[row, column]


def grow(segment: NDArray[np.int32], growth: NDArray[np.int64]) -> NDArray[np.int32]:
    """Lets segments grow over their neighbours, or shrink in favour of them.

    Args:
        segment: (H, W) id of each pixel.
        growth: (R,) pixels per id; at a border the id with the larger growth gains the difference.
    """
    result = segment.copy()
    for step in range(int(growth.max(initial=0) - growth.min(initial=0))):
        before = result.copy()
        for here, there in _NEIGHBORS:
            gains = growth[before[there]] - growth[segment[here]] > step
            result[here] = np.where(gains, before[there], result[here])
    return result


_ALL, _HEAD, _TAIL = slice(None), slice(None, -1), slice(1, None)
_NEIGHBORS = (
    ((_HEAD, _ALL), (_TAIL, _ALL)),
    ((_TAIL, _ALL), (_HEAD, _ALL)),
    ((_ALL, _HEAD), (_ALL, _TAIL)),
    ((_ALL, _TAIL), (_ALL, _HEAD)),
)


def absorb(segment: NDArray[np.int32], missed: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Fills the pixels of missed ids, (R,) bool, with the nearest id that is not missed."""
    hole = missed[segment]
    if not hole.any() or hole.all():
        return segment
    rows, columns = np.flatnonzero(hole.any(axis=1)), np.flatnonzero(hole.any(axis=0))
    window = (
        slice(max(rows[0] - 1, 0), rows[-1] + 2),
        slice(max(columns[0] - 1, 0), columns[-1] + 2),
    )  # a ring of one pixel around the holes holds the nearest ids
    nearest = ndimage.distance_transform_edt(hole[window], return_distances=False, return_indices=True)
    result = segment.copy()
    result[window] = segment[window][tuple(nearest)]
    return result
