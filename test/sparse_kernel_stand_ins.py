"""Stand-ins for the GPU kernels of torchsparse and spconv, in torch: the interface our adapters rely on, spelled out.

They do what the module docstrings of ``training/student/torchsparse_layers.py`` and ``spconv_layers.py`` say of the
libraries and refuse what those would not take. What they prove is that our maps and weights arrive as meant, not that a
GPU kernel is right.
"""

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function


def install_torchsparse(monkeypatch) -> None:
    """Makes ``import torchsparse`` find the stand-in."""
    names = ["torchsparse", "torchsparse.nn", "torchsparse.nn.functional", "torchsparse.nn.functional.conv"]
    names.append("torchsparse.nn.functional.conv.func")
    modules = {name: ModuleType(name) for name in names}
    for name, module in modules.items():
        module.__spec__ = ModuleSpec(name, None)
        module.__path__ = []
        monkeypatch.setitem(sys.modules, name, module)
    modules["torchsparse"].nn = modules["torchsparse.nn"]
    modules["torchsparse.nn"].functional = modules["torchsparse.nn.functional"]
    modules["torchsparse.nn.functional"].transpose_kernel_map = transpose_kernel_map
    modules["torchsparse.nn.functional.conv.func"].ImplicitGEMMConvolutionFuntion = TorchsparseFunction


def transpose_kernel_map(kmap, ifsort=False, training=False, split_mask_num=1, split_mask_num_bwd=1):
    """torchsparse: completes a map by the tables of the convolution the other way round."""
    table, (num_read, num_written) = kmap["out_in_map"], kmap["sizes"]
    assert table.dtype == torch.int32
    assert table.is_contiguous()
    assert len(table) % 128 == 0
    assert len(table) >= num_written
    assert table.max() < num_read
    assert (table[num_written:] == -1).all()
    assert training
    assert not ifsort
    assert (split_mask_num, split_mask_num_bwd) == (1, 3)
    row, position = torch.nonzero(table >= 0, as_tuple=True)
    opposite = torch.full((-(-num_read // 128) * 128, table.shape[1]), -1, dtype=torch.int32)
    opposite[table[row, position].long(), position] = row.int()
    return {**kmap, "out_in_map_t": opposite, "out_in_map_bwd_t": table}


class TorchsparseFunction(Function):
    """torchsparse: the implicit-GEMM convolution."""

    @staticmethod
    def forward(ctx, input, weight, kmap, config, transposed=False):
        assert transposed
        assert config["ifsort"] is False
        ctx.save_for_backward(input, weight, kmap["out_in_map_bwd_t"][: len(input)])
        return gather_and_multiply(input, weight, kmap["out_in_map_t"][: kmap["sizes"][0]])

    @staticmethod
    def backward(ctx, grad):
        features, weight, table = ctx.saved_tensors
        return gradient_of_features(grad, weight, table), gradient_of_weight(features, grad, table), None, None, None


class SpconvImplicitGemmFunction(Function):
    """spconv: the implicit-GEMM convolution with masks."""

    @staticmethod
    def forward(
        ctx,
        features,
        filters,
        pair_fwd,
        pair_bwd,
        pair_mask_fwd_splits,
        pair_mask_bwd_splits,
        mask_argsort_fwd_splits,
        mask_argsort_bwd_splits,
        num_activate_out,
        masks,
        is_train,
        is_subm,
    ):
        assert is_train
        assert not is_subm
        assert filters.is_contiguous()
        assert [m.tolist() for m in masks] == [[0xFFFFFFFF]]
        assert masks[0].dtype == np.uint32
        assert pair_fwd.shape[1] == num_activate_out
        assert pair_bwd.shape[1] == len(features)
        forward = masked_table(pair_fwd, pair_mask_fwd_splits, mask_argsort_fwd_splits)
        backward = masked_table(pair_bwd, pair_mask_bwd_splits, mask_argsort_bwd_splits)
        ctx.save_for_backward(features, filters, backward)
        return gather_and_multiply(features, filters_by_position(filters), forward)

    @staticmethod
    def backward(ctx, grad):
        features, filters, table = ctx.saved_tensors
        grad_features = gradient_of_features(grad, filters_by_position(filters), table)
        grad_weight = gradient_of_weight(features, grad, table)  # (K, C_in, C_out)
        return grad_features, grad_weight.permute(2, 0, 1).reshape(filters.shape), *[None] * 10


def filters_by_position(filters: Tensor) -> Tensor:
    """(C_out, k, k, k, C_in) to (K, C_in, C_out)."""
    return filters.flatten(1, 3).permute(1, 2, 0)


def masked_table(pairs: Tensor, masks: list[Tensor], orders: list[Tensor]) -> Tensor:
    """(N, K) rows read, of the positions whose bit is set; works through the rows in the order given."""
    (mask,), (order,) = masks, orders
    assert {pairs.dtype, mask.dtype, order.dtype} == {torch.int32}
    assert pairs.is_contiguous()
    assert mask.shape == (pairs.shape[1], 1)
    assert (mask.diff(dim=0) >= 0).all()
    by_mask = pairs.T[order.long()]
    wanted = (mask >> torch.arange(len(pairs)) & 1).bool()
    assert (by_mask[wanted] >= 0).all()
    table = torch.empty_like(by_mask)
    table[order.long()] = by_mask.where(wanted, -1)
    return table


def gather_and_multiply(features: Tensor, weight: Tensor, table: Tensor) -> Tensor:
    """Row i is the sum over k of features[table[i, k]] @ weight[k]."""
    padded = torch.cat([features, features.new_zeros(1, features.shape[1])])
    return torch.stack([padded[table[:, k].long()] @ weight[k] for k in range(len(weight))]).sum(dim=0)


def gradient_of_features(grad: Tensor, weight: Tensor, table: Tensor) -> Tensor:
    return gather_and_multiply(grad, weight.transpose(1, 2), table)


def gradient_of_weight(features: Tensor, grad: Tensor, table: Tensor) -> Tensor:
    padded = torch.cat([grad, grad.new_zeros(1, grad.shape[1])])
    return torch.stack([features.T @ padded[table[:, k].long()] for k in range(table.shape[1])])
