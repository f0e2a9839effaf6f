"""CAT-Seg with random weights in a few kilobytes, and its checkpoint under the names of a released one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import open_clip
import torch

from training.teachers.cat_seg_aggregator import AggregatorConfig
from training.teachers.cat_seg_network import CatSegArchitecture, CatSegNetwork
from training.teachers.cat_seg_windows import SlidingWindow
from training.teachers.open_clip_loading import build_open_clip

open_clip.add_model_config(Path(__file__).with_name("open_clip_configs"))

CLIP, AGGREGATOR = "sem_seg_head.predictor.clip_model.", "sem_seg_head.predictor.transformer."

TINY = CatSegArchitecture(
    clip_model="tiny-for-cat-seg",
    clip_resolution=16,
    guidance_layers=(0, 1),
    aggregator=AggregatorConfig(
        side=4,
        layers=2,
        width=24,
        guidance_width=8,
        heads=2,
        window=2,
        slots=7,
        decoder_widths=(32, 16),
        decoder_guidance_widths=(6, 5),
        decoder_guidance_projections=(4, 3),
    ),
)
WINDOW = SlidingWindow(canvas=40, tile=24, stride=16)


def shake(module: Any, scale: float = 0.3) -> Any:
    """Random weights that no zero initialisation can hide behind."""
    for parameter in module.requires_grad_(False).eval().parameters():
        parameter.add_(scale * torch.randn_like(parameter))
    return module


def build_network() -> CatSegNetwork:
    """The same one every time."""
    torch.manual_seed(0)
    network: CatSegNetwork = shake(CatSegNetwork(build_open_clip(TINY.clip_model, quick_gelu=True), TINY))
    return network


def to_released(network: CatSegNetwork) -> dict[str, Any]:
    """The state of a network under the names of a released file."""
    found = {}
    for name, tensor in network.state_dict().items():
        name = re.sub("^clip\\.", CLIP, re.sub("^aggregator\\.", AGGREGATOR, name))
        if name.endswith("in_proj_weight"):
            for part, matrix in zip("qkv", tensor.chunk(3), strict=True):
                found[name.replace("in_proj_weight", f"{part}_proj_weight")] = matrix.clone()
        else:
            found[name] = tensor
    for index in range(2):
        found[f"{AGGREGATOR}layers.{index}.swin_block.block_2.attn_mask"] = torch.zeros(4, 4, 4)
    return found


def save(path: Path, content: Any) -> Path:
    """Writes a checkpoint and returns its path."""
    torch.save(content, path)
    return path
