"""The convolutions of ``sparse_layers`` on the CPU, by the same compiled kernels that run on the robot.

Float32 only; on a GPU and in other types the default backend computes. The kernels want the lists of rows written in
ascending order, which is how ``core.pyramid`` makes them.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ov_seg_ros.core.pyramid import NUM_OFFSETS
from ov_seg_ros.kernels.convolution import PairList, convolve, weight_gradient
from ov_seg_ros.kernels.thread_team import ThreadTeam
from training.student.sparse_layers import CENTRE, TABLES, LevelTables, SparseBackend, StrideTables

NAME = "compiled"


def submanifold(features: Tensor, weight: Tensor, tables: LevelTables) -> Tensor:
    """(V, C_in) to (V, C_out) by ``weight`` (27, C_in, C_out)."""
    if not _fits(features):
        return TABLES.submanifold(features, weight, tables)
    if NAME not in tables.derived:
        tables.derived[NAME] = _level_pairs(tables, len(features))
    return _Convolution.apply(features, weight, tables.derived[NAME], len(features))


def down(features: Tensor, weight: Tensor, tables: StrideTables) -> Tensor:
    """(V_fine, C_in) to (V_coarse, C_out) by ``weight`` (8, C_in, C_out)."""
    if not _fits(features):
        return TABLES.down(features, weight, tables)
    return _Convolution.apply(features, weight, _stride_pairs(tables), tables.num_coarse)


def up(features: Tensor, weight: Tensor, tables: StrideTables) -> Tensor:
    """(V_coarse, C_in) to (V_fine, C_out) by ``weight`` (8, C_in, C_out)."""
    if not _fits(features):
        return TABLES.up(features, weight, tables)
    return _Convolution.apply(features, weight, _turned(_stride_pairs(tables)), len(tables.child))


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, pairs: list[PairList], num_rows: int) -> Tensor:
        ctx.save_for_backward(features, weight)
        ctx.pairs = pairs
        return torch.from_numpy(convolve(_array(features), _array(weight), pairs, num_rows, _team()))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        features, weight = ctx.saved_tensors
        grad = _array(grads[0])
        to_features = to_weight = None
        if ctx.needs_input_grad[0]:
            turned = _array(weight.transpose(1, 2))
            to_features = torch.from_numpy(convolve(grad, turned, _turned(ctx.pairs), len(features), _team()))
        if ctx.needs_input_grad[1]:
            to_weight = torch.from_numpy(weight_gradient(_array(features), grad, ctx.pairs, len(weight), _team()))
        return to_features, to_weight, None, None


def _fits(features: Tensor) -> bool:
    return features.device.type == "cpu" and features.dtype == torch.float32


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().contiguous().numpy()


def _team() -> ThreadTeam:
    return _team_of(torch.get_num_threads())


@cache
def _team_of(num_threads: int) -> ThreadTeam:
    return ThreadTeam(num_threads)


def _turned(pairs: list[PairList]) -> list[PairList]:
    """Read what was written and write what was read."""
    return [PairList(p.read, p.into, p.position) for p in pairs]


def _level_pairs(tables: LevelTables, num_voxels: int) -> list[PairList]:
    centre, neighbor, every = tables.centre.numpy(), tables.neighbor.numpy(), np.arange(num_voxels)
    pairs = [PairList(every, every, CENTRE)]
    for k in range(NUM_OFFSETS):
        rows = slice(tables.starts[k], tables.starts[k + 1])
        if rows.start < rows.stop:
            pairs.append(PairList(centre[rows], neighbor[rows], k))
            pairs.append(PairList(neighbor[rows], centre[rows], 2 * CENTRE - k))
    return pairs


def _stride_pairs(tables: StrideTables) -> list[PairList]:
    """Of ``down``: coarse rows written, fine rows read."""
    if NAME not in tables.derived:
        parent, child = tables.parent.numpy(), tables.child.numpy()
        bounds = zip(tables.starts[:-1], tables.starts[1:], strict=True)
        tables.derived[NAME] = [PairList(parent[a:b], child[a:b], k) for k, (a, b) in enumerate(bounds) if a < b]
    return tables.derived[NAME]


BACKEND = SparseBackend(NAME, submanifold, down, up)
