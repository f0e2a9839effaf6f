"""Where a training starts from: the weights of an earlier one, under a head of its own or of the teacher's texts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from ov_seg_ros.core.errors import InputError
from training.student.checkpoint import load_checkpoint, shape_of
from training.student.minkunet import MinkUNet

HEAD = "head."
"""Names of the last layer begin so; all the others are the trunk."""


@dataclass(frozen=True)
class StartReport:
    """What a network took from a checkpoint.

    Attributes:
        copied: names of the tensors that were copied.
        fresh: names of those that keep their random values.
    """

    copied: tuple[str, ...]
    fresh: tuple[str, ...]


def start_from(network: MinkUNet, checkpoint: Path, averaged: bool = True) -> StartReport:
    """Copies all tensors of equal shape from a checkpoint of the trainer, as AFOV does after TMP.

    The head may differ; the trunk must fit as a whole.

    Args:
        network: is changed in place.
        checkpoint: ``checkpoint.pt`` of an earlier training.
        averaged: take the moving average of the weights, else the last ones.

    Raises:
        InputError: the file is no checkpoint, or one of another architecture or of a training that diverged; the
            network is then unchanged.
    """
    weights = _load_weights(checkpoint, averaged)
    own = network.state_dict()
    copied = tuple(name for name, value in own.items() if name in weights and weights[name].shape == value.shape)
    fresh = tuple(name for name in own if name not in copied)
    missing = [name for name in (*fresh, *weights) if not name.startswith(HEAD) and name not in copied]
    if missing:
        raise InputError(
            f"{checkpoint} is of another network than this one: {missing[0]} is {shape_of(weights, missing[0])} there "
            f"and {shape_of(own, missing[0])} here; use the network and point_features of that training, or train it "
            "again with these"
        )
    network.load_state_dict({name: weights[name] for name in copied}, strict=False)
    return StartReport(copied, fresh)


def text_head(
    network: MinkUNet,
    checkpoint: Path,
    text_features: NDArray[np.floating],
    text_class: NDArray[np.integer],
    temperature: float = 0.07,
    averaged: bool = True,
) -> None:
    """Makes the head of a network the zero-shot classifier of a pre-trained one (an option beyond AFOV).

    The pre-trained head (W, b) embeds what the trunk sees, x, in the space of the texts. With t_c, the unit mean of
    the vectors of the texts of class c, the zero-shot classifier takes the class with the largest cosine between
    W x + b and t_c. The new head computes ``(W x + b) . t_c / (temperature * s)``. The s stands for the length of
    W x + b, which a linear layer cannot divide by: its root mean square if the entries of x were uncorrelated with a
    mean square of 1, s^2 = |W|^2 + |b|^2. It is the same for all classes, so the predictions are exactly those of
    the cosines, whatever s; only how sure they look depends on it.

    Args:
        network: with the trunk of the checkpoint (see ``start_from``) and an output per class; its head is changed
            in place.
        checkpoint: of the pre-training, whose head has D outputs.
        text_features: (T, D) unit vectors of the texts it was trained with.
        text_class: (T,) class of each text; 255 and other numbers beyond the network's classes = none.
        temperature: of the similarities, as in the pre-training.
        averaged: take the moving average of the weights, else the last ones.

    Raises:
        InputError: the checkpoint's head does not fit the texts or the trunk, or a class has no text.
    """
    weights = _load_weights(checkpoint, averaged)
    weight, bias = _embedding_head(checkpoint, weights)
    texts = torch.from_numpy(np.asarray(text_features, np.float32))
    if weight.shape != (texts.shape[1], network.head.in_features):
        raise InputError(
            f"{checkpoint} has a head of shape {tuple(weight.shape)}, expected {texts.shape[1]} outputs, as the texts "
            f"have, of {network.head.in_features} inputs, as the network has: use a checkpoint of TMP with these texts"
        )
    classes = _class_vectors(texts, torch.from_numpy(np.asarray(text_class, np.int64)), network.head.out_features)
    scale = temperature * float((weight.square().sum() + bias.square().sum()).sqrt())
    with torch.no_grad():
        network.head.weight.copy_(classes @ weight / scale)
        network.head.bias.copy_(classes @ bias / scale)


def _class_vectors(texts: Tensor, text_class: Tensor, num_classes: int) -> Tensor:
    """(C, D) unit means of the texts of each class."""
    member = text_class[None] == torch.arange(num_classes)[:, None]  # (C, T)
    if not bool(member.any(dim=1).all()):
        without = torch.nonzero(~member.any(dim=1)).squeeze(1).tolist()
        raise InputError(
            f"classes {', '.join(map(str, without))} of {num_classes} have no text, so there is no classifier for "
            "them: add texts to the dictionary, or start from a fresh head"
        )
    return normalize(member.float() @ texts, dim=1)


def _embedding_head(checkpoint: Path, weights: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    try:
        return weights["head.weight"].float(), weights["head.bias"].float()
    except KeyError as error:
        raise InputError(f"{checkpoint} has no {error}: it is no checkpoint of this version, train again") from error


def _load_weights(checkpoint: Path, averaged: bool) -> dict[str, Tensor]:
    """Names and tensors of the (averaged) network in a checkpoint of the trainer."""
    weights = dict(load_checkpoint(checkpoint)["average" if averaged else "network"])
    if not all(bool(torch.isfinite(tensor).all()) for tensor in weights.values()):
        raise InputError(
            f"{checkpoint} holds weights that are NaN or infinite: that training diverged; delete its folder and train "
            "again with a smaller learning_rate"
        )
    return weights
