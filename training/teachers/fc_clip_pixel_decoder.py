"""The pixel decoder of Mask2Former (Cheng et al., CVPR 2022): feature maps of a backbone to features at stride 4.

Module names are those of the released checkpoints (``sem_seg_head.pixel_decoder.*``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.teachers.fc_clip_deformable_attention import DeformableAttention, MapSize, token_centers

NORM_GROUPS = 32
"""Groups of every group normalisation; ``dim`` must be a multiple."""


def sine_positions(size: MapSize, dim: int, device: torch.device) -> Tensor:
    """(dim, h, w) float32 sine and cosine of row (first half) and column, both scaled to (0, 2 pi] as in DETR."""
    half = dim // 2
    exponent = torch.div(torch.arange(half, device=device), 2, rounding_mode="floor") * (2.0 / half)
    wavelength = 10000.0**exponent  # (half,) pairs of equal values: one for sine, one for cosine
    axes = []
    for length in size:
        place = torch.arange(1, length + 1, device=device, dtype=torch.float32) / (length + 1e-6) * (2.0 * math.pi)
        phase = place[:, None] / wavelength
        axes.append(torch.stack((phase[:, 0::2].sin(), phase[:, 1::2].cos()), dim=2).flatten(1).T)  # (half, length)
    row, column = axes
    height, width = size
    return torch.cat((row[:, :, None].expand(-1, -1, width), column[:, None, :].expand(-1, height, -1)))


class NormedConv(nn.Conv2d):
    """A convolution without bias, followed by a group normalisation; its parameters are ``weight`` and ``norm.*``."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int) -> None:
        super().__init__(channels_in, channels_out, kernel, padding=kernel // 2, bias=False)
        self.norm = nn.GroupNorm(NORM_GROUPS, channels_out)

    def forward(self, input: Tensor) -> Tensor:
        """(B, channels_in, h, w) to (B, channels_out, h, w)."""
        result: Tensor = self.norm(super().forward(input))
        return result


class EncoderLayer(nn.Module):
    """Deformable self-attention and a two-layer perceptron, each with a residual and a layer norm after it."""

    def __init__(self, dim: int, heads: int, feedforward: int, levels: int) -> None:
        super().__init__()
        self.self_attn = DeformableAttention(dim, heads, levels)
        self.norm1 = nn.LayerNorm(dim)
        self.linear1 = nn.Linear(dim, feedforward)
        self.linear2 = nn.Linear(feedforward, dim)
        self.norm2 = nn.LayerNorm(dim)

    def forward(self, tokens: Tensor, positions: Tensor, reference: Tensor, sizes: Sequence[MapSize]) -> Tensor:
        """(S, D) tokens and their positions to (S, D)."""
        tokens = self.norm1(tokens + self.self_attn(tokens + positions, reference, tokens, sizes))
        result: Tensor = self.norm2(tokens + self.linear2(functional.relu(self.linear1(tokens))))
        return result


class LayerStack(nn.Module):
    """Layers one after another, under the name ``layers``."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, tokens: Tensor, *context: object) -> Tensor:
        """Each layer gets the tokens of the one before and the same context."""
        for layer in self.layers:
            tokens = layer(tokens, *context)
        return tokens


class DeformableEncoder(nn.Module):
    """Exchanges information between pixels of three feature maps."""

    def __init__(self, dim: int, heads: int, feedforward: int, layers: int, levels: int) -> None:
        super().__init__()
        self.level_embed = nn.Parameter(torch.randn(levels, dim))
        self.encoder = LayerStack([EncoderLayer(dim, heads, feedforward, levels) for _ in range(layers)])

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """L maps (1, D, h, w), coarse to fine, to L maps of the same shapes."""
        sizes = [(level_map.shape[2], level_map.shape[3]) for level_map in maps]
        device = maps[0].device
        tokens = torch.cat([level_map[0].flatten(1).T for level_map in maps])  # (S, D)
        positions = torch.cat(
            [
                sine_positions(size, tokens.shape[1], device).flatten(1).T + level
                for size, level in zip(sizes, self.level_embed, strict=True)
            ]
        )
        tokens = self.encoder(tokens, positions, token_centers(sizes, device), sizes)
        parts = tokens.split([height * width for height, width in sizes])
        return [part.T.unflatten(1, size)[None] for part, size in zip(parts, sizes, strict=True)]


class PixelDecoder(nn.Module):
    """Backbone maps at strides 4, 8, 16, 32 to features for masks and for the queries to look at."""

    def __init__(self, channels: Sequence[int], dim: int, heads: int, feedforward: int, layers: int) -> None:
        """Builds the decoder.

        Args:
            channels: of the backbone's maps at strides 4, 8, 16, 32.
            dim: D, channels of everything it makes; a multiple of 32.
            heads: of the deformable attention.
            feedforward: hidden channels of its perceptrons.
            layers: encoder layers.
        """
        super().__init__()
        fine, *coarse = channels
        self.input_proj = nn.ModuleList(
            nn.Sequential(nn.Conv2d(c, dim, 1), nn.GroupNorm(NORM_GROUPS, dim)) for c in reversed(coarse)
        )
        self.transformer = DeformableEncoder(dim, heads, feedforward, layers, len(coarse))
        self.mask_features = nn.Conv2d(dim, dim, 1)
        self.adapter_1 = NormedConv(fine, dim, 1)
        self.layer_1 = NormedConv(dim, dim, 3)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Decodes one image.

        Args:
            maps: four backbone maps (1, C, h, w) at strides 4, 8, 16, 32.

        Returns:
            mask features (D, h4, w4) at stride 4; three maps (D, h, w) at strides 32, 16, 8.
        """
        fine, *coarse = maps
        projected = [project(x) for project, x in zip(self.input_proj, reversed(coarse), strict=True)]
        scales = self.transformer(projected)
        above = functional.interpolate(scales[-1], size=fine.shape[-2:], mode="bilinear", align_corners=False)
        stride4 = functional.relu(self.layer_1(self.adapter_1(fine) + above))
        return self.mask_features(stride4)[0], [scale[0] for scale in scales]
