"""Loads released SAN checkpoints, files of detectron2 (``{"model": {name: tensor}, ...}``), read strictly."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ov_seg_ros.core.errors import ConfigError, ModelError
from training.teachers.open_clip_loading import import_open_clip, load_open_clip
from training.teachers.san_network import SanArchitecture, SanNetwork

IGNORED = ("criterion.", "ov_classifier.attn_mask")
"""What a checkpoint may hold beside the network: class weights of the loss, the causal mask of the text tower."""

TRAINED = ("side_adapter_network.", "clip_visual_extractor.positional_embedding", "ov_classifier.bg_embed")
"""What SAN trains; everything else is CLIP's, frozen. The position embedding is trained although it belongs to CLIP."""

SHOWN = 3
"""How many names an error lists."""


def load_san(checkpoint: Path, clip_pretrained: str, architecture: SanArchitecture) -> tuple[SanNetwork, Any]:
    """Builds SAN and fills it, on the CPU and ready for inference.

    Args:
        checkpoint: released file, with CLIP's frozen weights in it or without.
        clip_pretrained: open_clip's tag or file of them, read only for a checkpoint without.
        architecture: sizes.

    Returns:
        The network, and the CLIP inside it, for its text tower.

    Raises:
        MissingDependencyError: open_clip is not installed.
        ConfigError: open_clip has no model or weights of that name.
        ModelError: a file is missing or unreadable, or its names or shapes are not those of the network.
    """
    weights = read_detectron2(checkpoint, "san_vit_large_14.pth or san_vit_b_16.pth of MendelXu/SAN", IGNORED)
    trained = {name for name in weights if name.startswith(TRAINED)}
    complete = len(trained) < len(weights)
    clip = build_clip(architecture.clip_model, None if complete else clip_pretrained)
    network = SanNetwork(clip, architecture)
    if not complete:
        frozen = network.state_dict()
        weights.update({name: frozen[name] for name in frozen if not name.startswith(TRAINED)})
    fill(network, weights, str(checkpoint))
    return network.eval().requires_grad_(False), clip.eval()


def build_clip(name: str, pretrained: str | None = None) -> Any:
    """A CLIP of open_clip with QuickGELU, as OpenAI trained it.

    Args:
        name: in open_clip, for example "ViT-L-14-336".
        pretrained: tag or file of its weights, None for a randomly initialised one.

    Raises:
        MissingDependencyError: open_clip is not installed.
        ConfigError: open_clip has no model or weights of that name.
        ModelError: the weights cannot be downloaded or read.
    """
    open_clip = import_open_clip()
    if pretrained is not None:
        return load_open_clip(name, pretrained, force_quick_gelu=True)
    content = open_clip.get_model_config(name)
    if content is None:
        raise ConfigError(f"open_clip has no model {name!r}; the released checkpoints use ViT-L-14-336 and ViT-B-16")
    return open_clip.model.CLIP(**{**content, "quick_gelu": True})


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
    weights = content.get("model", content) if isinstance(content, Mapping) else content
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
            "Check clip_model and the rest of the architecture against the checkpoint"
        )
    network.load_state_dict(dict(weights))


def _listed(kind: str, names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{len(names)} names {kind}: {', '.join(names[:SHOWN])}{more}"


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
