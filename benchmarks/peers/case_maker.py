"""Writes the files of a case: seeded weights in every form a contender takes, the scan, and the right answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from benchmarks.peers.case import ABOUT, MODEL, REFERENCE, SCAN, STATE, WEIGHTS, Case
from ov_seg_ros.core.data_types import PointCloud
from ov_seg_ros.core.label_space import LabelSpace
from ov_seg_ros.core.point_features import GEOMETRY, voxel_features
from ov_seg_ros.core.pyramid import build_pyramid
from ov_seg_ros.core.student_description import StudentDescription
from ov_seg_ros.core.voxels import VoxelGrid
from training.export import export_student
from training.student.minkunet import ConvNorm, MinkUNet, NetworkConfig, ResidualBlock
from training.student.sparse_layers import Tables

NUM_CLASSES = 16
WHOLE_SCANS = ((-120.0, -120.0, -30.0), (120.0, 120.0, 30.0))  # whole scans: a smaller range would be a smaller network


def make_case(
    folder: Path, name: str, config: NetworkConfig, cloud: PointCloud, voxel_size: float, scan: str = "", seed: int = 0
) -> Case:
    """Makes a network with random weights and everything that is compared on one scan.

    The batch norms have the statistics of this very scan, as after a training, and seeded scales and shifts; so the
    activations neither vanish nor grow over the layers, and relative errors mean something.

    Args:
        folder: to write into; created.
        name: of the network, for the record.
        config: widths and depths.
        cloud: the scan.
        voxel_size: edge of the cells, metres.
        scan: name of the scan, for the record.
        seed: of all random numbers.
    """
    folder.mkdir(parents=True, exist_ok=True)
    grid = VoxelGrid("cartesian", (voxel_size,) * 3, *WHOLE_SCANS)
    voxels = grid.voxelize(cloud.points)
    features = voxel_features(cloud, voxels, grid, GEOMETRY, None)
    np.savez(folder / SCAN, coords=voxels.coords, features=features)
    tables = Tables.from_pyramid(build_pyramid(voxels.coords, config.num_levels))
    network = seeded_network(config, torch.from_numpy(features), tables, seed)
    torch.save(network.state_dict(), folder / STATE)
    layers = fold(network)
    arrays: dict[str, Any] = {f"{name}:{part}": a for name, pair in layers.items() for part, a in pair.items()}
    np.savez(folder / WEIGHTS, **arrays)
    export_student(network, _describe(name, grid, config.num_levels), folder / MODEL)
    with torch.no_grad():
        reference = network.double()(torch.from_numpy(features).double(), tables)
    np.save(folder / REFERENCE, reference.numpy())
    about = {"network": name, "num_levels": config.num_levels, "in_channels": features.shape[1]}
    about |= {"num_classes": NUM_CLASSES, "scan": scan, "points": len(cloud), "voxel_size": voxel_size, "seed": seed}
    about["config"] = vars(config)
    (folder / ABOUT).write_text(json.dumps(about))
    return Case(folder)


def seeded_network(config: NetworkConfig, features: torch.Tensor, tables: Tables, seed: int = 0) -> MinkUNet:
    """A network in evaluation mode with seeded weights and batch norms that fit the scan."""
    torch.manual_seed(seed)
    network = MinkUNet(config, features.shape[1], NUM_CLASSES)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm1d)]
    for norm in norms:
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, std=0.2)
        norm.momentum = 1.0  # the statistics of the next batch replace those kept
    with torch.no_grad():
        network.train()(features, tables)
    return network.eval()


def fold(network: MinkUNet) -> dict[str, dict[str, NDArray[np.float32]]]:
    """Weight (positions, C_in, C_out) and bias (C_out,) of every layer, batch norms folded in."""
    layers: dict[str, dict[str, NDArray[np.float32]]] = {}
    for name, module in network.named_modules():
        if isinstance(module, ConvNorm):
            layers[name] = _fold_one(module.conv.weight, module.norm)
        elif isinstance(module, ResidualBlock) and module.shortcut is not None:
            linear, norm = module.shortcut[0], module.shortcut[1]
            assert isinstance(linear, nn.Linear)
            layers[f"{name}.shortcut"] = _fold_one(linear.weight.T[None], norm)
    head = network.head
    layers["head"] = {"weight": _array(head.weight.T[None]), "bias": _array(head.bias)}
    return layers


def _fold_one(weight: torch.Tensor, norm: Any) -> dict[str, NDArray[np.float32]]:
    scale = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
    shift = norm.bias.double() - norm.running_mean.double() * scale
    return {"weight": _array(weight.double() * scale), "bias": _array(shift)}


def _array(tensor: torch.Tensor) -> NDArray[np.float32]:
    return np.ascontiguousarray(tensor.detach().float().numpy())


def _describe(name: str, grid: VoxelGrid, num_levels: int) -> StudentDescription:
    names = tuple(f"class {i}" for i in range(NUM_CLASSES))
    palette = tuple((15 * i, 90, 255 - 15 * i) for i in range(NUM_CLASSES))
    return StudentDescription(name, LabelSpace("numbers", names, palette), grid, GEOMETRY, num_levels)
