"""One CLIP feature per image cell: the value path of the last attention (MaskCLIP, Zhou et al. 2022, section 3.2).

CLIP compares images with texts through a token that gathers the whole image in the last attention. Without that
gathering every cell keeps its own value, and the rest of the network carries it into the same space:

* ViT: all blocks but the last as they are. In the last one ``x + out_proj(value(ln_1(x)))`` instead of attention, then
  its MLP with residual, the final layer norm and the projection to the text space.
* ResNet: ``c_proj(v_proj(x))`` of the attention pool, at every cell.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from ov_seg_ros.core.errors import InputError, ModelError

if TYPE_CHECKING:
    from torch import Tensor


class DenseFeatures(NamedTuple):
    """What the value path gives for a batch of images.

    Attributes:
        features: (B, h, w, D) in the text space, not normalised.
        keys: (B, h, w, K) keys of the last attention, for key smoothing.
    """

    features: Tensor
    keys: Tensor


@dataclass(frozen=True)
class DenseClip:
    """The image tower of an open_clip model, used densely.

    Attributes:
        visual: ``model.visual`` of open_clip: VisionTransformer or ModifiedResNet, in evaluation mode.
        cell: pixels per cell along an axis, also the stride of the features.
        dim: D, width of the text space.
        key_dim: K, width of the keys.
    """

    visual: Any
    cell: int
    dim: int
    key_dim: int

    @classmethod
    def wrap(cls, visual: Any) -> DenseClip:
        """Checks that the value path is defined for this tower.

        Raises:
            ModelError: a tower of another kind.
        """
        from torch import nn

        if hasattr(visual, "attnpool") and hasattr(visual, "layer4"):
            return cls(visual, 32, visual.attnpool.c_proj.out_features, visual.attnpool.k_proj.out_features)
        blocks = getattr(getattr(visual, "transformer", None), "resblocks", None)
        if blocks is None or getattr(visual, "attn_pool", None) is not None or visual.proj is None:
            raise _unsupported(visual, "it must be a VisionTransformer without attention pooling, or a ModifiedResNet")
        if not isinstance(blocks[-1].attn, nn.MultiheadAttention):
            raise _unsupported(visual, "the attention of its last block is not torch's MultiheadAttention")
        if not visual.transformer.batch_first:
            raise _unsupported(visual, "its blocks are not batch first; install open_clip_torch 2.24 or newer")
        return cls(visual, int(visual.patch_size[0]), int(visual.proj.shape[1]), int(visual.conv1.out_channels))

    def encode(self, pixels: Tensor) -> DenseFeatures:
        """Features of every cell.

        Args:
            pixels: (B, 3, H, W) normalised as the model wants it; H and W are multiples of ``cell``.

        Raises:
            InputError: a size that is no multiple of ``cell``.
        """
        if pixels.ndim != 4 or pixels.shape[2] % self.cell or pixels.shape[3] % self.cell or not pixels.numel():
            raise InputError(
                f"pixels must be (B, 3, H, W), H and W multiples of {self.cell}, got {tuple(pixels.shape)}"
            )
        return self._encode_resnet(pixels) if hasattr(self.visual, "attnpool") else self._encode_vit(pixels)

    def _encode_vit(self, pixels: Tensor) -> DenseFeatures:
        visual = self.visual
        x = visual.ln_pre(self._embed(pixels))  # (B, 1 + h * w, K)
        *blocks, last = visual.transformer.resblocks
        for block in blocks:
            x = block(x)
        keys, values = _keys_and_values(last.attn, last.ln_1(x))
        x = x + last.ls_1(last.attn.out_proj(values))
        x = x + last.ls_2(last.mlp(last.ln_2(x)))
        features = visual.ln_post(x) @ visual.proj
        grid = (pixels.shape[2] // self.cell, pixels.shape[3] // self.cell)
        return DenseFeatures(features[:, 1:].unflatten(1, grid), keys[:, 1:].unflatten(1, grid))

    def _embed(self, pixels: Tensor) -> Tensor:
        """(B, 1 + h * w, K) class token and patches, with position embeddings resized to the grid."""
        import torch

        visual = self.visual
        patches = visual.conv1(pixels)  # (B, K, h, w)
        position = resize_positions(visual.positional_embedding, visual.grid_size, tuple(patches.shape[2:]))
        first = visual.class_embedding.expand(len(pixels), 1, -1)
        return torch.cat([first.to(patches.dtype), patches.flatten(2).transpose(1, 2)], dim=1) + position

    def _encode_resnet(self, pixels: Tensor) -> DenseFeatures:
        visual, pool = self.visual, self.visual.attnpool
        x = visual.stem(pixels)
        for layer in (visual.layer1, visual.layer2, visual.layer3, visual.layer4):
            x = layer(x)
        x = x.permute(0, 2, 3, 1)  # (B, h, w, K)
        return DenseFeatures(pool.c_proj(pool.v_proj(x)), pool.k_proj(x))


def resize_positions(positions: Tensor, grid: tuple[int, int], new_grid: tuple[int, ...]) -> Tensor:
    """Position embeddings of another image size, bicubic; unchanged at the size they were trained for.

    Args:
        positions: (1 + h * w, K), the class token first.
        grid: (h, w) they belong to.
        new_grid: (h', w') wanted.

    Returns:
        (1 + h' * w', K).
    """
    import torch

    if tuple(grid) == tuple(new_grid):
        return positions
    maps = positions[1:].T.reshape(1, -1, *grid)
    resized = torch.nn.functional.interpolate(maps, tuple(new_grid), mode="bicubic", align_corners=False)
    return torch.cat([positions[:1], resized[0].flatten(1).T])


def _keys_and_values(attention: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """(B, L, K) each, of a torch MultiheadAttention with its three projections packed in one matrix."""
    import torch

    _, key, value = attention.in_proj_weight.chunk(3)
    _, key_bias, value_bias = attention.in_proj_bias.chunk(3)
    return torch.nn.functional.linear(x, key, key_bias), torch.nn.functional.linear(x, value, value_bias)


def _unsupported(visual: Any, reason: str) -> ModelError:
    return ModelError(
        f"MaskCLIP cannot use the image tower {type(visual).__name__}: {reason}. Use ViT-B-16, ViT-L-14, RN50 or kin"
    )
