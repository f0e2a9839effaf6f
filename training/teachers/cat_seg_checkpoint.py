"""Loads released CAT-Seg checkpoints (``model_large.pth``, ``model_base.pth``), read strictly."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ov_seg_ros.core.errors import ModelError
from training.teachers.cat_seg_network import CatSegArchitecture, CatSegNetwork
from training.teachers.detectron2_checkpoint import fill, read_detectron2
from training.teachers.open_clip_loading import build_open_clip

RENAMED = {"sem_seg_head.predictor.clip_model.": "clip.", "sem_seg_head.predictor.transformer.": "aggregator."}
"""Beginnings of names in the file, and here."""

OLDER_VERSION = "backbone."
"""Beginning of names that only the version of March 2023 with its Swin backbone has."""

_SPLIT = re.compile(r"\.attn\.([qkv])_proj_weight$")


def load_cat_seg(checkpoint: Path, architecture: CatSegArchitecture) -> CatSegNetwork:
    """Builds CAT-Seg and fills it, on the CPU and ready for inference. The file holds both halves of CLIP, fine-tuned.

    Raises:
        MissingDependencyError: open_clip is not installed.
        ConfigError: open_clip has no model of that name.
        ModelError: the file is missing, unreadable, of the older version, or its names or shapes are not those of
            the network.
    """
    weights = read_detectron2(checkpoint, "model_large.pth or model_base.pth of cvlab-kaist/CAT-Seg")
    if any(name.startswith(OLDER_VERSION) for name in weights):
        raise ModelError(
            f"checkpoint {checkpoint} belongs to the first CAT-Seg (2023, with a Swin backbone), this teacher is the "
            "one of CVPR 2024: take model_large.pth, or export masks with the old one and use the teacher precomputed"
        )
    network = CatSegNetwork(build_open_clip(architecture.clip_model, quick_gelu=True), architecture)
    fill(network, rename(weights), str(checkpoint))
    return network.eval().requires_grad_(False)


def rename(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Released names to those of ``CatSegNetwork``.

    CLIP's attention is released with one matrix each for queries, keys and values, open_clip has them in one. The masks
    of shifted windows are constants and left out.
    """
    found: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        split = _SPLIT.search(name)
        if name.endswith(".attn_mask") or (split and split[1] != "q"):
            continue
        for old, new in RENAMED.items():
            if name.startswith(old):
                target = new + name[len(old) :]
                break
        else:
            target = name
        if split:
            target = target.replace("q_proj_weight", "in_proj_weight")
            tensor = torch.cat([_part(weights, name, part) for part in "qkv"])
        found[target] = tensor
    return found


def _part(weights: Mapping[str, Tensor], query_name: str, part: str) -> Tensor:
    name = query_name.replace("q_proj_weight", f"{part}_proj_weight")
    if name not in weights:
        raise ModelError(f"the checkpoint has {query_name} but not {name}; is the download complete?")
    return weights[name]
