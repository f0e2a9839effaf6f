"""A network that nobody trained, whose norms do something: what export, import and kernels must get right."""

from __future__ import annotations

import torch

from training.student.minkunet import MinkUNet, NetworkConfig


def untrained_network(config: NetworkConfig, in_channels: int, num_classes: int, seed: int = 0) -> MinkUNet:
    """In evaluation mode, with seeded weights and batch norms that shift and scale."""
    torch.manual_seed(seed)
    network = MinkUNet(config, in_channels, num_classes)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, std=0.1)
    return network.eval()
