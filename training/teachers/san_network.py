"""SAN (Xu et al., CVPR 2023): which of many texts stands in the masks of a side adapter, judged by a frozen CLIP.

CLIP's first blocks see the image once and feed the side adapter. For each mask, a copy of the class token ("sos token")
goes through the remaining blocks; the adapter's bias on its attention makes it look at that mask alone. Where it ends
up in the text space is the embedding of the mask.

The published formulation runs the Q copies in one sequence with all tokens under an additive mask of -100: a copy sees
the pixels and itself, nobody sees a copy. Here the copies attend from outside (``attend_with_bias``), which is the
same to e^-100 and takes Q x L instead of (Q + L)^2 attention weights.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.teachers.dense_clip import resize_positions
from training.teachers.san_side_adapter import SideAdapter, SideAdapterConfig


@dataclass(frozen=True)
class SanArchitecture:
    """What must fit the checkpoint. Defaults: ``san_vit_large_14.pth`` on CLIP ViT-L/14-336.

    ``san_vit_b_16.pth`` needs ``clip_model: ViT-B-16``, ``fusion_layers: [0, 3, 6, 9]``, ``clip_scale: 0.5``.

    Attributes:
        clip_model: name of the CLIP in open_clip; OpenAI's weights, hence with QuickGELU.
        fusion_layers: after how many of CLIP's blocks its features go to the side adapter; at the last of them the
            class token is copied.
        clip_scale: size of CLIP's image relative to that of the side adapter.
        adapter: sizes of the side adapter.
    """

    clip_model: str = "ViT-L-14-336"
    fusion_layers: tuple[int, ...] = (0, 6, 12, 18)
    clip_scale: float = 0.7
    adapter: SideAdapterConfig = field(default_factory=SideAdapterConfig)


class SanNetwork(nn.Module):
    """The whole network; its parameters have the names of the released checkpoints.

    Args:
        clip: an open_clip CLIP with a ViT image tower; its modules become parts of this network.
        architecture: the rest.
    """

    def __init__(self, clip: Any, architecture: SanArchitecture) -> None:
        super().__init__()
        first = architecture.fusion_layers[-1]
        blocks = clip.visual.transformer.resblocks
        self.fusion_layers = architecture.fusion_layers
        self.clip_scale = architecture.clip_scale
        self.side_adapter_network = SideAdapter(
            architecture.adapter,
            clip_width=clip.visual.conv1.out_channels,
            clip_heads=blocks[0].attn.num_heads,
            fusions=len(architecture.fusion_layers),
        )
        self.clip_visual_extractor = _EarlyClip(clip.visual, first)
        self.clip_rec_head = _LateClip(clip.visual, first)
        self.ov_classifier = _TextClip(clip)

    def forward(self, image: Tensor, text_features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Masks, and what is in them.

        Args:
            image: (B, 3, H, W) normalised, H and W divisible by the adapter's patch size.
            text_features: (T, D) unit vectors.

        Returns:
            (B, Q, T + 1) class logits, the last column being the learned background; (B, Q, h, w) mask logits;
            (B, Q, D) unit embeddings of the masks.
        """
        small = functional.interpolate(image, scale_factor=self.clip_scale, mode="bilinear", align_corners=False)
        class_tokens, maps = self.clip_visual_extractor(small, self.fusion_layers)
        masks, biases = self.side_adapter_network(image, maps)
        embeddings = self.clip_rec_head(class_tokens, maps[-1], biases)
        return self.ov_classifier(embeddings, text_features), masks, embeddings


class _EarlyClip(nn.Module):
    """CLIP's image tower up to a block."""

    def __init__(self, visual: Any, last: int) -> None:
        super().__init__()
        self.grid = tuple(visual.grid_size)
        self.conv1 = visual.conv1
        self.class_embedding = visual.class_embedding
        self.positional_embedding = visual.positional_embedding
        self.ln_pre = visual.ln_pre
        self.resblocks = visual.transformer.resblocks[:last]

    def forward(self, image: Tensor, layers: tuple[int, ...]) -> tuple[Tensor, list[Tensor]]:
        """The class token (B, 1, C) after all blocks, and (B, C, h, w) features after each of ``layers`` blocks."""
        patches = self.conv1(image)
        grid = (patches.shape[2], patches.shape[3])
        class_token = self.class_embedding.expand(len(image), 1, -1)
        x = torch.cat([class_token, patches.flatten(2).transpose(1, 2)], dim=1)
        x = self.ln_pre(x + resize_positions(self.positional_embedding, self.grid, grid))
        maps = []
        for index in range(len(self.resblocks) + 1):
            if index in layers:
                maps.append(x[:, 1:].transpose(1, 2).unflatten(2, grid))
            if index < len(self.resblocks):
                x = self.resblocks[index](x)
        return x[:, :1], maps


