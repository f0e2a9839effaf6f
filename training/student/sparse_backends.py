"""Choice of the library that computes the sparse convolutions of a network.

The tables, the weights, their names and their order are the same under every backend, so that a checkpoint of one
is a checkpoint of all. "auto" is the fastest that is there; "tables" needs torch alone, "compiled" is for the CPU,
"torchsparse" and "spconv" are libraries for a GPU.

    use_backend(network, "torchsparse")
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from ov_seg_ros.core.errors import ConfigError
from training.student import compiled_layers, spconv_layers, torchsparse_layers
from training.student.fastest_backend import FastestBackend
from training.student.sparse_layers import TABLES, DownConv, SparseBackend, SubmanifoldConv, UpConv

_LIBRARIES = {"torchsparse": torchsparse_layers.load_backend, "spconv": spconv_layers.load_backend}
_AUTO = FastestBackend(_LIBRARIES).load()
BACKENDS: dict[str, Callable[[], SparseBackend]] = {
    "auto": lambda: _AUTO,
    "tables": lambda: TABLES,
    "compiled": lambda: compiled_layers.BACKEND,
    **_LIBRARIES,
}
"""Loaders by name."""


def load_backend(name: str) -> SparseBackend:
    """The backend of this name, ready to use.

    Raises:
        ConfigError: an unknown name, or a backend that this machine cannot run.
        MissingDependencyError: its library is not installed.
    """
    if name not in BACKENDS:
        raise ConfigError(f"the sparse backend must be one of {', '.join(BACKENDS)}, got {name!r}")
    return BACKENDS[name]()


def use_backend(network: nn.Module, name: str) -> None:
    """Lets all sparse convolutions of a network be computed by a backend, from the next call on.

    Raises:
        ConfigError, MissingDependencyError: as ``load_backend``; the network is then unchanged.
    """
    backend = load_backend(name)
    for layer in network.modules():
        if isinstance(layer, (SubmanifoldConv, DownConv, UpConv)):
            layer.backend = backend
