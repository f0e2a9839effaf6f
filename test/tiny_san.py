"""SAN with random weights in a few kilobytes, and its checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import open_clip
import torch

from training.teachers.open_clip_loading import build_open_clip
from training.teachers.san_network import SanArchitecture, SanNetwork
from training.teachers.san_side_adapter import SideAdapterConfig

open_clip.add_model_config(Path(__file__).with_name("open_clip_configs"))

TINY = SanArchitecture(
    clip_model="tiny-for-san",
    fusion_layers=(0, 1),
    clip_scale=0.5,
    adapter=SideAdapterConfig(width=12, depth=2, heads=2, patch_size=8, image_size=32, queries=5, decoder_channels=6),
)


def build_network() -> SanNetwork:
    """The same one every time, with lively masks and embeddings that differ."""
    torch.manual_seed(0)
    network = SanNetwork(build_open_clip(TINY.clip_model, quick_gelu=True), TINY).eval().requires_grad_(False)
    for parameter in network.parameters():
        if parameter.ndim > 1:
            parameter.copy_(0.4 * torch.randn_like(parameter))
    network.side_adapter_network.mask_decoder.pix_mlp.layers[2].weight.mul_(0.2)
    return network


def save(path: Path, content: Any) -> Path:
    """Writes a checkpoint and returns its path."""
    torch.save(content, path)
    return path


def save_released(path: Path, network: SanNetwork) -> Path:
    """Writes a network as the authors' trainer does, with what only training needs."""
    extra = {"criterion.empty_weight": torch.ones(172), "ov_classifier.attn_mask": torch.zeros(77, 77)}
    return save(path, {"model": {**network.state_dict(), **extra}, "iteration": 59999})
