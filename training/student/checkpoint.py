"""The file a training continues from, written whole or not at all."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ov_seg_ros.core.errors import InputError
from training.atomic_files import atomic_path

CHECKPOINT = "checkpoint.pt"
"""Its name in the folder of a training."""

KEYS = ("network", "average", "shape", "config", "step")
"""Without these a file is no checkpoint; there are more."""


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Writes the state of a training.

    Raises:
        StorageFullError: the disk is full; an older checkpoint stays.
    """
    with atomic_path(path) as partial, partial.open("wb") as file:
        torch.save(dict(state), file)  # into a file object: only that says when the disk is full


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Reads the state of a training; its tensors are on the CPU.

    Args:
        path: of the file.

    Raises:
        InputError: the file is missing, damaged, or no checkpoint of a training.
    """
    if not path.is_file():
        raise InputError(f"checkpoint {path} does not exist: run the training it comes from first")
    try:
        state = dict(torch.load(path, map_location="cpu", weights_only=True))
        if missing := [key for key in KEYS if key not in state]:
            raise ValueError(f"it lacks {', '.join(missing)}")
    except (OSError, EOFError, RuntimeError, KeyError, TypeError, ValueError, pickle.UnpicklingError) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise InputError(f"{path} is no checkpoint of a training ({reason}): delete it and train again") from error
    return state


def require_fit(path: Path, stored: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    """Makes sure that the tensors of a checkpoint are those of a network.

    Args:
        path: of the checkpoint.
        stored: its tensors, by name.
        own: those of the network.

    Raises:
        InputError: a tensor is missing, or one has another shape or name.
    """
    for name in {**own, **stored}:
        if (came := shape_of(stored, name)) != (expected := shape_of(own, name)):
            raise InputError(
                f"{path} is of another network than this one: {name} is {came} there and {expected} here; was it "
                "trained for other classes, texts or point_features? Choose another output folder or delete it"
            )


def shape_of(weights: Mapping[str, Tensor], name: str) -> str:
    """Of a tensor, in words."""
    return str(tuple(weights[name].shape)) if name in weights else "missing"
