"""The side adapter of SAN (Xu et al., CVPR 2023): a small ViT beside a frozen CLIP that proposes masks.

It looks at the image in full resolution, takes features of CLIP in on its way, and gives for every one of its queries
a mask and, per head of CLIP's attention, a bias that makes a copy of CLIP's class token look at that mask alone.

Modules are named as in the released checkpoints (``side_adapter_network.*``), so that these load without renaming.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class SideAdapterConfig:
    """Sizes of the side adapter; the defaults are those of both released checkpoints.

    Attributes:
        width: channels.
        depth: transformer blocks.
        heads: of its own attention.
        patch_size: pixels per side.
        image_size: pixels per side of the square image its position embedding was made for.
        queries: Q, masks per image.
        decoder_channels: of the three heads that make masks and biases.
    """

    width: int = 240
    depth: int = 8
    heads: int = 6
    patch_size: int = 16
    image_size: int = 640
    queries: int = 100
    decoder_channels: int = 256


class SideAdapter(nn.Module):
    """Image and CLIP features to masks and attention biases.

    Args:
        config: sizes.
        clip_width: channels of the CLIP features taken in.
        clip_heads: attention heads of CLIP, one bias each.
        fusions: how many CLIP feature maps are taken in; the k-th is added after k blocks.
    """

    def __init__(self, config: SideAdapterConfig, clip_width: int, clip_heads: int, fusions: int) -> None:
        super().__init__()
        self.vit_model = _Vit(config)
        self.query_embed = nn.Parameter(0.02 * torch.randn(1, config.queries, config.width))
        self.query_pos_embed = nn.Parameter(0.02 * torch.randn(1, config.queries, config.width))
        self.fusion_layers = nn.ModuleDict({f"layer_{k}": _Fusion(clip_width, config.width) for k in range(fusions)})
        self.mask_decoder = _MaskDecoder(config.width, config.decoder_channels, clip_heads)

    def forward(self, image: Tensor, clip_maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Masks and biases of one batch.

        Args:
            image: (B, 3, H, W) normalised, H and W divisible by the patch size.
            clip_maps: (B, C, h', w') each, in the order of their fusion.

        Returns:
            (B, Q, h, w) mask logits and (B, heads, Q, h, w) attention biases, h = H / patch size.
        """
        tokens = self.vit_model.patch_embed(image)  # (B, width, h, w)
        grid = (tokens.shape[2], tokens.shape[3])
        position = torch.cat([self.query_pos_embed, self.vit_model.position(grid)], dim=1)
        query = self.query_embed.expand(len(image), -1, -1)
        x = torch.cat([query, tokens.flatten(2).transpose(1, 2)], dim=1) + position  # (B, Q + h w, width)
        x = self._fuse(0, x, clip_maps, grid)
        for index, block in enumerate(self.vit_model.blocks, start=1):
            x = self._fuse(index, block(x), clip_maps, grid)
            if index < len(self.vit_model.blocks):
                x = x + position
        queries = self.query_embed.shape[1]
        pixels = x[:, queries:].transpose(1, 2).unflatten(2, grid)  # (B, width, h, w)
        masks, biases = self.mask_decoder(x[:, :queries], pixels)
        return masks, biases

    def _fuse(self, index: int, x: Tensor, clip_maps: Sequence[Tensor], grid: tuple[int, int]) -> Tensor:
        if index >= len(clip_maps):
            return x
        added = self.fusion_layers[f"layer_{index}"](clip_maps[index], grid)  # (B, h w, width)
        queries = self.query_embed.shape[1]
        return torch.cat([x[:, :queries], x[:, queries:] + added], dim=1)


class _Vit(nn.Module):
    """The plain ViT of timm without class token and final norm; key names are timm's."""

    def __init__(self, config: SideAdapterConfig) -> None:
        super().__init__()
        self.side = config.image_size // config.patch_size
        self.patch_embed = _PatchEmbed(config.width, config.patch_size)
        self.pos_embed = nn.Parameter(0.02 * torch.randn(1, self.side**2, config.width))
        self.blocks = nn.Sequential(*(_Block(config.width, config.heads) for _ in range(config.depth)))

    def position(self, grid: tuple[int, int]) -> Tensor:
        """(1, h w, width) position embedding, resized bicubically to another grid."""
        if grid == (self.side, self.side):
            return self.pos_embed
        square = self.pos_embed.transpose(1, 2).unflatten(2, (self.side, self.side))
        resized = functional.interpolate(square, grid, mode="bicubic", align_corners=False)
        return resized.flatten(2).transpose(1, 2)


class _PatchEmbed(nn.Module):
    def __init__(self, width: int, patch_size: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch_size, stride=patch_size)

    def forward(self, image: Tensor) -> Tensor:
        projected: Tensor = self.proj(image)
        return projected


class _Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = _Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, 4 * width), "fc2": nn.Linear(4 * width, width)})

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        hidden = functional.gelu(self.mlp["fc1"](self.norm2(x)))
        return x + self.mlp["fc2"](hidden)


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (B, heads, L, d)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        return self.proj(mixed.transpose(1, 2).flatten(2))


class _Fusion(nn.Module):
    """A CLIP feature map, normalised over channels and projected, at the grid of the side adapter."""

    def __init__(self, clip_width: int, width: int) -> None:
        super().__init__()
        self.input_proj = nn.Sequential(_ChannelNorm(clip_width), nn.Conv2d(clip_width, width, 1))

    def forward(self, clip_map: Tensor, grid: tuple[int, int]) -> Tensor:
        projected = functional.interpolate(self.input_proj(clip_map), grid, mode="bilinear", align_corners=False)
        return projected.flatten(2).transpose(1, 2)


class _ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of (B, C, h, w)."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class _MaskDecoder(nn.Module):
    """Queries and pixels to masks, and to one attention bias per head."""

    def __init__(self, width: int, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query_mlp = _Mlp([nn.Linear(n, channels) for n in (width, channels, channels)])
        self.pix_mlp = _Mlp([nn.Conv2d(n, channels, 1) for n in (width, channels, channels)])
        sizes = ((width, channels), (channels, channels), (channels, channels * heads))
        self.attn_mlp = _Mlp([nn.Conv2d(n, m, 1) for n, m in sizes])
        self.bias_scaling = nn.Linear(1, 1)

    def forward(self, query: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor]:
        query = self.query_mlp(query)  # (B, Q, C)
        masks = torch.einsum("bqc,bchw->bqhw", query, self.pix_mlp(pixels))
        keys = self.attn_mlp(pixels).unflatten(1, (self.heads, -1))  # (B, heads, C, h, w)
        biases = torch.einsum("bqc,bnchw->bnqhw", query, keys)
        return masks, biases * self.bias_scaling.weight[0, 0] + self.bias_scaling.bias[0]


class _Mlp(nn.Module):
    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = functional.relu(layer(x))
        return self.layers[-1](x)
