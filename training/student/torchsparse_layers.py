"""The convolutions of ``sparse_layers`` by the implicit-GEMM kernels of torchsparse 2.1 (TorchSparse++, MICRO 2023).

The kernels take a table of rows as their argument, so ours go in directly: no coordinates, no hashing, no other
order of the weights. The derived tables of the backward pass come from torchsparse itself. CUDA only.

Never run with torchsparse's compiled kernels: they need a GPU, and none was at hand. What did run, with equal results,
is torchsparse's own Python code at the commit below, its compiled functions replaced by emulations in torch. The tests
compare with the default backend where torchsparse and a GPU are, and elsewhere use a stand-in that does what is
written here. Facts relied on, from github.com/mit-han-lab/torchsparse (version 2.1.0) at commit
385f5ce8718fcae93540511b7f5832f4e71fd835:

- ``torchsparse/backends.py``: importing the package asks for the properties of a CUDA device and fails without one.
  ``allow_tf32`` is on from compute capability 8.0: float32 is then multiplied with 10 bits of mantissa.
  ``load_backend`` turns that off.
- ``torchsparse/nn/functional/conv/kmap/build_kmap.py``: ``transpose_kernel_map(kmap, ifsort, training, split_mask_num,
  split_mask_num_bwd)`` reads ``kmap["out_in_map"]``, (rows, volume) int32 with -1 for none and a multiple of 128
  rows, and ``kmap["sizes"]`` = (rows read, rows written) of the convolution in that map, and returns the same
  dictionary with all that the convolution the other way round needs, in keys that end in ``_t``.
- ``torchsparse/nn/functional/conv/func/implicit_gemm.py``: ``ImplicitGEMMConvolutionFuntion`` (sic) is an autograd
  function of (input, weight (volume, C_in, C_out), kmap, config, transposed); with ``transposed`` it uses those keys
  and makes ``sizes[0]`` rows. Of config it reads "ifsort" alone.
- ``torchsparse/backend/convolution/*implicit_gemm*.cu``: kernels for float32 and float16, the latter from compute
  capability 7.5. They have no case for zero rows.

So the map given away is that of the opposite direction, and every convolution runs as ``transposed``.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import torch
from torch import Tensor

from ov_seg_ros.core.errors import ConfigError, MissingDependencyError
from training.student.kernel_maps import KernelMap, backend_of_kernels
from training.student.sparse_layers import SparseBackend

NAME = "torchsparse"
INSTALL = "pip install git+https://github.com/mit-han-lab/torchsparse.git (built with the CUDA toolkit of your torch)"
ROW_BLOCK = 128  # tables have a multiple of this many rows
BACKWARD_SPLITS = 3  # as in torchsparse's default configuration


def load_backend() -> SparseBackend:
    """The backend; tensors on the CPU are left to the default one.

    Raises:
        MissingDependencyError: torchsparse is not installed.
        ConfigError: torch sees no GPU.
    """
    if importlib.util.find_spec("torchsparse") is None:
        raise MissingDependencyError("torchsparse", INSTALL, "the sparse backend torchsparse")
    if not torch.cuda.is_available():
        raise ConfigError("the sparse backend torchsparse needs a CUDA GPU and torch sees none: use the backend tables")
    from torchsparse import backends

    backends.allow_tf32 = False
    return backend_of_kernels(NAME, lambda features: features.is_cuda, prepare, convolve)


def prepare(wanted: KernelMap) -> dict[str, Any]:
    """The form torchsparse wants a map in: the opposite direction, which ``transpose_kernel_map`` completes."""
    from torchsparse.nn import functional

    opposite = wanted.reversed()
    rows = -(-opposite.num_out // ROW_BLOCK) * ROW_BLOCK
    given = {"out_in_map": opposite.table(rows), "sizes": (opposite.num_in, opposite.num_out)}
    with torch.cuda.device_of(wanted.into):  # kernels start on the current device, wherever their arguments are
        return functional.transpose_kernel_map(
            given, ifsort=False, training=True, split_mask_num=1, split_mask_num_bwd=BACKWARD_SPLITS
        )


def convolve(features: Tensor, weight: Tensor, kernel_map: dict[str, Any]) -> Tensor:
    """(num_in, C_in) to (num_out, C_out) along a prepared map."""
    from torchsparse.nn.functional.conv.func import ImplicitGEMMConvolutionFuntion

    with torch.cuda.device_of(features):
        return ImplicitGEMMConvolutionFuntion.apply(features, weight, kernel_map, {"ifsort": False}, True)
