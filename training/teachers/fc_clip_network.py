"""The network of FC-CLIP (Yu et al., "Convolutions Die Hard", NeurIPS 2023): one frozen ConvNeXt CLIP for everything.

Its feature maps feed a mask decoder, and pooled inside each mask they are embeddings in CLIP's own space. Modules are
ours, their names are those of the released checkpoint, so that it loads strictly and without a table of renamings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from ov_seg_ros.core.errors import ConfigError
from training.teachers.fc_clip_classification import best_of_synonyms, ensemble, pool_by_mask, text_logits
from training.teachers.fc_clip_pixel_decoder import NORM_GROUPS, PixelDecoder
from training.teachers.fc_clip_query_decoder import QueryDecoder

STRIDE = 32
"""Of the coarsest feature map; images are padded to multiples of it."""


@dataclass(frozen=True)
class FcClipArchitecture:
    """Sizes of the mask decoder; the defaults are those of the released ``fcclip_cocopan.pth``.

    Attributes:
        queries: masks predicted per image.
        dim: channels of queries, pixels and mask features; a multiple of 32 and of ``heads``.
        heads: of every attention.
        encoder_layers: of the pixel decoder.
        encoder_feedforward: hidden channels of its perceptrons.
        decoder_layers: rounds in which queries look at pixels.
        decoder_feedforward: hidden channels of their perceptrons.
    """

    queries: int = 250
    dim: int = 256
    heads: int = 8
    encoder_layers: int = 6
    encoder_feedforward: int = 1024
    decoder_layers: int = 9
    decoder_feedforward: int = 2048

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < 1:
                raise ConfigError(f"FC-CLIP architecture: {name} must be at least 1, got {value}")
        if self.dim % NORM_GROUPS or self.dim % self.heads:
            raise ConfigError(
                f"FC-CLIP architecture: dim must be a multiple of {NORM_GROUPS} and of heads = {self.heads}, "
                f"got {self.dim}"
            )


@dataclass(frozen=True)
class Queries:
    """What the network sees in one image.

    Attributes:
        mask_logits: (Q, h, w) at stride 4 of the padded image, > 0 = inside.
        in_embeddings: (Q, D) of the trained head, not normalised.
        out_embeddings: (Q, D) of the frozen CLIP, not normalised.
    """

    mask_logits: Tensor
    in_embeddings: Tensor
    out_embeddings: Tensor


class ClipBackbone(nn.Module):
    """A ConvNeXt CLIP of open_clip, taken apart."""

    def __init__(self, clip: Any) -> None:
        """Wraps a model.

        Args:
            clip: ``open_clip.model.CLIP`` whose image tower is a ConvNeXt of timm.

        Raises:
            ConfigError: the image tower is something else.
        """
        super().__init__()
        trunk = getattr(clip.visual, "trunk", None)
        if trunk is None or not all(hasattr(trunk, part) for part in ("stem", "stages", "norm_pre", "head")):
            tower = type(trunk or clip.visual).__name__
            raise ConfigError(f"FC-CLIP needs a CLIP with a ConvNeXt of timm as image tower, got {tower}")
        self.clip_model = clip

    @property
    def channels(self) -> list[int]:
        """Channels of the maps at strides 4, 8, 16, 32."""
        return [stage["num_chs"] for stage in self.clip_model.visual.trunk.feature_info]

    @property
    def dim(self) -> int:
        """D of the joint space of images and texts."""
        return int(self.clip_model.text_projection.shape[1])

    @property
    def logit_scale(self) -> Tensor:
        """() logarithm of the factor of CLIP's cosines."""
        scale: Tensor = self.clip_model.logit_scale
        return scale

    def forward(self, image: Tensor) -> list[Tensor]:
        """(1, 3, H, W) to the four maps (1, C, h, w) at strides 4, 8, 16, 32, then the last one normalised for CLIP."""
        trunk = self.clip_model.visual.trunk
        x, maps = trunk.stem(image), []
        for stage in trunk.stages:
            x = stage(x)
            maps.append(x)
        return [*maps, trunk.norm_pre(x)]

    def embed_pooled(self, pooled: Tensor) -> Tensor:
        """(Q, C) features averaged over masks to (Q, D) image embeddings, through CLIP's own head."""
        visual = self.clip_model.visual
        embeddings: Tensor = visual.head(visual.trunk.head(pooled[:, :, None, None]))
        return embeddings


class MaskHead(nn.Module):
    """Pixel decoder and query decoder, under the names of the checkpoint."""

    def __init__(self, channels: Sequence[int], clip_dim: int, sizes: FcClipArchitecture) -> None:
        super().__init__()
        self.pixel_decoder = PixelDecoder(
            channels, sizes.dim, sizes.heads, sizes.encoder_feedforward, sizes.encoder_layers
        )
        self.predictor = QueryDecoder(
            sizes.queries, sizes.dim, sizes.heads, sizes.decoder_feedforward, sizes.decoder_layers, clip_dim
        )

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Four backbone maps to mask logits (Q, h, w) and embeddings (Q, D)."""
        mask_features, scales = self.pixel_decoder(maps)
        masks, embeddings = self.predictor(scales, mask_features)
        return masks, embeddings


class FcClipNetwork(nn.Module):
    """Image to masks with embeddings; embeddings and texts to probabilities."""

    def __init__(self, clip: Any, sizes: FcClipArchitecture) -> None:
        super().__init__()
        self.backbone = ClipBackbone(clip)
        self.sem_seg_head = MaskHead(self.backbone.channels, self.backbone.dim, sizes)
        self.void_embedding = nn.Embedding(1, self.backbone.dim)

    def forward(self, image: Tensor) -> Queries:
        """(3, H, W) normalised RGB, H and W multiples of 32."""
        *maps, dense = self.backbone(image[None])
        masks, in_embeddings = self.sem_seg_head(maps)
        out_embeddings = self.backbone.embed_pooled(pool_by_mask(dense[0], masks))
        return Queries(masks, in_embeddings, out_embeddings)

    def classify(self, queries: Queries, texts: Tensor, class_of_text: Tensor, out_share: Tensor) -> Tensor:
        """Probabilities of classes and of void.

        Args:
            queries: of one image.
            texts: (T, D) unit vectors.
            class_of_text: (T,) int64, 0..K-1; texts of one class are synonyms, the best counts.
            out_share: (K,) weight of CLIP's own opinion, see ``ensemble``.

        Returns:
            (Q, K + 1), void last.
        """
        scale, count = self.sem_seg_head.predictor.logit_scale, len(out_share)
        void = functional.normalize(self.void_embedding.weight, dim=-1)
        return ensemble(
            best_of_synonyms(text_logits(queries.in_embeddings, texts, scale), class_of_text, count),
            text_logits(queries.in_embeddings, void, scale)[:, 0],
            best_of_synonyms(self.clip_text_logits(queries, texts), class_of_text, count),
            out_share,
        )

    def clip_text_logits(self, queries: Queries, texts: Tensor) -> Tensor:
        """(Q, T) what the frozen CLIP alone says."""
        return text_logits(queries.out_embeddings, texts, self.backbone.logit_scale)
