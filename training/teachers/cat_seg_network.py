"""CAT-Seg (Cho et al., CVPR 2024): a CLIP, fine-tuned for dense prediction, and its cost aggregation.

The version on the main branch of cvlab-kaist/CAT-Seg: no Swin backbone, guidance from CLIP's own middle layers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.teachers.cat_seg_aggregator import Aggregator, AggregatorConfig
from training.teachers.dense_clip import resize_positions


@dataclass(frozen=True)
class CatSegArchitecture:
    """What must fit the checkpoint. Defaults: ``model_large.pth`` on CLIP ViT-L/14-336.

    ``model_base.pth`` needs ``clip_model: ViT-B-16``, ``clip_resolution: 384``, ``guidance_layers: [3, 7]``.

    Attributes:
        clip_model: name of the CLIP in open_clip; OpenAI's, hence with QuickGELU.
        clip_resolution: pixels per side of its image; ``aggregator.side`` times the patch size.
        guidance_layers: the CLIP blocks, counted from 0, whose outputs guide the first and second doubling.
        aggregator: sizes of the rest.
    """

    clip_model: str = "ViT-L-14-336"
    clip_resolution: int = 336
    guidance_layers: tuple[int, int] = (7, 15)
    aggregator: AggregatorConfig = field(default_factory=AggregatorConfig)


class CatSegNetwork(nn.Module):
    """Image and texts to one map per text.

    Args:
        clip: an open_clip CLIP with a ViT image tower.
        architecture: the rest.
    """

    def __init__(self, clip: Any, architecture: CatSegArchitecture) -> None:
        super().__init__()
        self.clip = clip
        self.resolution = architecture.clip_resolution
        self.guidance_layers = architecture.guidance_layers
        width = clip.visual.conv1.out_channels
        first, second = architecture.aggregator.decoder_guidance_widths
        self.upsample1 = nn.ConvTranspose2d(width, first, 2, stride=2)
        self.upsample2 = nn.ConvTranspose2d(width, second, 4, stride=4)
        self.aggregator = Aggregator(architecture.aggregator, clip.visual.output_dim)

    def forward(self, image: Tensor, text_features: Tensor) -> tuple[Tensor, Tensor]:
        """One image, squashed to the square that CLIP takes.

        Args:
            image: (3, H, W) normalised.
            text_features: (T, D).

        Returns:
            (T, 4h, 4w) logits for a sigmoid and (D, h, w) CLIP features of any length.
        """
        square = functional.interpolate(image[None], (self.resolution,) * 2, mode="bilinear", align_corners=False)
        image_map, first, second = self.encode(square)
        guidance = (self.upsample1(first)[0], self.upsample2(second)[0])
        return self.aggregator(image_map[0], text_features, guidance), image_map[0]

    def encode(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, 3, S, S) to the dense features (B, D, h, w) and both guiding layers (B, C, h, w).

        In the last block the attention gives every token its own value instead of a mixture. As published, the
        residual added to it is that of the class token, for all tokens.
        """
        visual = self.clip.visual
        patches = visual.conv1(image)
        grid = (patches.shape[2], patches.shape[3])
        class_token = visual.class_embedding.expand(len(image), 1, -1)
        x = torch.cat([class_token, patches.flatten(2).transpose(1, 2)], dim=1)
        x = visual.ln_pre(x + resize_positions(visual.positional_embedding, visual.grid_size, grid))
        guidance = []
        *blocks, last = visual.transformer.resblocks
        for index, block in enumerate(blocks):
            x = block(x)
            if index in self.guidance_layers:
                guidance.append(_as_map(x, grid))
        x = x[:, :1] + _own_values(last, x)
        x = x + last.mlp(last.ln_2(x))
        return _as_map(visual.ln_post(x) @ visual.proj, grid), guidance[0], guidance[1]


def _own_values(block: Any, x: Tensor) -> Tensor:
    """What the attention of a block would give if every token looked at itself alone."""
    attention, width = block.attn, x.shape[2]
    weight, offset = attention.in_proj_weight[2 * width :], attention.in_proj_bias[2 * width :]
    return attention.out_proj(functional.linear(block.ln_1(x), weight, offset))


def _as_map(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """(B, 1 + h w, C) to (B, C, h, w), without the class token."""
    return tokens[:, 1:].transpose(1, 2).unflatten(2, grid)
