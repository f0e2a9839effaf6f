"""MinkUNet (Choy et al., CVPR 2019): a residual U-Net of sparse convolutions, written once on neighbour tables."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ov_seg_ros.core.errors import ConfigError
from training.student.sparse_layers import DownConv, LevelTables, StrideTables, SubmanifoldConv, Tables, UpConv


@dataclass(frozen=True)
class NetworkConfig:
    """Widths and depths of a MinkUNet with ``len(encoder) + 1`` resolutions.

    Attributes:
        stem: channels at the finest resolution.
        encoder: channels after each stride, fine to coarse.
        decoder: channels after each transposed stride, coarse to fine.
        encoder_blocks, decoder_blocks: residual blocks per stage.
    """

    stem: int
    encoder: tuple[int, ...]
    decoder: tuple[int, ...]
    encoder_blocks: tuple[int, ...]
    decoder_blocks: tuple[int, ...]

    def __post_init__(self) -> None:
        if len({len(t) for t in (self.encoder, self.decoder, self.encoder_blocks, self.decoder_blocks)}) != 1:
            raise ConfigError(f"encoder and decoder need the same number of stages, got {self}")

    @property
    def num_levels(self) -> int:
        """Resolutions of the U-Net."""
        return len(self.encoder) + 1


NETWORKS = {
    "small": NetworkConfig(16, (24, 48, 64, 80), (64, 48, 32, 24), (1, 1, 1, 1), (1, 1, 1, 1)),
    "minkunet18": NetworkConfig(32, (32, 64, 128, 256), (256, 128, 96, 96), (2, 2, 2, 2), (2, 2, 2, 2)),
    "minkunet34c": NetworkConfig(32, (32, 64, 128, 256), (256, 128, 96, 96), (2, 3, 4, 6), (2, 2, 2, 2)),
}
"""Widths of the literature: 18 and 34C as used by SLidR and AFOV (34C is their Res16UNet34C); small is for CPUs."""


class ConvNorm(nn.Module):
    """A sparse convolution and its batch norm; the exporter folds the second into the first."""

    def __init__(self, conv: SubmanifoldConv | DownConv | UpConv) -> None:
        super().__init__()
        self.conv = conv
        self.norm = nn.BatchNorm1d(conv.weight.shape[2], momentum=0.05)

    def forward(self, features: Tensor, tables: LevelTables | StrideTables) -> Tensor:
        """(V_in, C_in) to (V_out, C_out)."""
        return self.norm(self.conv(features, tables))


class ResidualBlock(nn.Module):
    """Two 3 x 3 x 3 convolutions beside a shortcut (1 x 1 x 1 where the width changes)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.first = ConvNorm(SubmanifoldConv(in_channels, out_channels))
        self.second = ConvNorm(SubmanifoldConv(out_channels, out_channels))
        self.shortcut: nn.Sequential | None = None
        if in_channels != out_channels:
            linear = nn.Linear(in_channels, out_channels, bias=False)
            self.shortcut = nn.Sequential(linear, nn.BatchNorm1d(out_channels, momentum=0.05))

    def forward(self, features: Tensor, tables: LevelTables) -> Tensor:
        """(V, C_in) to (V, C_out)."""
        straight = features if self.shortcut is None else self.shortcut(features)
        return torch.relu(self.second(torch.relu(self.first(features, tables)), tables) + straight)


class Blocks(nn.ModuleList):
    """Residual blocks in a row at one resolution."""

    def __init__(self, in_channels: int, out_channels: int, count: int) -> None:
        super().__init__(ResidualBlock(in_channels if i == 0 else out_channels, out_channels) for i in range(count))

    def forward(self, features: Tensor, tables: LevelTables) -> Tensor:
        """(V, C_in) to (V, C_out)."""
        for block in self:
            features = block(features, tables)
        return features


class MinkUNet(nn.Module):
    """Voxel features to class logits.

    Args:
        config: widths and depths.
        in_channels: input features per voxel.
        num_classes: outputs per voxel.
    """

    def __init__(self, config: NetworkConfig, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.config = config
        self.stem = ConvNorm(SubmanifoldConv(in_channels, config.stem))
        widths = (config.stem, *config.encoder)
        self.down = nn.ModuleList(ConvNorm(DownConv(c, c)) for c in widths[:-1])
        self.encoder = nn.ModuleList(
            Blocks(widths[i], widths[i + 1], config.encoder_blocks[i]) for i in range(len(config.encoder))
        )
        self.up = nn.ModuleList()
        self.decoder = nn.ModuleList()
        channels = widths[-1]
        for width, skip, count in zip(config.decoder, widths[-2::-1], config.decoder_blocks, strict=True):
            self.up.append(ConvNorm(UpConv(channels, width)))
            self.decoder.append(Blocks(width + skip, width, count))
            channels = width
        self.head = nn.Linear(channels, num_classes)

    def forward(self, features: Tensor, tables: Tables) -> Tensor:
        """(V, F) float32 voxel features to (V, C) logits."""
        return self.head(self.embed(features, tables))

    def embed(self, features: Tensor, tables: Tables) -> Tensor:
        """(V, F) float32 voxel features to (V, D), what the head sees."""
        current = torch.relu(self.stem(features, tables.levels[0]))
        skips = []
        for i, (down, blocks) in enumerate(zip(self.down, self.encoder, strict=True)):
            skips.append(current)
            current = torch.relu(down(current, tables.strides[i]))
            current = blocks(current, tables.levels[i + 1])
        for up, blocks in zip(self.up, self.decoder, strict=True):
            i = len(skips) - 1
            current = torch.relu(up(current, tables.strides[i]))
            current = blocks(torch.cat([current, skips.pop()], dim=1), tables.levels[i])
        return current

    def can_learn_from(self, tables: Tables) -> bool:
        """Whether the batch norms have something to normalise: in training mode one voxel alone has no variance.

        The coarsest resolution has the fewest voxels.
        """
        return not self.training or tables.strides[-1].num_coarse > 1

    def zero_loss(self) -> Tensor:
        """Loss of a batch that teaches nothing: 0, with zeros for the gradients of all parameters that are trained."""
        return torch.stack([(value * 0).sum() for value in self.parameters() if value.requires_grad]).sum()
