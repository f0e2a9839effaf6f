"""CAT-Seg's cost aggregation (Cho et al., CVPR 2024): from cosines of CLIP to one map of logits per text.

The cosines between every cell of CLIP's image map and every text are taken as an image per text, cleaned with
attention over pixels and over texts, and enlarged four times under the guidance of earlier CLIP layers.

Modules are named as in the released checkpoints (``sem_seg_head.predictor.transformer.*``). One image at a time; the
texts take the place of the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.teachers.cat_seg_attention import ClassAttention, SwinPair

EXCLUDED = -100.0
"""Logit of texts that found no slot."""


@dataclass(frozen=True)
class AggregatorConfig:
    """Sizes of the cost aggregation; the defaults are those of both released checkpoints.

    Attributes:
        side: cells per side of CLIP's image map.
        layers: pairs of pixel and text attention.
        width: channels of the cost maps.
        guidance_width: channels of image and text guidance.
        heads: of both attentions.
        window: cells per side of the windows of the pixel attention.
        pooling: before the text attention; 1 in the published evaluation, 2 in training.
        slots: texts that are aggregated; of more, those with the highest cosine anywhere in the image.
        decoder_widths: channels after each doubling of the resolution.
        decoder_guidance_widths: channels of the CLIP guidance at each doubling, as it comes.
        decoder_guidance_projections: the same, projected.
    """

    side: int = 24
    layers: int = 2
    width: int = 128
    guidance_width: int = 128
    heads: int = 4
    window: int = 12
    pooling: int = 1
    slots: int = 256
    decoder_widths: tuple[int, int] = (64, 32)
    decoder_guidance_widths: tuple[int, int] = (256, 128)
    decoder_guidance_projections: tuple[int, int] = (32, 16)


class Aggregator(nn.Module):
    """Image map, texts and guidance to logits.

    Args:
        config: sizes.
        text_width: D, of the CLIP space.
    """

    def __init__(self, config: AggregatorConfig, text_width: int) -> None:
        super().__init__()
        self.slots = config.slots
        width, guided = config.width, config.guidance_width
        self.layers = nn.ModuleList(_Layer(config) for _ in range(config.layers))
        self.conv1 = nn.Conv2d(1, width, 7, padding=3)
        self.guidance_projection = _projection(text_width, guided)
        self.text_guidance_projection = nn.Sequential(nn.Linear(text_width, guided), nn.ReLU())
        self.decoder_guidance_projection = nn.ModuleList(
            _projection(n, m)
            for n, m in zip(config.decoder_guidance_widths, config.decoder_guidance_projections, strict=True)
        )
        first, second = config.decoder_widths
        self.decoder1 = _Up(width, first, config.decoder_guidance_projections[0])
        self.decoder2 = _Up(first, second, config.decoder_guidance_projections[1])
        self.head = nn.Conv2d(second, 1, 3, padding=1)

    def forward(self, image_map: Tensor, text_features: Tensor, guidance: Sequence[Tensor]) -> Tensor:
        """Logits of one image.

        Args:
            image_map: (D, h, w) of CLIP, of any length.
            text_features: (T, D).
            guidance: (G1, 2h, 2w) and (G2, 4h, 4w).

        Returns:
            (T, 4h, 4w) logits, to be judged text by text with a sigmoid.
        """
        texts = functional.normalize(text_features, dim=-1)
        cost = torch.einsum("dhw,td->thw", functional.normalize(image_map, dim=0), texts)
        chosen = None
        if len(texts) > self.slots:
            chosen = cost.flatten(1).amax(dim=1).topk(self.slots).indices
            texts, cost = texts[chosen], cost[chosen]
        x = self.conv1(cost[:, None]).permute(0, 2, 3, 1)  # (T, h, w, C)
        image_guidance = self.guidance_projection(image_map[None])[0].permute(1, 2, 0)
        text_guidance = self.text_guidance_projection(texts)
        for layer in self.layers:
            x = layer(x, image_guidance, text_guidance)
        logits = self._decode(x.permute(0, 3, 1, 2), guidance)
        if chosen is None:
            return logits
        everything = logits.new_full((len(text_features), *logits.shape[1:]), EXCLUDED)
        return everything.index_copy(0, chosen, logits)

    def _decode(self, x: Tensor, guidance: Sequence[Tensor]) -> Tensor:
        for decoder, projection, guide in zip(
            (self.decoder1, self.decoder2), self.decoder_guidance_projection, guidance, strict=True
        ):
            x = decoder(x, projection(guide[None]))
        return self.head(x)[:, 0]


class _Layer(nn.Module):
    def __init__(self, config: AggregatorConfig) -> None:
        super().__init__()
        sizes = (config.width, config.guidance_width)
        self.swin_block = SwinPair(*sizes, config.side, config.heads, config.window)
        self.attention = ClassAttention(*sizes, config.heads, config.slots, config.pooling)

    def forward(self, x: Tensor, image_guidance: Tensor, text_guidance: Tensor) -> Tensor:
        return self.attention(self.swin_block(x, image_guidance), text_guidance)


class _Up(nn.Module):
    """Doubles the resolution of all texts' maps and mixes the guidance of the image in."""

    def __init__(self, width: int, out_width: int, guidance_width: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(width, width - guidance_width, 2, stride=2)
        self.conv = _DoubleConv(width, out_width)

    def forward(self, x: Tensor, guidance: Tensor) -> Tensor:
        x = self.up(x)
        return self.conv(torch.cat([x, guidance.expand(len(x), -1, -1, -1)], dim=1))


class _DoubleConv(nn.Module):
    def __init__(self, width: int, out_width: int) -> None:
        super().__init__()
        groups = out_width // 16
        self.double_conv = nn.Sequential(
            nn.Conv2d(width, out_width, 3, padding=1, bias=False),
            nn.GroupNorm(groups, out_width),
            nn.ReLU(),
            nn.Conv2d(out_width, out_width, 3, padding=1, bias=False),
            nn.GroupNorm(groups, out_width),
            nn.ReLU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.double_conv(x)


def _projection(width: int, out_width: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(width, out_width, 3, padding=1), nn.ReLU())
