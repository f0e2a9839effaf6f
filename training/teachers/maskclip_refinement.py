"""The two refinements of MaskCLIP (Zhou et al. 2022, section 3.3): prompt denoising and key smoothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def confident_texts(logits: Tensor, threshold: float) -> Tensor:
    """Prompt denoising: which texts reach a probability anywhere in the image.

    Args:
        logits: (T, h, w) with the logit scale applied.
        threshold: of the softmax over the texts; the paper takes 0.5.

    Returns:
        (T,) bool; the texts that do not are noise. Synonyms share probability: with a dictionary of many words per
        thing a smaller threshold is in place.
    """
    return logits.softmax(dim=0).flatten(1).amax(dim=1) >= threshold


def smooth_by_keys(probabilities: Tensor, keys: Tensor, threshold: float) -> Tensor:
    """Key smoothing: cells that look alike share what they are taken for.

    Cell i becomes ``sum_j w_ij p_j`` with ``w_ij = max(0, key_i . key_j)``, rows of w scaled to sum 1, so that
    distributions stay distributions. The released code scales no rows, keeps negative weights and normalises the keys
    over the cells instead of the channels; scaling a row changes no winner.

    Args:
        probabilities: (T, h, w).
        keys: (h, w, K).
        threshold: cells whose highest probability is at least this stay as they are; 1.0 smooths all but the certain.

    Returns:
        (T, h, w).
    """
    from torch.nn.functional import normalize

    flat = probabilities.flatten(1)  # (T, N)
    unit = normalize(keys.flatten(0, 1).float(), dim=1)  # (N, K)
    weights = (unit @ unit.T).clamp(min=0.0)  # (N, N)
    weights /= weights.sum(dim=1, keepdim=True).clamp(min=1e-12)
    unsure = flat.amax(dim=0) < threshold
    smoothed = flat.clone()
    smoothed[:, unsure] = flat @ weights[unsure].T
    return smoothed.view_as(probabilities)
