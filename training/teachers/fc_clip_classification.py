"""How FC-CLIP (Yu et al., NeurIPS 2023) tells what a mask is: mask pooling, two vocabularies and their ensemble."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from ov_seg_ros.core.errors import InputError

COCO_NAMES = Path(__file__).with_name("fc_clip_coco_names.txt")

MAX_LOGIT_SCALE = 100.0
"""CLIP's bound on the factor of its cosines."""


def pool_by_mask(features: Tensor, mask_logits: Tensor) -> Tensor:
    """Averages features over the pixels of each mask, logit > 0.

    Args:
        features: (C, h, w).
        mask_logits: (Q, h', w'); resized to (h, w), bilinearly, if they differ.

    Returns:
        (Q, C); an empty mask gives zeros.
    """
    if mask_logits.shape[-2:] != features.shape[-2:]:
        size = features.shape[-2:]
        mask_logits = functional.interpolate(mask_logits[None], size=size, mode="bilinear", align_corners=False)[0]
    inside = (mask_logits > 0).to(features.dtype).flatten(1)  # (Q, h * w)
    return inside @ features.flatten(1).T / (inside.sum(dim=1, keepdim=True) + 1e-8)


def text_logits(embeddings: Tensor, texts: Tensor, logit_scale: Tensor) -> Tensor:
    """Scaled cosines between embeddings and texts.

    Args:
        embeddings: (Q, D), any length.
        texts: (T, D) unit vectors.
        logit_scale: () logarithm of the factor, as CLIP stores it.

    Returns:
        (Q, T).
    """
    return functional.normalize(embeddings, dim=-1) @ texts.T * logit_scale.exp().clamp(max=MAX_LOGIT_SCALE)


def best_of_synonyms(logits: Tensor, text_index: Tensor, classes: int) -> Tensor:
    """The logit of a class is the largest of its texts'.

    Args:
        logits: (Q, T).
        text_index: (T,) int64 class of each text.
        classes: K; a class without a text gets -inf.

    Returns:
        (Q, K).
    """
    result = logits.new_full((len(logits), classes), -torch.inf)
    return result.scatter_reduce(1, text_index.expand_as(logits), logits, "amax")


def ensemble(in_logits: Tensor, void_logit: Tensor, out_logits: Tensor, out_share: Tensor) -> Tensor:
    """Geometric mean of both vocabularies' probabilities, void aside.

    With p_in and p_out the softmax over the K classes: p ~ p_in ** (1 - a) * p_out ** a, normalised, times
    (1 - p_void); p_void comes from the in-vocabulary logits over all K + 1. Computed from logarithms, so a
    probability of 0 in float32 does no harm.

    Args:
        in_logits: (Q, K) of the trained head.
        void_logit: (Q,) of "no object", same head.
        out_logits: (Q, K) of the frozen CLIP.
        out_share: (K,) a, the weight of CLIP per class.

    Returns:
        (Q, K + 1) probabilities, void last; rows sum to 1.
    """
    mixed = (1.0 - out_share) * in_logits.log_softmax(-1) + out_share * out_logits.log_softmax(-1)
    void = torch.cat((in_logits, void_logit[:, None]), dim=1).softmax(-1)[:, -1:]
    return torch.cat((mixed.softmax(-1) * (1.0 - void), void), dim=1)


def load_training_names(path: Path = COCO_NAMES) -> frozenset[str]:
    """All names of the 133 COCO classes FC-CLIP was trained on, synonyms included.

    Raises:
        InputError: the table is missing, or a line is not "id:name,name".
    """
    if not path.is_file():
        raise InputError(f"table of training names {path} does not exist; it is part of the repository")
    names: set[str] = set()
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if line.startswith("#"):
            continue
        coco_id, colon, synonyms = line.partition(":")
        if not coco_id.isdecimal() or not colon or not synonyms:
            raise InputError(f'{path}, line {number}: expected "id:name,name", got {line!r}')
        names.update(synonyms.split(","))
    return frozenset(names)


def seen_texts(texts: Iterable[str], names: frozenset[str]) -> list[bool]:
    """Whether each text is, letter for letter, a name of the training classes, which is how the release decides."""
    return [text in names for text in texts]
