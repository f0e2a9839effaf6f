"""Multi-scale deformable attention (Zhu et al., Deformable DETR, ICLR 2021, Eq. 2 and 3), in plain torch.

Module names are those of the released Mask2Former family, so that its checkpoints load without a table of renamings.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

MapSize = tuple[int, int]
"""(height, width) of a feature map."""


class DeformableAttention(nn.Module):
    """Every token looks at a few points of every feature map, at places it chooses itself."""

    def __init__(self, dim: int, heads: int, levels: int = 3, points: int = 4) -> None:
        """Builds the layer.

        Args:
            dim: D, channels of tokens and values; a multiple of ``heads``.
            heads: M.
            levels: L, feature maps looked at.
            points: P, places per head and level.
        """
        super().__init__()
        self.heads, self.levels, self.points = heads, levels, points
        self.sampling_offsets = nn.Linear(dim, heads * levels * points * 2)
        self.attention_weights = nn.Linear(dim, heads * levels * points)
        self.value_proj = nn.Linear(dim, dim)
        self.output_proj = nn.Linear(dim, dim)

    def forward(self, query: Tensor, reference: Tensor, source: Tensor, sizes: Sequence[MapSize]) -> Tensor:
        """Attends.

        Args:
            query: (N, D) tokens with their positions.
            reference: (N, 2) where each token is, (x, y) as shares of width and height.
            source: (S, D) all feature maps, level after level, row after row; S = sum of h * w.
            sizes: L sizes.

        Returns:
            (N, D).
        """
        count = len(query)
        value = self.value_proj(source).view(len(source), self.heads, -1)  # (S, M, d)
        offsets = self.sampling_offsets(query).view(count, self.heads, self.levels, self.points, 2)
        weights = self.attention_weights(query).view(count, self.heads, self.levels * self.points).softmax(-1)
        weights = weights.view(count, self.heads, self.levels, self.points)
        total = query.new_zeros(self.heads, value.shape[-1], count)
        levels = value.split([height * width for height, width in sizes])  # each (h * w, M, d)
        for level, (height, width) in enumerate(sizes):
            place = reference[:, None, None] + offsets[:, :, level] / offsets.new_tensor(
                [width, height]
            )  # (N, M, P, 2)
            level_map = levels[level].permute(1, 2, 0).unflatten(2, (height, width))
            sampled = functional.grid_sample(  # (M, d, N, P); outside of the map is 0
                level_map, (2.0 * place - 1.0).transpose(0, 1), mode="bilinear", align_corners=False
            )
            total += (sampled * weights[:, :, level].transpose(0, 1)[:, None]).sum(-1)
        return self.output_proj(total.permute(2, 0, 1).flatten(1))


def token_centers(sizes: Sequence[MapSize], device: torch.device) -> Tensor:
    """(S, 2) float32 centres of all pixels of all maps, (x, y) as shares of width and height."""
    rows = []
    for height, width in sizes:
        y = (torch.arange(height, device=device, dtype=torch.float32) + 0.5) / height
        x = (torch.arange(width, device=device, dtype=torch.float32) + 0.5) / width
        rows.append(torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).flatten(0, 1))
    return torch.cat(rows)
