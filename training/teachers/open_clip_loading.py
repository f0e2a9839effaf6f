"""CLIP models of the open_clip library, from a published tag or a local checkpoint, with errors that say the remedy."""

from __future__ import annotations

import difflib
import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ov_seg_ros.core.errors import ConfigError, MissingDependencyError, ModelError

if TYPE_CHECKING:
    from torch import nn

CHECKPOINT_SUFFIXES = (".pt", ".pth", ".bin", ".safetensors", ".npz")


def import_open_clip() -> Any:
    """The module open_clip.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        return importlib.import_module("open_clip")
    except ImportError as error:
        raise MissingDependencyError("open_clip", "pip install open_clip_torch", "A CLIP text or image encoder") from (
            error
        )


def load_open_clip(model: str, pretrained: str, device: str = "cpu", **options: Any) -> nn.Module:
    """A CLIP model in evaluation mode, float32, without gradients.

    Args:
        model: architecture in open_clip's words ("ViT-B-16", "ViT-L-14-336", "convnext_large_d_320"). Weights of OpenAI
            read from a file need the variant "-quickgelu"; with the tag "openai" open_clip takes care of that.
        pretrained: tag of published weights ("openai", "laion2b_s34b_b88k"), downloaded once to the Hugging Face
            cache; or the path of a checkpoint file.
        device: "cpu", "cuda", ...
        options: further arguments of ``open_clip.create_model`` (force_image_size, ...).

    Raises:
        MissingDependencyError: open_clip is not installed.
        ConfigError: unknown model or tag (with the nearest one), or no such file.
        ModelError: the weights cannot be downloaded, read, or belong to another architecture.
    """
    open_clip = import_open_clip()
    weights = _resolve_weights(open_clip, model, pretrained)
    try:
        clip = open_clip.create_model(model, pretrained=weights, device=device, require_pretrained=True, **options)
    except Exception as error:
        # The hub, the file system, torch's unpickler and load_state_dict all have their own errors.
        remedy = (
            "the file is damaged or belongs to another architecture; choose the model that it was trained as"
            if Path(weights).is_file()
            else "without a network, give the path of a downloaded checkpoint as pretrained, or copy the Hugging Face "
            "cache of a machine that has it"
        )
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(
            f"weights {pretrained!r} of CLIP model {model!r} could not be loaded ({reason}); {remedy}"
        ) from (error)
    clip.eval().requires_grad_(False)
    return clip


def build_open_clip(model: str, quick_gelu: bool = False) -> Any:
    """A randomly initialised CLIP, to be filled from a teacher's own checkpoint.

    Args:
        model: architecture in open_clip's words.
        quick_gelu: with the activation of OpenAI's networks.

    Raises:
        MissingDependencyError: open_clip is not installed.
        ConfigError: unknown model (with the nearest one).
    """
    open_clip = import_open_clip()
    _check_model(open_clip, model)
    content = open_clip.get_model_config(model)
    return open_clip.model.CLIP(**{**content, "quick_gelu": True} if quick_gelu else content)


def _check_model(open_clip: Any, model: str) -> None:
    models = open_clip.list_models()
    if model not in models:
        near = difflib.get_close_matches(model, models, n=3)
        hint = (
            f"did you mean {', '.join(near)}?"
            if near
            else "python -c 'import open_clip; print(open_clip.list_models())'"
        )
        raise ConfigError(f"open_clip has no model {model!r}; {hint}")


def _resolve_weights(open_clip: Any, model: str, pretrained: str) -> str:
    _check_model(open_clip, model)
    path = Path(pretrained).expanduser()
    if path.is_file():
        return str(path)
    tags = open_clip.list_pretrained_tags_by_model(model)
    if pretrained not in tags:
        if path.suffix in CHECKPOINT_SUFFIXES or path.parent != Path("."):
            raise ConfigError(f"CLIP checkpoint {pretrained} does not exist; give a file, or a tag: {', '.join(tags)}")
        raise ConfigError(
            f"open_clip has no weights {pretrained!r} for {model}; known tags: {', '.join(tags) or 'none'}"
        )
    return pretrained
