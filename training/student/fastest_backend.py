"""The fastest backend where the features are: compiled kernels on a CPU, the winner of a short race on a GPU."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ov_seg_ros.core.errors import ConfigError, MissingDependencyError
from training.student import compiled_layers
from training.student.sparse_layers import TABLES, LevelTables, SparseBackend

_ROUNDS = 3

logger = logging.getLogger(__name__)


class FastestBackend:
    """Chooses once per type of the features, with the first submanifold convolution it is asked for.

    Args:
        candidates: loaders of backends for a GPU by name; those that do not load are left out.
    """

    def __init__(self, candidates: Mapping[str, Callable[[], SparseBackend]]) -> None:
        self._candidates = candidates
        self._chosen: dict[tuple[str, torch.dtype], SparseBackend] = {}

    def load(self) -> SparseBackend:
        """The backend; each of its functions asks the one that was chosen."""
        steps = (partial(self._run, step) for step in ("submanifold", "down", "up"))
        return SparseBackend("auto", *steps)

    def _run(self, step: str, features: Tensor, weight: Tensor, tables: Any) -> Tensor:
        return getattr(self.choose(features, weight, tables), step)(features, weight, tables)

    def choose(self, features: Tensor, weight: Tensor, tables: Any) -> SparseBackend:
        """The backend for such features."""
        if features.device.type != "cuda":
            return compiled_layers.BACKEND
        key = (str(features.device), features.dtype)
        if key not in self._chosen:
            if not isinstance(tables, LevelTables) or not len(features):
                return TABLES
            self._chosen[key] = fastest(self._loaded(), features, weight, tables, torch.cuda.synchronize)
        return self._chosen[key]

    def _loaded(self) -> list[SparseBackend]:
        found = [TABLES]
        for name, load in self._candidates.items():
            try:
                found.append(load())
            except (ConfigError, MissingDependencyError):
                continue
            except Exception as error:  # it is there, but does not import: built for another CUDA, for instance
                logger.warning("%s is left out, it does not load: %s", name, error)
        return found


def fastest(
    backends: list[SparseBackend],
    features: Tensor,
    weight: Tensor,
    tables: LevelTables,
    wait: Callable[[], object] = lambda: None,
) -> SparseBackend:
    """The backend with the shortest forward and backward pass of one submanifold convolution.

    Args:
        backends: take turns; a library that refuses the type of the features (ConfigError), or fails, is out.
        features: (V, C_in).
        weight: (27, C_in, C_out).
        tables: of the V voxels.
        wait: returns when the device has done everything.
    """
    best: dict[str, float] = {}
    for _ in range(_ROUNDS + 1):  # the first pass builds the tables that a library derives from ours
        for backend in list(backends):
            try:
                seconds = _time_pass(backend, features, weight, tables, wait)
            except Exception as error:
                if backend is TABLES:
                    raise
                if not isinstance(error, ConfigError):
                    logger.warning("%s is left out, it fails here: %s", backend.name, error)
                backends.remove(backend)
                continue
            best[backend.name] = min(best.get(backend.name, seconds), seconds)
    return min(backends, key=lambda backend: best[backend.name])


def _time_pass(
    backend: SparseBackend, features: Tensor, weight: Tensor, tables: LevelTables, wait: Callable[[], object]
) -> float:
    own_features, own_weight = (tensor.detach().requires_grad_() for tensor in (features, weight))
    wait()
    begin = time.perf_counter()
    with torch.enable_grad():
        backend.submanifold(own_features, own_weight, tables).sum().backward()
    wait()
    return time.perf_counter() - begin
