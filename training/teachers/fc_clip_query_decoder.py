"""The masked-attention decoder of Mask2Former (Cheng et al., CVPR 2022) with the in-vocabulary head of FC-CLIP.

Module names are those of the released checkpoint (``sem_seg_head.predictor.*``). One image at a time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.teachers.fc_clip_classification import pool_by_mask
from training.teachers.fc_clip_pixel_decoder import sine_positions


class SelfAttentionLayer(nn.Module):
    """Queries look at one another."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(dim, heads)
        self.norm = nn.LayerNorm(dim)

    def forward(self, queries: Tensor, query_positions: Tensor) -> Tensor:
        """(Q, D) queries and their positions to (Q, D)."""
        placed = queries + query_positions
        result: Tensor = self.norm(queries + self.self_attn(placed, placed, queries, need_weights=False)[0])
        return result


class CrossAttentionLayer(nn.Module):
    """Queries look at the pixels inside their own masks."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.multihead_attn = nn.MultiheadAttention(dim, heads)
        self.norm = nn.LayerNorm(dim)

    def forward(
        self, queries: Tensor, query_positions: Tensor, pixels: Tensor, pixel_positions: Tensor, blocked: Tensor
    ) -> Tensor:
        """(Q, D) queries, (S, D) pixels, (Q, S) bool which pixels a query must not see, to (Q, D)."""
        seen, _ = self.multihead_attn(
            queries + query_positions, pixels + pixel_positions, pixels, attn_mask=blocked, need_weights=False
        )
        result: Tensor = self.norm(queries + seen)
        return result


class FeedforwardLayer(nn.Module):
    """A two-layer perceptron with a residual and a layer norm after it."""

    def __init__(self, dim: int, feedforward: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(dim, feedforward)
        self.linear2 = nn.Linear(feedforward, dim)
        self.norm = nn.LayerNorm(dim)

    def forward(self, queries: Tensor) -> Tensor:
        """(Q, D) to (Q, D)."""
        result: Tensor = self.norm(queries + self.linear2(functional.relu(self.linear1(queries))))
        return result


class Perceptron(nn.Module):
    """Three linear layers with rectifiers between them, under the name ``layers``."""

    def __init__(self, dim: int, dim_out: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(dim, dim), nn.Linear(dim, dim), nn.Linear(dim, dim_out)])

    def forward(self, x: Tensor) -> Tensor:
        """(..., dim) to (..., dim_out)."""
        for layer in self.layers[:-1]:
            x = functional.relu(layer(x))
        result: Tensor = self.layers[-1](x)
        return result


class QueryDecoder(nn.Module):
    """Learned queries to masks and embeddings in CLIP's space."""

    def __init__(self, queries: int, dim: int, heads: int, feedforward: int, layers: int, clip_dim: int) -> None:
        """Builds the decoder.

        Args:
            queries: Q.
            dim: D of queries, pixels and mask features.
            heads: of every attention.
            feedforward: hidden channels of the perceptrons in the layers.
            layers: rounds of cross-attention, self-attention and perceptron.
            clip_dim: channels of CLIP's joint space.
        """
        super().__init__()
        levels = 3
        self.transformer_self_attention_layers = nn.ModuleList(SelfAttentionLayer(dim, heads) for _ in range(layers))
        self.transformer_cross_attention_layers = nn.ModuleList(CrossAttentionLayer(dim, heads) for _ in range(layers))
        self.transformer_ffn_layers = nn.ModuleList(FeedforwardLayer(dim, feedforward) for _ in range(layers))
        self.decoder_norm = nn.LayerNorm(dim)
        self.query_feat = nn.Embedding(queries, dim)
        self.query_embed = nn.Embedding(queries, dim)
        self.level_embed = nn.Embedding(levels, dim)
        self.mask_embed = Perceptron(dim, dim)
        self._mask_pooling_proj = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, dim))
        self.class_embed = Perceptron(dim, clip_dim)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def forward(self, scales: Sequence[Tensor], mask_features: Tensor) -> tuple[Tensor, Tensor]:
        """Decodes one image.

        Args:
            scales: three maps (D, h, w) at strides 32, 16, 8.
            mask_features: (D, h4, w4).

        Returns:
            mask logits (Q, h4, w4); in-vocabulary embeddings (Q, clip_dim), not normalised.
        """
        positions = [sine_positions((x.shape[1], x.shape[2]), x.shape[0], x.device).flatten(1).T for x in scales]
        pixels = [x.flatten(1).T + level for x, level in zip(scales, self.level_embed.weight, strict=True)]
        queries, query_positions = self.query_feat.weight, self.query_embed.weight
        masks = self._masks(queries, mask_features)
        for i, attend in enumerate(self.transformer_cross_attention_layers):
            level = i % len(scales)
            blocked = _outside(masks, scales[level])
            queries = attend(queries, query_positions, pixels[level], positions[level], blocked)
            queries = self.transformer_self_attention_layers[i](queries, query_positions)
            queries = self.transformer_ffn_layers[i](queries)
            masks = self._masks(queries, mask_features)
        pooled = self._mask_pooling_proj(pool_by_mask(mask_features, masks))
        return masks, self.class_embed(pooled + self.decoder_norm(queries))

    def _masks(self, queries: Tensor, mask_features: Tensor) -> Tensor:
        """(Q, h4, w4) mask logits."""
        return torch.einsum("qd,dhw->qhw", self.mask_embed(self.decoder_norm(queries)), mask_features)


def _outside(masks: Tensor, scale: Tensor) -> Tensor:
    """(Q, h * w) bool: pixels of a scale outside of each query's mask; a query with an empty mask sees everything."""
    small = functional.interpolate(masks[None], size=scale.shape[-2:], mode="bilinear", align_corners=False)[0]
    blocked = small.flatten(1) < 0.0  # sigmoid < 0.5
    return blocked & ~blocked.all(dim=1, keepdim=True)
