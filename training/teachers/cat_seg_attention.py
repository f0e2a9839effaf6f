"""The two attentions of CAT-Seg's cost aggregation: over the pixels of each text, and over the texts of each pixel.

Both mix a guidance into queries and keys (the image's own features, the text vectors) that is the same for all texts
or all pixels. A linear layer over ``[x, guidance]`` is the sum of two over each part, so the part of the guidance is
computed once and broadcast.

Modules are named as in the released checkpoints.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

MASKED = -100.0
"""Added to attention logits between pixels that only touch because the map was rolled."""


class SwinPair(nn.Module):
    """Two Swin blocks over the cost maps of all texts, the second with windows shifted by half.

    Args:
        width: channels.
        guidance_width: channels of the image guidance.
        side: h = w, cells of the map.
        heads: of the attention.
        window: cells per side of a window.
    """

    def __init__(self, width: int, guidance_width: int, side: int, heads: int, window: int) -> None:
        super().__init__()
        window, shift = (side, 0) if side <= window else (window, window // 2)
        self.block_1 = _SwinBlock(width, guidance_width, heads, window)
        self.block_2 = _SwinBlock(width, guidance_width, heads, window, shift, side)
        self.guidance_norm = nn.LayerNorm(guidance_width)

    def forward(self, x: Tensor, guidance: Tensor) -> Tensor:
        """(T, h, w, C) maps and (h, w, G) image guidance to (T, h, w, C)."""
        guidance = self.guidance_norm(guidance)
        return self.block_2(self.block_1(x, guidance), guidance)


class _SwinBlock(nn.Module):
    """Windowed attention and an MLP; ``side`` is needed only for shifted windows."""

    attn_mask: Tensor | None

    def __init__(self, width: int, guidance_width: int, heads: int, window: int, shift: int = 0, side: int = 0) -> None:
        super().__init__()
        self.window, self.shift = window, shift
        self.norm1 = nn.LayerNorm(width)
        self.attn = _WindowAttention(width, guidance_width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, 4 * width), "fc2": nn.Linear(4 * width, width)})
        mask = _shift_mask(side, window, shift) if shift else None
        self.register_buffer("attn_mask", mask, persistent=False)

    def forward(self, x: Tensor, guidance: Tensor) -> Tensor:
        rolled = torch.roll(self.norm1(x), (-self.shift, -self.shift), (1, 2))
        guide = torch.roll(guidance, (-self.shift, -self.shift), (0, 1))[None]
        mixed = self.attn(_to_windows(rolled, self.window), _to_windows(guide, self.window), self.attn_mask)
        x = x + torch.roll(_from_windows(mixed, x.shape[1], x.shape[2]), (self.shift, self.shift), (1, 2))
        hidden = functional.gelu(self.mlp["fc1"](self.norm2(x)))
        return x + self.mlp["fc2"](hidden)


class _WindowAttention(nn.Module):
    def __init__(self, width: int, guidance_width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(width + guidance_width, width)
        self.k = nn.Linear(width + guidance_width, width)
        self.v = nn.Linear(width, width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, guidance: Tensor, mask: Tensor | None) -> Tensor:
        """(T, n, L, C) windows, (1, n, L, G) guidance and (n, 1, L, L) mask to (T, n, L, C)."""
        parts = (guided(self.q, x, guidance), guided(self.k, x, guidance), self.v(x))
        query, key, value = (part.unflatten(3, (self.heads, -1)).transpose(2, 3) for part in parts)
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)  # (T, n, heads, L, d)
        return self.proj(mixed.transpose(2, 3).flatten(3))


class ClassAttention(nn.Module):
    """Linear attention (Katharopoulos et al., ICML 2020) over the texts, pixel by pixel.

    The published network always sees ``slots`` texts: fewer are filled up with copies of one learned token. Copies are
    alike, so their sum over keys and values is taken at once.

    Args:
        width: channels.
        guidance_width: channels of the text guidance.
        heads: of the attention.
        slots: texts the network was trained with.
        pooling: cells per side averaged before the attention; 1 in the published evaluation, 2 in training.
    """

    def __init__(self, width: int, guidance_width: int, heads: int, slots: int, pooling: int) -> None:
        super().__init__()
        self.slots, self.pooling = slots, pooling
        self.attention = _LinearAttention(width, guidance_width, heads)
        self.MLP = nn.Sequential(nn.Linear(width, 4 * width), nn.ReLU(), nn.Linear(4 * width, width))
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.padding_tokens = nn.Parameter(torch.zeros(1, 1, width))
        self.padding_guidance = nn.Parameter(torch.zeros(1, 1, guidance_width))

    def forward(self, x: Tensor, guidance: Tensor) -> Tensor:
        """(T, h, w, C) maps and (T, G) text guidance to (T, h, w, C)."""
        maps = x.permute(0, 3, 1, 2)
        small = functional.avg_pool2d(maps, self.pooling) if self.pooling > 1 else maps
        tokens = small.flatten(2).permute(2, 0, 1)  # (h w, T, C)
        filler = self.norm1(self.padding_tokens), self.padding_guidance, max(0, self.slots - len(x))
        tokens = tokens + self.attention(self.norm1(tokens), guidance, *filler)
        tokens = tokens + self.MLP(self.norm2(tokens))
        small = tokens.permute(1, 2, 0).unflatten(2, small.shape[2:])
        if self.pooling > 1:
            small = functional.interpolate(small, x.shape[1:3], mode="bilinear", align_corners=True)
        return x + small.permute(0, 2, 3, 1)


class _LinearAttention(nn.Module):
    def __init__(self, width: int, guidance_width: int, heads: int, epsilon: float = 1e-6) -> None:
        super().__init__()
        self.heads, self.epsilon = heads, epsilon
        self.q = nn.Linear(width + guidance_width, width)
        self.k = nn.Linear(width + guidance_width, width)
        self.v = nn.Linear(width, width)

    def forward(self, x: Tensor, guidance: Tensor, filler: Tensor, filler_guidance: Tensor, fillers: int) -> Tensor:
        """(P, T, C) tokens, (T, G) guidance and (1, 1, C), (1, 1, G) of a filler present many times, to (P, T, C)."""
        query = self._feature_map(guided(self.q, x, guidance[None]))
        key, value = self._feature_map(guided(self.k, x, guidance[None])), self._split(self.v(x))
        filler_key = self._feature_map(guided(self.k, filler, filler_guidance))
        filler_value = self._split(self.v(filler))
        key_sum = key.sum(dim=1) + fillers * filler_key[:, 0]  # (P, heads, d)
        product = torch.einsum("pthd,pthe->phde", key, value)
        product = product + fillers * torch.einsum("pthd,pthe->phde", filler_key, filler_value)
        norm = torch.einsum("pthd,phd->pth", query, key_sum) + self.epsilon
        return (torch.einsum("pthd,phde->pthe", query, product) / norm[..., None]).flatten(2)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (self.heads, -1))

    def _feature_map(self, x: Tensor) -> Tensor:
        return functional.elu(self._split(x)) + 1


def guided(layer: nn.Linear, x: Tensor, guidance: Tensor) -> Tensor:
    """``layer([x, guidance])`` for a guidance that broadcasts against x in all axes but the last."""
    width = x.shape[-1]
    own = functional.linear(x, layer.weight[:, :width])
    return own + functional.linear(guidance, layer.weight[:, width:], layer.bias)


def _to_windows(x: Tensor, window: int) -> Tensor:
    """(T, h, w, C) to (T, n, window^2, C)."""
    rows, columns = x.shape[1] // window, x.shape[2] // window
    cut = x.unflatten(2, (columns, window)).unflatten(1, (rows, window))  # (T, rows, window, columns, window, C)
    return cut.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def _from_windows(x: Tensor, height: int, width: int) -> Tensor:
    """The inverse of ``_to_windows``."""
    window = round(x.shape[2] ** 0.5)
    cut = x.unflatten(2, (window, window)).unflatten(1, (height // window, width // window))
    return cut.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def _shift_mask(side: int, window: int, shift: int) -> Tensor:
    """(n, 1, L, L) of 0 within, ``MASKED`` across the seams that rolling a map makes."""
    band = torch.zeros(side)
    band[-window:], band[-shift:] = 1, 2
    region = _to_windows((3 * band[:, None] + band[None, :])[None, :, :, None], window)[0, :, :, 0]  # (n, L)
    return MASKED * (region[:, :, None] != region[:, None, :]).float()[:, None]
