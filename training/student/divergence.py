"""Trainings that diverge: losses and weights that are no numbers any more."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ov_seg_ros.core.errors import OvSegError

if TYPE_CHECKING:
    from training.student.trainer import TrainerConfig


class DivergenceError(OvSegError):
    """A training has diverged; what it would go on with is worthless."""


def check_losses(losses: Mapping[str, float], step: int, config: TrainerConfig, folder: Path) -> None:
    """Refuses to go on after a step with a loss that is NaN or infinite.

    Gradients may be infinite: loss scaling then leaves out a step and tries a smaller scale.

    Args:
        losses: of the step, by name.
        step: its number.
        config: what could be changed.
        folder: of the training.

    Raises:
        DivergenceError: "loss" is NaN or infinite.
    """
    if not math.isfinite(losses["loss"]):
        values = ", ".join(f"{name} {value:.6g}" for name, value in losses.items())
        raise DivergenceError(f"{folder}: the training diverged, at step {step} it has {values}: {_remedy(config)}")


def check_weights(weights: Iterable[Tensor], step: int, config: TrainerConfig, folder: Path) -> None:
    """Refuses weights and batch norm statistics that are NaN or infinite, before they are saved or after they are read.

    Args:
        weights: of the network and its average, on any device.
        step: they were reached at.
        config: what could be changed.
        folder: of the training.

    Raises:
        DivergenceError: one is NaN or infinite.
    """
    if not bool(torch.stack([torch.isfinite(tensor).all() for tensor in weights]).all()):
        raise DivergenceError(
            f"{folder}: the training diverged, at step {step} its weights are NaN or infinite: {_remedy(config)}"
        )


def _remedy(config: TrainerConfig) -> str:
    settings = config.optimizer
    rates = f"learning_rate (now {settings.learning_rate:g})"
    if settings.head_learning_rate:
        rates += f" and head_learning_rate (now {settings.head_learning_rate:g})"
    clip = (
        f"a smaller gradient_clip (now {settings.gradient_clip:g})"
        if settings.gradient_clip
        else "a gradient_clip (now none)"
    )
    half = ", or with precision bf16 (now fp16)" if config.precision == "fp16" else ""
    return f"delete this folder and train again with a smaller {rates}, or with {clip}{half}"