class _LateClip(nn.Module):
    """The rest of CLIP's image tower, run for copies of the class token, each with a bias on its attention."""

    def __init__(self, visual: Any, first: int) -> None:
        super().__init__()
        self.resblocks = visual.transformer.resblocks[first:]
        self.ln_post = visual.ln_post
        self.proj = visual.proj

    def forward(self, class_token: Tensor, pixels: Tensor, biases: Tensor) -> Tensor:
        """(B, 1, C), (B, C, h, w) and (B, heads, Q, h', w') to (B, Q, D) unit embeddings."""
        bias = functional.adaptive_max_pool2d(biases.flatten(1, 2), pixels.shape[2:])
        bias = bias.unflatten(1, biases.shape[1:3]).flatten(3)  # (B, heads, Q, h w)
        x = torch.cat([class_token, pixels.flatten(2).transpose(1, 2)], dim=1)
        copies = class_token.expand(-1, biases.shape[2], -1)
        for block in self.resblocks:
            copies = copies + attend_with_bias(block, copies, x[:, 1:], bias)
            copies = copies + block.mlp(block.ln_2(copies))
            if block is not self.resblocks[-1]:
                x = block(x)
        return functional.normalize(self.ln_post(copies) @ self.proj, dim=-1)


class _TextClip(nn.Module):
    """CLIP's text tower, kept for its names in the checkpoint, and the classifier with a learned background."""

    def __init__(self, clip: Any) -> None:
        super().__init__()
        self.transformer = clip.transformer
        self.token_embedding = clip.token_embedding
        self.ln_final = clip.ln_final
        self.positional_embedding = clip.positional_embedding
        self.text_projection = clip.text_projection
        self.logit_scale = clip.logit_scale
        width = clip.text_projection.shape[1]
        self.bg_embed = nn.Parameter(width**-0.5 * torch.randn(1, width))

    def forward(self, embeddings: Tensor, text_features: Tensor) -> Tensor:
        """(B, Q, D) and (T, D) to (B, Q, T + 1) logits."""
        classes = functional.normalize(torch.cat([text_features, self.bg_embed]), dim=-1)
        return self.logit_scale.exp() * embeddings @ classes.T


def attend_with_bias(block: Any, copies: Tensor, pixels: Tensor, bias: Tensor) -> Tensor:
    """What the attention of a CLIP block gives tokens that see the pixels, with a bias, and themselves.

    Args:
        block: residual attention block of open_clip.
        copies: (B, Q, C) the tokens that ask; they do not see each other, nor the class token.
        pixels: (B, L, C).
        bias: (B, heads, Q, L) added to the attention logits towards the pixels.

    Returns:
        (B, Q, C), to be added to ``copies``.
    """
    attention = block.attn
    weight, offset = attention.in_proj_weight, attention.in_proj_bias
    width, heads = copies.shape[2], attention.num_heads
    asked = functional.linear(block.ln_1(copies), weight, offset).unflatten(2, (3, heads, -1))
    query, own_key, own_value = asked.permute(2, 0, 3, 1, 4)  # (B, heads, Q, d) each
    seen = functional.linear(block.ln_1(pixels), weight[width:], offset[width:]).unflatten(2, (2, heads, -1))
    key, value = seen.permute(2, 0, 3, 1, 4)  # (B, heads, L, d) each
    query = query * query.shape[-1] ** -0.5
    own = (query * own_key).sum(dim=-1, keepdim=True)  # (B, heads, Q, 1)
    share = torch.softmax(torch.cat([query @ key.transpose(2, 3) + bias, own], dim=-1), dim=-1)
    mixed = share[..., :-1] @ value + share[..., -1:] * own_value
    return attention.out_proj(mixed.transpose(1, 2).flatten(2))
