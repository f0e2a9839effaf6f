"""Losses of the tri-modal contrastive pre-training (TMP) of AFOV: points against images and against texts.

A superpoint is the set of voxels that one teacher segment covers. S superpoints with embeddings ``points`` (S, D)
face the features of their segments ``images`` (S, D) and the vectors of all texts ``texts`` (T, D); ``text_id`` (S,)
says which text the teacher gave each segment. The paper prints these losses as Eq. 1 to 4; the released code computes
something else for the text term. Both are here, and the released form is the default.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, embedding_bag, log_softmax, normalize

from ov_seg_ros.core.errors import ConfigError
from training.value_ranges import NOT_NEGATIVE, POSITIVE, SHARE

TEXT_LOSSES = ("released", "printed")
ANCHORS = ("point", "image")


@dataclass(frozen=True)
class ContrastConfig:
    """Settings of TMP.

    Attributes:
        temperature: of all similarities.
        image_weight, text_weight: of the two terms (Eq. 4); 0 leaves one out.
        anchor: "point" asks each superpoint for its segment among all segments (released), "image" each segment for
            its superpoint (printed).
        text_loss: "released" (soft labels over all texts) or "printed" (Eq. 2 and 3).
        own_text: share of the soft label that stays on the segment's own text; the rest goes to the texts of the
            same group, by similarity (released).
        normalize_superpoints: bring the mean of unit vectors to length 1 again; the paper says so, the released code
            does not do it.
    """

    temperature: float = 0.07
    image_weight: float = 0.5
    text_weight: float = 0.5
    anchor: str = "point"
    text_loss: str = "released"
    own_text: float = 0.2
    normalize_superpoints: bool = True

    def __post_init__(self) -> None:
        if self.text_loss not in TEXT_LOSSES:
            raise ConfigError(f"text_loss must be one of {', '.join(TEXT_LOSSES)}, got {self.text_loss!r}")
        if self.anchor not in ANCHORS:
            raise ConfigError(f"anchor must be one of {', '.join(ANCHORS)}, got {self.anchor!r}")
        POSITIVE.check(self, "temperature")
        NOT_NEGATIVE.check(self, "image_weight", "text_weight")
        SHARE.check(self, "own_text")
        if self.image_weight == self.text_weight == 0:
            raise ConfigError("image_weight and text_weight are both 0: there is nothing to learn")


def pool_superpoints(voxels: Tensor, pair_voxel: Tensor, pair_segment: Tensor, count: int) -> Tensor:
    """Mean embedding of the voxels of each superpoint.

    Args:
        voxels: (V, D) unit vectors.
        pair_voxel: (P,) int64 index of a voxel. Each point of a voxel may bring its own pair: voxels count by points.
        pair_segment: (P,) int64 the segment it lies in, ascending.
        count: S, number of segments.

    Returns:
        (S, D), zeros for a segment without voxels; not of unit length.
    """
    members = torch.bincount(pair_segment, minlength=count)
    return embedding_bag(pair_voxel, voxels, members.cumsum(0) - members, mode="mean")


def image_contrast(points: Tensor, images: Tensor, config: ContrastConfig) -> Tensor:
    """Superpoint against superpixel: InfoNCE with the own partner as the positive (Eq. 1).

    Args:
        points: (S, D) superpoints.
        images: (S, D) unit features of their segments.
        config: temperature and anchor.
    """
    similarity = points @ images.T / config.temperature  # (S, S), rows are points
    if config.anchor == "image":
        similarity = similarity.T
    return cross_entropy(similarity, torch.arange(len(points), device=points.device))


def soft_text_labels(texts: Tensor, text_group: Tensor, own_text: float) -> Tensor:
    """What a superpoint of each text shall answer: itself, and a little of the synonyms ("semi-positives").

    Row y is ``own_text`` on y plus ``1 - own_text`` times the cosine of y with every text of its group (itself
    included), divided by its sum. Negative cosines count as 0.

    Args:
        texts: (T, D) unit vectors.
        text_group: (T,) int64 group of each text.
        own_text: in [0, 1].

    Returns:
        (T, T), rows sum to 1.
    """
    same_group = text_group[:, None] == text_group[None]
    alike = (texts @ texts.T).clamp(min=0) * same_group
    label = own_text * torch.eye(len(texts), device=texts.device) + (1 - own_text) * alike
    return label / label.sum(dim=1, keepdim=True)


def text_contrast_released(points: Tensor, texts: Tensor, label: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of superpoints over all texts with soft labels, as in the released code.

    Args:
        points: (S, D) superpoints.
        texts: (T, D) unit vectors.
        label: (S, T), rows sum to 1; see ``soft_text_labels``.
        temperature: of the similarities.
    """
    return -(label * log_softmax(points @ texts.T / temperature, dim=1)).sum(dim=1).mean()


def text_contrast_printed(
    points: Tensor, texts: Tensor, text_id: Tensor, text_group: Tensor, temperature: float
) -> Tensor:
    """Eq. 2 and 3: each segment's text asks for its superpoint; superpoints of its own text are no negatives, and
    those of another text of the same class are weakened by how well they match already.

    Args:
        points: (S, D) superpoints.
        texts: (T, D) unit vectors.
        text_id: (S,) int64 text of each segment.
        text_group: (T,) int64 group of each text.
        temperature: of the similarities.
    """
    similarity = texts[text_id] @ points.T  # (S, S), rows are the texts of the segments
    group = text_group[text_id]
    alpha = torch.where(group[:, None] == group[None], similarity, torch.zeros_like(similarity))
    logits = (1 - alpha) * similarity / temperature
    own = torch.eye(len(points), dtype=torch.bool, device=points.device)
    same_text = text_id[:, None] == text_id[None]
    logits = torch.where(own, similarity / temperature, logits.masked_fill(same_text, float("-inf")))
    return cross_entropy(logits, torch.arange(len(points), device=points.device))


class ContrastLoss:
    """Both terms of TMP (Eq. 4) for one set of texts."""

    def __init__(self, config: ContrastConfig, texts: Tensor, text_group: Tensor) -> None:
        """Prepares the soft labels.

        Args:
            config: settings.
            texts: (T, D) float32 unit vectors of the dictionary.
            text_group: (T,) int64 its groups.
        """
        self.config, self.texts, self.text_group = config, texts, text_group
        self._soft_labels = soft_text_labels(texts, text_group, config.own_text)

    def __call__(self, points: Tensor, images: Tensor, text_id: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted loss and its terms.

        Args:
            points: (S, D) pooled superpoints.
            images: (S, D) features of their segments.
            text_id: (S,) int64 texts of their segments.

        Returns:
            Scalar (0 without superpoints), and the terms that have a weight.
        """
        if not len(points):
            return points.sum(), {}
        if self.config.normalize_superpoints:
            points = normalize(points, dim=1)
        terms = {}
        if self.config.image_weight:
            terms["image_contrast"] = image_contrast(points, normalize(images, dim=1), self.config)
        if self.config.text_weight:
            terms["text_contrast"] = self._text_contrast(points, text_id)
        weights = {"image_contrast": self.config.image_weight, "text_contrast": self.config.text_weight}
        return torch.stack([weights[name] * term for name, term in terms.items()]).sum(), terms

    def _text_contrast(self, points: Tensor, text_id: Tensor) -> Tensor:
        texts, temperature = self.texts.to(points.device), self.config.temperature
        if self.config.text_loss == "released":
            label = self._soft_labels.to(points.device)[text_id]
            return text_contrast_released(points, texts, label, temperature)
        return text_contrast_printed(points, texts, text_id, self.text_group.to(points.device), temperature)
