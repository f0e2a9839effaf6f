"""Loads released FC-CLIP checkpoints: files of detectron2, ``{"model": {name: tensor}, ...}``, read strictly."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ov_seg_ros.core.errors import ConfigError, ModelError
from training.teachers.fc_clip_network import FcClipArchitecture, FcClipNetwork
from training.teachers.open_clip_loading import import_open_clip, load_open_clip

TRAINING_ONLY = "criterion."
"""Prefix of what only the training loss needs (class weights); not loaded."""

CLIP_PREFIX = "backbone.clip_model."
SHOWN = 3
"""How many names an error lists."""


def load_network(
    checkpoint: Path, clip_model: str, clip_pretrained: str, architecture: FcClipArchitecture
) -> FcClipNetwork:
    """Builds the network and fills it, on the CPU and ready for inference.

    Args:
        checkpoint: file of detectron2, or a bare dictionary of tensors.
        clip_model: open_clip's name of the CLIP inside, as ``convnext_large_d_320``.
        clip_pretrained: tag or file of its weights, read only if the checkpoint leaves out the frozen CLIP.
        architecture: sizes of the rest.

    Raises:
        MissingDependencyError: open_clip is not installed.
        ConfigError: open_clip knows no such model.
        ModelError: a file is missing or unreadable, or its names or shapes are not those of the network.
    """
    state = read_state(checkpoint)
    whole = any(name.startswith(CLIP_PREFIX) for name in state)
    clip = build_clip(clip_model) if whole else load_open_clip(clip_model, clip_pretrained)
    network = FcClipNetwork(clip, architecture)
    if not whole:
        state.update({CLIP_PREFIX + name: tensor for name, tensor in clip.state_dict().items()})
    fill(network, state, str(checkpoint))
    return network.eval().requires_grad_(False)


def build_clip(name: str) -> Any:
    """The CLIP of that name in open_clip, randomly initialised.

    Raises:
        MissingDependencyError: open_clip is not installed.
        ConfigError: open_clip knows no model of that name.
    """
    open_clip = import_open_clip()
    content = open_clip.get_model_config(name)
    if content is None:
        raise ConfigError(f"open_clip has no model {name!r}; the released FC-CLIP uses convnext_large_d_320")
    return open_clip.model.CLIP(**content)


def read_state(path: Path) -> dict[str, Tensor]:
    """Tensors of a checkpoint by name, without the entries only training needs.

    Raises:
        ModelError: no such file, not a checkpoint, or it holds something else than tensors.
    """
    if not path.is_file():
        raise ModelError(f"checkpoint {path} does not exist; download fcclip_cocopan.pth from bytedance/fc-clip")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(f"checkpoint {path} cannot be read, is the download complete? ({first})") from error
    state = content
    for key in ("model", "state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            state = content[key]
    if not isinstance(state, Mapping) or not state or not all(isinstance(v, Tensor) for v in state.values()):
        raise ModelError(f'checkpoint {path}: expected {{"model": {{name: tensor}}}}, got {type(content).__name__}')
    return {str(name): tensor for name, tensor in state.items() if not str(name).startswith(TRAINING_ONLY)}


def fill(network: nn.Module, state: Mapping[str, Tensor], where: str) -> None:
    """Copies tensors into a network, all of them or none.

    Raises:
        ModelError: a name is missing, unknown, or of another shape; the message lists the first ones.
    """
    own = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    problems = {
        "missing": [name for name in own if name not in state],
        "unexpected": [name for name in state if name not in own],
        "of another shape": [
            f"{name} (file {tuple(state[name].shape)}, network {shape})"
            for name, shape in own.items()
            if name in state and tuple(state[name].shape) != shape
        ],
    }
    found = [_list(kind, names) for kind, names in problems.items() if names]
    if found:
        raise ModelError(
            f"{where} does not fit the network: {'; '.join(found)}. "
            "Check clip_model and architecture against the file the checkpoint was trained from"
        )
    network.load_state_dict(dict(state))


def _list(kind: str, names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{len(names)} names {kind}: {', '.join(names[:SHOWN])}{more}"
