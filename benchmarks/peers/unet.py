"""The order of steps of a MinkUNet, once for everybody who brings the arithmetic: peers, floors, counters."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Protocol

SUBMANIFOLD, DOWN, UP = "submanifold", "down", "up"
"""Kinds of convolution: 3 x 3 x 3 on the active voxels; 2 x 2 x 2 with stride 2, and its transpose."""


class Arithmetic(Protocol):
    """The five operations of the network, on features of whatever type."""

    def convolve(self, features: Any, layer: str, kind: str, level: int) -> Any:
        """A sparse convolution and its bias; ``level`` is the finer one of a stride."""

    def linear(self, features: Any, layer: str, level: int) -> Any:
        """A 1 x 1 x 1 convolution and its bias."""

    def relu(self, features: Any) -> Any:
        """The positive part; may overwrite its argument."""

    def add(self, features: Any, other: Any) -> Any:
        """The sum; may overwrite ``features``."""

    def concat(self, features: Any, other: Any) -> Any:
        """Columns of the one, then of the other."""


def run_unet(layers: Collection[str], features: Any, arithmetic: Arithmetic) -> Any:
    """The logits of a network with folded batch norms: the steps of ``MinkUNet.forward``, in its order.

    Args:
        layers: names as of ``Case.weights``; they tell how many stages and blocks there are.
        features: input, of the type that ``arithmetic`` takes.
        arithmetic: who computes.
    """
    num_strides = sum(name.startswith("down.") for name in layers)
    current = arithmetic.relu(arithmetic.convolve(features, "stem", SUBMANIFOLD, 0))
    skips = []
    for i in range(num_strides):
        skips.append(current)
        current = arithmetic.relu(arithmetic.convolve(current, f"down.{i}", DOWN, i))
        current = _run_blocks(layers, f"encoder.{i}", current, i + 1, arithmetic)
    for i in range(num_strides):
        level = num_strides - 1 - i
        current = arithmetic.relu(arithmetic.convolve(current, f"up.{i}", UP, level))
        current = arithmetic.concat(current, skips.pop())
        current = _run_blocks(layers, f"decoder.{i}", current, level, arithmetic)
    return arithmetic.linear(current, "head", 0)


def _run_blocks(layers: Collection[str], stage: str, features: Any, level: int, arithmetic: Arithmetic) -> Any:
    block = 0
    while f"{stage}.{block}.first" in layers:
        name = f"{stage}.{block}"
        straight = features
        if f"{name}.shortcut" in layers:
            straight = arithmetic.linear(features, f"{name}.shortcut", level)
        inner = arithmetic.relu(arithmetic.convolve(features, f"{name}.first", SUBMANIFOLD, level))
        outer = arithmetic.convolve(inner, f"{name}.second", SUBMANIFOLD, level)
        features = arithmetic.relu(arithmetic.add(outer, straight))
        block += 1
    return features
