"""What a sparse convolution on a GPU is made of: matrices that stay, and the features it reads and writes."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class ConvolutionWeights:
    """A convolution with what follows it, packed. Channels are padded with zeros to multiples of 16.

    Attributes:
        bias: (C_out,) float32.
        gathered: (K, C_in, C_out) of the storage dtype, one matrix per kernel position, or None.
        plain: (C_plain, C_out) of the storage dtype, a matrix for the rows themselves, or None.
        relu: whether negative sums become zero.
    """

    bias: torch.Tensor
    gathered: torch.Tensor | None
    plain: torch.Tensor | None
    relu: bool


@dataclass(frozen=True)
class Operands:
    """Features of one convolution: columns of buffers, rows apart by any stride, columns side by side.

    Attributes:
        target: (capacity, C_out), written: all columns of all rows that exist, and nothing else.
        gathered: (source capacity, C_in) that the table's rows point into; where the weights have such a term.
        plain: (capacity, C_plain); where the weights have such a term.
        residual: (capacity, C_out), added, or None.
    """

    target: torch.Tensor
    gathered: torch.Tensor | None = None
    plain: torch.Tensor | None = None
    residual: torch.Tensor | None = None
