"""Loads released FC-CLIP checkpoints."""

from __future__ import annotations

from pathlib import Path

from training.teachers.detectron2_checkpoint import fill, read_detectron2
from training.teachers.fc_clip_network import FcClipArchitecture, FcClipNetwork
from training.teachers.open_clip_loading import build_open_clip, load_open_clip

TRAINING_ONLY = ("criterion.",)
"""Beginning of what only the training loss needs (class weights); not loaded."""

CLIP_PREFIX = "backbone.clip_model."


def load_network(
    checkpoint: Path, clip_model: str, clip_pretrained: str, architecture: FcClipArchitecture
) -> FcClipNetwork:
    """Builds the network and fills it, on the CPU and ready for inference.

    Args:
        checkpoint: file of detectron2, or a bare dictionary of tensors.
        clip_model: open_clip's name of the CLIP inside, as ``convnext_large_d_320``.
        clip_pretrained: tag or file of its weights, for what the checkpoint leaves out of the frozen CLIP. The released
            ``fcclip_cocopan.pth`` leaves out its text tower and its ConvNeXt.
        architecture: sizes of the rest.

    Raises:
        MissingDependencyError: open_clip is not installed.
        ConfigError: open_clip knows no such model.
        ModelError: a file is missing or unreadable, or its names or shapes are not those of the network.
    """
    state = read_detectron2(checkpoint, "fcclip_cocopan.pth from bytedance/fc-clip", TRAINING_ONLY)
    clip = build_open_clip(clip_model)
    if not state.keys() >= {CLIP_PREFIX + name for name in clip.state_dict()}:
        clip = load_open_clip(clip_model, clip_pretrained)
        state = {**{CLIP_PREFIX + name: tensor for name, tensor in clip.state_dict().items()}, **state}
    network = FcClipNetwork(clip, architecture)
    fill(network, state, str(checkpoint))
    return network.eval().requires_grad_(False)
