"""CLIP models of the open_clip library, from a published tag or a local checkpoint, with errors that say the remedy."""

from __future__ import annotations

import difflib
import importlib
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ov_seg_ros.core.errors import ConfigError, MissingDependencyError, ModelError

if TYPE_CHECKING:
    from torch import nn

CHECKPOINT_SUFFIXES = (".pt", ".pth", ".bin", ".safetensors", ".npz")

OPENAI_EXTRAS = ("input_resolution", "context_length", "vocab_size")
"""What OpenAI's own files hold beside the weights."""


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
        model: architecture in open_clip's words ("ViT-B-16", "ViT-L-14-336", "convnext_large_d_320"). The activation
            is that of the weights where a tag names them or the file is OpenAI's own (``ViT-B-16.pt``). Other files do
            not say it: weights that were trained with QuickGELU need the variant "-quickgelu".
        pretrained: tag of published weights ("openai", "laion2b_s34b_b88k"), downloaded once to the Hugging Face
            cache; or the path of a checkpoint file.
        device: "cpu", "cuda", ...
        options: further arguments of ``open_clip.create_model`` (force_quick_gelu, ...).

    Raises:
        MissingDependencyError: open_clip is not installed.
        ConfigError: unknown model or tag (with the nearest one), or no such file.
        ModelError: the weights cannot be downloaded, read, or belong to another architecture.
    """
    open_clip = import_open_clip()
    weights = _resolve_weights(open_clip, model, pretrained)
    if _trained_with_quick_gelu(open_clip, model, weights):
        options["force_quick_gelu"] = True
    try:
        if _is_torchscript(Path(weights)):
            clip = _read_openai_file(model, weights).to(device)
        else:
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


def activation_of(clip: nn.Module) -> str:
    """What its transformers activate with, "GELU" or "QuickGELU"; with the other one, weights give other features."""
    names = (type(module).__name__ for module in clip.modules())
    return next((name for name in names if name in ("GELU", "QuickGELU")), "")


def _trained_with_quick_gelu(open_clip: Any, model: str, weights: str) -> bool:
    """Whether these published weights need QuickGELU; since 2.29 open_clip merely warns of a model without it."""
    about = open_clip.get_pretrained_cfg(model, weights) or {}
    return weights == "openai" or bool(about.get("quick_gelu"))


def _is_torchscript(path: Path) -> bool:
    if not path.is_file() or not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def _read_openai_file(model: str, path: str) -> Any:
    """A CLIP with the weights of a TorchScript archive, the form OpenAI published its own in: always QuickGELU."""
    import torch

    state = torch.jit.load(path, map_location="cpu").state_dict()
    clip = build_open_clip(model, quick_gelu=True)
    clip.load_state_dict({name: tensor for name, tensor in state.items() if name not in OPENAI_EXTRAS})
    return clip


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
