"""Images into a mask-predicting network and masks out of it: resizing, normalisation, padding, and the way back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional

PIXEL_MEAN = (122.7709383, 116.7460125, 104.09373615)
PIXEL_STD = (68.5005327, 66.6321579, 70.32316305)
"""CLIP's mean and standard deviation of red, green, blue, times 255."""


@dataclass(frozen=True)
class ImageSizes:
    """The sizes one image goes through, (height, width) each.

    Attributes:
        native: as it came.
        resized: as the network sees it.
        padded: the same with a margin at the bottom and right, multiples of the coarsest stride.
    """

    native: tuple[int, int]
    resized: tuple[int, int]
    padded: tuple[int, int]

    @classmethod
    def of(cls, native: tuple[int, int], short_side: int, max_long_side: int, stride: int) -> ImageSizes:
        """Plans the sizes of an image.

        Args:
            native: (H, W).
            short_side: in the network, 0 = as it came.
            max_long_side: bound that makes the short side smaller where it must; without effect if ``short_side`` is 0.
            stride: both padded sides are multiples of it.
        """
        scale = 1.0
        if short_side:
            scale = short_side / min(native)
            scale = min(scale, max_long_side / max(native))
        resized = (max(1, int(native[0] * scale + 0.5)), max(1, int(native[1] * scale + 0.5)))
        return cls(native, resized, (-(-resized[0] // stride) * stride, -(-resized[1] // stride) * stride))


def prepare_image(image: NDArray[np.uint8], sizes: ImageSizes) -> Tensor:
    """(H, W, 3) uint8 RGB to (3, *padded) float32: resized bilinearly, normalised, padded with the mean colour."""
    if sizes.resized != sizes.native:
        height, width = sizes.resized
        resized = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
        image = np.asarray(resized)
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float()
    mean, std = torch.tensor(PIXEL_MEAN)[:, None, None], torch.tensor(PIXEL_STD)[:, None, None]
    bottom, right = sizes.padded[0] - sizes.resized[0], sizes.padded[1] - sizes.resized[1]
    return functional.pad((pixels - mean) / std, (0, right, 0, bottom))


def restore_masks(mask_logits: Tensor, sizes: ImageSizes) -> Tensor:
    """(n, h, w) logits of the padded image to (n, H, W) of the image as it came, bilinearly and without the margin."""
    full = functional.interpolate(mask_logits[None], size=sizes.padded, mode="bilinear", align_corners=False)
    full = full[..., : sizes.resized[0], : sizes.resized[1]]
    if sizes.resized != sizes.native:
        full = functional.interpolate(full, size=sizes.native, mode="bilinear", align_corners=False)
    return full[0]
