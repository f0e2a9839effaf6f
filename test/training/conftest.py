"""Lets torchvision be imported beside a torch that it was not compiled for (CPU torch, CUDA torchvision)."""

from __future__ import annotations

import importlib.util

if importlib.util.find_spec("torch") is not None:
    import torch

    # open_clip imports torchvision, whose Python side needs these two schemas; no test calls the operators. Kept in
    # a module variable, because the schemas vanish with the library object.
    TORCHVISION = torch.library.Library("torchvision", "FRAGMENT")
    for operator in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, operator):
            TORCHVISION.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
