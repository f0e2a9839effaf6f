"""Reads detectron2 checkpoints and fills networks with them: whole, and nothing left over."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from ov_seg_ros.core.errors import ModelError

SHOWN = 3
"""How many names an error lists."""


def read_detectron2(path: Path, release: str, ignored: tuple[str, ...] = ()) -> dict[str, Tensor]:
    """Tensors of a checkpoint by name, as float32 where they are floating point.

    Args:
        path: file of detectron2, or a bare dictionary of tensors.
        release: where to get it from, for the error message.
        ignored: beginnings of names to leave out.

    Raises:
        ModelError: no such file, not a checkpoint, or it holds something else than tensors.
    """
    if not path.is_file():
        raise ModelError(f"checkpoint {path} does not exist; download {release}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise ModelError(
            f"checkpoint {path} cannot be read, is the download complete? ({_first_line(error)})"
        ) from error
    weights = content
    for key in ("model", "state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            weights = content[key]
    if not isinstance(weights, Mapping) or not weights or not all(isinstance(v, Tensor) for v in weights.values()):
        raise ModelError(f'checkpoint {path}: expected {{"model": {{name: tensor}}}}, got {type(content).__name__}')
    kept = {str(name): tensor for name, tensor in weights.items() if not str(name).startswith(ignored)}
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in kept.items()}


def fill(network: nn.Module, weights: Mapping[str, Tensor], where: str) -> None:
    """Copies tensors into a network, all of them or none.

    Raises:
        ModelError: a name is missing, unknown, or of another shape; the message lists the first ones.
    """
    own = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    problems = {
        "missing": [name for name in own if name not in weights],
        "unexpected": [name for name in weights if name not in own],
        "of another shape": [
            f"{name} (file {tuple(weights[name].shape)}, network {shape})"
            for name, shape in own.items()
            if name in weights and tuple(weights[name].shape) != shape
        ],
    }
    found = [_listed(kind, names) for kind, names in problems.items() if names]
    if found:
        raise ModelError(
            f"checkpoint {where} does not fit the network: {'; '.join(found)}. "
            "Check clip_model and architecture against the file the checkpoint was trained from"
        )
    network.load_state_dict(dict(weights))


def _listed(kind: str, names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{len(names)} names {kind}: {', '.join(names[:SHOWN])}{more}"


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
