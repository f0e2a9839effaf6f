"""Loads released SAN checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from training.teachers.detectron2_checkpoint import fill, read_detectron2
from training.teachers.open_clip_loading import build_open_clip, load_open_clip
from training.teachers.san_network import SanArchitecture, SanNetwork

IGNORED = ("criterion.", "ov_classifier.attn_mask")
"""What a checkpoint may hold beside the network: class weights of the loss, the causal mask of the text tower."""

TRAINED = ("side_adapter_network.", "clip_visual_extractor.positional_embedding", "ov_classifier.bg_embed")
"""What SAN trains; everything else is CLIP's, frozen. The position embedding is trained although it belongs to CLIP."""


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
    if complete:
        clip = build_open_clip(architecture.clip_model, quick_gelu=True)
    else:
        clip = load_open_clip(architecture.clip_model, clip_pretrained, force_quick_gelu=True)
    network = SanNetwork(clip, architecture)
    if not complete:
        frozen = network.state_dict()
        weights.update({name: frozen[name] for name in frozen if not name.startswith(TRAINED)})
    fill(network, weights, str(checkpoint))
    return network.eval().requires_grad_(False), clip.eval()
