"""Optimisers and learning rate schedules."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ov_seg_ros.core.errors import ConfigError
from training.student.minkunet import MinkUNet
from training.value_ranges import NOT_NEGATIVE, POSITIVE, SHARE, ValueRange

OPTIMIZERS = ("adamw", "sgd")
SCHEDULES = ("one_cycle", "cosine_per_epoch")
_BELOW_ONE = ValueRange(0, 1, without_high=True)
_ROUNDING = 1e-9
"""Share of an epoch: more than a division is off by, less than a scan in any data set."""


@dataclass(frozen=True)
class OptimizerConfig:
    """Settings of the optimiser.

    Attributes:
        kind: "adamw" or "sgd".
        learning_rate: peak, of everything but the last layer.
        head_learning_rate: of the last layer; 0 = the same.
        schedule: "one_cycle" (linear rise, then half a cosine, by step) or "cosine_per_epoch" (half a cosine that
            changes at the epochs only, no rise; AFOV and SLidR).
        warm_up: share of the steps in which the rate rises (one_cycle).
        weight_decay: on weights with two or more axes.
        decay_all: decay norms and biases as well (AFOV and SLidR).
        momentum, dampening: of SGD.
        gradient_clip: largest norm of the gradient; 0 = no limit.
    """

    kind: str = "adamw"
    learning_rate: float = 4e-3
    head_learning_rate: float = 0.0
    schedule: str = "one_cycle"
    warm_up: float = 0.1
    weight_decay: float = 0.01
    decay_all: bool = False
    momentum: float = 0.9
    dampening: float = 0.0
    gradient_clip: float = 5.0

    def __post_init__(self) -> None:
        if self.kind not in OPTIMIZERS:
            raise ConfigError(f"optimizer kind must be one of {', '.join(OPTIMIZERS)}, got {self.kind!r}")
        if self.schedule not in SCHEDULES:
            raise ConfigError(f"schedule must be one of {', '.join(SCHEDULES)}, got {self.schedule!r}")
        POSITIVE.check(self, "learning_rate")
        NOT_NEGATIVE.check(self, "head_learning_rate", "weight_decay", "gradient_clip")
        SHARE.check(self, "warm_up", "dampening")
        _BELOW_ONE.check(self, "momentum")

    def build(self, network: MinkUNet, only_head: bool = False) -> torch.optim.Optimizer:
        """An optimiser of the network's parameters (of its last layer's, with ``only_head``); rates are relative."""
        groups = self._groups(network, only_head)
        if self.kind == "adamw":
            return torch.optim.AdamW(groups, lr=self.learning_rate)
        return torch.optim.SGD(groups, lr=self.learning_rate, momentum=self.momentum, dampening=self.dampening)

    def factor(self, step: int, steps: int, steps_per_epoch: float) -> float:
        """What all learning rates are multiplied by at a step."""
        if self.schedule == "cosine_per_epoch":
            epoch = math.floor(step / steps_per_epoch + _ROUNDING)
            return 0.5 * (1 + math.cos(math.pi * epoch * steps_per_epoch / steps))
        rise = self.warm_up * steps
        if step < rise:
            return (step + 1) / (rise + 1)
        progress = (step - rise) / max(1.0, steps - rise)
        return max(1e-3, 0.5 * (1 + math.cos(math.pi * progress)))

    def _groups(self, network: MinkUNet, only_head: bool) -> list[dict[str, Any]]:
        head = {id(p) for p in network.head.parameters()}
        groups = []
        for in_head in (True,) if only_head else (False, True):
            parameters = [p for p in network.parameters() if (id(p) in head) == in_head]
            rate = self.head_learning_rate if in_head and self.head_learning_rate else self.learning_rate
            decayed: list[Tensor] = [p for p in parameters if p.ndim >= 2 or self.decay_all]
            free: list[Tensor] = [p for p in parameters if p.ndim < 2 and not self.decay_all]
            groups.append({"params": decayed, "weight_decay": self.weight_decay, "lr": rate})
            groups.append({"params": free, "weight_decay": 0.0, "lr": rate})
        return [g for g in groups if g["params"]]
